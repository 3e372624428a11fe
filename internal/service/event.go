package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// SendEvent accepts an event. When it returns, the event is on disk with a delivery for each
// subscribed endpoint or, for more than [store.InlineDeliveries] of them, with the list of
// these endpoints, from which the deliveries are written afterwards. raw is the request's JSON.
//
// If an event with the same id, type and data was accepted before, that event is returned
// unchanged. Errors: fault.Invalid, fault.Unavailable, and those of idempotency.
func (s *Service) SendEvent(ctx context.Context, c *call.Call, raw []byte) (*event.Event, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	version, err := s.settled(c)
	if err != nil {
		return nil, err
	}
	in, err := s.prepare(c, raw, version)
	if s.rejected(err) { // by this node's settings, which may be stale
		if err = s.CatchUp(ctx); err == nil {
			in, err = s.prepare(c, raw, s.SettingsVersion())
		}
	}
	if err != nil {
		return nil, err
	}
	end, err := s.Begin(ctx, c, false)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := s.Events.Append(ctx, &in.Append); err != nil {
		return nil, err
	}
	if in.Stale {
		if in, err = s.sendAfresh(ctx, c, raw); err != nil {
			return nil, err
		}
	}
	return s.accepted(ctx, c, in)
}

// rejected reports whether an event was refused by settings that another node may have changed.
func (s *Service) rejected(err error) bool {
	var r rejection
	return s.Settings != nil && errors.As(err, &r)
}

// sendAfresh stores an event again after another node has changed the settings that it was
// matched by.
func (s *Service) sendAfresh(ctx context.Context, c *call.Call, raw []byte) (in *incoming, err error) {
	if err := s.Recheck(ctx, c); err != nil {
		return nil, err
	}
	err = s.afresh(ctx, c, func() error {
		version, err := s.settled(c)
		if err != nil {
			return err
		}
		if in, err = s.prepare(c, raw, version); err != nil {
			return err
		}
		return s.append(ctx, &in.Append)
	})
	return in, err
}

// MaxEvents is the maximum number of events in one call of [Service.SendEvents].
const MaxEvents = 1000

// MaxBatch is the maximum body of a request with several events, in bytes.
const MaxBatch = 8 << 20

// spelling is the maximum ratio of an event's size in a request to its size in the stable form.
const spelling = 4

// MaxRequest returns the maximum size of a request with the largest event, in bytes.
func (s *Service) MaxRequest() int64 { return spelling * int64(s.MaxBody) }

// Sent is the result for one of several events: one of its fields is set.
type Sent struct {
	Event    *event.Event
	Replayed *store.Receipt // the response to the same event of an earlier request
	Err      error          // as [Service.SendEvent] returns it
}

// SendEvents accepts several events, each separately as by SendEvent, in their order. With an
// idempotency key each has its own receipt: when an interrupted request is repeated, accepted
// events are not accepted again, and the others are accepted now. Errors that concern all of
// them: fault.Invalid, fault.Forbidden and fault.IdempotencyConflict.
func (s *Service) SendEvents(ctx context.Context, c *call.Call, raws [][]byte) ([]Sent, error) {
	end, err := s.BeginEdit(ctx, c) // the key may belong to another request
	if err != nil {
		return nil, err
	}
	defer end()
	b := &eventBatch{raws: raws, out: make([]Sent, len(raws))}
	for i := range raws {
		b.left = append(b.left, i)
	}
	if err := s.afresh(ctx, c, func() error { return s.sendBatch(ctx, c, b) }); err != nil {
		if !b.stored {
			return nil, err
		}
		for _, i := range b.left { // the others are stored
			b.out[i].Err = err
		}
	}
	return b.out, nil
}

// eventBatch contains the events of one call that are to be stored.
type eventBatch struct {
	raws   [][]byte
	out    []Sent
	left   []int // indexes without a result yet, in order
	stored bool  // the store has at least one of them, from this call or an earlier one
}

// sendBatch stores the remaining events of a batch, all matched by the same settings. It
// returns store.ErrStale if some remain.
func (s *Service) sendBatch(ctx context.Context, c *call.Call, b *eventBatch) error {
	version, err := s.settled(c)
	if err != nil {
		return err
	}
	p := s.prepareBatch(c, b, version)
	if p.rejected {
		if err := s.CatchUp(ctx); err != nil {
			return err
		}
		p = s.prepareBatch(c, b, s.SettingsVersion())
	}
	b.left = b.left[:0]
	for n, err := range s.Events.AppendAll(ctx, p.appends) {
		i, in := p.places[n], p.ins[n]
		if err == nil && in.Stale {
			b.left = append(b.left, i)
			continue
		}
		if err == nil {
			b.stored = true
			b.out[i].Event, err = s.accepted(ctx, p.calls[n], in)
		}
		var earlier *call.Replayed
		switch {
		case errors.As(err, &earlier):
			b.out[i].Replayed = &earlier.Receipt
		case err != nil:
			b.out[i].Err = err
		}
	}
	if len(b.left) > 0 {
		return store.ErrStale
	}
	return nil
}

// prepared contains the remaining events of a batch, ready to be stored.
type prepared struct {
	appends  []*store.Append
	ins      []*incoming
	calls    []*call.Call
	places   []int // indexes in the batch
	rejected bool  // some are missing because of settings that another node may have changed
}

func (s *Service) prepareBatch(c *call.Call, b *eventBatch, version int64) (p prepared) {
	created, limit, full := 0, s.Auth.LimitOn(c, quota.BatchDeliveries), false
	for _, i := range b.left {
		if full { // the following events are refused too, which keeps the order
			b.out[i].Err = overBatch(limit)
			continue
		}
		call := c.Part(i, b.raws[i])
		in, err := s.prepare(call, b.raws[i], version)
		if b.out[i].Err = err; err != nil {
			p.rejected = p.rejected || s.rejected(err)
			continue
		}
		if full = created > 0 && created+len(in.Deliveries) > limit; full {
			b.out[i].Err = overBatch(limit)
			continue
		}
		created += len(in.Deliveries)
		p.appends, p.ins, p.calls, p.places = append(p.appends, &in.Append), append(p.ins, in), append(p.calls, call), append(p.places, i)
	}
	return p
}

// overBatch is the error of an event that would exceed the number of deliveries that one
// request may create.
func overBatch(limit int) error {
	return quota.Busy(quota.BatchDeliveries, time.Second, "The preceding events have created the maximum number of deliveries per request (%d). Send the rest in another request.", limit)
}

// append stores an event. It returns store.ErrStale, and stores nothing, if another node has
// changed the settings that the event was matched by.
func (s *Service) append(ctx context.Context, a *store.Append) error {
	if err := s.Events.Append(ctx, a); err != nil {
		return err
	}
	if a.Stale {
		return store.ErrStale
	}
	return nil
}

// incoming is an event that is to be stored.
type incoming struct {
	store.Append
	dated bool // the sender set its time of creation
}

// prepare returns an event as it is to be stored, by settings of the given version or later.
// Errors: fault.Invalid.
func (s *Service) prepare(c *call.Call, raw []byte, version int64) (*incoming, error) {
	defer s.Turn(c, len(raw))()
	in, err := event.ParseInput(raw)
	if err != nil {
		return nil, err
	}
	if event.Operational(in.Type) {
		return nil, fault.Param("type", "event_type_reserved", "Only the server creates events of type %s. Choose another type.", in.Type)
	}
	e := s.newEvent(c.Space, in)
	if len(in.Headers) > 0 {
		if e.Headers, err = endpoint.EventHeaders(in.Headers, s.Rules.Signature); err != nil {
			return nil, err
		}
	}
	if err := s.checkSize(&in, e.Body); err != nil {
		return nil, err
	}
	to := s.Endpoints.Match(e.Space, e.Type)
	leave, err := s.process(c, &e, to)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.validate(&e); err != nil {
		return nil, err
	}
	out := s.appendOf(e, s.accepting(&e, to), version)
	out.Packed, out.Receipt = store.Pack(e.Body), s.Receipt(c, &e, s.Now())
	return &incoming{
		Append: out,
		dated:  in.HasCreated,
	}, nil
}

// checkSize refuses an event whose body is too large to be delivered. Raw bytes count as
// themselves, and not as the text that they are stored as.
func (s *Service) checkSize(in *event.Input, body []byte) error {
	size, param := len(body), "data"
	if in.Raw != nil {
		size, param = size-len(in.Raw.Base64)+in.Raw.Size(), "raw"
	}
	if size > s.MaxBody {
		return fault.Param(param, "payload_too_large", "The body to deliver would be %d bytes; the limit is %d. Send less data, or a reference to it.", size, s.MaxBody)
	}
	return nil
}

// accepted returns the store's result for an event.
func (s *Service) accepted(ctx context.Context, c *call.Call, in *incoming) (*event.Event, error) {
	switch {
	case in.Replay != nil:
		return nil, s.Earlier(ctx, c, in.Replay)
	case in.Taken != nil:
		return taken(in.Taken, &in.Event, in.dated)
	}
	s.tally.Event(&in.Append)
	return &in.Event, nil
}

// TakeEvent accepts an event from a source for an account, by the rules of [Service.SendEvent]:
// once for a non-empty key, during the life of its receipt. Errors: those of SendEvent except
// [call.Replayed], and fault.NotFound. The event counts against the account's rate limit:
// beyond it, TakeEvent waits.
func (s *Service) TakeEvent(ctx context.Context, accountID string, live bool, key string, raw []byte) error {
	a, err := s.Auth.Account(ctx, call.BySystem, accountID)
	if err != nil {
		return err
	}
	if a.Suspended() { // the message stays at the broker
		return &fault.Error{Code: fault.Unavailable, Reason: "account_suspended", Message: "The account is suspended.", Err: auth.ErrSuspended()}
	}
	if err := s.Auth.AwaitTurn(ctx, &a); err != nil {
		return err
	}
	c := &call.Call{Space: event.SpaceOf(a.No, live), Key: call.BySystem.Key}
	if key != "" { // no request can use such a key
		c.Idem = call.Repeatable("\x1f"+key, func(any) (int, []byte) { return 0, nil })
		c.Idem.Fingerprint = sha256.Sum256(raw)
	}
	_, err = s.SendEvent(ctx, c, raw)
	var replayed *call.Replayed
	if errors.As(err, &replayed) {
		return nil
	}
	return err
}

// taken decides whether a used event id means the same event again or a mistake.
func taken(first, again *event.Event, compareCreated bool) (*event.Event, error) {
	if !first.HasPayload() {
		return nil, call.Erased(first, "id")
	}
	if first.Type == again.Type && bytes.Equal(first.Data(), again.Data()) && bytes.Equal(first.Headers, again.Headers) && (!compareCreated || first.Created == again.Created) {
		return first, nil
	}
	return nil, fault.Param("id", "event_id_taken", "Another event already has the id '%s'.", again.ID)
}

// newEvent gives an event its key and identifier and renders its body, once.
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

// appendOf returns the rows of an event for some endpoints, matched by settings of a version.
func (s *Service) appendOf(e event.Event, to []*endpoint.Endpoint, version int64) store.Append {
	return store.Append{Event: e, Deliveries: deliveries(&e, to), Version: version, Search: s.searchHashes(&e), Deferred: len(to) > store.InlineDeliveries,
		Ordered: slices.ContainsFunc(to, func(w *endpoint.Endpoint) bool { return w.Settings.Ordering == endpoint.FIFO })}
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

// SendTest sends a sample event to one endpoint only, of the given type or, if that is empty,
// of the first type that the endpoint subscribes to.
func (s *Service) SendTest(ctx context.Context, c *call.Call, endpointID, typ string) (*event.Event, []delivery.View, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	var a *store.Append
	if err := s.afresh(ctx, c, func() (err error) {
		if a, err = s.testAppend(ctx, c, endpointID, typ); err != nil {
			return err
		}
		return s.append(ctx, a)
	}); err != nil {
		return nil, nil, err
	}
	if a.Replay != nil {
		return nil, nil, s.Earlier(ctx, c, a.Replay)
	}
	s.tally.Event(a)
	views := make([]delivery.View, len(a.Deliveries))
	for i, d := range a.Deliveries {
		views[i] = delivery.View{Delivery: d, EventID: a.Event.ID, Type: a.Event.Type, EndpointID: endpointID}
		s.engine.Expedite(d.ID)
	}
	return &a.Event, views, nil
}

// testAppend returns the rows of a sample event.
func (s *Service) testAppend(ctx context.Context, c *call.Call, endpointID, typ string) (*store.Append, error) {
	version := s.SettingsVersion()
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
		return nil, fault.Param("type", "event_type_invalid", `Set an event type such as "payment.succeeded".`)
	}
	e := s.sampleEvent(c.Space, typ)
	return &store.Append{Event: e, Deliveries: deliveries(&e, []*endpoint.Endpoint{w}), Receipt: s.Receipt(c, &e, s.Now()), Version: version, Search: s.searchHashes(&e)}, nil
}

// Unwritten returns the number of an event's deliveries that are not written yet.
func (s *Service) Unwritten(ctx context.Context, e *event.Event) (int, error) {
	return s.Store.Unwritten(ctx, e.Space, e.Key)
}

// Event returns one event.
func (s *Service) Event(ctx context.Context, c *call.Call, id string) (*event.Event, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	e, err := s.Store.Event(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// EventFilter narrows a list of events. Zero fields select everything; times are those of
// acceptance.
type EventFilter struct {
	Type  string    // a type or a pattern such as "payment.*"
	Types []string  // any of these, at most [MaxListedTypes]; instead of Type
	From  time.Time // inclusive
	Until time.Time // exclusive

	Delivered *bool  // whether all deliveries have succeeded; none is pending or failed
	Status    string // with a delivery that is pending, succeeded, failed or canceled
	Text      string // anywhere in the body, case-sensitive
	Key       event.SearchKey
}

// MaxListedTypes is the maximum number of types in a filter.
const MaxListedTypes = 20

func (f *EventFilter) check() error {
	if f.Type != "" && f.Types != nil {
		return fault.Param("types", "parameter_invalid", "Use type or types, not both.")
	}
	if f.Types != nil && (len(f.Types) == 0 || len(f.Types) > MaxListedTypes) {
		return fault.Param("types", "parameter_invalid", "Set 1 to %d event types.", MaxListedTypes)
	}
	for i, t := range f.Types {
		if !event.ValidType(t) {
			return fault.Param(fmt.Sprintf("types[%d]", i), "event_type_invalid", `Set an event type such as "payment.succeeded". The parameter type takes prefixes.`)
		}
	}
	return checkPattern(f.Type)
}

// narrowEvents checks f and converts it for the store.
func (s *Service) narrowEvents(space event.Space, f *EventFilter) (out store.EventFilter, err error) {
	if err := f.check(); err != nil {
		return out, err
	}
	out = store.EventFilter{Pattern: f.Type, Types: f.Types, From: keyAt(f.From), Until: keyAt(f.Until), Delivered: f.Delivered, Text: f.Text}
	if out.State, err = state(f.Status); err != nil {
		return out, err
	}
	out.Search, err = s.search(space, f.Key, "key")
	return out, err
}

// lastTime is the last time that keys can represent, in Unix milliseconds (see event.Key).
const lastTime = 1<<42 - 1

// keyAt returns the first key of a time, 0 for none. Times outside the range of keys become the
// nearest time in it, so that they still narrow a list.
func keyAt(t time.Time) event.Key {
	if t.IsZero() {
		return 0
	}
	return max(event.KeyAt(time.UnixMilli(min(t.UnixMilli(), lastTime))), 1)
}

func checkPattern(p string) error {
	if p != "" && !event.ValidPattern(p) {
		return fault.Param("type", "event_type_invalid", `Set an event type such as "payment.succeeded", or a prefix such as "payment.*".`)
	}
	return nil
}

// ListEvents lists events, newest first. next is the cursor of the next page, empty if there is
// none. A list examines a bounded number of stored events at a time, so a page may be short or
// empty and still have a next.
func (s *Service) ListEvents(ctx context.Context, c *call.Call, f EventFilter, p call.Page) (items []event.Event, next string, err error) {
	if err := c.MustAccount(); err != nil {
		return nil, "", err
	}
	narrow, err := s.narrowEvents(c.Space, &f)
	if err != nil {
		return nil, "", err
	}
	page, err := call.ResolvePage(p, func(param, id string) (event.Key, error) {
		if place, ok := call.ParseBetween(id); ok {
			return place.Event, nil
		}
		e, err := s.Store.Event(ctx, c.Space, id)
		return e.Key, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, "", err
	}
	items, key, err := s.Store.ListEvents(ctx, c.Space, narrow, page)
	return items, call.NextCursor(items, key, p, func(e *event.Event) (string, event.Key) { return e.ID, e.Key },
		func(k event.Key) string { return call.Between(delivery.ID{Event: k}) }), err
}

// EventsAfter returns the events after a key, oldest first, at most limit. A key of 0 means
// now.
func (s *Service) EventsAfter(ctx context.Context, c *call.Call, after event.Key, limit int) (items []event.Event, last event.Key, err error) {
	if err := c.MustAccount(); err != nil {
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

// Resend resends an event to every subscribed enabled endpoint, or to the named one, subscribed
// or not. It returns the deliveries, which are pending again with a new retry schedule.
func (s *Service) Resend(ctx context.Context, c *call.Call, eventID, endpointID string) ([]delivery.View, error) {
	return s.resend(ctx, c, eventID, func(e *event.Event) ([]*endpoint.Endpoint, error) {
		if endpointID == "" {
			return s.wanting(e), nil
		}
		w, err := s.Endpoint(ctx, c, endpointID)
		if err != nil {
			return nil, call.CursorFault(err, "endpoint", endpointID)
		}
		return []*endpoint.Endpoint{w}, mustBeOn(w, "endpoint")
	})
}

// ResendToListeners resends an event to all connected listeners, subscribed or not.
func (s *Service) ResendToListeners(ctx context.Context, c *call.Call, eventID, _ string) ([]delivery.View, error) {
	return s.resend(ctx, c, eventID, func(*event.Event) (to []*endpoint.Endpoint, err error) {
		s.Endpoints.Each(func(w *endpoint.Registered) {
			if w.Space == c.Space && w.Kind() == endpoint.Listener && w.Sends() {
				to = append(to, w.Endpoint)
			}
		})
		return to, nil
	})
}

func (s *Service) resend(ctx context.Context, c *call.Call, eventID string, choose func(*event.Event) ([]*endpoint.Endpoint, error)) ([]delivery.View, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := s.Event(ctx, c, eventID)
	if err != nil {
		return nil, err
	}
	if !e.HasPayload() {
		return nil, call.Erased(e, "id")
	}
	to, err := choose(e)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	ds := make([]delivery.Delivery, 0, len(to))
	views := make([]delivery.View, 0, len(to))
	for _, w := range to {
		id := delivery.ID{Event: e.Key, Endpoint: w.No}
		v, err := s.Store.Delivery(ctx, c.Space, id)
		switch {
		case fault.Is(err, fault.NotFound):
			v = delivery.View{Delivery: delivery.New(id, c.Space), EventID: e.ID, Type: e.Type, EndpointID: w.ID}
		case err != nil:
			return nil, err
		}
		v.Requeue(now)
		ds, views = append(ds, v.Delivery), append(views, v)
	}
	if err := s.Store.Requeue(ctx, ds, s.Trail(c, views, now, account.EventResent, e.ID, "deliveries", strconv.Itoa(len(ds)))); err != nil {
		return nil, err
	}
	ids := make([]delivery.ID, len(ds))
	for i := range ds {
		ids[i] = ds[i].ID
	}
	s.engine.Expedite(ids...)
	return views, nil
}
