package storetest

import (
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// deferred composes an event whose deliveries are written in slices.
func (b *bundle) deferred(space event.Space, endpoints ...int64) *store.Append {
	a := b.compose(space, "a.b", endpoints...)
	a.Deferred = true
	return a
}

// slice commits one slice and returns the endpoints that it wrote deliveries to, by event.
func (b *bundle) slice(space event.Space, limit int) (f *store.FanOut, written map[event.Key][]int64) {
	b.Helper()
	f = &store.FanOut{Space: space, Limit: limit}
	b.ok(b.Commit(b.ctx, &store.Batch{FanOuts: []*store.FanOut{f}}))
	written = map[event.Key][]int64{}
	for _, a := range f.Written {
		for _, d := range a.Deliveries {
			written[a.Event.Key] = append(written[a.Event.Key], d.ID.Endpoint)
			b.equal("delivery", d, delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: d.ID.Endpoint}, space))
			v, err := b.Delivery(b.ctx, space, d.ID)
			b.ok(err)
			b.equal("stored delivery", v.Delivery, d)
		}
	}
	return f, written
}

// waiting returns the endpoints that have a delivery of an event in a lane.
func (b *bundle) waiting(a *store.Append) (all []int64) {
	b.Helper()
	for _, d := range a.Deliveries {
		jobs, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: d.ID.Endpoint, Limit: 1000, MaxBytes: 1 << 30})
		b.ok(err)
		for _, j := range jobs {
			if j.Delivery.ID == d.ID {
				all = append(all, d.ID.Endpoint)
			}
		}
	}
	slices.Sort(all)
	return all
}

// A deferred event is stored as a whole, with its list of endpoints; slices write its
// deliveries, each once, separately from those of other spaces.
func testFanOut(b *bundle) {
	numbers := []int64{900_000, 7, 300, 8, 1 << 40, 301} // unordered
	a := b.deferred(mine, numbers...)
	a.Receipt = receipt(mine, "k", now())
	other := b.deferred(theirs, 7)
	b.commit(a, other)
	got, err := b.Event(b.ctx, mine, a.Event.ID)
	b.ok(err)
	b.equal("event", got, a.Event)
	r, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", r, *a.Receipt)
	b.equal("deliveries before any slice", len(b.waiting(a)), 0)
	b.unwritten(a, 6)

	f, written := b.slice(mine, 4)
	b.equal("first slice", written, map[event.Key][]int64{a.Event.Key: {7, 8, 300, 301}})
	b.equal("the slice's event", f.Written[0].Event, a.Event)
	b.equal("more", f.More, true)
	b.equal("waiting", b.waiting(a), []int64{7, 8, 300, 301})
	b.unwritten(a, 2)

	f, written = b.slice(mine, 4)
	b.equal("second slice", written, map[event.Key][]int64{a.Event.Key: {900_000, 1 << 40}})
	b.equal("more", f.More, false)
	b.unwritten(a, 0)
	f, written = b.slice(mine, 4)
	b.equal("nothing is left", len(written)+len(f.Written), 0)
	b.unwritten(other, 1)
	f, _ = b.slice(theirs, 4)
	b.equal("the other space's", f.Written[0].Event.ID, other.Event.ID)
}

func (b *bundle) unwritten(a *store.Append, want int) {
	b.Helper()
	n, err := b.Unwritten(b.ctx, a.Event.Space, a.Event.Key)
	b.ok(err)
	b.equal("unwritten deliveries", n, want)
}

// The oldest event of a space is finished first, and an ordered event does not overtake it.
func testFanOutOrder(b *bundle) {
	first, second := b.deferred(mine, 7, 8, 9), b.deferred(mine, 7, 8)
	ordered, free, elsewhere := b.compose(mine, "a.b", 8), b.compose(mine, "a.b", 8), b.compose(theirs, "a.b", 8)
	ordered.Ordered, elsewhere.Ordered = true, true
	b.commit(first)
	b.commit(second, ordered, free, elsewhere)
	b.equal("deferred", []bool{ordered.Deferred, free.Deferred, elsewhere.Deferred}, []bool{true, false, false})
	b.equal("the unordered event's delivery", b.waiting(free), []int64{8})
	_, written := b.slice(mine, 4)
	b.equal("one slice of two events", written, map[event.Key][]int64{first.Event.Key: {7, 8, 9}, second.Event.Key: {7}})
	b.equal("the ordered event waits", len(b.waiting(ordered)), 0)
	_, written = b.slice(mine, 100)
	b.equal("the rest", written, map[event.Key][]int64{second.Event.Key: {8}, ordered.Event.Key: {8}})
	late := b.compose(mine, "a.b", 8)
	late.Ordered = true
	b.commit(late)
	b.equal("deferred when nothing waits", late.Deferred, false)

	// Within one transaction, too.
	before, big, after := b.compose(mine, "a.b", 8), b.deferred(mine, 7, 8), b.compose(mine, "a.b", 8)
	before.Ordered, after.Ordered = true, true
	b.commit(before, big, after)
	b.equal("deferred", []bool{before.Deferred, after.Deferred}, []bool{false, true})
}

// A delivery that a user resends before its slice is written once.
func testFanOutResent(b *bundle) {
	a := b.deferred(mine, 7, 8, 9)
	b.commit(a)
	early := a.Deliveries[1]
	early.Requeue(now())
	b.ok(b.Requeue(b.ctx, []delivery.Delivery{early}, store.Trail{}))
	done := early
	done.State, done.Settled = delivery.Succeeded, now()
	b.settle(done)
	_, written := b.slice(mine, 100)
	b.equal("slice", written, map[event.Key][]int64{a.Event.Key: {7, 9}})
	b.equal("resent", b.delivery(early.ID), done)
}

// A refused event is not deferred, and a failed batch writes no part of a slice.
func testFanOutAllOrNothing(b *bundle) {
	a := b.deferred(mine, 7, 8, 9)
	b.commit(a)
	f := &store.FanOut{Space: mine, Limit: 2}
	if b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{{Event: a.Event}}, FanOuts: []*store.FanOut{f}}) == nil {
		b.Fatal("two events under one key were accepted")
	}
	b.equal("waiting", len(b.waiting(a)), 0)
	b.unwritten(a, 3)
	again := b.deferred(mine, 7)
	again.Event.ID, again.Event.Custom, again.Event.Nonce = a.Event.ID, true, 0
	b.commit(again)
	if again.Taken == nil {
		b.Fatal("an event's id was taken twice")
	}
	b.unwritten(again, 0)
	_, written := b.slice(mine, 100)
	b.equal("slice", written, map[event.Key][]int64{a.Event.Key: {7, 8, 9}})
}

// Lists, counts and retention treat unwritten deliveries as pending.
func testFanOutHistory(b *bundle) {
	old := b.append(mine, "a.b", 7)
	done := old.Deliveries[0]
	done.State, done.Settled = delivery.Succeeded, now()
	b.settle(done)
	before, err := b.Waiting(b.ctx, 1000)
	b.ok(err)
	gone := b.endpoint(mine)
	b.ok(b.DeleteEndpoint(b.ctx, gone.No, gone.Revision, now(), store.Trail{}))
	a, next := b.deferred(mine, 7, 8, gone.No), b.deferred(live, 9)
	b.commit(a, next)

	pending := delivery.Pending
	check := func(unwritten int, delivered, found []event.Key) {
		b.Helper()
		waiting, err := b.Waiting(b.ctx, 1000)
		b.ok(err)
		b.equal("waiting", waiting, before+4) // live's, too
		waiting, err = b.Waiting(b.ctx, before+1)
		b.ok(err)
		b.equal("waiting, counted up to", waiting, before+1)
		oldest, err := b.OldestPending(b.ctx, mine)
		b.ok(err)
		b.equal("oldest pending", oldest, a.Event.Key)
		for want, keys := range map[bool][]event.Key{true: delivered, false: {a.Event.Key}} {
			events, _, err := b.ListEvents(b.ctx, mine, store.EventFilter{Delivered: &want}, store.Page[event.Key]{Limit: 10})
			b.ok(err)
			b.equal("events by delivery", keysOf(events), keys)
		}
		events, _, err := b.ListEvents(b.ctx, mine, store.EventFilter{State: &pending}, store.Page[event.Key]{Limit: 10})
		b.ok(err)
		b.equal("pending events", keysOf(events), found)
		spaces, err := b.FanningOut(b.ctx, a.Event.Key+1)
		b.ok(err)
		b.equal("spaces with deferred events", spaces, map[bool][]event.Space{true: {mine}, false: nil}[unwritten > 0])
		deferred, err := b.OldestDeferred(b.ctx, mine)
		b.ok(err)
		b.equal("oldest deferred", deferred, map[bool]event.Key{true: a.Event.Key, false: 0}[unwritten > 0])
		b.unwritten(a, unwritten)
		for from := event.Key(0); ; {
			next, _, err := b.PurgeEvents(b.ctx, from, a.Event.Key+1, 1000)
			b.ok(err)
			if from = next; next == 0 {
				break
			}
		}
		_, err = b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
		_, _, err = b.PurgeEndpoints(b.ctx, now(), 0, 1000)
		b.ok(err)
		past, err := b.PastEndpoint(b.ctx, mine, gone.ID)
		b.ok(err)
		b.equal("a deleted endpoint that is still named", past.No, gone.No)
	}
	check(3, []event.Key{old.Event.Key}, []event.Key{a.Event.Key})
	b.slice(mine, 2)
	check(1, nil, []event.Key{a.Event.Key}) // retention has deleted the old event
	b.slice(mine, 2)
	check(0, nil, []event.Key{a.Event.Key})
}

func keysOf(events []event.Event) (keys []event.Key) {
	for i := range events {
		keys = append(keys, events[i].Key)
	}
	return keys
}

// An announcement of a change may be deferred, as other events are.
func testFanOutAnnounced(b *bundle) {
	a := b.deferred(mine, 7, 8)
	e := b.composeEndpoint(mine)
	b.ok(b.CreateEndpoint(b.ctx, e, store.Trail{Announce: []*store.Append{a}}))
	b.unwritten(a, 2)
	_, written := b.slice(mine, 100)
	b.equal("slice", written, map[event.Key][]int64{a.Event.Key: {7, 8}})
}
