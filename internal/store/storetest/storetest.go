// Package storetest contains the contract of [store.Store] as tests, which every implementation
// runs: they check the comments of the interface. It must not know any implementation.
package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Run runs the contract tests on stores that open returns, each empty. The caller closes them.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, tt := range []struct {
		name string
		test func(*bundle)
	}{
		{"Commit", testCommit},
		{"Commit/Bodies", testBodies},
		{"Commit/Large", testLargeBatch},
		{"Commit/AllOrNothing", testAllOrNothing},
		{"Commit/Refused", testRefused},
		{"Commit/RefusedWithinBatch", testRefusedWithinBatch},
		{"Commit/GeneratedIDTaken", testGeneratedIDTaken},
		{"Commit/Again", testCommitAgain},
		{"FanOut", testFanOut},
		{"FanOut/Order", testFanOutOrder},
		{"FanOut/Resent", testFanOutResent},
		{"FanOut/AllOrNothing", testFanOutAllOrNothing},
		{"FanOut/History", testFanOutHistory},
		{"FanOut/Announced", testFanOutAnnounced},
		{"Settle", testSettle},
		{"Settle/NotPending", testSettleNotPending},
		{"Settle/NumberTwice", testSettleNumberTwice},
		{"Settle/WithoutAttempt", testSettleWithoutAttempt},
		{"Settle/Unknown", testSettleUnknown},
		{"Settle/Health", testHealth},
		{"LoadLane", testLoadLane},
		{"LoadLane/Bytes", testLoadLaneBytes},
		{"LoadLane/Trace", testLoadLaneTrace},
		{"Lanes", testLanes},
		{"CancelPending", testCancelPending},
		{"Accounts", testAccounts},
		{"ExternalIDs", testExternalIDs},
		{"ExternalIDs/Contested", testExternalIDsContested},
		{"Keys", testKeys},
		{"Endpoints", testEndpoints},
		{"Endpoints/Settings", testEndpointSettings},
		{"Endpoints/Deleted", testDeletedEndpoint},
		{"Types", testTypes},
		{"Events", testEvents},
		{"Deliveries", testDeliveries},
		{"Deliveries/Filters", testDeliveryFilters},
		{"Deliveries/Count", testCountDeliveries},
		{"SearchEvents", testSearchEvents},
		{"SearchKeys", testSearchKeys},
		{"SearchKeys/OutOfOrder", testSearchKeysOutOfOrder},
		{"Attempts", testAttempts},
		{"Requeue", testRequeue},
		{"CancelDelivery", testCancelDelivery},
		{"Erase", testErase},
		{"Erase/CustomID", testEraseCustom},
		{"Erase/Deferred", testEraseDeferred},
		{"Erase/Lists", testEraseLists},
		{"Erase/Space", testEraseSpace},
		{"Spaces", testSpaces},
		{"Receipts", testReceipts},
		{"Receipts/WithEffect", testReceiptsWithEffect},
		{"Receipts/Private", testPrivateReceipt},
		{"Users", testUsers},
		{"Sessions", testSessions},
		{"Statistics", testStatistics},
		{"Trail", testTrail},
		{"Audit", testAudit},
		{"Jobs", testJobs},
		{"Jobs/Occasions", testOccasions},
		{"Reseal", testReseal},
		{"Sandbox", testSandbox},
		{"Purge/Receipts", testPurgeReceipts},
		{"Purge/Events", testPurgeEvents},
		{"Purge/Pending", testPurgePending},
		{"Purge/Requeue", testRequeuePurged},
		{"Purge/Audit", testPurgeAudit},
		{"AuditChain", testAuditChain},
		{"Purge/Jobs", testPurgeJobs},
		{"Purge/Sandbox", testPurgeSandbox},
		{"Purge/Endpoints", testPurgeDeletedEndpoints},
		{"Purge/Types", testPurgeTypes},
		{"Waiting", testWaiting},
		{"Size", testSize},
		{"Ready", testReady},
		{"Concurrent", testConcurrent},
		{"Concurrent/WholeBatches", testWholeBatches},
		{"Canceled", testCanceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(&bundle{T: t, Store: open(t), ctx: context.Background(), keys: event.NewKeys(time.Now, 0)})
		})
	}
}

// bundle contains the test, a store, and the generators of events.
type bundle struct {
	*testing.T
	store.Store
	ctx  context.Context
	keys *event.Keys
}

// Three spaces: an account's test and live data, and another account's.
const (
	mine   = event.Space(2)
	live   = event.Space(3)
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

// equal compares values by their printed form, which shows all of the domain's values.
func (b *bundle) equal(what string, got, want any) {
	b.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		b.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// now is the current time as a store keeps it.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

func (b *bundle) event(space event.Space, typ string) event.Event {
	e := event.Event{Key: b.keys.Next(), Nonce: rand.Uint32(), Space: space, Type: typ, Created: 1699564800}
	e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
	e.Body = event.NewBody(e.ID, typ, e.Created, []byte(`{"object":{}}`))
	return e
}

// compose makes an event with pending deliveries to the given endpoints.
func (b *bundle) compose(space event.Space, typ string, endpoints ...int64) *store.Append {
	a := &store.Append{Event: b.event(space, typ)}
	for _, no := range endpoints {
		a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: a.Event.Key, Endpoint: no}, space))
	}
	return a
}

// composeCustom is compose with the sender's own id.
func (b *bundle) composeCustom(space event.Space, id string, endpoints ...int64) *store.Append {
	a := b.compose(space, "a.b", endpoints...)
	a.Event.ID, a.Event.Custom, a.Event.Nonce = id, true, 0
	return a
}

// commit writes a batch of events.
func (b *bundle) commit(all ...*store.Append) {
	b.Helper()
	b.ok(b.Commit(b.ctx, &store.Batch{Appends: all}))
}

// append commits what compose makes.
func (b *bundle) append(space event.Space, typ string, endpoints ...int64) *store.Append {
	b.Helper()
	a := b.compose(space, typ, endpoints...)
	b.commit(a)
	return a
}

// settle commits deliveries in their current states, without attempts.
func (b *bundle) settle(all ...delivery.Delivery) {
	b.Helper()
	batch := &store.Batch{}
	for _, d := range all {
		batch.Settlements = append(batch.Settlements, store.Settlement{Delivery: d})
	}
	b.ok(b.Commit(b.ctx, batch))
}

// attempt commits one attempt at d with its outcome, which changes d accordingly.
func (b *bundle) attempt(d *delivery.Delivery, o delivery.Outcome) delivery.Attempt {
	b.Helper()
	at := delivery.Attempt{Number: d.Attempts + 1, Started: now(), Duration: 1234 * time.Microsecond, Outcome: o, StatusCode: 200 + int(o), ResponseBody: []byte{},
		RequestHeader: "\x01\nA: é\nB: c", URL: "https://example.com/\x00é", BodySum: []byte{0, 1, 0xff}, Peer: delivery.Peer{Version: "TLS 1.3", Subject: "é\x00", SHA256: "00"},
		Refused: []delivery.Refusal{{StatusCode: 401, RequestHeader: "\x05abc", ResponseHeader: "A: b", ResponseBody: []byte("\x00\xff")}, {StatusCode: 403}}, Timing: delivery.Timing{DNS: 1 * time.Microsecond, Connect: 2 * time.Microsecond, TLS: 3 * time.Millisecond, Answer: time.Minute}}
	d.Settle(&at, delivery.Policy{Schedule: delivery.Schedule{time.Minute, time.Minute, time.Minute}, Random: func() float64 { return 0 }}, now())
	b.ok(b.Commit(b.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: *d, Attempt: &at}}}))
	return at
}

// delivery returns the stored state of a delivery of mine.
func (b *bundle) delivery(id delivery.ID) delivery.Delivery {
	b.Helper()
	v, err := b.Delivery(b.ctx, mine, id)
	b.ok(err)
	return v.Delivery
}

// attempts returns all attempts of a delivery, newest first.
func (b *bundle) attempts(id delivery.ID) []delivery.Attempt {
	b.Helper()
	items, next, err := b.ListAttempts(b.ctx, id, store.AttemptFilter{}, store.Page[int]{Limit: 1000})
	b.ok(err)
	b.equal("more attempts", next == nil, true)
	return items
}

// absent checks that no part of a was stored.
func (b *bundle) absent(a *store.Append) {
	b.Helper()
	events, _, err := b.ListEvents(b.ctx, a.Event.Space, store.EventFilter{From: a.Event.Key, Until: a.Event.Key + 1}, store.Page[event.Key]{Limit: 1})
	b.ok(err)
	b.equal("events kept", len(events), 0)
	for _, d := range a.Deliveries {
		_, err := b.Delivery(b.ctx, a.Event.Space, d.ID)
		b.code(err, fault.NotFound)
		jobs, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: d.ID.Endpoint, Limit: 1000, MaxBytes: 1 << 30})
		b.ok(err)
		for _, j := range jobs {
			if j.Delivery.ID == d.ID {
				b.Errorf("delivery %s waits although its event was not kept", d.ID)
			}
		}
	}
}

func receipt(space event.Space, key string, created time.Time) *store.Receipt {
	return &store.Receipt{Space: space, Key: key, Fingerprint: [32]byte{1, 0, 255}, Status: 200, Body: []byte("{\"for\":\"" + key + "\"}"), Created: created}
}

func (b *bundle) endpoint(space event.Space) *endpoint.Endpoint {
	b.Helper()
	e := b.composeEndpoint(space)
	b.ok(b.CreateEndpoint(b.ctx, e, store.Trail{}))
	return e
}

func (b *bundle) composeEndpoint(space event.Space) *endpoint.Endpoint {
	at := time.UnixMilli(1700000000123)
	return &endpoint.Endpoint{ID: event.FormatID(event.PrefixEndpoint, b.keys.Next(), 1), Space: space, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"}},
		State: endpoint.State{Status: endpoint.Enabled, EnabledSince: at}, Secrets: []endpoint.Secret{endpoint.NewSecret("sec_1", at.UTC())}, Created: at, Updated: at}
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
			if len(items) > limit || more && len(items) < limit {
				b.Fatalf("%s: %d of at most %d, more %v", what, len(items), limit, more)
			}
			if !more {
				break
			}
			c := cursor(items[len(items)-1])
			p.After = &c
		}
		b.equal(fmt.Sprintf("%s, %d at a time", what, limit), down, want)
		if len(want) == 0 {
			continue
		}
		c := cursor(want[len(want)-1])
		p = store.Page[C]{Limit: limit, Before: &c}
		for {
			items, more, err := list(p)
			b.ok(err)
			up = append(append([]T(nil), items...), up...)
			if len(items) > limit || more && len(items) < limit {
				b.Fatalf("%s upwards: %d of at most %d, more %v", what, len(items), limit, more)
			}
			if !more {
				break
			}
			c := cursor(items[0])
			p.Before = &c
		}
		b.equal(fmt.Sprintf("%s upwards, %d at a time", what, limit), up, want[:len(want)-1])
	}
}

// searches checks a list as [pages] does, and that it finds the same if it continues from any
// position where it stops, with any budget.
func searches[T, C any](b *bundle, what string, want []T, cursor func(T) C, list func(store.Page[C]) ([]T, *C, error)) {
	b.Helper()
	pages(b, what, want, cursor, func(p store.Page[C]) ([]T, bool, error) {
		items, next, err := list(p)
		return items, next != nil, err
	})
	for _, size := range [][2]int{{1, 1}, {2, 3}, {100, 1}, {100, 7}, {3, 1000}} {
		for _, down := range []bool{true, false} {
			if !down && len(want) == 0 {
				continue
			}
			p, expected := store.Page[C]{Limit: size[0], Scan: size[1]}, want
			if !down {
				last := cursor(want[len(want)-1])
				p.Before, expected = &last, want[:len(want)-1]
			}
			var got []T
			for round := 0; ; round++ {
				items, next, err := list(p)
				b.ok(err)
				if down {
					got = append(got, items...)
					p.After = next
				} else {
					got = append(append([]T(nil), items...), got...)
					p.Before = next
				}
				if next == nil {
					break
				}
				if round > 500 {
					b.Fatalf("%s by %v, down %v: it does not end", what, size, down)
				}
			}
			b.equal(fmt.Sprintf("%s by %v, down %v", what, size, down), got, expected)
		}
	}
}
