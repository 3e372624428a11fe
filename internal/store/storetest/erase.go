package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
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

// The id, type and times of an erased event are kept, and the outcomes of its attempts.
func testErase(b *bundle) {
	a, other := b.compose(mine, "a.b", 7, 8, 9), b.append(mine, "a.b", 7)
	a.Event.Trace, a.Event.Headers = event.Trace("trace"), event.Headers(`{"X-A":"b"}`)
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
	want.Body, want.Trace, want.Headers, want.Erased = []byte{}, nil, nil, at
	b.equal("erased", b.erase(a.Event.ID, at), want)
	got, err := b.EventAt(b.ctx, mine, a.Event.Key)
	b.ok(err)
	b.equal("stored", got, want)
	jobs, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 8, Limit: 10, MaxBytes: 1 << 20})
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

// Unwritten deliveries of an erased event are never written.
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

// An erased space keeps only its audit log; other spaces are not changed.
func testEraseSpace(b *bundle) {
	at := now()
	a := account.Account{ID: "acct_1", Name: "n", Created: at}
	b.ok(b.CreateAccount(b.ctx, &a, store.Trail{}))
	gone, kept := event.SpaceOf(a.No, false), event.SpaceOf(a.No, true)
	fill := func(space event.Space) (id string, d delivery.Delivery, e int64) {
		to := b.endpoint(space)
		for range 5 {
			b.append(space, "a.b", to.No, to.No+1)
		}
		first := b.compose(space, "a.b", to.No)
		first.Receipt = receipt(space, "k", at)
		b.commit(first)
		d = first.Deliveries[0]
		b.attempt(&d, delivery.OutcomeTimeout)
		custom := b.compose(space, "a.b", to.No)
		custom.Event.ID, custom.Event.Custom, custom.Event.Nonce = "evt_chosen_by_sender_1", true, 0
		b.commit(custom)
		b.commit(b.deferred(space, to.No, to.No+1))
		b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{{Space: space, Kind: "payment", ID: "pay_1", Body: []byte("{}"), Updated: at}}, store.Trail{}))
		b.ok(b.AddStatistics(b.ctx, []store.Statistic{{Space: space, Grain: store.ByMinute, Start: at.Truncate(time.Minute)}}))
		b.ok(b.CreateJob(b.ctx, &job.Job{ID: fmt.Sprintf("job_%d", space), Space: space, State: job.Succeeded, Created: at}, func([]job.Job) error { return nil }, store.Trail{}))
		b.ok(b.CreateType(b.ctx, &event.Definition{Space: space, Name: "a.b", Created: at, Updated: at}, store.Trail{}))
		k, _ := account.NewKey(fmt.Sprintf("key_%d", space), account.NewSecret(map[bool]string{false: account.PrefixTest, true: account.PrefixLive}[space.Live()]), "", a.No, at)
		b.ok(b.CreateKey(b.ctx, &k, store.Trail{Audit: &account.Entry{ID: fmt.Sprintf("aud_%d", space), Space: space, Time: at, Action: account.KeyCreated}}))
		return first.Event.ID, d, to.No
	}
	id, d, no := fill(gone)
	keptID, _, _ := fill(kept)
	erase := func(before time.Time) (stays bool) {
		for rounds := 0; ; rounds++ {
			more, stays, err := b.EraseSpace(b.ctx, gone, before, 2)
			b.ok(err)
			if !more {
				b.equal("several rounds", rounds > 3, true)
				return stays
			}
		}
	}
	b.equal("endpoint, type and key stay", erase(at.Add(time.Hour)), true)
	_, err := b.Event(b.ctx, gone, id)
	b.code(err, fault.NotFound)
	late := b.attempt(&d, delivery.OutcomeSucceeded) // which was under way
	b.equal("attempts of "+late.ResponseHeader, len(b.attempts(d.ID)), 0)
	_, err = b.Receipt(b.ctx, gone, "k")
	b.code(err, fault.NotFound)
	again := b.compose(gone, "a.b")
	again.Event.ID, again.Event.Custom, again.Event.Nonce = "evt_chosen_by_sender_1", true, 0
	if b.commit(again); again.Refused() {
		b.Error("the id of an erased event is taken")
	}

	e, err := b.Endpoint(b.ctx, gone, func() string {
		all, _, err := b.ListEndpoints(b.ctx, gone, store.Page[int64]{Limit: 1})
		b.ok(err)
		return all[0].ID
	}())
	b.ok(err)
	b.ok(b.DeleteEndpoint(b.ctx, no, e.Revision, at, store.Trail{}))
	types, err := b.ListTypes(b.ctx, gone)
	b.ok(err)
	b.ok(b.DeleteType(b.ctx, types[0].No, types[0].Revision, at, store.Trail{}))
	b.ok(b.RevokeKey(b.ctx, fmt.Sprintf("key_%d", gone), at, store.Trail{}))
	more, stays, err := b.EraseSpace(b.ctx, gone, at, 2)
	b.ok(err)
	b.equal("what was deleted later", []bool{more, stays}, []bool{false, true})
	more, stays, err = b.EraseSpace(b.ctx, gone, at.Add(time.Hour), 2)
	b.ok(err)
	b.equal("nothing is left", []bool{more, stays}, []bool{false, false})
	_, err = b.PastEndpoint(b.ctx, gone, e.ID)
	b.code(err, fault.NotFound)
	audit, _, err := b.ListAudit(b.ctx, account.AuditFilter{Space: gone}, store.Page[string]{Limit: 10})
	b.ok(err)
	b.equal("audit entries", len(audit), 1)

	_, err = b.Event(b.ctx, kept, keptID)
	b.ok(err)
	_, err = b.Receipt(b.ctx, kept, "k")
	b.ok(err)
	events, _, err := b.ListEvents(b.ctx, kept, store.EventFilter{}, store.Page[event.Key]{Limit: 100})
	b.ok(err)
	b.equal("events of another space", len(events), 8)
	keys, err := b.AllKeys(b.ctx)
	b.ok(err)
	b.equal("keys", len(keys), 1)
}
