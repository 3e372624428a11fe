package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testCommit(b *bundle) {
	b.ok(b.Commit(b.ctx, &store.Batch{}))
	last, err := b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key of an empty store", last, event.Key(0))

	a := b.append(mine, "payment.succeeded", 7, 8)
	got, err := b.Event(b.ctx, mine, a.Event.ID)
	b.ok(err)
	b.equal("event", got, a.Event)
	for _, d := range a.Deliveries {
		v, err := b.Delivery(b.ctx, mine, d.ID)
		b.ok(err)
		b.equal("delivery", v.Delivery, d)
		b.equal("names", []string{v.EventID, v.Type}, []string{a.Event.ID, "payment.succeeded"})
	}
	custom := b.composeCustom(mine, "evt_chosen-by-the-sender", 7)
	b.commit(custom)
	got, err = b.Event(b.ctx, mine, custom.Event.ID)
	b.ok(err)
	b.equal("event with the sender's id", got, custom.Event)
	v, err := b.Delivery(b.ctx, mine, custom.Deliveries[0].ID)
	b.ok(err)
	b.equal("its name", v.EventID, custom.Event.ID)

	alone := b.append(mine, "a.b") // without a subscribed endpoint
	last, err = b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key", last, alone.Event.Key)
	theirs := b.append(theirs, "a.b")
	last, err = b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key of all spaces", last, theirs.Event.Key)
}

// The signed and sent body must be the accepted one, byte for byte.
func testBodies(b *bundle) {
	random := make([]byte, 256<<10)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(random)
	for name, body := range map[string][]byte{
		"zeros":       bytes.Repeat([]byte{0}, 1000),
		"zeros first": []byte("\x00{\"a\":\x00}\x00"),
		"not UTF-8":   {0xff, 0xfe, '{', 0x80, '}', 0xc3},
		"random":      random,
		"one byte":    {'1'},
		"packed":      append(bytes.Clone(store.PackMagic), "is what it looks like"...),
		"text":        []byte("{\"n\":\"" + strings.Repeat("é\u2028\x00", 60_000) + "\"}"),
	} {
		a := b.compose(mine, "a.b", 7)
		a.Event.Body = body
		b.commit(a)
		got, err := b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
		jobs, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: 100, MaxBytes: 1 << 30})
		b.ok(err)
		items, _, err := b.ListEvents(b.ctx, mine, store.EventFilter{}, store.Page[event.Key]{Limit: 1})
		b.ok(err)
		if !bytes.Equal(got.Body, body) || !bytes.Equal(jobs[len(jobs)-1].Body, body) || !bytes.Equal(items[0].Body, body) {
			b.Errorf("%s: another body came back", name)
		}
	}
}

// A large and mixed batch has the same effect as its events one by one.
func testLargeBatch(b *bundle) {
	for _, size := range []int{1, 2, 15, 16, 17, 33, 300} {
		var all []*store.Append
		for i := range size {
			a := b.compose(mine, "a.b", []int64{11, 12, 13}[:i%4]...)
			if i%3 == 0 {
				a = b.composeCustom(mine, fmt.Sprintf("evt_of-the-sender-%d-%d", size, i), 11)
			}
			if i%5 == 0 {
				a.Receipt = receipt(mine, fmt.Sprintf("key-%d-%d", size, i), now())
			}
			if i%4 == 1 {
				a.Event.Headers = event.EncodeHeaders(map[string]string{"X-N": fmt.Sprint(i)})
			}
			all = append(all, a)
		}
		b.commit(all...)
		for _, a := range all {
			if a.Refused() {
				b.Fatalf("batch of %d: refused %s", size, a.Event.ID)
			}
			got, err := b.Event(b.ctx, mine, a.Event.ID)
			b.ok(err)
			b.equal("event", got, a.Event)
			items, _, err := b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{Event: a.Event.Key}, store.Page[delivery.ID]{Limit: 10})
			b.ok(err)
			b.equal("deliveries", len(items), len(a.Deliveries))
			for i, v := range items {
				b.equal("delivery", v.Delivery, a.Deliveries[len(items)-1-i])
			}
			if a.Receipt != nil {
				r, err := b.Receipt(b.ctx, mine, a.Receipt.Key)
				b.ok(err)
				b.equal("receipt", r, *a.Receipt)
			}
		}
	}
}

func testAllOrNothing(b *bundle) {
	before := b.append(mine, "a.b", 7).Deliveries[0]
	after := before
	after.State, after.Settled = delivery.Succeeded, now()
	at := delivery.Attempt{Number: 1, Started: now()}
	one, two := b.compose(mine, "a.b", 7), b.composeCustom(mine, "evt_0123456789abcdef", 7)
	one.Receipt = receipt(mine, "k", now())
	clash := &store.Append{Event: one.Event} // no two events share a key
	batch := &store.Batch{Appends: []*store.Append{one, two, clash},
		Settlements: []store.Settlement{{Delivery: after, Attempt: &at}}, Health: []store.Health{{Endpoint: 7, Breaker: delivery.Breaker{Failures: 3}}}}
	if b.Commit(b.ctx, batch) == nil {
		b.Fatal("two events under one key were accepted")
	}
	b.absent(one)
	b.absent(two)
	_, err := b.Receipt(b.ctx, mine, "k")
	b.code(err, fault.NotFound)
	b.equal("delivery", b.delivery(before.ID), before)
	b.equal("attempts", len(b.attempts(before.ID)), 0)
	health, err := b.AllHealth(b.ctx)
	b.ok(err)
	b.equal("health", len(health), 0)

	batch.Appends = batch.Appends[:2]
	b.ok(b.Commit(b.ctx, batch))
	for _, a := range batch.Appends {
		if a.Refused() {
			b.Errorf("%s was refused after a batch that was not kept", a.Event.ID)
		}
		_, err := b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
	}
	b.equal("delivery", b.delivery(before.ID).State, delivery.Succeeded)
}

func testRefused(b *bundle) {
	at := now()
	first := b.composeCustom(mine, "evt_chosen-by-the-sender", 7)
	first.Receipt, first.Event.Headers = receipt(mine, "k1", at), event.Headers(`{"X-A":"b"}`)
	b.commit(first)

	taken, repeated := b.composeCustom(mine, first.Event.ID, 7), b.compose(mine, "a.b", 7)
	taken.Receipt, repeated.Receipt = receipt(mine, "k2", at), receipt(mine, "k1", at)
	repeated.Receipt.Body, repeated.Receipt.Status = []byte("new"), 201
	elsewhere, fine := b.composeCustom(theirs, first.Event.ID, 8), b.compose(mine, "a.b", 7)
	elsewhere.Receipt = receipt(theirs, "k1", at)
	done := first.Deliveries[0]
	done.State, done.Settled = delivery.Succeeded, at
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{taken, repeated, elsewhere, fine}, Settlements: []store.Settlement{{Delivery: done}}}))

	if taken.Taken == nil || taken.Replay != nil {
		b.Fatalf("an id twice: %+v", taken)
	}
	b.equal("the earlier event", *taken.Taken, first.Event)
	if repeated.Replay == nil || repeated.Taken != nil {
		b.Fatalf("a key twice: %+v", repeated)
	}
	b.equal("the earlier receipt", *repeated.Replay, *first.Receipt)
	if elsewhere.Refused() || fine.Refused() {
		b.Errorf("refused what is fine: %v %v", elsewhere.Refused(), fine.Refused())
	}
	b.absent(taken)
	b.absent(repeated)
	_, err := b.Receipt(b.ctx, mine, "k2")
	b.code(err, fault.NotFound)
	r, err := b.Receipt(b.ctx, mine, "k1")
	b.ok(err)
	b.equal("receipt", r, *first.Receipt)
	got, err := b.Event(b.ctx, theirs, first.Event.ID)
	b.ok(err)
	b.equal("the same id in another space", got, elsewhere.Event)
	got, err = b.Event(b.ctx, mine, first.Event.ID)
	b.ok(err)
	b.equal("the earlier event", got, first.Event)
	_, err = b.Event(b.ctx, mine, fine.Event.ID)
	b.ok(err)
	b.equal("settled beside refusals", b.delivery(done.ID).State, delivery.Succeeded)
}

func testRefusedWithinBatch(b *bundle) {
	at := now()
	one, two := b.composeCustom(mine, "evt_twice-in-one-batch-1", 7), b.composeCustom(mine, "evt_twice-in-one-batch-1", 7)
	three, four := b.compose(mine, "a.b", 7), b.compose(mine, "a.c", 7)
	three.Receipt, four.Receipt = receipt(mine, "k", at), receipt(mine, "k", at)
	four.Receipt.Body = []byte("new")
	other := b.composeCustom(live, one.Event.ID, 8)
	other.Receipt = receipt(live, "k", at)
	looksLike := b.composeCustom(mine, three.Event.ID, 7) // the generated id of an event of this batch
	b.commit(one, two, three, four, other, looksLike)
	for _, a := range []*store.Append{one, three, other} {
		if a.Refused() {
			b.Errorf("%s was refused", a.Event.ID)
		}
	}
	for a, earlier := range map[*store.Append]*store.Append{two: one, looksLike: three} {
		if a.Taken == nil {
			b.Fatalf("%s was accepted twice", a.Event.ID)
		}
		b.equal("the earlier event", *a.Taken, earlier.Event)
		b.absent(a)
	}
	if four.Replay == nil {
		b.Fatal("a key was accepted twice")
	}
	b.equal("the earlier receipt", *four.Replay, *three.Receipt)
	b.absent(four)
	r, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", r, *three.Receipt)

	// A refused event claims no name.
	at = at.Add(1)
	refused := b.composeCustom(mine, "evt_claimed-by-a-refused", 7)
	refused.Receipt = receipt(mine, "k", at)
	next := b.composeCustom(mine, refused.Event.ID, 7)
	b.commit(refused, next)
	if refused.Replay == nil || next.Refused() {
		b.Errorf("refused %v, %v", refused.Refused(), next.Refused())
	}
}

// A sender's id may look generated, but names only the sender's event; an id names one event of
// a space, whether generated or chosen.
func testGeneratedIDTaken(b *bundle) {
	generated := b.compose(mine, "a.b", 7)
	generated.Event.Headers = event.Headers(`{"X-A":"b"}`)
	b.commit(generated)
	odd := b.composeCustom(mine, event.FormatID(event.PrefixEvent, generated.Event.Key, generated.Event.Nonce+1), 7)
	b.commit(odd)
	if odd.Refused() {
		b.Fatal("refused an id that only looks like one that was generated")
	}
	for _, want := range []*store.Append{generated, odd} {
		got, err := b.Event(b.ctx, mine, want.Event.ID)
		b.ok(err)
		b.equal("event", got, want.Event)
	}
	same, elsewhere := b.composeCustom(mine, generated.Event.ID, 7), b.composeCustom(theirs, generated.Event.ID, 8)
	b.commit(same, elsewhere)
	if same.Taken == nil || elsewhere.Refused() {
		b.Fatalf("a generated id used by a sender: taken %v; in another space: refused %v", same.Taken, elsewhere.Refused())
	}
	b.equal("the earlier event", *same.Taken, generated.Event)
	b.absent(same)
	got, err := b.Event(b.ctx, theirs, generated.Event.ID)
	b.ok(err)
	b.equal("in another space", got, elsewhere.Event)
}

// A refused append is evaluated again.
func testCommitAgain(b *bundle) {
	first := b.composeCustom(mine, "evt_0123456789abcdef", 7)
	first.Receipt = receipt(mine, "k", now())
	b.commit(first)
	taken, repeated := b.composeCustom(mine, first.Event.ID, 7), b.compose(mine, "a.b", 7)
	repeated.Receipt = receipt(mine, "k", now())
	for range 2 {
		b.commit(taken, repeated)
		if taken.Taken == nil || repeated.Replay == nil {
			b.Fatalf("accepted: %v, %v", !taken.Refused(), !repeated.Refused())
		}
	}
	taken.Event.ID, repeated.Receipt.Key = "evt_another-0123456789", "k2"
	b.commit(taken, repeated)
	for _, a := range []*store.Append{taken, repeated} {
		if a.Refused() {
			b.Errorf("refused: %+v", a)
		}
		got, err := b.Event(b.ctx, mine, a.Event.ID)
		b.ok(err)
		b.equal("event", got, a.Event)
		b.equal("delivery", b.delivery(a.Deliveries[0].ID), a.Deliveries[0])
	}
}
