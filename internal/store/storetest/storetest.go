// Package storetest is the contract of [store.Store] as tests. Every
// implementation runs them; what they hold is what the interface's comments
// promise. It must not know any implementation.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Run runs the contract tests on stores that open returns, each empty and closed
// by whoever opened it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, tt := range []struct {
		name string
		test func(*bundle)
	}{
		{"Commit", testCommit},
		{"Commit/Refused", testRefused},
		{"Commit/Settle", testSettle},
		{"LoadLane", testLoadLane},
		{"Lanes", testLanes},
		{"CancelPending", testCancelPending},
		{"Accounts", testAccounts},
		{"Endpoints", testEndpoints},
		{"Events", testEvents},
		{"Deliveries", testDeliveries},
		{"Requeue", testRequeue},
		{"Receipts", testReceipts},
		{"Purge", testPurge},
		{"Concurrent", testConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(&bundle{T: t, Store: open(t), ctx: context.Background(), keys: event.NewKeys(time.Now, 0)})
		})
	}
}

type bundle struct {
	*testing.T
	store.Store
	ctx  context.Context
	keys *event.Keys
}

const (
	mine   = event.Space(2)
	theirs = event.Space(4)
)

func (b *bundle) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bundle) code(err error, want fault.Code) {
	b.Helper()
	if got := fault.CodeOf(err); got != want {
		b.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// equal compares by how values print, which for the domain's values shows all.
func (b *bundle) equal(what string, got, want any) {
	b.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		b.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func (b *bundle) event(space event.Space, typ string) event.Event {
	e := event.Event{Key: b.keys.Next(), Nonce: rand.Uint32(), Space: space, Type: typ, Created: 1699564800}
	e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
	e.Body = event.NewBody(e.ID, typ, e.Created, []byte(`{"object":{}}`))
	return e
}

// append commits an event with pending deliveries to the given endpoints.
func (b *bundle) append(space event.Space, typ string, endpoints ...int64) *store.Append {
	b.Helper()
	a := &store.Append{Event: b.event(space, typ)}
	for _, no := range endpoints {
		a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: no}, space))
	}
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a}}))
	return a
}

func (b *bundle) endpoint(space event.Space) *endpoint.Endpoint {
	b.Helper()
	now := time.UnixMilli(1700000000123)
	e := &endpoint.Endpoint{ID: event.FormatID(event.PrefixEndpoint, b.keys.Next(), 1), Space: space, URL: "https://example.com/", Events: []string{"*"},
		Status: endpoint.Enabled, Secrets: []endpoint.Secret{endpoint.NewSecret(now.UTC())}, Created: now, Updated: now, EnabledSince: now}
	b.ok(b.CreateEndpoint(b.ctx, e, nil))
	return e
}

func testCommit(b *bundle) {
	body := []byte("{\"n\":\"" + strings.Repeat("x\u0000é", 60_000) + "\"}")
	a := &store.Append{Event: b.event(mine, "a.b")}
	a.Event.Body = body
	a.Deliveries = []delivery.Delivery{delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: 7}, mine)}
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a}, Health: []store.Health{{Endpoint: 7, Breaker: delivery.Breaker{Failures: 3}}}}))
	got, err := b.Event(b.ctx, mine, a.Event.ID)
	b.ok(err)
	b.equal("event", got, a.Event)
	v, err := b.Delivery(b.ctx, mine, a.Deliveries[0].ID)
	b.ok(err)
	b.equal("delivery", v.Delivery, a.Deliveries[0])
	last, err := b.LastKey(b.ctx)
	b.ok(err)
	b.equal("last key", last, a.Event.Key)
	health, err := b.AllHealth(b.ctx)
	b.ok(err)
	b.equal("health", health, []store.Health{{Endpoint: 7, Breaker: delivery.Breaker{Failures: 3}}})

	// All or nothing: the second event has the first one's key.
	twice := &store.Append{Event: b.event(mine, "a.c")}
	clash := &store.Append{Event: twice.Event}
	if err := b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{twice, clash}}); err == nil {
		b.Fatal("two events under one key were accepted")
	}
	_, err = b.Event(b.ctx, mine, twice.Event.ID)
	b.code(err, fault.NotFound)
	b.append(mine, "a.d") // and the store goes on

	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	late := &store.Append{Event: b.event(mine, "a.e")}
	if err := b.Commit(ended, &store.Batch{Appends: []*store.Append{late}}); err == nil {
		b.Error("committed although the context had ended")
	}
	_, err = b.Event(b.ctx, mine, late.Event.ID)
	b.code(err, fault.NotFound)
}

func testRefused(b *bundle) {
	custom := func(space event.Space, id string) *store.Append {
		a := &store.Append{Event: b.event(space, "a.b")}
		a.Event.ID, a.Event.Custom, a.Event.Nonce = id, true, 0
		a.Deliveries = []delivery.Delivery{delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: 7}, space)}
		return a
	}
	receipt := func(key string) *store.Receipt {
		return &store.Receipt{Space: mine, Key: key, Fingerprint: [32]byte{1}, Status: 200, Body: []byte(`{}`), Created: time.Now().Truncate(time.Millisecond)}
	}
	first := custom(mine, "evt_chosen-by-the-sender")
	first.Receipt = receipt("k1")
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{first}}))
	again, other, repeated := custom(mine, first.Event.ID), custom(theirs, first.Event.ID), custom(mine, "evt_another-one-of-theirs")
	repeated.Receipt = receipt("k1")
	fine := &store.Append{Event: b.event(mine, "a.b")}
	within := custom(mine, "evt_twice-in-one-batch-1")
	within2 := custom(mine, "evt_twice-in-one-batch-1")
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{again, other, repeated, fine, within, within2}}))
	if again.Taken == nil || again.Taken.Key != first.Event.Key || string(again.Taken.Body) != string(first.Event.Body) {
		b.Errorf("taken: %+v", again.Taken)
	}
	if other.Refused() || fine.Refused() || within.Refused() || within2.Taken == nil {
		b.Errorf("refused: %v %v %v %v", other.Refused(), fine.Refused(), within.Refused(), within2.Taken)
	}
	if repeated.Replay == nil || repeated.Replay.Fingerprint != first.Receipt.Fingerprint || string(repeated.Replay.Body) != `{}` || repeated.Replay.Status != 200 {
		b.Errorf("replay: %+v", repeated.Replay)
	}
	_, err := b.Event(b.ctx, mine, repeated.Event.ID)
	b.code(err, fault.NotFound)
	_, err = b.Delivery(b.ctx, mine, again.Deliveries[0].ID)
	b.code(err, fault.NotFound)
	got, err := b.Event(b.ctx, theirs, first.Event.ID)
	b.ok(err)
	b.equal("same id in another space", got.Key, other.Event.Key)

	// An id that looks generated is still only the sender's.
	odd := custom(mine, event.FormatID(event.PrefixEvent, first.Event.Key, 9))
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{odd}}))
	got, err = b.Event(b.ctx, mine, odd.Event.ID)
	b.ok(err)
	b.equal("id that looks generated", got.Key, odd.Event.Key)
}

func testSettle(b *bundle) {
	a := b.append(mine, "a.b", 7)
	d := a.Deliveries[0]
	now := time.Now().Truncate(time.Millisecond)
	at := delivery.Attempt{Number: 1, Started: now, Duration: 1234 * time.Microsecond, Outcome: delivery.OutcomeServerError, StatusCode: 500,
		Error: "e", RemoteAddr: "127.0.0.1:1", ResponseHeader: "A: b\n", ResponseBody: []byte("x\x00y")}
	policy := delivery.Policy{Schedule: delivery.Schedule{time.Minute}, Random: func() float64 { return 0 }}
	d.Settle(&at, policy, now)
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at}}}))
	v, err := b.Delivery(b.ctx, mine, d.ID)
	b.ok(err)
	b.equal("after a failure", v.Delivery, d)
	items, more, err := b.ListAttempts(b.ctx, d.ID, store.Page[int]{Limit: 10})
	b.ok(err)
	b.equal("attempts", items, []delivery.Attempt{at})
	b.equal("more", more, false)

	// A person cancels while an attempt runs: the state stays, the attempt is kept.
	b.ok(b.CancelDelivery(b.ctx, d.ID, now, nil))
	at2 := at
	at2.Number, at2.Outcome, at2.StatusCode = 2, delivery.OutcomeSucceeded, 200
	d.Settle(&at2, policy, now)
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at2}}}))
	v, err = b.Delivery(b.ctx, mine, d.ID)
	b.ok(err)
	b.equal("state", v.State, delivery.Canceled)
	items, _, err = b.ListAttempts(b.ctx, d.ID, store.Page[int]{Limit: 10})
	b.ok(err)
	b.equal("attempts", len(items), 2)

	// Given up without an attempt.
	expired := b.append(mine, "a.b", 7).Deliveries[0]
	expired.Expire(now)
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: expired}}}))
	v, err = b.Delivery(b.ctx, mine, expired.ID)
	b.ok(err)
	b.equal("expired", v.Delivery, expired)
}

func testLoadLane(b *bundle) {
	var all []*store.Append
	for range 10 {
		all = append(all, b.append(mine, "a.b", 7, 8))
	}
	// The first one waits for later, the second is done.
	now := time.Now().Truncate(time.Millisecond)
	later, done := all[0].Deliveries[0], all[1].Deliveries[0]
	later.Due = now.Add(time.Hour)
	later.Rank = later.Due
	done.State, done.Settled = delivery.Succeeded, now
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: later}, {Delivery: done}}}))
	jobs, err := b.LoadLane(b.ctx, 7, 100, 1<<20)
	b.ok(err)
	b.equal("jobs", len(jobs), 9)
	for i, j := range jobs[:8] {
		want := all[i+2]
		if j.Delivery.ID != want.Deliveries[0].ID || j.EventID != want.Event.ID || j.Type != "a.b" || string(j.Body) != string(want.Event.Body) {
			b.Errorf("job %d is %+v", i, j)
		}
	}
	b.equal("last", jobs[8].Delivery, later)
	jobs, err = b.LoadLane(b.ctx, 7, 3, 1<<20)
	b.ok(err)
	b.equal("limit", len(jobs), 3)
	jobs, err = b.LoadLane(b.ctx, 7, 100, 0)
	b.ok(err)
	b.equal("at least one whatever its size", len(jobs), 1)
	jobs, err = b.LoadLane(b.ctx, 9, 100, 1<<20)
	b.ok(err)
	b.equal("nobody's", len(jobs), 0)
}

func testLanes(b *bundle) {
	var first []time.Time
	for no := int64(1); no <= 5; no++ {
		a := b.append(mine, "a.b", no)
		b.append(mine, "a.b", no)
		first = append(first, a.Deliveries[0].Rank)
	}
	done := b.append(mine, "a.b", 9).Deliveries[0]
	done.State = delivery.Failed
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: done}}}))
	lanes, err := b.Lanes(b.ctx, 0, 3)
	b.ok(err)
	b.equal("lanes", lanes, []store.Lane{{Endpoint: 1, Rank: first[0]}, {Endpoint: 2, Rank: first[1]}, {Endpoint: 3, Rank: first[2]}})
	lanes, err = b.Lanes(b.ctx, 3, 100)
	b.ok(err)
	b.equal("the rest", lanes, []store.Lane{{Endpoint: 4, Rank: first[3]}, {Endpoint: 5, Rank: first[4]}})
	lanes, err = b.Lanes(b.ctx, 5, 100)
	b.ok(err)
	b.equal("after the last", len(lanes), 0)
}

func testCancelPending(b *bundle) {
	for range 5 {
		b.append(mine, "a.b", 7, 8)
	}
	now := time.Now()
	for _, want := range []int{3, 2, 0} {
		n, err := b.CancelPending(b.ctx, 7, now, 3)
		b.ok(err)
		b.equal("canceled", n, want)
	}
	lanes, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	if len(lanes) != 1 || lanes[0].Endpoint != 8 {
		b.Errorf("lanes %+v", lanes)
	}
}

func testAccounts(b *bundle) {
	var all []account.Account
	for i := range 3 {
		a := account.Account{ID: fmt.Sprint("acct_", i), Name: fmt.Sprint("Account ", i), Created: time.UnixMilli(1700000000000)}
		b.ok(b.CreateAccount(b.ctx, &a, nil))
		all = append(all, a)
	}
	got, err := b.Account(b.ctx, "acct_1")
	b.ok(err)
	b.equal("account", got, all[1])
	_, err = b.Account(b.ctx, "acct_9")
	b.code(err, fault.NotFound)
	all[1].Name = "Renamed"
	b.ok(b.UpdateAccount(b.ctx, &all[1], nil))
	list, err := b.AllAccounts(b.ctx)
	b.ok(err)
	b.equal("all", list, all)
	pages(b, "accounts", []account.Account{all[2], all[1], all[0]}, func(a account.Account) int64 { return a.No },
		func(p store.Page[int64]) ([]account.Account, bool, error) { return b.ListAccounts(b.ctx, p) })
	b.code(b.UpdateAccount(b.ctx, &account.Account{No: 99}, nil), fault.NotFound)

	var keys []account.Key
	for i := range 3 {
		k, ok := account.NewKey(fmt.Sprint("key_", i), account.NewSecret(account.PrefixLive), "k", all[0].No, time.UnixMilli(1700000000000))
		if !ok {
			b.Fatal("no key")
		}
		b.ok(b.CreateKey(b.ctx, &k, nil))
		keys = append(keys, k)
	}
	same := keys[0]
	same.ID = "key_same"
	b.code(b.CreateKey(b.ctx, &same, nil), fault.Invalid)
	pages(b, "keys", []account.Key{keys[2], keys[1], keys[0]}, func(k account.Key) string { return k.ID },
		func(p store.Page[string]) ([]account.Key, bool, error) { return b.ListKeys(b.ctx, all[0].No, p) })
	theirs, _, err := b.ListKeys(b.ctx, all[1].No, store.Page[string]{Limit: 10})
	b.ok(err)
	b.equal("another account's", len(theirs), 0)
	now := time.UnixMilli(1800000000000)
	b.ok(b.RevokeKey(b.ctx, keys[1].ID, now))
	b.ok(b.RevokeKey(b.ctx, keys[1].ID, now.Add(time.Hour))) // the first time counts
	b.code(b.RevokeKey(b.ctx, "key_9", now), fault.NotFound)
	keys[1].Revoked = now
	allKeys, err := b.AllKeys(b.ctx)
	b.ok(err)
	b.equal("keys", allKeys, keys)
}

// pages walks a list both ways in pages of every size. want is the whole list,
// newest first.
func pages[T, C any](b *bundle, what string, want []T, cursor func(T) C, list func(store.Page[C]) ([]T, bool, error)) {
	b.Helper()
	for limit := 1; limit <= len(want)+1; limit++ {
		var down, up []T
		p := store.Page[C]{Limit: limit}
		for {
			items, more, err := list(p)
			b.ok(err)
			down = append(down, items...)
			if !more {
				break
			}
			c := cursor(items[len(items)-1])
			p.After = &c
		}
		b.equal(fmt.Sprintf("%s, %d at a time", what, limit), down, want)
		c := cursor(want[len(want)-1])
		p = store.Page[C]{Limit: limit, Before: &c}
		for {
			items, more, err := list(p)
			b.ok(err)
			up = append(append([]T(nil), items...), up...)
			if !more {
				break
			}
			c := cursor(items[0])
			p.Before = &c
		}
		b.equal(fmt.Sprintf("%s upwards, %d at a time", what, limit), up, want[:len(want)-1])
	}
}

func testEndpoints(b *bundle) {
	e := b.endpoint(mine)
	second, third, other := b.endpoint(mine), b.endpoint(mine), b.endpoint(theirs)
	e.Events, e.Description, e.Metadata = []string{"a.b", "c.*"}, "d", map[string]string{"k": "v"}
	e.Settings = endpoint.Settings{Ordering: endpoint.FIFO, Timeout: time.Second, Concurrency: 3, Rate: 1.5, Schedule: []time.Duration{time.Minute}}
	e.Status, e.DisabledReason = endpoint.Disabled, endpoint.DisabledGone
	b.ok(b.UpdateEndpoint(b.ctx, e, nil))
	got, err := b.Endpoint(b.ctx, mine, e.ID)
	b.ok(err)
	b.equal("endpoint", got, *e)
	// "Never retry" is not "as usual".
	never := *second
	never.Settings.Schedule = []time.Duration{}
	b.ok(b.UpdateEndpoint(b.ctx, &never, nil))
	got, err = b.Endpoint(b.ctx, mine, second.ID)
	b.ok(err)
	if got.Settings.Schedule == nil {
		b.Error("an empty schedule became the default one")
	}
	b.ok(b.UpdateEndpoint(b.ctx, second, nil))
	_, err = b.Endpoint(b.ctx, theirs, e.ID)
	b.code(err, fault.NotFound)
	pages(b, "endpoints", []endpoint.Endpoint{*third, *second, *e}, func(e endpoint.Endpoint) int64 { return e.No },
		func(p store.Page[int64]) ([]endpoint.Endpoint, bool, error) { return b.ListEndpoints(b.ctx, mine, p) })

	a := b.append(mine, "a.b", e.No)
	b.ok(b.DeleteEndpoint(b.ctx, e.No, time.Now()))
	_, err = b.Endpoint(b.ctx, mine, e.ID)
	b.code(err, fault.NotFound)
	b.code(b.UpdateEndpoint(b.ctx, e, nil), fault.NotFound)
	b.code(b.DeleteEndpoint(b.ctx, e.No, time.Now()), fault.NotFound)
	v, err := b.Delivery(b.ctx, mine, a.Deliveries[0].ID)
	b.ok(err)
	b.equal("a deleted endpoint's delivery still names it", v.EndpointID, e.ID)
	var all []string
	b.ok(b.AllEndpoints(b.ctx, func(e *endpoint.Endpoint) error { all = append(all, e.ID); return nil }))
	b.equal("all", all, []string{second.ID, third.ID, other.ID})
	stop := errors.New("stop")
	if err := b.AllEndpoints(b.ctx, func(*endpoint.Endpoint) error { return stop }); !errors.Is(err, stop) {
		b.Errorf("got %v, want the callback's error", err)
	}
}

func testEvents(b *bundle) {
	var all []event.Event
	for _, typ := range []string{"payment.succeeded", "payment.failed", "refund.created", "payment.card.failed", "payments.x"} {
		all = append([]event.Event{b.append(mine, typ).Event}, all...)
	}
	b.append(theirs, "payment.succeeded")
	list := func(f store.EventFilter) func(store.Page[event.Key]) ([]event.Event, bool, error) {
		return func(p store.Page[event.Key]) ([]event.Event, bool, error) { return b.ListEvents(b.ctx, mine, f, p) }
	}
	cursor := func(e event.Event) event.Key { return e.Key }
	pages(b, "events", all, cursor, list(store.EventFilter{}))
	pages(b, "of a prefix", []event.Event{all[1], all[3], all[4]}, cursor, list(store.EventFilter{Pattern: "payment.*"}))
	pages(b, "of a type", []event.Event{all[2]}, cursor, list(store.EventFilter{Pattern: "refund.created"}))
	pages(b, "of all types", all, cursor, list(store.EventFilter{Pattern: "*"}))
	pages(b, "of a time", all[1:4], cursor, list(store.EventFilter{From: all[3].Key, Until: all[0].Key}))
	_, err := b.Event(b.ctx, theirs, all[0].ID)
	b.code(err, fault.NotFound)
	_, err = b.Event(b.ctx, mine, "evt_nothing-like-it-here")
	b.code(err, fault.NotFound)
	_, err = b.Event(b.ctx, mine, event.FormatID(event.PrefixEvent, all[0].Key, all[0].Nonce+1))
	b.code(err, fault.NotFound) // the key alone does not guess the id
}

func testDeliveries(b *bundle) {
	one, two := b.endpoint(mine), b.endpoint(mine)
	other := b.endpoint(theirs)
	b.append(theirs, "payment.succeeded", other.No)
	var all []delivery.ID // newest first
	var events []event.Event
	states := []delivery.State{delivery.Pending, delivery.Succeeded, delivery.Failed, delivery.Canceled}
	byState := map[delivery.State][]delivery.ID{}
	for i, typ := range []string{"payment.succeeded", "refund.created", "payment.failed", "payment.succeeded"} {
		a := b.append(mine, typ, one.No, two.No)
		events = append(events, a.Event)
		for j := range a.Deliveries {
			d := a.Deliveries[j]
			if d.State = states[(i+j)%4]; d.State != delivery.Pending {
				b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d}}}))
			}
			all = append([]delivery.ID{d.ID}, all...)
			byState[d.State] = append([]delivery.ID{d.ID}, byState[d.State]...)
		}
	}
	list := func(f store.DeliveryFilter) func(store.Page[delivery.ID]) ([]delivery.ID, bool, error) {
		return func(p store.Page[delivery.ID]) (ids []delivery.ID, more bool, err error) {
			items, more, err := b.ListDeliveries(b.ctx, mine, f, p)
			for _, v := range items {
				ids = append(ids, v.ID)
				if v.EventID == "" || v.Type == "" || v.EndpointID == "" || v.Space != mine {
					b.Errorf("view %+v", v)
				}
			}
			return ids, more, err
		}
	}
	cursor := func(id delivery.ID) delivery.ID { return id }
	where := func(keep func(delivery.ID) bool) (ids []delivery.ID) {
		for _, id := range all {
			if keep(id) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	pages(b, "deliveries", all, cursor, list(store.DeliveryFilter{}))
	pages(b, "of an event", where(func(id delivery.ID) bool { return id.Event == events[1].Key }), cursor, list(store.DeliveryFilter{Event: events[1].Key}))
	pages(b, "of an endpoint", where(func(id delivery.ID) bool { return id.Endpoint == two.No }), cursor, list(store.DeliveryFilter{Endpoint: two.No}))
	pages(b, "of a type", where(func(id delivery.ID) bool { return id.Event == events[0].Key || id.Event == events[3].Key }), cursor,
		list(store.DeliveryFilter{Pattern: "payment.succeeded"}))
	pages(b, "of an endpoint, a prefix and a time", where(func(id delivery.ID) bool { return id.Endpoint == one.No && id.Event == events[2].Key }), cursor,
		list(store.DeliveryFilter{Endpoint: one.No, Pattern: "payment.*", From: events[1].Key, Until: events[3].Key}))
	for state, want := range byState {
		pages(b, state.String(), want, cursor, list(store.DeliveryFilter{State: &state}))
		pages(b, state.String()+" of an endpoint", where(func(id delivery.ID) bool {
			for _, w := range want {
				if w == id {
					return id.Endpoint == one.No
				}
			}
			return false
		}), cursor, list(store.DeliveryFilter{State: &state, Endpoint: one.No}))
	}
	_, err := b.Delivery(b.ctx, theirs, all[0])
	b.code(err, fault.NotFound)

	d := delivery.ID{Event: events[0].Key, Endpoint: one.No}
	var tries []delivery.Attempt // newest first
	for n := 1; n <= 4; n++ {
		at := delivery.Attempt{Number: n, Started: time.UnixMilli(1700000000000), Outcome: delivery.OutcomeTimeout, ResponseBody: []byte{}}
		b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: delivery.Delivery{ID: d}, Attempt: &at}}}))
		tries = append([]delivery.Attempt{at}, tries...)
	}
	pages(b, "attempts", tries, func(a delivery.Attempt) int { return a.Number },
		func(p store.Page[int]) ([]delivery.Attempt, bool, error) { return b.ListAttempts(b.ctx, d, p) })
}

func testRequeue(b *bundle) {
	now := time.Now().Truncate(time.Millisecond)
	a := b.append(mine, "a.b", 7)
	d := a.Deliveries[0]
	d.State, d.Attempts, d.Budget, d.Settled = delivery.Failed, 5, 5, now
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d}}}))
	d.Requeue(now)
	missing := delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: 8}, mine)
	r := &store.Receipt{Space: mine, Key: "k", Status: 200, Body: []byte("x"), Created: now}
	b.ok(b.Requeue(b.ctx, []delivery.Delivery{d, missing}, r))
	v, err := b.Delivery(b.ctx, mine, d.ID)
	b.ok(err)
	b.equal("requeued", v.Delivery, d)
	if v.Attempts != 5 || v.Budget != 0 {
		b.Errorf("attempts %d, budget %d", v.Attempts, v.Budget)
	}
	_, err = b.Delivery(b.ctx, mine, missing.ID)
	b.ok(err)
	_, err = b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.ok(b.CancelDelivery(b.ctx, d.ID, now, nil))
	b.ok(b.CancelDelivery(b.ctx, d.ID, now.Add(time.Hour), nil))
	v, err = b.Delivery(b.ctx, mine, d.ID)
	b.ok(err)
	if v.State != delivery.Canceled || !v.Settled.Equal(now) {
		b.Errorf("canceled twice: %s at %s", v.State, v.Settled)
	}
}

func testReceipts(b *bundle) {
	start := time.UnixMilli(1700000000000)
	put := func(key string, at time.Time, body string) *store.Append {
		a := &store.Append{Event: b.event(mine, "a.b")}
		a.Receipt = &store.Receipt{Space: mine, Key: key, Fingerprint: [32]byte{9}, Status: 200, Body: []byte(body), Created: at}
		b.ok(b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a}}))
		return a
	}
	first := put("k", start, "first")
	if put("k", start.Add(store.ReceiptLife-time.Millisecond), "second").Replay == nil {
		b.Error("forgot a receipt before its time")
	}
	if put("k", start.Add(store.ReceiptLife), "third").Refused() {
		b.Error("a receipt outlived its life")
	}
	r, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("body", string(r.Body), "third")
	b.equal("fingerprint", r.Fingerprint, first.Receipt.Fingerprint)
	_, err = b.Receipt(b.ctx, theirs, "k")
	b.code(err, fault.NotFound)
	for i := range 5 {
		put(fmt.Sprint("old", i), start, "x")
	}
	for _, want := range []int{3, 2, 0} {
		n, err := b.PurgeReceipts(b.ctx, start.Add(time.Hour), 3)
		b.ok(err)
		b.equal("purged", n, want)
	}
	_, err = b.Receipt(b.ctx, mine, "k")
	b.ok(err)
}

func testPurge(b *bundle) {
	var all []*store.Append
	for i := range 10 {
		a := b.append(mine, "a.b", 7)
		if i != 4 { // one waits still
			d := a.Deliveries[0]
			at := delivery.Attempt{Number: 1, Started: time.Now(), Outcome: delivery.OutcomeSucceeded}
			d.Settle(&at, delivery.Policy{}, time.Now())
			b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &at}}}))
		}
		all = append(all, a)
	}
	total := 0
	for from, rounds := event.Key(0), 0; ; rounds++ {
		next, n, err := b.PurgeEvents(b.ctx, from, all[8].Event.Key, 3)
		b.ok(err)
		total += n
		if from = next; next == 0 {
			break
		}
		if rounds > 10 {
			b.Fatal("does not end")
		}
	}
	b.equal("purged", total, 7)
	for i, a := range all {
		_, err := b.Event(b.ctx, mine, a.Event.ID)
		_, derr := b.Delivery(b.ctx, mine, a.Deliveries[0].ID)
		attempts, _, aerr := b.ListAttempts(b.ctx, a.Deliveries[0].ID, store.Page[int]{Limit: 10})
		b.ok(aerr)
		if i == 4 || i >= 8 {
			b.ok(err)
			b.ok(derr)
		} else {
			b.code(err, fault.NotFound)
			b.code(derr, fault.NotFound)
			b.equal("attempts", len(attempts), 0)
		}
	}
}

func testConcurrent(b *bundle) {
	e := b.endpoint(mine)
	var wg sync.WaitGroup
	const writers, events = 4, 25
	for range writers {
		wg.Go(func() {
			for range events {
				a := &store.Append{Event: b.event(mine, "a.b")}
				a.Deliveries = []delivery.Delivery{delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: e.No}, mine)}
				if err := b.Commit(b.ctx, &store.Batch{Appends: []*store.Append{a}}); err != nil {
					b.Error(err)
				}
				d := a.Deliveries[0]
				d.Requeue(time.Now())
				if err := b.Requeue(b.ctx, []delivery.Delivery{d}, nil); err != nil {
					b.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range events {
				if _, err := b.LoadLane(b.ctx, e.No, 10, 1<<20); err != nil {
					b.Error(err)
				}
				if _, _, err := b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{}, store.Page[delivery.ID]{Limit: 10}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	jobs, err := b.LoadLane(b.ctx, e.No, 1000, 1<<30)
	b.ok(err)
	b.equal("jobs", len(jobs), writers*events)
	b.ok(b.Ready(b.ctx))
}
