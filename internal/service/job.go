package service

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync"
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
	jobSlice = 500             // events in one transaction, so that others wait little for it
	jobGrace = 2 * time.Second // after which an event that was being accepted has been
	jobAgain = 5 * time.Second // after an error of the store
)

// Recover starts a job that sends an endpoint again what failed for it since a
// time and, with missed, what it subscribes to and never had because it was
// disabled. Errors: fault.Invalid, fault.NotFound, and those of idempotency.
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
	now := s.Now()
	if since.After(now) {
		return job.Job{}, fault.Param("since", "parameter_invalid", "The time is in the future.")
	}
	r := job.Job{ID: s.IDs.New(event.PrefixJob), Actor: c.Key.ID, Kind: job.Recovery, Space: c.Space, Endpoint: w.No, EndpointID: w.ID,
		From: max(keyAt(since), 1), Until: s.IDs.Keys.Next(), Missed: missed, State: job.Running, Created: now}
	r.Cursor.Event = r.From - 1
	if r.Total, err = s.Store.CountEvents(ctx, r.Space, r.From, r.Until, MostCounted+1); err != nil {
		return job.Job{}, err
	}
	if r.Total > MostCounted {
		r.Total = job.NotCounted
	}
	trail := s.Trail(c, r, now, account.RecoveryStarted, w.ID, "job", r.ID, "since", strconv.FormatInt(since.Unix(), 10))
	return r, s.startJob(ctx, c, &r, "id", trail)
}

// startJob begins a job unless another one of the space sends to the same endpoint
// or the account has as many jobs as it may.
// param is what names the endpoint.
func (s *Service) startJob(ctx context.Context, c *call.Call, r *job.Job, param string, trail store.Trail) error {
	alone := func(running []job.Job) error {
		mine := 0
		for _, other := range running {
			if other.Space.Account() == r.Space.Account() {
				mine++
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
	select { // when nobody takes it, the server stops, and it goes on after the next start
	case s.jobs <- *r:
	case <-s.stopped:
	}
	return nil
}

// MostCounted is how many events or failed deliveries are counted before people are told
// "more than".
const MostCounted = 10_000

// CountFailed returns how many failed deliveries a filter selects. It looks at some
// thousands only and reports whether these were all. The filter's Event and Status
// are not looked at.
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

// total returns how many failed deliveries a filter selects, [job.NotCounted] when there
// are too many to count.
func (s *Service) total(ctx context.Context, c *call.Call, narrow store.DeliveryFilter) (int, error) {
	n, all, err := s.Store.CountDeliveries(ctx, c.Space, narrow, MostCounted)
	if !all {
		n = job.NotCounted
	}
	return n, err
}

// BulkRetry selects failed deliveries to retry.
type BulkRetry struct {
	DeliveryFilter      // Event and Status are not looked at
	All            bool // every failed delivery; instead of a filter
}

// check refuses a selection that is empty by omission: it would retry everything.
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

// failed returns the store's filter for a selection, whose endpoint must be enabled.
func (s *Service) failed(ctx context.Context, c *call.Call, b BulkRetry) (store.DeliveryFilter, error) {
	narrow, err := s.narrow(ctx, c, b.DeliveryFilter)
	if err != nil || b.Endpoint == "" {
		return narrow, err
	}
	w, err := s.Endpoint(ctx, c, b.Endpoint)
	if fault.Is(err, fault.NotFound) {
		return narrow, fault.Param("endpoint", "endpoint_deleted", "The endpoint %s was deleted. Nothing can be sent to it.", b.Endpoint)
	}
	if err != nil {
		return narrow, err
	}
	return narrow, mustBeOn(w, "endpoint")
}

// PlanRetry returns how many deliveries [Service.RetryFailed] would look at, and changes
// nothing. A selection that is empty counts all.
func (s *Service) PlanRetry(ctx context.Context, c *call.Call, b BulkRetry) (RetryPlan, error) {
	if err := c.MustAccount(); err != nil {
		return RetryPlan{}, err
	}
	if b.DeliveryFilter == (DeliveryFilter{}) {
		b.All = true
	}
	if err := b.check(); err != nil {
		return RetryPlan{}, err
	}
	return call.Answer(ctx, s.Calls, c, func() (RetryPlan, error) {
		narrow, err := s.failed(ctx, c, b)
		if err != nil {
			return RetryPlan{}, err
		}
		total, err := s.total(ctx, c, narrow)
		return RetryPlan{BulkRetry: b, Space: c.Space, Total: total}, err
	})
}

// RetryPlan is the result of a dry run of a bulk retry.
type RetryPlan struct {
	BulkRetry
	Space event.Space
	Total int // failed deliveries, or [job.NotCounted]
}

// RetryFailed starts a job that sends failed deliveries again. Deliveries to endpoints
// that are disabled or deleted stay as they are. Errors: fault.Invalid, and those of
// idempotency.
func (s *Service) RetryFailed(ctx context.Context, c *call.Call, b BulkRetry) (job.Job, error) {
	if err := c.MustAccount(); err != nil {
		return job.Job{}, err
	}
	if err := b.check(); err != nil {
		return job.Job{}, err
	}
	end, err := s.Begin(ctx, c, true)
	if err != nil {
		return job.Job{}, err
	}
	defer end()
	narrow, err := s.failed(ctx, c, b)
	if err != nil {
		return job.Job{}, err
	}
	f := b.DeliveryFilter
	now := s.Now()
	total, err := s.total(ctx, c, narrow)
	if err != nil {
		return job.Job{}, err
	}
	r := job.Job{ID: s.IDs.New(event.PrefixJob), Actor: c.Key.ID, Kind: job.BulkRetry, Space: c.Space, Endpoint: narrow.Endpoint, EndpointID: f.Endpoint, Pattern: f.Type,
		From: max(narrow.From, 1), Until: s.IDs.Keys.Next(), State: job.Running, Created: now}
	if narrow.Until != 0 {
		r.Until = min(r.Until, narrow.Until)
	}
	r.Cursor.Event = r.From - 1
	r.Total = total
	trail := s.Trail(c, r, now, account.BulkRetryStarted, r.ID, "endpoint", f.Endpoint, "type", f.Type, "deliveries", strconv.Itoa(r.Total))
	return r, s.startJob(ctx, c, &r, "endpoint", trail)
}

// RunJobs works off the jobs until ctx ends; first of all those that a
// stop interrupted.
func (s *Service) RunJobs(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(s.stopped)
	pending, err := s.Store.RunningJobs(ctx)
	for err != nil {
		s.Log.Error("read interrupted jobs", "err", err)
		if !pause(ctx, jobAgain) {
			return
		}
		pending, err = s.Store.RunningJobs(ctx)
	}
	var running jobs
	start := func(r job.Job) {
		if s.owns(r.Endpoint) && running.add(r.ID) { // one that was just made may be in the list of those interrupted
			wg.Go(func() {
				defer running.remove(r.ID)
				s.recover(ctx, r)
			})
		}
	}
	for _, r := range pending {
		start(r)
	}
	look := time.NewTicker(jobAgain)
	defer look.Stop()
	for {
		select {
		case r := <-s.jobs:
			start(r)
		case <-look.C:
			if s.Owns == nil {
				continue
			}
			pending, err := s.Store.RunningJobs(ctx) // of nodes that are gone, or that do not own the endpoint
			if err != nil && ctx.Err() == nil {
				s.Log.Error("read jobs of other nodes", "err", err)
			}
			for _, r := range pending {
				start(r)
			}
		case <-ctx.Done():
			return
		}
	}
}

// jobs is those that run here.
type jobs struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (j *jobs) add(id string) (isNew bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ids == nil {
		j.ids = map[string]bool{}
	}
	isNew = !j.ids[id]
	j.ids[id] = true
	return isNew
}

func (j *jobs) remove(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.ids, id)
}

func pause(ctx context.Context, d time.Duration) (goOn bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// recover works off one job until it is done, is canceled, or ctx ends.
func (s *Service) recover(ctx context.Context, r job.Job) {
	for began := s.Now(); s.owns(r.Endpoint); {
		wait, err := s.recoverSlice(ctx, &r, began)
		switch {
		case fault.Is(err, fault.NotFound): // canceled, or somebody else has advanced it
			now, rerr := s.Store.Job(ctx, r.Space, r.ID)
			if rerr != nil || now.State != job.Running {
				return
			}
			r = now
		case err != nil && ctx.Err() == nil:
			s.Log.Error("recover endpoint", "endpoint", r.EndpointID, "job", r.ID, "err", err)
			wait = jobAgain
		case r.State != job.Running:
			s.Log.Info("job done", "endpoint", r.EndpointID, "job", r.ID, "state", r.State, "requeued", r.Requeued)
			return
		}
		if wait > 0 && !pause(ctx, wait) || ctx.Err() != nil {
			return
		}
	}
}

// recoverSlice goes one slice on and writes how far it came. It returns how long
// to wait before the next.
func (s *Service) recoverSlice(ctx context.Context, r *job.Job, began time.Time) (wait time.Duration, err error) {
	if err := s.CatchUp(ctx); err != nil { // what it sends goes by the endpoint as it is on all nodes
		return 0, err
	}
	now, next := s.Now(), *r
	var again []delivery.Delivery
	if r.Kind == job.BulkRetry {
		again, err = s.retrySlice(ctx, &next, now)
	} else {
		again, wait, err = s.missedSlice(ctx, &next, began, now)
	}
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

// missedSlice returns what to send again of the next events, and takes r past them.
func (s *Service) missedSlice(ctx context.Context, r *job.Job, began, now time.Time) (again []delivery.Delivery, wait time.Duration, err error) {
	// Events that are being accepted just now may get a lower key than others that
	// are there already; they must not be passed over.
	until := min(r.Until, max(keyAt(now.Add(-jobGrace)), r.Cursor.Event+1))
	if now.Sub(began) >= jobGrace { // where the clock was stepped back, keys are ahead of it
		until = r.Until
	}
	if r.Missed { // an event that is being fanned out has not been missed
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
	if r.Missed && filtered(w) && !s.mayProcess(r.Space) { // until the account has processor time again
		return nil, jobGrace, nil
	}
	occasions, err := s.Store.Occasions(ctx, r.Space, r.Endpoint, r.Cursor.Event, until, jobSlice)
	if err != nil {
		return nil, 0, err
	}
	if again, err = s.missedBy(ctx, w, occasions, r, now); err != nil {
		return nil, 0, err
	}
	r.Scanned += len(occasions)
	r.Requeued += len(again)
	switch {
	case len(occasions) == jobSlice:
		r.Cursor.Event = occasions[len(occasions)-1].Key
	case until < r.Until:
		r.Cursor.Event, wait = until-1, jobGrace
	default:
		r.Cursor.Event, r.State = r.Until, job.Succeeded
	}
	return again, wait, nil
}

// retrySlice returns the next failed deliveries to send again, and takes r past them.
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

// missedBy picks what to send again of what happened.
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

// CancelJob stops a job; what it requeued stays so. One that has ended
// stays as it is.
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
