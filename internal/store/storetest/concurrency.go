package storetest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Concurrent writers and readers of every kind: no error, no lost and no duplicate row.
func testConcurrent(b *bundle) {
	one, two := b.endpoint(mine), b.endpoint(mine)
	const writers, rounds = 4, 25
	check := func(err error) {
		if err != nil {
			b.Error(err)
		}
	}
	var accepted atomic.Int64
	var writing, reading sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for i := range rounds {
				a := b.compose(mine, "a.b", one.No, two.No)
				contested := b.composeCustom(mine, "evt_contested-by-everybody-"+string(rune('a'+i)), one.No)
				check(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a, contested}}))
				if !contested.Refused() {
					accepted.Add(1)
				}
				d := a.Deliveries[0]
				at := delivery.Attempt{Number: 1, Started: now(), Outcome: delivery.OutcomeSucceeded}
				d.Settle(&at, delivery.Policy{}, now())
				check(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at}}, Health: []store.Health{{Endpoint: one.No}}}))
				if i%2 == 0 {
					d.Requeue(now())
					check(b.Requeue(b.ctx, []delivery.Delivery{d}, store.Trail{}))
				}
				check(b.cancel(a.Deliveries[1].ID, now(), store.Trail{}))
			}
		})
	}
	ctx, stop := context.WithCancel(b.ctx)
	for range 2 {
		reading.Go(func() {
			for ctx.Err() == nil {
				_, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: one.No, Limit: 10, MaxBytes: 1 << 20})
				check(err)
				_, err = b.Lanes(b.ctx, 0, 10)
				check(err)
				_, _, err = b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{}, store.Page[delivery.ID]{Limit: 10})
				check(err)
				_, _, err = b.ListEvents(b.ctx, mine, store.EventFilter{}, store.Page[event.Key]{Limit: 10})
				check(err)
				_, err = b.LastKey(b.ctx)
				check(err)
				check(b.AllEndpoints(b.ctx, func(*endpoint.Endpoint) error { return nil }))
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()

	b.equal("contested ids accepted", accepted.Load(), int64(rounds))
	jobs, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: one.No, Limit: 1000, MaxBytes: 1 << 30})
	b.ok(err)
	b.equal("waiting", len(jobs), rounds+writers*((rounds+1)/2))
	jobs, err = b.LoadLane(b.ctx, store.LaneScan{Endpoint: two.No, Limit: 1000, MaxBytes: 1 << 30})
	b.ok(err)
	b.equal("waiting of the canceled", len(jobs), 0)
	for _, tt := range []struct {
		endpoint int64
		want     int
	}{{one.No, writers*rounds + rounds}, {two.No, writers * rounds}} {
		items, _, err := b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{Endpoint: tt.endpoint}, store.Page[delivery.ID]{Limit: 1000})
		b.ok(err)
		b.equal("deliveries", len(items), tt.want)
	}
}

// Readers see a batch whole or not at all.
func testWholeBatches(b *bundle) {
	const rounds = 50
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(b.ctx)
	wg.Go(func() {
		for ctx.Err() == nil {
			items, _, err := b.ListEvents(b.ctx, mine, store.EventFilter{}, store.Page[event.Key]{Limit: 1000})
			if err != nil || len(items)%3 != 0 {
				b.Errorf("%d events of batches of three, %v", len(items), err)
				return
			}
		}
	})
	for range rounds {
		b.commit(b.compose(mine, "a.b", 7), b.compose(mine, "a.b", 7), b.compose(mine, "a.b", 7))
	}
	stop()
	wg.Wait()
	items, _, err := b.ListEvents(b.ctx, mine, store.EventFilter{}, store.Page[event.Key]{Limit: 1000})
	b.ok(err)
	b.equal("events", len(items), 3*rounds)
}

// Nothing is written for a canceled context.
func testCanceled(b *bundle) {
	at := now()
	e := b.endpoint(mine)
	acct := account.Account{ID: "acct_1", Name: "before", Created: at}
	b.ok(b.CreateAccount(b.ctx, &acct, store.Trail{}))
	k, _ := account.NewKey("key_1", account.NewSecret(account.PrefixTest), "k", 1, at)
	b.ok(b.CreateKey(b.ctx, &k, store.Trail{}))
	settled := b.append(mine, "a.b", 9).Deliveries[0]
	b.attempt(&settled, delivery.OutcomeSucceeded)
	waiting := b.compose(mine, "a.b", 7)
	waiting.Receipt = receipt(mine, "old", at.Add(-time.Hour))
	b.commit(waiting)

	late := b.compose(mine, "a.b", 8)
	late.Receipt = receipt(mine, "late", at)
	lateSettlement := waiting.Deliveries[0]
	lateSettlement.State = delivery.Failed
	requeued := settled
	requeued.Requeue(at)
	otherAccount, otherKey := account.Account{ID: "acct_2"}, k
	otherKey.ID, otherKey.Hash = "key_2", account.Hash{1}
	renamed, changed := acct, *e
	renamed.Name, changed.URL = "after", "https://example.org/after"

	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	gone := *b
	gone.ctx = ctx
	for name, call := range map[string]func() error{
		"Commit": func() error {
			return b.Commit(ctx, &store.Batch{Appends: []*store.Append{late}, Settlements: []store.Settlement{{Delivery: lateSettlement}}, Health: []store.Health{{Endpoint: 7}}})
		},
		"CancelPending": func() error { _, err := b.CancelPending(ctx, 7, at, 10); return err },
		"CreateAccount": func() error { return b.CreateAccount(ctx, &otherAccount, store.Trail{Receipt: late.Receipt}) },
		"EditAccount":   func() error { return gone.writeAccount(&renamed, store.Trail{Receipt: late.Receipt}) },
		"CreateKey":     func() error { return b.CreateKey(ctx, &otherKey, store.Trail{Receipt: late.Receipt}) },
		"RevokeKey":     func() error { return b.RevokeKey(ctx, k.ID, at, store.Trail{}) },
		"CreateEndpoint": func() error {
			return b.CreateEndpoint(ctx, b.composeEndpoint(mine), store.Trail{Receipt: late.Receipt})
		},
		"EditEndpoint":   func() error { return gone.writeEndpoint(&changed, store.Trail{Receipt: late.Receipt}) },
		"DeleteEndpoint": func() error { return b.DeleteEndpoint(ctx, e.No, e.Revision, at, store.Trail{}) },
		"Requeue":        func() error { return b.Requeue(ctx, []delivery.Delivery{requeued}, store.Trail{Receipt: late.Receipt}) },
		"CancelDelivery": func() error {
			return gone.cancel(waiting.Deliveries[0].ID, at, store.Trail{Receipt: late.Receipt})
		},
		"PurgeReceipts": func() error { _, err := b.PurgeReceipts(ctx, at, 10); return err },
		"PurgeAudit":    func() error { _, err := b.PurgeAudit(ctx, at, 10); return err },
		"PurgeEvents":   func() error { _, _, err := b.PurgeEvents(ctx, 0, late.Event.Key, 10); return err },
	} {
		if call() == nil {
			b.Errorf("%s went on although its context had ended", name)
		}
	}
	b.absent(late)
	_, err := b.Receipt(b.ctx, mine, "late")
	b.code(err, fault.NotFound)
	_, err = b.Receipt(b.ctx, mine, "old")
	b.ok(err)
	b.equal("waiting", b.delivery(waiting.Deliveries[0].ID), waiting.Deliveries[0])
	b.equal("settled", b.delivery(settled.ID), settled)
	health, err := b.AllHealth(b.ctx)
	b.ok(err)
	b.equal("health", len(health), 0)
	accounts, err := b.AllAccounts(b.ctx)
	b.ok(err)
	b.equal("accounts", accounts, []account.Account{acct})
	keys, err := b.AllKeys(b.ctx)
	b.ok(err)
	b.equal("keys", keys, []account.Key{k})
	items, _, err := b.ListEndpoints(b.ctx, mine, store.Page[int64]{Limit: 10})
	b.ok(err)
	b.equal("endpoints", items, []endpoint.Endpoint{*e})
}
