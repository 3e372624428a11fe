package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

var historyTypes = []string{"payment.succeeded", "payment.failed", "refund.created", "payment.card.failed", "payments.x", "payment"}

var historyPatterns = []string{"", "*", "payment.*", "payment.card.*", "refund.created", "payment", "nothing.*"}

func selected(pattern, typ string) bool { return pattern == "" || endpoint.Selects(pattern, typ) }

func testEvents(b *bundle) {
	var all []event.Event // newest first
	for i, typ := range append(historyTypes, historyTypes...) {
		a := b.compose(mine, typ)
		if i%4 == 0 {
			a = b.composeCustom(mine, fmt.Sprintf("evt_of-the-sender-%02d", i))
			a.Event.Type = typ
		}
		b.commit(a, b.compose(theirs, typ), b.compose(live, typ))
		all = append([]event.Event{a.Event}, all...)
	}
	cursor := func(e event.Event) event.Key { return e.Key }
	for _, pattern := range historyPatterns {
		for _, times := range [][2]event.Key{{}, {all[8].Key, 0}, {0, all[2].Key}, {all[9].Key, all[1].Key}, {all[3].Key, all[3].Key + 1}, {all[0].Key + 100, 0}} {
			f := store.EventFilter{Pattern: pattern, From: times[0], Until: times[1]}
			var want []event.Event
			for _, e := range all {
				if selected(pattern, e.Type) && e.Key >= f.From && (f.Until == 0 || e.Key < f.Until) {
					want = append(want, e)
				}
			}
			searches(b, fmt.Sprintf("events of %+v", f), want, cursor,
				func(p store.Page[event.Key]) ([]event.Event, *event.Key, error) {
					return b.ListEvents(b.ctx, mine, f, p)
				})
		}
	}
	for _, types := range [][]string{{"refund.created"}, {"payment", "payments.x", "nothing"}, {"nothing"}} {
		f := store.EventFilter{Types: types, From: all[9].Key, Until: all[1].Key}
		want := slices.DeleteFunc(slices.Clone(all[2:10]), func(e event.Event) bool { return !slices.Contains(types, e.Type) })
		searches(b, fmt.Sprintf("events of %+v", f), want, cursor,
			func(p store.Page[event.Key]) ([]event.Event, *event.Key, error) {
				return b.ListEvents(b.ctx, mine, f, p)
			})
	}
	for _, id := range []string{"evt_nothing-like-it-here", "", "evt_", event.FormatID(event.PrefixEvent, all[1].Key, all[1].Nonce+1)} {
		_, err := b.Event(b.ctx, mine, id) // the key alone does not guess the id
		b.code(err, fault.NotFound)
	}
	// An event with a chosen id is not found by the id that its key would have.
	_, err := b.Event(b.ctx, mine, event.FormatID(event.PrefixEvent, all[3].Key, all[3].Nonce))
	b.equal("chosen", all[3].Custom, true)
	b.code(err, fault.NotFound)
}

// history is a set of deliveries in all states to three endpoints, the last of which belongs to
// another space, and the expected list of them.
type history struct {
	endpoints []*endpoint.Endpoint
	events    []event.Event   // oldest first
	all       []delivery.View // of mine, newest first
}

func newHistory(b *bundle) *history {
	h := &history{endpoints: []*endpoint.Endpoint{b.endpoint(mine), b.endpoint(mine), b.endpoint(theirs)}}
	states := []delivery.State{delivery.Pending, delivery.Succeeded, delivery.Failed, delivery.Canceled}
	for i := range 3 * len(historyTypes) {
		typ := historyTypes[i%len(historyTypes)]
		a := b.compose(mine, typ, h.endpoints[0].No, h.endpoints[1].No)
		if i%5 == 0 {
			a.Event.ID, a.Event.Custom, a.Event.Nonce = fmt.Sprintf("evt_of-the-sender-%02d", i), true, 0
		}
		if i%3 == 1 { // the larger ones are stored differently
			a.Event.Body = append(bytes.TrimSuffix(a.Event.Body, []byte("}")), `,"note":"`+strings.Repeat("a longer story, ", 300)+`"}`...)
		}
		b.commit(a, b.compose(theirs, typ, h.endpoints[2].No))
		h.events = append(h.events, a.Event)
		for j, d := range a.Deliveries {
			if d.State = states[(i+j+i/4)%4]; d.State != delivery.Pending {
				d.Settled, d.Attempts, d.LastStatus, d.LastOutcome = now(), 1, 200+i, delivery.Outcome(i%5)
				b.settle(d)
			}
			v := delivery.View{Delivery: d, EventID: a.Event.ID, Type: typ, EndpointID: h.endpoints[j].ID}
			h.all = append([]delivery.View{v}, h.all...)
		}
	}
	return h
}

// where returns the deliveries that f selects, newest first.
func (h *history) where(f store.DeliveryFilter) []delivery.View {
	return slices.DeleteFunc(slices.Clone(h.all), func(v delivery.View) bool {
		return f.Event != 0 && v.ID.Event != f.Event || f.Endpoint != 0 && v.ID.Endpoint != f.Endpoint || f.State != nil && v.State != *f.State || f.Outcome != nil && v.LastOutcome != *f.Outcome ||
			f.Statuses.To > 0 && (v.LastStatus < f.Statuses.From || v.LastStatus > f.Statuses.To) ||
			!selected(f.Pattern, v.Type) || v.ID.Event < f.From || f.Until != 0 && v.ID.Event >= f.Until
	})
}

// testEventFilters selects events by several types, and by the state of their deliveries.
func testEventFilters(b *bundle, h *history) {
	yes, no := true, false
	for _, types := range [][]string{nil, historyTypes[:1], historyTypes[1:3], {"nothing.like_it"}} {
		for _, delivered := range []*bool{nil, &yes, &no} {
			f := store.EventFilter{Types: types, Delivered: delivered, From: h.events[2].Key}
			var want []event.Key
			for _, e := range slices.Backward(h.events) {
				open := slices.ContainsFunc(h.all, func(v delivery.View) bool {
					return v.ID.Event == e.Key && (v.State == delivery.Pending || v.State == delivery.Failed)
				})
				if e.Key >= f.From && (types == nil || slices.Contains(types, e.Type)) && (delivered == nil || *delivered != open) {
					want = append(want, e.Key)
				}
			}
			searches(b, fmt.Sprintf("events of %v, delivered %v", types, delivered), want, func(k event.Key) event.Key { return k },
				func(p store.Page[event.Key]) (keys []event.Key, next *event.Key, err error) {
					items, next, err := b.ListEvents(b.ctx, mine, f, p)
					for _, e := range items {
						keys = append(keys, e.Key)
					}
					return keys, next, err
				})
		}
	}
}

func testDeliveries(b *bundle) {
	h := newHistory(b)
	failed, pending := delivery.Failed, delivery.Pending
	succeeded, throttled, redirected := delivery.OutcomeSucceeded, delivery.OutcomeThrottled, delivery.OutcomeRedirected
	for _, f := range []store.DeliveryFilter{
		{Outcome: new(delivery.Outcome)}, {Outcome: &succeeded}, {Outcome: &redirected}, {Outcome: &throttled}, {Outcome: &redirected, State: &failed}, {Outcome: &redirected, Pattern: "payment.*"},
		{Outcome: &redirected, Endpoint: h.endpoints[0].No}, {Outcome: &redirected, Event: h.events[3].Key}, {Outcome: &redirected, From: h.events[3].Key, Until: h.events[9].Key},
		{}, {Event: h.events[3].Key}, {Endpoint: h.endpoints[1].No}, {State: &failed}, {State: &pending}, {Pattern: "payment.*"},
		{From: h.events[3].Key, Until: h.events[9].Key}, {Endpoint: h.endpoints[0].No, State: &failed}, {Endpoint: h.endpoints[0].No, Pattern: "payment"},
		{State: &failed, Pattern: "payment.*", From: h.events[1].Key}, {Event: h.events[5].Key, Endpoint: h.endpoints[0].No},
		{Endpoint: h.endpoints[2].No},
		{Statuses: store.StatusRange{From: 202, To: 203}}, {Statuses: store.StatusRange{From: 201, To: 201}, State: &failed}, {Statuses: store.StatusRange{From: 200, To: 202}, Outcome: &redirected},
		{Statuses: store.StatusRange{From: 200, To: 299}, Endpoint: h.endpoints[0].No}, {Statuses: store.StatusRange{From: 200, To: 203}, Pattern: "payment.*"}, {Statuses: store.StatusRange{From: 500, To: 599}},
	} {
		searches(b, fmt.Sprintf("deliveries of %+v", f), h.where(f), func(v delivery.View) delivery.ID { return v.ID },
			func(p store.Page[delivery.ID]) ([]delivery.View, *delivery.ID, error) {
				return b.ListDeliveries(b.ctx, mine, f, p)
			})
	}
	testEventFilters(b, h)
	for _, want := range h.all {
		got, err := b.Delivery(b.ctx, mine, want.ID)
		b.ok(err)
		b.equal("delivery", got, want)
	}
	_, err := b.Delivery(b.ctx, mine, delivery.ID{Event: h.all[0].ID.Event, Endpoint: 99})
	b.code(err, fault.NotFound)
}

// Every combination of filters selects the intersection of its filters.
func testDeliveryFilters(b *bundle) {
	h := newHistory(b)
	keys := []event.Key{0, h.events[4].Key}
	endpoints := []int64{0, h.endpoints[0].No, h.endpoints[2].No}
	states := []*delivery.State{nil}
	for _, s := range []delivery.State{delivery.Pending, delivery.Succeeded, delivery.Failed, delivery.Canceled} {
		states = append(states, &s)
	}
	times := [][2]event.Key{{}, {h.events[2].Key, h.events[12].Key}, {h.events[4].Key, 0}, {0, h.events[4].Key}}
	cursors := []*delivery.ID{nil, {Event: h.events[6].Key, Endpoint: h.endpoints[0].No}}
	for _, key := range keys {
		for _, no := range endpoints {
			for _, state := range states {
				for _, pattern := range historyPatterns {
					for _, t := range times {
						f := store.DeliveryFilter{Event: key, Endpoint: no, State: state, Pattern: pattern, From: t[0], Until: t[1]}
						want := h.where(f)
						for _, after := range cursors {
							if after != nil {
								want = slices.DeleteFunc(want, func(v delivery.View) bool {
									return v.ID.Event > after.Event || v.ID.Event == after.Event && v.ID.Endpoint >= after.Endpoint
								})
							}
							got, next, err := b.ListDeliveries(b.ctx, mine, f, store.Page[delivery.ID]{Limit: 100, After: after})
							b.ok(err)
							if next != nil || !slices.EqualFunc(got, want, func(x, y delivery.View) bool { return x.ID == y.ID }) {
								b.Errorf("%+v after %v: got %d deliveries, next %v, want %d", f, after, len(got), next, len(want))
							}
						}
					}
				}
			}
		}
	}
}

func testAttempts(b *bundle) {
	a := b.append(mine, "a.b", 7, 8)
	d := a.Deliveries[0]
	var all []delivery.Attempt // newest first
	for i := range 11 {
		at := b.attempt(&d, []delivery.Outcome{delivery.OutcomeTimeout, delivery.OutcomeDNS, delivery.OutcomeTimeout}[i%3])
		d.State, d.Settled = delivery.Pending, time.Time{}
		b.ok(b.Requeue(b.ctx, []delivery.Delivery{d}, store.Trail{}))
		all = append([]delivery.Attempt{at}, all...)
	}
	list := func(id delivery.ID, f store.AttemptFilter) func(store.Page[int]) ([]delivery.Attempt, *int, error) {
		return func(p store.Page[int]) ([]delivery.Attempt, *int, error) { return b.ListAttempts(b.ctx, id, f, p) }
	}
	cursor := func(a delivery.Attempt) int { return a.Number }
	searches(b, "attempts", all, cursor, list(d.ID, store.AttemptFilter{}))
	searches(b, "attempts at another endpoint", nil, cursor, list(a.Deliveries[1].ID, store.AttemptFilter{}))
	for _, o := range []delivery.Outcome{delivery.OutcomeTimeout, delivery.OutcomeDNS, delivery.OutcomeTLS} {
		some := slices.DeleteFunc(slices.Clone(all), func(a delivery.Attempt) bool { return a.Outcome != o })
		searches(b, "attempts that ended with "+o.String(), some, cursor, list(d.ID, store.AttemptFilter{Outcome: &o}))
	}
}

func testRequeue(b *bundle) {
	a := b.append(mine, "a.b", 7, 8, 9)
	failed, canceled, pending := a.Deliveries[0], a.Deliveries[1], a.Deliveries[2]
	first := b.attempt(&failed, delivery.OutcomeGone)
	b.equal("state", failed.State, delivery.Failed)
	b.ok(b.cancel(canceled.ID, now(), store.Trail{}))
	at := now().Add(time.Hour)
	missing := delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: 10}, mine)
	all := []delivery.Delivery{failed, canceled, pending, missing}
	for i := range all {
		all[i].Requeue(at)
	}
	r := receipt(mine, "k", at)
	b.ok(b.Requeue(b.ctx, all, store.Trail{Receipt: r}))
	for i, want := range all {
		b.equal("requeued", b.delivery(want.ID), want)
		lanes, err := b.Lanes(b.ctx, want.ID.Endpoint-1, 1)
		b.ok(err)
		b.equal("lane", lanes, []store.Lane{{Endpoint: int64(7 + i), Rank: at}})
	}
	b.equal("attempts so far", b.delivery(failed.ID).Attempts, 1)
	b.equal("of this schedule", b.delivery(failed.ID).Budget, 0)
	b.equal("attempts", b.attempts(failed.ID), []delivery.Attempt{first})
	got, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", got, *r)
}

func testCancelDelivery(b *bundle) {
	d := b.append(mine, "a.b", 7, 8).Deliveries[0]
	at := now()
	r := receipt(mine, "k", at)
	b.ok(b.cancel(d.ID, at, store.Trail{Receipt: r}))
	d.Cancel(at)
	b.equal("canceled", b.delivery(d.ID), d)
	got, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", got, *r)
	b.ok(b.cancel(d.ID, at.Add(time.Hour), store.Trail{}))
	b.equal("canceled twice", b.delivery(d.ID), d)
	b.equal("another endpoint's", b.delivery(delivery.ID{Event: d.ID.Event, Endpoint: 8}).State, delivery.Pending)
	done := b.append(mine, "a.b", 7).Deliveries[0]
	b.attempt(&done, delivery.OutcomeSucceeded)
	b.ok(b.cancel(done.ID, now(), store.Trail{}))
	b.equal("canceled when done", b.delivery(done.ID), done)
}

// Nothing of one space is visible in another, even by its identifier.
func testSpaces(b *bundle) {
	e := b.endpoint(mine)
	a, custom := b.append(mine, "a.b", e.No), b.composeCustom(mine, "evt_0123456789abcdef", e.No)
	custom.Receipt = receipt(mine, "k", now())
	b.commit(custom)
	own := b.append(theirs, "a.b", b.endpoint(theirs).No)
	pending := delivery.Pending
	for _, space := range []event.Space{live, theirs} {
		for _, a := range []*store.Append{a, custom} {
			_, err := b.Event(b.ctx, space, a.Event.ID)
			b.code(err, fault.NotFound)
			_, err = b.Delivery(b.ctx, space, a.Deliveries[0].ID)
			b.code(err, fault.NotFound)
		}
		_, err := b.Endpoint(b.ctx, space, e.ID)
		b.code(err, fault.NotFound)
		_, err = b.Receipt(b.ctx, space, "k")
		b.code(err, fault.NotFound)
		events, _, err := b.ListEvents(b.ctx, space, store.EventFilter{From: 1}, store.Page[event.Key]{Limit: 10, After: &own.Event.Key})
		b.ok(err)
		b.equal("events", len(events), 0)
		for _, f := range []store.DeliveryFilter{{Event: a.Event.Key}, {Endpoint: e.No}, {Endpoint: e.No, State: &pending}, {Pattern: "a.b", Until: own.Event.Key}, {State: &pending, Until: own.Event.Key}} {
			items, next, err := b.ListDeliveries(b.ctx, space, f, store.Page[delivery.ID]{Limit: 10})
			b.ok(err)
			if len(items) != 0 || next != nil {
				b.Errorf("space %d sees %+v with %+v", space, items, f)
			}
		}
	}
}

func testCountDeliveries(b *bundle) {
	h := newHistory(b)
	failed, pending := delivery.Failed, delivery.Pending
	for _, f := range []store.DeliveryFilter{
		{}, {Pattern: "payment.*"}, {State: &failed}, {State: &pending}, {State: &failed, Pattern: "payment.*"}, {State: &failed, Endpoint: h.endpoints[0].No, Pattern: "payment.*"}, {State: &failed, From: h.events[3].Key, Until: h.events[9].Key},
	} {
		want := len(h.where(f))
		got, all, err := b.CountDeliveries(b.ctx, mine, f, 1000)
		b.ok(err)
		b.equal(fmt.Sprintf("count of %+v", f), fmt.Sprint(got, all), fmt.Sprint(want, true))
		got, all, err = b.CountDeliveries(b.ctx, mine, f, 1)
		b.ok(err)
		if got > 1 || all {
			b.Errorf("of one, %d of %+v, all %v", got, f, all)
		}
	}
	waiting := h.where(store.DeliveryFilter{State: &pending})
	oldest, err := b.OldestPending(b.ctx, mine)
	b.ok(err)
	b.equal("oldest pending", oldest, waiting[len(waiting)-1].ID.Event)
	oldest, err = b.OldestPending(b.ctx, live)
	b.ok(err)
	b.equal("oldest of none", oldest, event.Key(0))
}

// Events are found by their deliveries' state and by their text, too.
func testSearchEvents(b *bundle) {
	h := newHistory(b)
	failed, pending, succeeded, yes := delivery.Failed, delivery.Pending, delivery.Succeeded, true
	needle := h.events[7].ID
	for _, f := range []store.EventFilter{
		{}, {Pattern: "payment.*"}, {State: &failed}, {State: &pending}, {State: &succeeded}, {Text: needle}, {Text: "longer story"},
		{Text: "nowhere%_\x00"}, {Text: `"type":"payment`, State: &failed}, {From: h.events[2].Key, Until: h.events[9].Key},
		{Pattern: "payment.*", From: h.events[2].Key, State: &failed}, {Pattern: "payment.*", State: &succeeded}, {State: &succeeded, Delivered: &yes},
		{Pattern: "payment.*", Types: historyTypes[:2]},
	} {
		want := slices.DeleteFunc(slices.Clone(h.events), func(e event.Event) bool {
			with := f.State == nil || slices.ContainsFunc(h.all, func(v delivery.View) bool { return v.ID.Event == e.Key && v.State == *f.State })
			open := f.Delivered != nil && slices.ContainsFunc(h.all, func(v delivery.View) bool {
				return v.ID.Event == e.Key && (v.State == delivery.Pending || v.State == delivery.Failed)
			})
			return open || !with || !selected(f.Pattern, e.Type) || f.Types != nil && !slices.Contains(f.Types, e.Type) ||
				e.Key < f.From || f.Until != 0 && e.Key >= f.Until || !bytes.Contains(e.Body, []byte(f.Text))
		})
		slices.Reverse(want)
		searches(b, fmt.Sprintf("events of %+v", f), want, func(e event.Event) event.Key { return e.Key },
			func(p store.Page[event.Key]) ([]event.Event, *event.Key, error) {
				return b.ListEvents(b.ctx, mine, f, p)
			})
	}
}
