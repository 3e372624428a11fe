package service

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	jobSlice = 500             // events in one transaction, so that other transactions wait little for it
	jobGrace = 2 * time.Second // after this time every event that was being accepted is stored
)

// Recover starts a job that resends an endpoint's failed deliveries since a time and, with
// missed, the subscribed events that it never received because it was disabled. Errors:
// fault.Invalid, fault.NotFound, and those of idempotency.
func (s *Service) Recover(ctx context.Context, c *call.Call, endpointID string, since time.Time, missed bool) (job.Job, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return job.Job{}, err
	}
	defer end()
	w, err := s.Endpoint(ctx, c, endpointID)
	if err != nil {
		return job.Job{}, err
	}
	if err := mustBeOn(w, "id"); err != nil {
		return job.Job{}, err
	}
	r := s.newJob(c, job.Recovery, keyAt(since))
	r.Endpoint, r.EndpointID, r.Missed = w.No, w.ID, missed
	if since.After(r.Created) {
		return job.Job{}, fault.Param("since", "parameter_invalid", "The time is in the future.")
	}
	if r.Total, err = s.Store.CountEvents(ctx, r.Space, r.From, r.Until, MostCounted+1); err != nil {
		return job.Job{}, err
	}
	if r.Total > MostCounted {
		r.Total = job.NotCounted
	}
	trail := s.Trail(c, r, r.Created, account.RecoveryStarted, w.ID, "job", r.ID, "since", strconv.FormatInt(since.Unix(), 10))
	return r, s.startJob(ctx, c, &r, "id", trail)
}

// newJob returns a job of the call's account that resends deliveries of events from a key on.
func (s *Service) newJob(c *call.Call, kind job.Kind, from event.Key) job.Job {
	r := job.Job{ID: s.IDs.New(event.PrefixJob), Actor: c.Key.ID, Kind: kind, Space: c.Space, From: max(from, 1), Until: s.IDs.Keys.Next(), State: job.Running, Created: s.Now()}
	r.Cursor.Event = r.From - 1
	return r
}

// startJob starts a job unless another job of the space sends to the same endpoint or the
// account has reached its limit of jobs. param is the parameter that names the endpoint.
func (s *Service) startJob(ctx context.Context, c *call.Call, r *job.Job, param string, trail store.Trail) error {
	alone := func(running []job.Job) error {
		mine := 0
		for _, other := range running {
			if other.Space.Account() == r.Space.Account() {
				mine++
			}
			if other.Kind == job.Erasure || r.Kind == job.Erasure { // it sends nothing
				continue
			}
			if other.Space == r.Space && (other.Endpoint == r.Endpoint || other.Endpoint == 0 || r.Endpoint == 0) {
				return fault.Param(param, "recovery_running", "The job %s is sending to the same endpoint. Wait for it, or cancel it.", other.ID)
			}
		}
		if limit := s.Auth.LimitOn(c, quota.Jobs); mine >= limit {
			return quota.Busy(quota.Jobs, time.Minute, "The account has reached its limit %s: %d %s. Wait for one to end, or cancel one.", quota.Jobs, limit, quota.What(quota.Jobs))
		}
		return nil
	}
	if err := s.Store.CreateJob(ctx, r, alone, trail); err != nil {
		return err
	}
	s.Jobs.Start(*r)
	return nil
}

// MostCounted is the maximum number of events or failed deliveries that are counted exactly;
// above it, the UI shows "more than".
const MostCounted = 10_000

// CountFailed returns the number of failed deliveries that a filter selects. It examines some
// thousands only, and reports whether these were all. The filter's Event and Status are
// ignored.
func (s *Service) CountFailed(ctx context.Context, c *call.Call, f DeliveryFilter) (n int, all bool, err error) {
	if err := c.MustAccount(); err != nil {
		return 0, false, err
	}
	f.Event, f.Status = "", delivery.Failed.String()
	narrow, err := s.narrow(ctx, c, f)
	if err != nil {
		return 0, false, err
	}
	return s.Store.CountDeliveries(ctx, c.Space, narrow, MostCounted)
}

// BulkRetry selects failed deliveries to retry.
type BulkRetry struct {
	DeliveryFilter      // Event and Status are ignored
	All            bool // every failed delivery; instead of a filter
}

// check refuses a selection that is empty by omission: it would retry every delivery.
func (b *BulkRetry) check() error {
	b.Event, b.Status = "", delivery.Failed.String()
	filtered := b.DeliveryFilter != (DeliveryFilter{Status: b.Status})
	switch {
	case b.All && filtered:
		return fault.Param("all", "parameter_invalid", "Use all, or use endpoint, type, since and until.")
	case !b.All && !filtered:
		return fault.Param("all", "parameter_missing",
			"Select deliveries with endpoint, type, since or until, or set all to true to retry every failed delivery of the account. With dry_run they are only counted.")
	}
	return nil
}

// failed returns the store's filter for a selection, whose endpoint must be enabled, and the number
// of deliveries that it selects, [job.NotCounted] if there are too many to count.
func (s *Service) failed(ctx context.Context, c *call.Call, b *BulkRetry) (narrow store.DeliveryFilter, total int, err error) {
	if err := b.check(); err != nil {
		return narrow, 0, err
	}
	if narrow, err = s.narrow(ctx, c, b.DeliveryFilter); err != nil {
		return narrow, 0, err
	}
	if b.Endpoint != "" {
		w, err := s.Endpoint(ctx, c, b.Endpoint)
		if fault.Is(err, fault.NotFound) {
			err = fault.Param("endpoint", "endpoint_deleted", "The endpoint %s was deleted. Nothing can be sent to it.", b.Endpoint)
		} else if err == nil {
			err = mustBeOn(w, "endpoint")
		}
		if err != nil {
			return narrow, 0, err
		}
	}
	total, all, err := s.Store.CountDeliveries(ctx, c.Space, narrow, MostCounted)
	if !all {
		total = job.NotCounted
	}
	return narrow, total, err
}

// PlanRetry returns the number of deliveries that [Service.RetryFailed] would examine, and
// changes nothing. An empty selection counts all.
func (s *Service) PlanRetry(ctx context.Context, c *call.Call, b BulkRetry) (RetryPlan, error) {
	if err := c.MustAccount(); err != nil {
		return RetryPlan{}, err
	}
	if b.DeliveryFilter == (DeliveryFilter{}) {
		b.All = true
	}
	return call.Answer(ctx, s.Calls, c, func() (RetryPlan, error) {
		_, total, err := s.failed(ctx, c, &b)
		return RetryPlan{BulkRetry: b, Space: c.Space, Total: total}, err
	})
}

// RetryPlan is the result of a dry run of a bulk retry.
type RetryPlan struct {
	BulkRetry
	Space event.Space
	Total int // failed deliveries, or [job.NotCounted]
}

// RetryFailed starts a job that retries failed deliveries. Deliveries to disabled or deleted
// endpoints are not changed. Errors: fault.Invalid, and those of idempotency.
func (s *Service) RetryFailed(ctx context.Context, c *call.Call, b BulkRetry) (job.Job, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return job.Job{}, err
	}
	defer end()
	narrow, total, err := s.failed(ctx, c, &b)
	if err != nil {
		return job.Job{}, err
	}
	r := s.newJob(c, job.BulkRetry, narrow.From)
	r.Endpoint, r.EndpointID, r.Pattern, r.Total = narrow.Endpoint, b.Endpoint, b.Type, total
	if narrow.Until != 0 {
		r.Until = min(r.Until, narrow.Until)
	}
	trail := s.Trail(c, r, r.Created, account.BulkRetryStarted, r.ID, "endpoint", b.Endpoint, "type", b.Type, "deliveries", strconv.Itoa(r.Total))
	return r, s.startJob(ctx, c, &r, "endpoint", trail)
}

// advance processes the next slice and records the progress. It returns the delay before
// the next slice.
func (s *Service) advance(ctx context.Context, r *job.Job, began time.Time) (wait time.Duration, err error) {
	if err := s.CatchUp(ctx); err != nil { // it sends by the endpoint's latest settings on all nodes
		return 0, err
	}
	now, next := s.Now(), *r
	again, wait, err := s.slice(ctx, &next, began, now)
	if err != nil {
		return 0, err
	}
	if next.State != job.Running {
		next.Finished = now
	}
	if err := s.Store.AdvanceJob(ctx, r, &next, again, store.Trail{}); err != nil {
		return 0, err
	}
	*r = next
	woken := map[int64]bool{}
	for i := range again {
		if no := again[i].ID.Endpoint; !woken[no] {
			woken[no] = true
			s.engine.Wake(no)
		}
	}
	return wait, nil
}

// slice processes the next objects of a job, and advances it past them. It returns the deliveries
// to resend.
func (s *Service) slice(ctx context.Context, r *job.Job, began, now time.Time) (again []delivery.Delivery, wait time.Duration, err error) {
	switch r.Kind {
	case job.BulkRetry:
		again, err = s.retrySlice(ctx, r, now)
	case job.Erasure:
		wait, err = s.subjectSlice(ctx, r, began, now)
	default:
		again, wait, err = s.missedSlice(ctx, r, began, now)
	}
	return again, wait, err
}

// missedSlice returns the deliveries to resend among the next events, and advances r past them.
func (s *Service) missedSlice(ctx context.Context, r *job.Job, began, now time.Time) (again []delivery.Delivery, wait time.Duration, err error) {
	until := untilSettled(r, began, now)
	if r.Missed { // an event whose fan-out is running was not missed
		deferred, err := s.Store.OldestDeferred(ctx, r.Space)
		if err != nil {
			return nil, 0, err
		}
		if deferred != 0 {
			until = min(until, max(deferred, r.Cursor.Event+1))
		}
	}
	w := s.Endpoints.Get(r.Endpoint)
	switch {
	case w == nil:
		r.State, r.Error = job.Failed, "The endpoint was deleted."
		return nil, 0, nil
	case w.Status != endpoint.Enabled:
		r.State, r.Error = job.Failed, "The endpoint was disabled."
		return nil, 0, nil
	}
	if r.Missed && filtered(w.Endpoint) && !s.MayProcess(r.Space) { // wait until the account has processor time again
		return nil, jobGrace, nil
	}
	occasions, err := s.Store.Occasions(ctx, r.Space, r.Endpoint, r.Cursor.Event, until, jobSlice)
	if err != nil {
		return nil, 0, err
	}
	if again, err = s.missedBy(ctx, w.Endpoint, occasions, r, now); err != nil {
		return nil, 0, err
	}
	r.Scanned += len(occasions)
	r.Requeued += len(again)
	if len(occasions) == jobSlice {
		r.Cursor.Event = occasions[len(occasions)-1].Key
		return again, 0, nil
	}
	return again, advance(r, until), nil
}

// untilSettled returns the key up to which a job can proceed. Events that are being accepted may
// get a lower key than stored ones; they must not be skipped.
func untilSettled(r *job.Job, began, now time.Time) event.Key {
	if now.Sub(began) >= jobGrace { // after a step back of the clock, keys are ahead of it
		return r.Until
	}
	return min(r.Until, max(keyAt(now.Add(-jobGrace)), r.Cursor.Event+1))
}

// advance moves a job past all events before until, and ends it if there are no later ones. It
// returns the delay before the next slice.
func advance(r *job.Job, until event.Key) (wait time.Duration) {
	if until < r.Until {
		r.Cursor.Event = until - 1
		return jobGrace
	}
	r.Cursor.Event, r.State = r.Until, job.Succeeded
	return 0
}

// retrySlice returns the next failed deliveries to retry, and advances r past them.
func (s *Service) retrySlice(ctx context.Context, r *job.Job, now time.Time) (again []delivery.Delivery, err error) {
	failed := delivery.Failed
	items, next, err := s.Store.ListDeliveries(ctx, r.Space,
		store.DeliveryFilter{Endpoint: r.Endpoint, Pattern: r.Pattern, State: &failed, From: r.From, Until: r.Until},
		store.Page[delivery.ID]{Limit: jobSlice, Before: &r.Cursor})
	if err != nil {
		return nil, err
	}
	for i := range items {
		d := items[i].Delivery
		if w := s.Endpoints.Get(d.ID.Endpoint); w != nil && w.Status == endpoint.Enabled && items[i].Erased.IsZero() {
			d.Requeue(now)
			again = append(again, d)
		}
	}
	r.Scanned += len(items)
	r.Requeued += len(again)
	if len(items) > 0 {
		r.Cursor = items[0].ID // newest first
	}
	if next != nil {
		r.Cursor = *next
	} else {
		r.State = job.Succeeded
	}
	return again, nil
}

// missedBy selects the deliveries to resend from occasions.
func (s *Service) missedBy(ctx context.Context, w *endpoint.Endpoint, occasions []store.Occasion, r *job.Job, now time.Time) (again []delivery.Delivery, err error) {
	since := event.KeyAt(w.Created)
	missed := func(o *store.Occasion) bool {
		return o.Delivery == nil && r.Missed && o.Key >= since && w.Wants(o.Type) && !event.Operational(o.Type)
	}
	refused, err := s.refused(ctx, w, occasions, missed)
	if err != nil {
		return nil, err
	}
	for i := range occasions {
		o := &occasions[i]
		switch {
		case o.Delivery != nil && o.Delivery.State == delivery.Failed:
			again = append(again, *o.Delivery)
		case missed(o) && !refused[o.Key]:
			again = append(again, delivery.New(delivery.ID{Event: o.Key, Endpoint: w.No}, r.Space))
		default:
			continue
		}
		again[len(again)-1].Requeue(now)
	}
	return again, nil
}

// Job returns one job.
func (s *Service) Job(ctx context.Context, c *call.Call, id string) (job.Job, error) {
	if err := c.MustAccount(); err != nil {
		return job.Job{}, err
	}
	return s.Store.Job(ctx, c.Space, id)
}

// ListJobs lists the jobs of the account or, if endpointID is given, of
// one endpoint, newest first.
func (s *Service) ListJobs(ctx context.Context, c *call.Call, endpointID string, p call.Page) ([]job.Job, bool, error) {
	if err := c.MustAccount(); err != nil {
		return nil, false, err
	}
	var no int64
	if endpointID != "" {
		w, err := s.Store.PastEndpoint(ctx, c.Space, endpointID)
		if err != nil {
			return nil, false, call.CursorFault(err, "endpoint", endpointID)
		}
		no = w.No
	}
	page, err := call.ResolvePage(p, func(param, id string) (string, error) {
		r, err := s.Store.Job(ctx, c.Space, id)
		return r.ID, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListJobs(ctx, c.Space, no, page)
}

// CancelJob cancels a job; deliveries that it requeued stay pending. A job that has ended is
// not changed.
func (s *Service) CancelJob(ctx context.Context, c *call.Call, id string) (job.Job, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return job.Job{}, err
	}
	defer end()
	r, err := s.Store.EditJob(ctx, c.Space, id, func(r *job.Job) (store.Trail, error) {
		if r.State != job.Running {
			return store.Trail{}, store.ErrUnchanged
		}
		now := s.Now()
		r.State, r.Finished = job.Canceled, now
		return s.Trail(c, *r, now, account.RecoveryCanceled, cmp.Or(r.EndpointID, r.ID), "job", r.ID), nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		err = nil
	}
	return r, err
}
