package service

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	recoverySlice = 500             // events in one transaction, so that others wait little for it
	recoveryGrace = 2 * time.Second // after which an event that was being accepted has been
	recoveryAgain = 5 * time.Second // after an error of the store
)

// Recover starts a job that sends an endpoint again what failed for it since a
// time and, with missed, what it subscribes to and never had because it was
// disabled. Errors: fault.Invalid, fault.NotFound, and those of idempotency.
func (s *Service) Recover(ctx context.Context, c *Call, endpointID string, since time.Time, missed bool) (store.Recovery, error) {
	if err := c.mustAccount(); err != nil {
		return store.Recovery{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return store.Recovery{}, err
	}
	defer end()
	w, err := s.Endpoint(ctx, c, endpointID)
	if err != nil {
		return store.Recovery{}, err
	}
	if err := mustBeOn(w, "id"); err != nil {
		return store.Recovery{}, err
	}
	now := s.Now()
	if since.After(now) {
		return store.Recovery{}, fault.Param("since", "parameter_invalid", "The time is in the future.")
	}
	s.steps.Lock() // two requests must not both find that nothing runs
	defer s.steps.Unlock()
	running, err := s.Store.RunningRecoveries(ctx)
	if err != nil {
		return store.Recovery{}, err
	}
	for _, r := range running {
		if r.Endpoint == w.No {
			return store.Recovery{}, fault.Param("id", "recovery_running", "The job %s is recovering this endpoint. Wait for it, or cancel it.", r.ID)
		}
	}
	r := store.Recovery{ID: s.IDs.New(event.PrefixJob), Kind: store.RecoverEndpoint, Space: c.Space, Endpoint: w.No, EndpointID: w.ID,
		From: max(keyAt(since), 1), Until: s.IDs.Keys.Next(), Missed: missed, State: store.RecoveryRunning, Created: now}
	r.Cursor.Event = r.From - 1
	if r.Total, err = s.Store.CountEvents(ctx, r.Space, r.From, r.Until); err != nil {
		return store.Recovery{}, err
	}
	trail := s.trail(c, r, now, account.RecoveryStarted, w.ID, "job", r.ID, "since", strconv.FormatInt(since.Unix(), 10))
	if err := s.Store.CreateRecovery(ctx, &r, trail); err != nil {
		return store.Recovery{}, err
	}
	select { // when nobody takes it, the server stops, and it goes on after the next start
	case s.recoveries <- r:
	case <-s.stopped:
	}
	return r, nil
}

// RunRecoveries works off the recoveries until ctx ends; first of all those that a
// stop interrupted.
func (s *Service) RunRecoveries(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(s.stopped)
	pending, err := s.Store.RunningRecoveries(ctx)
	for err != nil {
		s.Log.Error("read interrupted recoveries", "err", err)
		if !pause(ctx, recoveryAgain) {
			return
		}
		pending, err = s.Store.RunningRecoveries(ctx)
	}
	started := map[string]bool{}
	start := func(r store.Recovery) {
		if !started[r.ID] { // one that was just made may be in the list of those interrupted
			started[r.ID] = true
			wg.Go(func() { s.recover(ctx, r) })
		}
	}
	for _, r := range pending {
		start(r)
	}
	for {
		select {
		case r := <-s.recoveries:
			start(r)
		case <-ctx.Done():
			return
		}
	}
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

// recover works off one recovery until it is done, is canceled, or ctx ends.
func (s *Service) recover(ctx context.Context, r store.Recovery) {
	for {
		wait, err := s.recoverSlice(ctx, &r)
		switch {
		case fault.Is(err, fault.NotFound): // canceled
			return
		case err != nil && ctx.Err() == nil:
			s.Log.Error("recover endpoint", "endpoint", r.EndpointID, "job", r.ID, "err", err)
			wait = recoveryAgain
		case r.State != store.RecoveryRunning:
			s.Log.Info("endpoint recovered", "endpoint", r.EndpointID, "job", r.ID, "state", r.State, "requeued", r.Requeued)
			return
		}
		if wait > 0 && !pause(ctx, wait) || ctx.Err() != nil {
			return
		}
	}
}

// recoverSlice goes one slice on and writes how far it came. It returns how long
// to wait before the next.
func (s *Service) recoverSlice(ctx context.Context, r *store.Recovery) (wait time.Duration, err error) {
	s.steps.Lock()
	defer s.steps.Unlock()
	now, next := s.Now(), *r
	// Events that are being accepted just now may get a lower key than others that
	// are there already; they must not be passed over.
	until := min(r.Until, max(keyAt(now.Add(-recoveryGrace)), r.Cursor.Event+1))
	w := s.Endpoints.Get(r.Endpoint)
	var again []delivery.Delivery
	switch {
	case w == nil:
		next.State, next.Error = store.RecoveryFailed, "The endpoint was deleted."
	case w.Status != endpoint.Enabled:
		next.State, next.Error = store.RecoveryFailed, "The endpoint was disabled."
	default:
		occasions, err := s.Store.Occasions(ctx, r.Space, r.Endpoint, r.Cursor.Event, until, recoverySlice)
		if err != nil {
			return 0, err
		}
		again = missedBy(w, occasions, r, now)
		next.Scanned += len(occasions)
		next.Requeued += len(again)
		switch {
		case len(occasions) == recoverySlice:
			next.Cursor.Event = occasions[len(occasions)-1].Key
		case until < r.Until:
			next.Cursor.Event, wait = until-1, recoveryGrace
		default:
			next.Cursor.Event, next.State = r.Until, store.RecoverySucceeded
		}
	}
	if next.State != store.RecoveryRunning {
		next.Finished = now
	}
	if err := s.Store.AdvanceRecovery(ctx, &next, again, store.Trail{}); err != nil {
		return 0, err
	}
	*r = next
	if len(again) > 0 {
		s.engine.Wake(r.Endpoint)
	}
	return wait, nil
}

// missedBy picks what to send again of what happened.
func missedBy(w *endpoint.Endpoint, occasions []store.Occasion, r *store.Recovery, now time.Time) (again []delivery.Delivery) {
	since := event.KeyAt(w.Created)
	for _, o := range occasions {
		switch {
		case o.Delivery != nil && o.Delivery.State == delivery.Failed:
			again = append(again, *o.Delivery)
		case o.Delivery == nil && r.Missed && o.Key >= since && w.Wants(o.Type) && !event.Operational(o.Type):
			again = append(again, delivery.New(delivery.ID{Event: o.Key, Endpoint: w.No}, r.Space))
		default:
			continue
		}
		again[len(again)-1].Requeue(now)
	}
	return again
}

// Recovery returns one recovery.
func (s *Service) Recovery(ctx context.Context, c *Call, id string) (store.Recovery, error) {
	if err := c.mustAccount(); err != nil {
		return store.Recovery{}, err
	}
	return s.Store.Recovery(ctx, c.Space, id)
}

// ListRecoveries lists the recoveries of the account or, if endpointID is given, of
// one endpoint, newest first.
func (s *Service) ListRecoveries(ctx context.Context, c *Call, endpointID string, p Page) ([]store.Recovery, bool, error) {
	if err := c.mustAccount(); err != nil {
		return nil, false, err
	}
	var no int64
	if endpointID != "" {
		w, err := s.Store.Endpoint(ctx, c.Space, endpointID)
		if err != nil {
			return nil, false, CursorFault(err, "endpoint", endpointID)
		}
		no = w.No
	}
	page, err := ResolvePage(p, func(param, id string) (string, error) {
		r, err := s.Store.Recovery(ctx, c.Space, id)
		return r.ID, CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListRecoveries(ctx, c.Space, no, page)
}

// CancelRecovery stops a recovery; what it requeued stays so. One that has ended
// stays as it is.
func (s *Service) CancelRecovery(ctx context.Context, c *Call, id string) (store.Recovery, error) {
	if err := c.mustAccount(); err != nil {
		return store.Recovery{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return store.Recovery{}, err
	}
	defer end()
	s.steps.Lock()
	defer s.steps.Unlock()
	r, err := s.Store.Recovery(ctx, c.Space, id)
	if err != nil || r.State != store.RecoveryRunning {
		return r, err
	}
	now := s.Now()
	r.State, r.Finished = store.RecoveryCanceled, now
	return r, s.Store.AdvanceRecovery(ctx, &r, nil, s.trail(c, r, now, account.RecoveryCanceled, r.EndpointID, "job", r.ID))
}
