package service

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Delivery returns one delivery.
func (s *Service) Delivery(ctx context.Context, c *call.Call, id string) (delivery.View, error) {
	if err := c.MustAccount(); err != nil {
		return delivery.View{}, err
	}
	did, ok := delivery.ParseID(id)
	if !ok {
		return delivery.View{}, fault.Missing("delivery", id)
	}
	return s.Store.Delivery(ctx, c.Space, did)
}

// DeliveryFilter narrows a list of deliveries. Empty fields select everything; times are those
// of the events' acceptance.
type DeliveryFilter struct {
	Event    string
	Endpoint string // it may be deleted
	Type     string // a type or a pattern such as "payment.*"
	Status   string // pending, succeeded, failed or canceled
	Outcome  string // of the last attempt, by its name or short name
	Response string // HTTP status of the response to the last attempt, such as 503, or a class, such as 5xx
	Key      event.SearchKey
	From     time.Time
	Until    time.Time // exclusive
}

// ListDeliveries lists deliveries, newest event first, as [Service.ListEvents] lists events.
func (s *Service) ListDeliveries(ctx context.Context, c *call.Call, f DeliveryFilter, p call.Page) (items []delivery.View, next string, err error) {
	if err := c.MustAccount(); err != nil {
		return nil, "", err
	}
	narrow, err := s.narrow(ctx, c, f)
	if err != nil {
		return nil, "", err
	}
	page, err := call.ResolvePage(p, func(param, id string) (delivery.ID, error) {
		if place, ok := call.ParseBetween(id); ok {
			return place, nil
		}
		v, err := s.Delivery(ctx, c, id)
		return v.ID, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, "", err
	}
	items, at, err := s.Store.ListDeliveries(ctx, c.Space, narrow, page)
	return items, call.NextCursor(items, at, p, func(v *delivery.View) (string, delivery.ID) { return v.ID.String(), v.ID }, call.Between), err
}

// narrow checks f and resolves its identifiers.
func (s *Service) narrow(ctx context.Context, c *call.Call, f DeliveryFilter) (out store.DeliveryFilter, err error) {
	if err := checkPattern(f.Type); err != nil {
		return out, err
	}
	out = store.DeliveryFilter{Pattern: f.Type, From: keyAt(f.From), Until: keyAt(f.Until)}
	if out.State, err = state(f.Status); err != nil {
		return out, err
	}
	if out.Outcome, err = outcome(f.Outcome); err != nil {
		return out, err
	}
	if out.Statuses, err = statuses(f.Response); err != nil {
		return out, err
	}
	if out.Search, err = s.search(c.Space, f.Key, "key"); err != nil {
		return out, err
	}
	if f.Event != "" {
		e, err := s.Store.Event(ctx, c.Space, f.Event)
		if err != nil {
			return out, call.CursorFault(err, "event", f.Event)
		}
		out.Event = e.Key
	}
	if f.Endpoint != "" {
		w, err := s.Store.PastEndpoint(ctx, c.Space, f.Endpoint)
		if err != nil {
			return out, call.CursorFault(err, "endpoint", f.Endpoint)
		}
		out.Endpoint = w.No
	}
	return out, nil
}

// state returns the state with this name, nil for an empty name.
func state(name string) (*delivery.State, error) {
	if name == "" {
		return nil, nil
	}
	state, ok := delivery.ParseState(name)
	if !ok {
		return nil, fault.Param("status", "parameter_invalid", "The status must be pending, succeeded, failed or canceled.")
	}
	return &state, nil
}

// outcome returns the outcome with this name, nil for an empty name.
func outcome(name string) (*delivery.Outcome, error) {
	if name == "" {
		return nil, nil
	}
	o, ok := delivery.ParseOutcome(name)
	if !ok {
		return nil, fault.Param("outcome", "parameter_invalid", "The outcome must be one of %s.", outcomeNames())
	}
	return &o, nil
}

// statuses returns the HTTP statuses that a text names, such as 503 or 5xx.
func statuses(text string) (r store.StatusRange, err error) {
	if text == "" {
		return r, nil
	}
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		text = class + "00"
		r.To = 99
	}
	if r.From, err = strconv.Atoi(text); err != nil || len(text) != 3 || r.From < 100 || r.From > 599 {
		return store.StatusRange{}, fault.Param("response_status", "parameter_invalid", "The response status must be an HTTP status such as 503, or a class such as 5xx.")
	}
	r.To += r.From
	return r, nil
}

// outcomeNames lists the outcomes for an error message.
func outcomeNames() string {
	var names []string
	for _, o := range delivery.Outcomes() {
		name := o.String()
		if short := o.Short(); short != "" {
			name += " (or " + short + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// RetryDelivery makes a delivery in any state due at once, with a new retry schedule.
func (s *Service) RetryDelivery(ctx context.Context, c *call.Call, id string) (delivery.View, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return delivery.View{}, err
	}
	defer end()
	v, err := s.Delivery(ctx, c, id)
	if err != nil {
		return v, err
	}
	if !v.Erased.IsZero() {
		return v, call.Erased(&event.Event{ID: v.EventID}, "id")
	}
	w := s.Endpoints.Get(v.ID.Endpoint)
	if w == nil {
		return v, fault.Param("id", "endpoint_deleted", "The endpoint of this delivery was deleted.")
	}
	if err := mustBeOn(w.Endpoint, "id"); err != nil {
		return v, err
	}
	now := s.Now()
	v.Requeue(now)
	if err := s.Store.Requeue(ctx, []delivery.Delivery{v.Delivery}, s.Trail(c, v, now, account.DeliveryRetried, v.ID.String())); err != nil {
		return v, err
	}
	s.engine.Expedite(v.ID)
	return v, nil
}

// MaxWait is the maximum time that a caller may wait for an attempt.
const MaxWait = 30 * time.Second

// Attempted is a delivery that a user retried, and the resulting attempt.
type Attempted struct {
	delivery.View
	Attempt *Attempt // nil: it has not ended yet
}

const (
	firstPoll = 5 * time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// AwaitAttempts waits until each of the deliveries has one more attempt than given, at most for
// a time, and returns them as they are then. It reads the store, so any node may make the
// attempts.
func (s *Service) AwaitAttempts(ctx context.Context, c *call.Call, views []delivery.View, wait time.Duration) ([]Attempted, error) {
	deadline := time.Now().Add(min(wait, MaxWait))
	out := make([]Attempted, len(views))
	for i := range views {
		out[i].View = views[i]
	}
	for wait := firstPoll; ; wait = min(wait*3/2, lastPoll) {
		missing := false
		for i := range out {
			if out[i].Attempt != nil {
				continue
			}
			v, err := s.Store.Delivery(ctx, c.Space, views[i].ID)
			if err != nil {
				return nil, err
			}
			if out[i].View = v; v.Attempts > views[i].Attempts {
				if out[i].Attempt, err = s.attemptAfter(ctx, &v, views[i].Attempts); err != nil {
					return nil, err
				}
			}
			missing = missing || out[i].Attempt == nil && v.State == delivery.Pending
		}
		left := time.Until(deadline)
		if !missing || left <= 0 {
			return out, nil
		}
		select {
		case <-time.After(min(wait, left)):
		case <-ctx.Done():
			return out, nil
		}
	}
}

// attemptAfter returns the attempt with the lowest number above one, nil if there is none.
func (s *Service) attemptAfter(ctx context.Context, v *delivery.View, number int) (*Attempt, error) {
	all, _, err := s.Store.ListAttempts(ctx, v.ID, store.AttemptFilter{}, store.Page[int]{Limit: 1, Before: &number})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	sent, err := s.sent(ctx, v)
	if err != nil {
		return nil, err
	}
	a := sent.request(&all[0])
	return &a, nil
}

// CancelDelivery cancels the retries of a pending delivery; a settled delivery is not changed.
func (s *Service) CancelDelivery(ctx context.Context, c *call.Call, id string) (delivery.View, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return delivery.View{}, err
	}
	defer end()
	did, ok := delivery.ParseID(id)
	if !ok {
		return delivery.View{}, fault.Missing("delivery", id)
	}
	now := s.Now()
	v, err := s.Store.CancelDelivery(ctx, c.Space, did, now, func(v *delivery.View) store.Trail {
		return s.Trail(c, *v, now, account.DeliveryCanceled, v.ID.String())
	})
	if err != nil {
		return v, err
	}
	s.engine.Wake(v.ID.Endpoint) // with strict order the next delivery waited for it
	return v, nil
}

// Watcher returns the receiver of the engine's reports: it disables endpoints and notifies the
// account.
func (s *Service) Watcher() *Watcher { return &Watcher{s} }

// Watcher implements dispatch.Watcher.
type Watcher struct{ s *Service }

// EndpointDead disables the endpoint, unless its URL has changed since the failure.
func (w *Watcher) EndpointDead(f *dispatch.Failure, reason string) {
	same := func(e *endpoint.Endpoint) bool { return e.URL == f.Endpoint.URL }
	if err := w.s.disable(context.Background(), f.Endpoint.No, reason, lastFailure(f), same); err != nil {
		w.s.Log.Error("disable endpoint", "endpoint_no", f.Endpoint.No, "reason", reason, "err", err)
	}
}

// EndpointFailing announces webhook_endpoint.failing.
func (w *Watcher) EndpointFailing(f *dispatch.Failure, since time.Time) {
	e := w.s.Endpoints.Get(f.Endpoint.No)
	if e == nil {
		return
	}
	w.s.Log.Warn("endpoint is failing", "endpoint", e.ID, "since", since)
	err := w.s.announce(context.Background(), &announcement{about: e.Endpoint, typ: event.TypeEndpointFailing, others: true,
		object: endpointObject(e.Endpoint, append(lastFailure(f), "failing_since", since.Unix())...),
		text:   "The endpoint has acknowledged no delivery since " + since.UTC().Format(time.RFC3339) + ". Its deliveries wait while it is probed. " + lastFailureText(f)})
	if err != nil {
		w.s.Log.Error("announce failing endpoint", "endpoint", e.ID, "err", err)
	}
}

// DeliveryExhausted announces message.attempt.exhausted, except for the server's
// own events, whose notices would have notices in turn.
func (w *Watcher) DeliveryExhausted(f *dispatch.Failure) {
	d, j := f.Delivery, f.Outgoing
	e := w.s.Endpoints.Get(d.ID.Endpoint)
	if e == nil {
		return
	}
	w.s.tally.Exhausted(e.Endpoint, w.s.Now())
	if event.Operational(j.Type) {
		return
	}
	text := fmt.Sprintf("The delivery %s of the event %s failed for good after %d attempts. ", d.ID, j.EventID, d.Attempts)
	if why := d.GivenUp(); why != "" {
		text += why
	} else {
		text += lastFailureText(f)
	}
	err := w.s.announce(context.Background(), &announcement{about: e.Endpoint, typ: event.TypeAttemptExhausted, others: true,
		object: with(map[string]any{"id": d.ID.String(), "object": "delivery", "event": j.EventID, "event_type": j.Type, "endpoint": e.ID, "attempts": d.Attempts}, lastAttempt(f)),
		text:   text})
	if err != nil {
		w.s.Log.Error("announce exhausted delivery", "delivery", d.ID.String(), "err", err)
	}
}

// lastFailure returns the names and values of a notice that describe the attempt that caused
// it.
func lastFailure(f *dispatch.Failure) []any {
	return append(lastAttempt(f), "event", f.Outgoing.EventID, "event_type", f.Outgoing.Type, "delivery", f.Delivery.ID.String())
}

// lastAttempt returns the names and values of a notice that describe the result of an attempt.
func lastAttempt(f *dispatch.Failure) []any {
	return []any{"last_outcome", f.Delivery.LastOutcome.String(), "last_status_code", f.Delivery.StatusOrNil(), "last_error", lastError(f)}
}

// lastError returns why there was no response, nil if there was one.
func lastError(f *dispatch.Failure) any {
	if f.Attempt == nil || f.Attempt.Error == "" {
		return nil
	}
	return f.Attempt.Error
}

// lastFailureText describes the failure of the attempt in a sentence.
func lastFailureText(f *dispatch.Failure) string {
	how := f.Delivery.LastOutcome.String()
	if f.Delivery.LastStatus != 0 {
		how = fmt.Sprintf("status %d", f.Delivery.LastStatus)
	}
	if why := lastError(f); why != nil {
		how += fmt.Sprintf(" (%s)", why)
	}
	return fmt.Sprintf("The last attempt, at the event %s (%s), failed: %s.", f.Outgoing.EventID, f.Outgoing.Type, how)
}

// Attempted counts the attempt.
func (w *Watcher) Attempted(e *endpoint.Endpoint, a *delivery.Attempt) { w.s.tally.Attempt(e, a) }
