package adminui

import (
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/service"
)

type deadLettersView struct {
	Filter    filterForm
	Rows      []deliveryRow
	More      pager
	Estimated bool
	Count     int
	Over      bool // more exist than were counted
	Problem   *problem
}

// deadLetters shows failed deliveries; on request it counts those that a filter selects, before
// a confirmed retry.
func deadLetters(rq *request) error { return showDeadLetters(rq, nil) }

func showDeadLetters(rq *request, problem error) error {
	f, from, until, err := rq.filter()
	v := deadLettersView{Filter: f}
	if err == nil {
		narrow := service.DeliveryFilter{Endpoint: f.Endpoint, Type: f.Type, From: from, Until: until, Status: "failed"}
		var all []delivery.View
		var next string
		all, next, err = rq.ui.Service.ListDeliveries(rq.Context(), rq.call, narrow, rq.page())
		v.Rows = rq.rows(all)
		v.More = rq.more(next)
		if err == nil && rq.FormValue("estimate") != "" {
			v.Estimated = true
			var all bool
			v.Count, all, err = rq.ui.Service.CountFailed(rq.Context(), rq.call, narrow)
			v.Over = !all
		}
	}
	if problem == nil {
		problem = err
	}
	v.Problem = errorView(problem)
	return rq.renderForm("dead-letters", v, problem)
}

func retryDeadLetters(rq *request) error {
	f, from, until, err := rq.filter()
	if err != nil {
		return showDeadLetters(rq, err)
	}
	job, err := rq.ui.Service.RetryFailed(rq.Context(), rq.call, service.BulkRetry{
		DeliveryFilter: service.DeliveryFilter{Endpoint: f.Endpoint, Type: f.Type, From: from, Until: until}, All: rq.FormValue("all") != ""})
	if mistake(err) {
		return showDeadLetters(rq, err)
	}
	if err != nil {
		return err
	}
	return rq.redirect(rq.to("jobs", job.ID))
}

type jobsView struct {
	Jobs []job.Job
	More string
}

func listJobs(rq *request) error {
	jobs, more, err := rq.ui.Service.ListJobs(rq.Context(), rq.call, "", rq.page())
	if err != nil {
		return err
	}
	v := jobsView{Jobs: jobs}
	if more {
		v.More = withQuery(rq.URL.Query(), "after", jobs[len(jobs)-1].ID)
	}
	return rq.render("jobs", v)
}

func showJob(rq *request) error {
	job, err := rq.ui.Service.Job(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	return rq.render("job", job)
}

func cancelJob(rq *request) error {
	job, err := rq.ui.Service.CancelJob(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	return rq.done("job_canceled", "jobs", job.ID)
}
