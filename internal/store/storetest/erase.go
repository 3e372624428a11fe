package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// erase begins to erase an event of mine.
func (b *bundle) erase(id string, at time.Time) event.Event {
	b.Helper()
	e, err := b.EraseEvent(b.ctx, mine, id, at, func(*event.Event) (store.Trail, error) { return store.Trail{}, nil })
	b.ok(err)
	return e
}

// eraseAll erases an event of mine with its attempts, a few deliveries at a time.
func (b *bundle) eraseAll(id string, at time.Time) (canceled []int64) {
	b.Helper()
	e := b.erase(id, at)
	for after := int64(0); ; {
		some, next, err := b.EraseAttempts(b.ctx, e.Key, after, at, 2)
		b.ok(err)
		canceled = append(canceled, some...)
		if after = next; next == 0 {
			return canceled
		}
	}
}

// Of an erased event, its id, type and times stay, and the outcomes of its attempts.
func testErase(b *bundle) {
	a, other := b.compose(mine, "a.b", 7, 8, 9), b.append(mine, "a.b", 7)
	a.Event.Trace = event.Trace("trace")
	a.Receipt = receipt(mine, "short", now())
	a.Receipt.Event, a.Receipt.Body = a.Event.Key, []byte{}
	b.commit(a)
	ds := a.Deliveries
	done, failed := b.attempt(&ds[0], delivery.OutcomeSucceeded), b.attempt(&ds[2], delivery.OutcomeTimeout)
	kept := b.attempt(&other.Deliveries[0], delivery.OutcomeSucceeded)
	long, alien := receipt(mine, "long", now()), receipt(mine, "alien", now())
	long.Event, alien.Event = a.Event.Key, other.Event.Key
	b.ok(b.Audit(b.ctx, nil, long))
	b.ok(b.Audit(b.ctx, nil, alien))

	_, err := b.EraseEvent(b.ctx, theirs, a.Event.ID, now(), func(*event.Event) (store.Trail, error) { return store.Trail{}, nil })
	b.code(err, fault.NotFound)
	at := now()
	want := a.Event
	want.Body, want.Trace, want.Erased = []byte{}, nil, at
	b.equal("erased", b.erase(a.Event.ID, at), want)
	got, err := b.EventAt(b.ctx, mine, a.Event.Key)
	b.ok(err)
	b.equal("stored", got, want)
	jobs, err := b.LoadLane(b.ctx, 8, 10, 1<<20)
	b.ok(err)
	b.equal("what is read to be sent", len(jobs), 0)
	all, err := b.Erasures(b.ctx, 10)
	b.ok(err)
	b.equal("erasures", all, []store.Erasure{{Space: mine, Event: a.Event.Key}})

	canceled, next, err := b.EraseAttempts(b.ctx, a.Event.Key, 0, at, 2)
	b.ok(err)
	b.equal("canceled", []any{canceled, next}, []any{[]int64{8}, 8})
	canceled, next, err = b.EraseAttempts(b.ctx, a.Event.Key, next, at, 2)
	b.ok(err)
	b.equal("canceled", []any{canceled, next}, []any{[]int64{9}, 0})
	b.equal("attempts that succeeded", b.attempts(ds[0].ID), []delivery.Attempt{*done.WithoutEvidence()})
	b.equal("attempts that failed", b.attempts(ds[2].ID), []delivery.Attempt{*failed.WithoutEvidence()})
	b.equal("another event's", b.attempts(other.Deliveries[0].ID), []delivery.Attempt{kept})
	for i, state := range []delivery.State{delivery.Succeeded, delivery.Canceled, delivery.Canceled} {
		v, err := b.Delivery(b.ctx, mine, ds[i].ID)
		b.ok(err)
		b.equal(fmt.Sprintf("delivery to %d", ds[i].ID.Endpoint), []any{v.State, v.Erased}, []any{state, at})
	}

	// An attempt that was under way ends.
	late := b.attempt(&ds[1], delivery.OutcomeServerError)
	b.equal("attempts that were late", b.attempts(ds[1].ID), []delivery.Attempt{*late.WithoutEvidence()})
	b.equal("state after it", b.delivery(ds[1].ID).State, delivery.Canceled)
	again := b.delivery(ds[2].ID)
	again.Requeue(now())
	b.code(b.Requeue(b.ctx, []delivery.Delivery{again}, store.Trail{}), fault.NotFound)

	for key, want := range map[string]int{"short": 0, "long": 0, "alien": len(alien.Body)} {
		r, err := b.Receipt(b.ctx, mine, key)
		b.ok(err)
		b.equal("body of the receipt "+key, len(r.Body), want)
	}
	b.equal("erased again", b.erase(a.Event.ID, at.Add(time.Hour)), want)
	b.ok(b.EndErasures(b.ctx, all))
	all, err = b.Erasures(b.ctx, 10)
	b.ok(err)
	b.equal("erasures", len(all), 0)
	b.ok(b.Overwrite(b.ctx))
}

// An id that the sender chose stays taken.
func testEraseCustom(b *bundle) {
	id := "evt_of_the_sender_0001"
	b.commit(b.composeCustom(mine, id, 7))
	b.equal("canceled", b.eraseAll(id, now()), []int64{7})
	again := b.composeCustom(mine, id, 7)
	if b.commit(again); again.Taken == nil || again.Taken.HasPayload() {
		b.Errorf("taken by %+v", again.Taken)
	}
}

// Deliveries of an erased event that are not written yet never are.
func testEraseDeferred(b *bundle) {
	a := b.deferred(mine, 7, 8, 9, 10, 11)
	b.commit(a)
	b.slice(mine, 2)
	b.equal("canceled", b.eraseAll(a.Event.ID, now()), []int64{7, 8})
	f, written := b.slice(mine, 10)
	b.equal("written", []any{f.More, len(written)}, []any{false, 0})
	n, err := b.Unwritten(b.ctx, mine, a.Event.Key)
	b.ok(err)
	b.equal("unwritten", n, 0)
}

// Lists show an erased event, and no search in its former payload finds it.
func testEraseLists(b *bundle) {
	a := b.compose(mine, "a.b", 7)
	a.Event.Body = event.NewBody(a.Event.ID, "a.b", 1, []byte(`{"object":{"x":"marker"}}`))
	b.commit(a)
	list := func(f store.EventFilter) (ids []string) {
		items, _, err := b.ListEvents(b.ctx, mine, f, store.Page[event.Key]{Limit: 10})
		b.ok(err)
		for _, e := range items {
			ids = append(ids, e.ID)
			b.equal("payload", bytes.Contains(e.Body, []byte("marker")), e.Erased.IsZero())
		}
		return ids
	}
	for _, want := range [][]string{{a.Event.ID}, nil} {
		b.equal("by text", list(store.EventFilter{Text: "marker"}), want)
		b.equal("by type", list(store.EventFilter{Pattern: "a.b"}), []string{a.Event.ID})
		b.eraseAll(a.Event.ID, now())
	}
	pending := delivery.Pending
	views, _, err := b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{State: &pending}, store.Page[delivery.ID]{Limit: 10})
	b.ok(err)
	b.equal("pending", len(views), 0)
}
