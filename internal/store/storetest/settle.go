package storetest

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testSettle(b *bundle) {
	d := b.append(mine, "a.b", 7, 8).Deliveries[0]
	at := delivery.Attempt{Number: 1, Started: now(), Duration: 1234 * time.Microsecond, Outcome: delivery.OutcomeServerError, StatusCode: 500,
		Error: "e\x00\xff", RemoteAddr: "127.0.0.1:1", ResponseHeader: "A: b\nC: \xff\xfe\n", ResponseBody: []byte("x\x00\xffy")}
	d.Settle(&at, delivery.Policy{Schedule: delivery.Schedule{time.Minute}, Random: func() float64 { return 0 }}, now())
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at}}}))
	b.equal("after a failure", b.delivery(d.ID), d)
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{at})

	second := b.attempt(&d, delivery.OutcomeSucceeded)
	b.equal("after a success", b.delivery(d.ID), d)
	b.equal("state", d.State, delivery.Succeeded)
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{second, at})
	b.equal("another endpoint's", b.delivery(delivery.ID{Event: d.ID.Event, Endpoint: 8}).Attempts, 0)

	// Settled in the transaction that accepts it.
	a := b.compose(mine, "a.b", 7)
	quick := a.Deliveries[0]
	quick.State, quick.Settled = delivery.Canceled, now()
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a}, Settlements: []store.Settlement{{Delivery: quick}}}))
	b.equal("at once", b.delivery(quick.ID), quick)
}

// A user cancels while an attempt runs: the cancellation is kept, and the attempt is recorded
// and counted, so that the next one does not get its number.
func testSettleNotPending(b *bundle) {
	d := b.append(mine, "a.b", 7).Deliveries[0]
	first := b.attempt(&d, delivery.OutcomeTimeout)
	b.ok(b.cancel(d.ID, now(), store.Trail{}))
	canceled := b.delivery(d.ID)
	second := b.attempt(&d, delivery.OutcomeSucceeded)
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{second, first})
	got := b.delivery(d.ID)
	canceled.Attempts, canceled.LastOutcome, canceled.LastStatus = 2, second.Outcome, second.StatusCode
	b.equal("delivery", got, canceled)

	got.Requeue(now())
	b.ok(b.Requeue(b.ctx, []delivery.Delivery{got}, store.Trail{}))
	third := b.attempt(&got, delivery.OutcomeRejected)
	b.equal("number", third.Number, 3)
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{third, second, first})
	b.equal("delivery", b.delivery(d.ID), got)
}

// Two attempts may have the same number after a user's change. Neither is lost, and from then
// on numbers are unique again.
func testSettleNumberTwice(b *bundle) {
	d := b.append(mine, "a.b", 7).Deliveries[0]
	other := d
	first, second := b.attempt(&d, delivery.OutcomeTimeout), b.attempt(&other, delivery.OutcomeDNS)
	b.equal("both are number", []int{first.Number, second.Number}, []int{1, 1})
	second.Number = 2
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{second, first})
	got := b.delivery(d.ID)
	b.equal("attempts", got.Attempts, 2)
	b.equal("last outcome", got.LastOutcome, delivery.OutcomeDNS)
	b.equal("due", got.Due, other.Due)

	third := b.attempt(&d, delivery.OutcomeSucceeded) // its worker has the old state
	third.Number = 3
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{third, second, first})
	got = b.delivery(d.ID)
	b.equal("delivery", []any{got.State, got.Attempts}, []any{delivery.Succeeded, 3})

	// And in one transaction.
	e := b.append(mine, "a.b", 7).Deliveries[0]
	one, two := delivery.Attempt{Number: 1, Started: now(), ResponseBody: []byte{}}, delivery.Attempt{Number: 1, Started: now(), Outcome: delivery.OutcomeTLS, ResponseBody: []byte{}}
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: e, Attempt: &one}, {Delivery: e, Attempt: &two}}}))
	two.Number = 2
	b.equal("attempts", b.attempts(e.ID), []delivery.Attempt{two, one})
}

func testSettleWithoutAttempt(b *bundle) {
	d := b.append(mine, "a.b", 7).Deliveries[0]
	first := b.attempt(&d, delivery.OutcomeTimeout)
	d.Expire(now(), now().Add(-time.Hour))
	b.settle(d)
	b.equal("expired", b.delivery(d.ID), d)
	b.equal("attempts", b.attempts(d.ID), []delivery.Attempt{first})
	late := d
	late.State, late.Settled, late.LastOutcome = delivery.Canceled, now().Add(time.Hour), delivery.OutcomeGone
	b.settle(late)
	b.equal("expired and settled again", b.delivery(d.ID), d)
}

// A settlement of an unknown delivery neither fails its batch nor creates a delivery.
func testSettleUnknown(b *bundle) {
	d := delivery.New(delivery.ID{Event: b.keys.Next(), Endpoint: 7}, mine)
	known := b.append(mine, "a.b", 8).Deliveries[0]
	known.State, known.Settled = delivery.Succeeded, now()
	at := delivery.Attempt{Number: 1, Started: now()}
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at}, {Delivery: d}, {Delivery: known}}}))
	_, err := b.Delivery(b.ctx, mine, d.ID)
	b.code(err, fault.NotFound)
	b.equal("the known one", b.delivery(known.ID), known)
	lanes, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	b.equal("lanes", len(lanes), 0)
}

func testHealth(b *bundle) {
	open := delivery.Breaker{Failures: 12, FailingSince: time.UnixMilli(1700000000000).UTC(), LastSuccess: time.UnixMilli(1600000000000).UTC(),
		ProbeAt: time.UnixMilli(1700000005000).UTC(), Interval: 4 * time.Second, Warned: true}
	b.ok(b.Commit(b.ctx, &store.Batch{Health: []store.Health{{Endpoint: 7, Breaker: delivery.Breaker{Failures: 1}}, {Endpoint: 9, Breaker: open}}}))
	b.ok(b.Commit(b.ctx, &store.Batch{Health: []store.Health{{Endpoint: 7, Breaker: open}, {Endpoint: 9}}}))
	all, err := b.AllHealth(b.ctx)
	b.ok(err)
	got := map[int64]delivery.Breaker{}
	for _, h := range all {
		got[h.Endpoint] = h.Breaker
	}
	b.equal("health", got, map[int64]delivery.Breaker{7: open, 9: {}})
	b.equal("entries", len(all), 2)
}
