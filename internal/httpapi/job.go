package httpapi

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// jobView is the job object.
type jobView struct {
	ID       string    `json:"id"`
	Object   string    `json:"object"`
	Type     string    `json:"type"`
	Status   job.State `json:"status"`
	Endpoint *string   `json:"endpoint"`
	Pattern  *string   `json:"event_type"`
	Key      *string   `json:"key"` // path of the searchable key of an erasure
	Since    int64     `json:"since"`
	Until    int64     `json:"until"`
	Missed   bool      `json:"include_missed"`
	Total    *int      `json:"total"`    // events in the time range, or failed deliveries; null: too many to count
	Scanned  int       `json:"scanned"`  // of these, processed so far
	Requeued int       `json:"requeued"` // deliveries that are resent
	Error    *string   `json:"error"`
	Created  int64     `json:"created"`
	Finished *int64    `json:"finished"`
	Livemode bool      `json:"livemode"`
}

func viewJob(r *job.Job) jobView {
	return jobView{ID: r.ID, Object: "job", Type: string(r.Kind), Status: r.State, Endpoint: orNull(r.EndpointID), Pattern: orNull(r.Pattern), Key: orNull(r.Path),
		Since: r.From.Time().Unix(), Until: r.Until.Time().Unix(), Missed: r.Missed, Total: counted(r.Total), Scanned: r.Scanned, Requeued: r.Requeued,
		Error: orNull(r.Error), Created: r.Created.Unix(), Finished: seconds(r.Finished), Livemode: r.Space.Live()}
}

// counted returns a total, null for an incomplete count.
func counted(total int) *int {
	if total == job.NotCounted {
		return nil
	}
	return &total
}

var jobAnswer = shown(byValue(viewJob))

// planView is the job.dry_run object.
type planView struct {
	Object   string  `json:"object"`
	Type     string  `json:"type"`
	Endpoint *string `json:"endpoint"`
	Pattern  *string `json:"event_type"`
	Since    *int64  `json:"since"`
	Until    *int64  `json:"until"`
	Total    *int    `json:"total"` // failed deliveries; null: too many to count
	Livemode bool    `json:"livemode"`
}

func viewPlan(p service.RetryPlan) planView {
	return planView{Object: "job.dry_run", Type: string(job.BulkRetry), Endpoint: orNull(p.Endpoint), Pattern: orNull(p.Type),
		Since: seconds(p.From), Until: seconds(p.Until), Total: counted(p.Total), Livemode: p.Space.Live()}
}

func recoverEndpoint(rq *request) (answer, error) {
	p := rq.params()
	since, missed := p.moment("since"), p.boolean("include_missed")
	if err := p.done(); err == nil && since == nil {
		return answer{}, fault.Param("since", "parameter_missing", "Set since to the start of the outage, in Unix seconds.")
	}
	return act(rq, p, jobAnswer, func() (job.Job, error) {
		return rq.service().Recover(rq.Context(), rq.call, rq.id(), *since, missed == nil || *missed)
	})
}

func retryDeliveries(rq *request) (answer, error) {
	p := rq.params()
	f := service.DeliveryFilter{Endpoint: p.given("endpoint"), Type: p.given("type"), From: deref(p.moment("since")), Until: deref(p.moment("until"))}
	all, dry := deref(p.boolean("all")), deref(p.boolean("dry_run"))
	b := service.BulkRetry{DeliveryFilter: f, All: all}
	if dry {
		return act(rq, p, shown(viewPlan), func() (service.RetryPlan, error) { return rq.service().PlanRetry(rq.Context(), rq.call, b) })
	}
	return act(rq, p, jobAnswer, func() (job.Job, error) { return rq.service().RetryFailed(rq.Context(), rq.call, b) })
}

func listJobs(rq *request) (answer, error) {
	p := rq.query()
	endpoint := p.given("endpoint")
	return pageOf(rq, p, viewJob, func(ctx context.Context, c *call.Call, page call.Page) ([]job.Job, bool, error) {
		return rq.service().ListJobs(ctx, c, endpoint, page)
	})
}

func getJob(rq *request) (answer, error) { return one(rq, rq.service().Job, jobAnswer) }
func cancelJob(rq *request) (answer, error) {
	return actOnIt(rq, jobAnswer, rq.service().CancelJob)
}
