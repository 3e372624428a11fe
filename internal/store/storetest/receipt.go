package storetest

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testReceipts(b *bundle) {
	start := time.UnixMilli(1700000000000)
	put := func(at time.Time, body string) *store.Append {
		a := b.compose(mine, "a.b", 7)
		a.Receipt = receipt(mine, "k", at)
		a.Receipt.Body = []byte(body)
		b.commit(a)
		return a
	}
	first := put(start, "first\x00\xff")
	got, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", got, *first.Receipt)
	for _, after := range []time.Duration{0, time.Hour, store.ReceiptLife - time.Millisecond} {
		again := put(start.Add(after), "again")
		if again.Replay == nil {
			b.Fatalf("forgot a receipt after %v", after)
		}
		b.equal("replay", *again.Replay, *first.Receipt)
		b.absent(again)
	}
	forward := b.compose(mine, "a.b", 7) // when the clock was stepped forward by a minute
	forward.Receipt = receipt(mine, "k", start.Add(store.ReceiptLife))
	forward.Receipt.Spare = time.Minute
	if b.commit(forward); forward.Replay == nil {
		b.Error("a receipt did not outlive a step of the clock")
	}
	next := put(start.Add(store.ReceiptLife), "next")
	if next.Refused() {
		b.Error("a receipt outlived its life")
	}
	got, err = b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", got, *next.Receipt)
	if put(start.Add(store.ReceiptLife+time.Hour), "after the next").Replay == nil {
		b.Error("the second receipt does not hold")
	}
	_, err = b.Receipt(b.ctx, mine, "")
	b.code(err, fault.NotFound)
}

// A receipt is written only together with the effect of its request.
func testReceiptsWithEffect(b *bundle) {
	at := now()
	e := b.composeEndpoint(mine)
	a := account.Account{ID: "acct_1", Created: at}
	k, _ := account.NewKey("key_1", account.NewSecret(account.PrefixTest), "k", 1, at)
	d := b.append(mine, "a.b", 7).Deliveries[0]
	for _, tt := range []struct {
		name string
		call func(*store.Receipt) error
	}{
		{"CreateAccount", func(r *store.Receipt) error { return b.CreateAccount(b.ctx, &a, store.Trail{Receipt: r}) }},
		{"UpdateAccount", func(r *store.Receipt) error { return b.writeAccount(&a, store.Trail{Receipt: r}) }},
		{"CreateKey", func(r *store.Receipt) error { return b.CreateKey(b.ctx, &k, store.Trail{Receipt: r}) }},
		{"CreateEndpoint", func(r *store.Receipt) error { return b.CreateEndpoint(b.ctx, e, store.Trail{Receipt: r}) }},
		{"UpdateEndpoint", func(r *store.Receipt) error { return b.writeEndpoint(e, store.Trail{Receipt: r}) }},
		{"Requeue", func(r *store.Receipt) error { return b.Requeue(b.ctx, []delivery.Delivery{d}, store.Trail{Receipt: r}) }},
		{"CancelDelivery", func(r *store.Receipt) error { return b.cancel(d.ID, at, store.Trail{Receipt: r}) }},
	} {
		want := receipt(mine, tt.name, at)
		b.ok(tt.call(want))
		got, err := b.Receipt(b.ctx, mine, tt.name)
		b.ok(err)
		b.equal(tt.name, got, *want)
	}
	b.code(b.writeAccount(&account.Account{No: 99}, store.Trail{Receipt: receipt(mine, "none", at)}), fault.NotFound)
	missing := *e
	missing.ID = "we_missing"
	b.code(b.writeEndpoint(&missing, store.Trail{Receipt: receipt(mine, "none", at)}), fault.NotFound)
	_, err := b.Receipt(b.ctx, mine, "none")
	b.code(err, fault.NotFound)
}
