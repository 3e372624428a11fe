package service

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// SendEvent accepts an event: when it returns, the event and a delivery for each
// endpoint that wants it are on disk. raw is the request's JSON.
//
// An event with an id that was accepted before with the same type and data is
// returned again, unchanged. Errors: fault.Invalid, fault.Unavailable, and those
// of idempotency.
func (s *Service) SendEvent(ctx context.Context, c *Call, raw []byte) (*event.Event, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	in, err := event.ParseInput(raw)
	if err != nil {
		return nil, err
	}
	if event.Operational(in.Type) {
		return nil, fault.Param("type", "event_type_reserved", "Events of type %s are announced by the server itself.", in.Type)
	}
	e := s.newEvent(c.Space, in)
	if len(e.Body) > s.MaxBody {
		return nil, fault.Param("data", "payload_too_large", "The body to deliver would be %d bytes; the limit is %d. Send less, or a reference.", len(e.Body), s.MaxBody)
	}
	end, err := s.begin(ctx, c, false)
	if err != nil {
		return nil, err
	}
	defer end()
	to := s.Endpoints.Match(c.Space, e.Type)
	a := &store.Append{Event: e, Deliveries: deliveries(&e, to), Receipt: c.receipt(&e, e.Key.Time())}
	if err := s.Events.Append(ctx, a); err != nil {
		return nil, err
	}
	switch {
	case a.Replay != nil:
		return nil, c.replay(a.Replay)
	case a.Taken != nil:
		return taken(a.Taken, &e, in.HasCreated)
	}
	s.countEvent(a)
	s.keepOrder(ctx, &e, to)
	return &a.Event, nil
}

// keepOrder waits until whatever any node accepts is later than e, if somebody wants
// events in order: who sent this one may send the next to another node.
func (s *Service) keepOrder(ctx context.Context, e *event.Event, to []*endpoint.Endpoint) {
	if s.Await != nil && slices.ContainsFunc(to, func(w *endpoint.Endpoint) bool { return w.Settings.Ordering == endpoint.FIFO }) {
		s.Await(ctx, e.Key.Time().Add(time.Millisecond))
	}
}

// bySystem is a call that nobody makes but the server itself.
var bySystem = &Call{Key: account.Key{ID: account.System, Role: account.Operator}}

// TakeEvent accepts what a source brought for an account, as [Service.SendEvent] does
// what a request brings. Errors: those of SendEvent, and fault.NotFound.
func (s *Service) TakeEvent(ctx context.Context, accountID string, live bool, raw []byte) error {
	a, err := s.Account(ctx, bySystem, accountID)
	if err != nil {
		return err
	}
	_, err = s.SendEvent(ctx, &Call{Space: event.SpaceOf(a.No, live), Key: bySystem.Key}, raw)
	return err
}

// taken decides what an event id that is in use means: the same event again, or
// a mistake.
func taken(first, again *event.Event, compareCreated bool) (*event.Event, error) {
	if first.Type == again.Type && bytes.Equal(first.Data(), again.Data()) && (!compareCreated || first.Created == again.Created) {
		return first, nil
	}
	return nil, fault.Param("id", "event_id_taken", "Another event with the id '%s' was sent before.", again.ID)
}

// newEvent gives an event its key and identifier and makes its body, once.
func (s *Service) newEvent(space event.Space, in event.Input) event.Event {
	e := event.Event{Key: s.IDs.Keys.Next(), ID: in.ID, Space: space, Type: in.Type, Created: in.Created}
	if in.ID == "" {
		e.Nonce = s.IDs.Rand()
		e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
	} else {
		e.Custom = true
	}
	if !in.HasCreated {
		e.Created = e.Key.Time().Unix()
	}
	e.Body = event.NewBody(e.ID, e.Type, e.Created, in.Data)
	return e
}

func deliveries(e *event.Event, to []*endpoint.Endpoint) []delivery.Delivery {
	if len(to) == 0 {
		return nil
	}
	ds := make([]delivery.Delivery, len(to))
	for i, w := range to {
		ds[i] = delivery.New(delivery.ID{Event: e.Key, Endpoint: w.No}, e.Space)
	}
	return ds
}

// SendTest sends a sample event to one endpoint only, of the given type or, if
// that is empty, of the first type that the endpoint names.
func (s *Service) SendTest(ctx context.Context, c *Call, endpointID, typ string) (*event.Event, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return nil, err
	}
	defer end()
	w, err := s.Endpoint(ctx, c, endpointID)
	if err != nil {
		return nil, err
	}
	if err := mustBeOn(w, "id"); err != nil {
		return nil, err
	}
	if typ == "" {
		typ = event.TypeEndpointTest
		for _, p := range w.Events {
			if !strings.HasSuffix(p, "*") {
				typ = p
				break
			}
		}
	}
	if !event.ValidType(typ) {
		return nil, fault.Param("type", "event_type_invalid", `Give an event type such as "payment.succeeded".`)
	}
	now := s.Now().Unix()
	e := s.newEvent(c.Space, event.Input{Type: typ, Created: now, HasCreated: true, Data: event.Sample(typ, now)})
	a := &store.Append{Event: e, Deliveries: deliveries(&e, []*endpoint.Endpoint{w}), Receipt: c.receipt(&e, e.Key.Time())}
	if err := s.Events.Append(ctx, a); err != nil {
		return nil, err
	}
	if a.Replay != nil {
		return nil, c.replay(a.Replay)
	}
	s.countEvent(a)
	return &a.Event, nil
}

// Event returns one event.
func (s *Service) Event(ctx context.Context, c *Call, id string) (*event.Event, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	e, err := s.Store.Event(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// EventFilter narrows a list of events. Zero fields do not narrow; times are
// those of acceptance.
type EventFilter struct {
	Type  string    // a type or a pattern such as "payment.*"
	From  time.Time // inclusive
	Until time.Time // exclusive
}

// lastTime is the last that keys can tell, in Unix milliseconds (see event.Key).
const lastTime = 1<<42 - 1

// keyAt returns the first key of a time, 0 for none. Times that no key can have
// become the nearest that one can: they must not stop to narrow.
func keyAt(t time.Time) event.Key {
	if t.IsZero() {
		return 0
	}
	return max(event.KeyAt(time.UnixMilli(min(t.UnixMilli(), lastTime))), 1)
}

func checkPattern(p string) error {
	if p != "" && !event.ValidPattern(p) {
		return fault.Param("type", "event_type_invalid", `Give an event type such as "payment.succeeded", or a prefix such as "payment.*".`)
	}
	return nil
}

// ListEvents lists events, newest first.
func (s *Service) ListEvents(ctx context.Context, c *Call, f EventFilter, p Page) ([]event.Event, bool, error) {
	if err := c.mustAccount(); err != nil {
		return nil, false, err
	}
	if err := checkPattern(f.Type); err != nil {
		return nil, false, err
	}
	page, err := ResolvePage(p, func(param, id string) (event.Key, error) {
		e, err := s.Store.Event(ctx, c.Space, id)
		return e.Key, CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListEvents(ctx, c.Space, store.EventFilter{Pattern: f.Type, From: keyAt(f.From), Until: keyAt(f.Until)}, page)
}

// EventSearch narrows a search. Zero fields do not narrow.
type EventSearch struct {
	EventFilter
	Status string // with a delivery that is pending, succeeded, failed or canceled
	Text   string // anywhere in the body, to the letter
	Before string // events older than this one
}

// How much a search returns and looks at, at a time.
const (
	searchPage = 50
	searchScan = 5_000
)

// SearchEvents returns events, newest first, a page at a time. It looks at so many
// events at most, however few it finds; next is what to search before to go on, empty
// when there is nothing left.
func (s *Service) SearchEvents(ctx context.Context, c *Call, f EventSearch) (items []event.Event, next string, err error) {
	if err := c.mustAccount(); err != nil {
		return nil, "", err
	}
	if err := checkPattern(f.Type); err != nil {
		return nil, "", err
	}
	narrow := store.EventSearch{EventFilter: store.EventFilter{Pattern: f.Type, From: keyAt(f.From), Until: keyAt(f.Until)}, Text: f.Text}
	if narrow.State, err = state(f.Status); err != nil {
		return nil, "", err
	}
	var before event.Key
	if f.Before != "" {
		n, _, ok := event.ParseID(cursorPrefix, f.Before)
		if !ok {
			return nil, "", fault.Param("before", "resource_missing", "There is nothing to go on with before '%s'.", f.Before)
		}
		before = n
	}
	items, key, err := s.Store.SearchEvents(ctx, c.Space, narrow, before, searchPage, searchScan)
	if err != nil || key == 0 {
		return items, "", err
	}
	return items, event.FormatID(cursorPrefix, key, 0), nil
}

// cursorPrefix starts the place where a search goes on; it need not be an event.
const cursorPrefix = "cur_"

// EventsAfter returns the events after a key, oldest first, at most limit: those
// that came in since. A key of 0 stands for now.
func (s *Service) EventsAfter(ctx context.Context, c *Call, after event.Key, limit int) (items []event.Event, last event.Key, err error) {
	if err := c.mustAccount(); err != nil {
		return nil, after, err
	}
	if after == 0 {
		return nil, max(keyAt(s.Now()), 1), nil
	}
	items, _, err = s.Store.ListEvents(ctx, c.Space, store.EventFilter{}, store.Page[event.Key]{Limit: limit, Before: &after})
	slices.Reverse(items)
	if len(items) > 0 {
		after = items[len(items)-1].Key
	}
	return items, after, err
}

// Resend sends an event again to every enabled endpoint that wants it, or to the
// one named, whether it wants it or not. It returns the deliveries, which are
// pending again with a fresh retry schedule.
func (s *Service) Resend(ctx context.Context, c *Call, eventID, endpointID string) ([]store.DeliveryView, error) {
	return s.resend(ctx, c, eventID, func(e *event.Event) ([]*endpoint.Endpoint, error) {
		if endpointID == "" {
			return s.Endpoints.Match(c.Space, e.Type), nil
		}
		w, err := s.Endpoint(ctx, c, endpointID)
		if err != nil {
			return nil, CursorFault(err, "endpoint", endpointID)
		}
		return []*endpoint.Endpoint{w}, mustBeOn(w, "endpoint")
	})
}

// ResendToListeners sends an event again to whoever listens, wanted or not.
func (s *Service) ResendToListeners(ctx context.Context, c *Call, eventID, _ string) ([]store.DeliveryView, error) {
	return s.resend(ctx, c, eventID, func(*event.Event) (to []*endpoint.Endpoint, err error) {
		s.Endpoints.Each(func(w *endpoint.Endpoint) {
			if w.Space == c.Space && w.Listener() && w.Sends() {
				to = append(to, w)
			}
		})
		return to, nil
	})
}

func (s *Service) resend(ctx context.Context, c *Call, eventID string, choose func(*event.Event) ([]*endpoint.Endpoint, error)) ([]store.DeliveryView, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := s.Event(ctx, c, eventID)
	if err != nil {
		return nil, err
	}
	to, err := choose(e)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	ds := make([]delivery.Delivery, 0, len(to))
	views := make([]store.DeliveryView, 0, len(to))
	for _, w := range to {
		id := delivery.ID{Event: e.Key, Endpoint: w.No}
		v, err := s.Store.Delivery(ctx, c.Space, id)
		switch {
		case fault.Is(err, fault.NotFound):
			v = store.DeliveryView{Delivery: delivery.New(id, c.Space), EventID: e.ID, Type: e.Type, EndpointID: w.ID}
		case err != nil:
			return nil, err
		}
		v.Requeue(now)
		ds, views = append(ds, v.Delivery), append(views, v)
	}
	if err := s.Store.Requeue(ctx, ds, s.trail(c, views, now, account.EventResent, e.ID, "deliveries", strconv.Itoa(len(ds)))); err != nil {
		return nil, err
	}
	for _, w := range to {
		s.engine.Wake(w.No)
	}
	return views, nil
}
