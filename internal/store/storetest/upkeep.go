package storetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testPurgeReceipts(b *bundle) {
	start := time.UnixMilli(1700000000000)
	for i := range 8 { // two spaces, a second apart
		a := b.compose(mine, "a.b")
		a.Receipt = receipt(mine, fmt.Sprint("k", i), start.Add(time.Duration(i)*time.Second))
		other := b.compose(theirs, "a.b")
		other.Receipt = receipt(theirs, fmt.Sprint("k", i), start.Add(time.Duration(i)*time.Second))
		b.commit(a, other)
	}
	for _, want := range []int{4, 4, 2, 0} {
		n, err := b.PurgeReceipts(b.ctx, start.Add(5*time.Second), 4)
		b.ok(err)
		b.equal("purged", n, want)
	}
	for i := range 8 {
		for _, space := range []event.Space{mine, theirs} {
			_, err := b.Receipt(b.ctx, space, fmt.Sprint("k", i))
			if want := map[bool]fault.Code{true: fault.NotFound, false: ""}[i < 5]; fault.CodeOf(err) != want {
				b.Errorf("receipt %d: got %v, want %q", i, err, want)
			}
		}
	}
}

// purge goes through all events below a key and returns how many it deleted.
func (b *bundle) purge(below event.Key, limit int) (total int) {
	b.Helper()
	for from, rounds := event.Key(0), 0; ; rounds++ {
		next, n, err := b.PurgeEvents(b.ctx, from, below, limit)
		b.ok(err)
		if n > limit || next != 0 && next <= from || rounds > 1000 {
			b.Fatalf("from %d: deleted %d of at most %d, next %d, round %d", from, n, limit, next, rounds)
		}
		total += n
		if from = next; next == 0 {
			return total
		}
	}
}

func testPurgeEvents(b *bundle) {
	for _, limit := range []int{1, 3, 8, 9, 100} {
		var all []*store.Append
		for i := range 10 {
			a := b.compose([]event.Space{mine, theirs}[i%2], "a.b", []int64{7, 8}[:i%3]...) // some to nobody
			b.commit(a)
			for j := range a.Deliveries {
				d := a.Deliveries[j]
				b.attempt(&d, delivery.OutcomeSucceeded)
			}
			all = append(all, a)
		}
		b.equal(fmt.Sprintf("purged, %d at a time", limit), b.purge(all[8].Event.Key, limit), 8)
		for i, a := range all {
			if i < 8 {
				b.absent(a)
				_, err := b.Event(b.ctx, a.Event.Space, a.Event.ID)
				b.code(err, fault.NotFound)
			} else {
				_, err := b.Event(b.ctx, a.Event.Space, a.Event.ID)
				b.ok(err)
			}
			for _, d := range a.Deliveries {
				if n := len(b.attempts(d.ID)); (n == 0) != (i < 8) {
					b.Errorf("event %d: %d attempts are left", i, n)
				}
			}
		}
		b.equal("again", b.purge(all[8].Event.Key, limit), 0)
		b.equal("the rest", b.purge(all[9].Event.Key+1, limit), 2)
	}
	last, err := b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key of an empty store", last, event.Key(0))
}

// An event that a pending delivery needs stays with all that is known of it, and
// does not keep the purge from what comes after.
func testPurgePending(b *bundle) {
	var all []*store.Append
	for i := range 12 {
		a := b.append(mine, "a.b", 7, 8)
		for j := range a.Deliveries {
			if d := a.Deliveries[j]; j == 0 || i >= 6 { // the first six wait for endpoint 8
				b.attempt(&d, delivery.OutcomeSucceeded)
			}
		}
		all = append(all, a)
	}
	retried := b.delivery(all[10].Deliveries[0].ID)
	retried.Requeue(now())
	b.ok(b.Requeue(b.ctx, []delivery.Delivery{retried}, store.Trail{}))
	below := all[11].Event.Key + 1
	b.equal("purged", b.purge(below, 2), 5)
	for i, a := range all {
		if i >= 6 && i != 10 {
			b.absent(a)
			continue
		}
		_, err := b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
		for _, d := range a.Deliveries {
			b.delivery(d.ID)
		}
		b.equal("attempts", len(b.attempts(a.Deliveries[0].ID)), 1)
	}
	for {
		n, err := b.CancelPending(b.ctx, 8, now(), 4)
		b.ok(err)
		if n == 0 {
			break
		}
	}
	b.equal("purged when nobody waits any more", b.purge(below, 2), 6)
}

// Somebody retries a delivery whose event is purged at that moment. What remains
// must not be a lane with nothing to send in it.
func testRequeuePurged(b *bundle) {
	a := b.append(mine, "a.b", 7)
	d := a.Deliveries[0]
	b.attempt(&d, delivery.OutcomeSucceeded)
	b.equal("purged", b.purge(a.Event.Key+1, 10), 1)
	d.Requeue(now())
	if err := b.Requeue(b.ctx, []delivery.Delivery{d}, store.Trail{Receipt: receipt(mine, "k", now())}); err == nil {
		b.Error("requeued a delivery of no event")
	}
	_, err := b.Receipt(b.ctx, mine, "k")
	b.code(err, fault.NotFound)
	lanes, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	b.equal("lanes", len(lanes), 0)
}

func testReady(b *bundle) {
	b.ok(b.Ready(b.ctx))
	b.append(mine, "a.b", 7)
	b.ok(b.Ready(b.ctx))
}

func testWaiting(b *bundle) {
	count := func(most, want int) {
		b.Helper()
		n, err := b.Waiting(b.ctx, most)
		b.ok(err)
		b.equal(fmt.Sprintf("waiting, at most %d", most), n, want)
	}
	count(100, 0)
	first, second := b.compose(mine, "a.b", 7, 8), b.compose(theirs, "a.b", 9)
	b.commit(first, second)
	count(100, 3)
	count(2, 2)
	d := first.Deliveries[0]
	b.attempt(&d, delivery.OutcomeSucceeded)
	count(100, 2)
}

func testSize(b *bundle) {
	before, err := b.Size(b.ctx)
	b.ok(err)
	for range 64 {
		a := b.compose(mine, "a.b", 7)
		a.Event.Body = noise(32 << 10)
		b.commit(a)
	}
	after, err := b.Size(b.ctx)
	b.ok(err)
	if before <= 0 || after-before < 1<<20 {
		b.Errorf("%d bytes before 2 MiB were stored, %d after", before, after)
	}
}

// noise is bytes that do not compress.
func noise(n int) []byte {
	body := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(body)
	return body
}
