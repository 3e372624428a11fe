package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Events that are sent one after the other, each to any node, are in their order in the lane of
// an ordered endpoint, independent of the nodes' clocks and their steps.
func TestOrder_clocks(t *testing.T) {
	ctx := context.Background()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	url := database(t, template)
	start := time.Now()
	var offset [2]time.Duration
	var nodes [2]store.Store
	var keys [2]*event.Keys
	for i := range nodes {
		nodes[i] = open(t, url)
		keys[i] = event.NewKeys(func() time.Time { return start.Add(offset[i]) }, uint8(i))
	}
	const space = event.Space(2)
	create := func(ordering endpoint.Ordering) int64 {
		e := &endpoint.Endpoint{ID: fmt.Sprint("we_", ordering), Space: space, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"},
			Settings: endpoint.Settings{Ordering: ordering}}, State: endpoint.State{Status: endpoint.Enabled}, Secrets: []endpoint.Secret{endpoint.NewSecret("whsk_1", time.Now())}}
		ok(nodes[0].CreateEndpoint(ctx, e, store.Trail{}))
		return e.No
	}
	fifo, free := create(endpoint.FIFO), create(endpoint.Ordering("none"))
	sent := 0
	var want []event.Key
	compose := func(node int) *store.Append {
		sent++
		offset[node] += time.Millisecond
		k := keys[node].Next()
		a := &store.Append{Event: event.Event{Key: k, Nonce: 1, ID: event.FormatID(event.PrefixEvent, k, 1), Space: space, Type: "a.b", Created: 1, Body: []byte(`{}`)}, Ordered: true}
		for _, no := range []int64{fifo, free} {
			a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: k, Endpoint: no}, space))
		}
		want = append(want, k)
		return a
	}
	send := func(node, events int) {
		t.Helper()
		b := &store.Batch{}
		for range events {
			b.Appends = append(b.Appends, compose(node))
		}
		ok(nodes[node].Commit(ctx, b))
	}
	send(0, 3)
	send(1, 1)
	offset[1] = -time.Hour // and a node that starts at that time
	keys[1] = event.NewKeys(func() time.Time { return start.Add(offset[1]) }, 1)
	send(1, 2)
	send(0, 1)
	offset[0] = time.Hour
	send(0, 2)
	send(1, 3)
	offset[0] = 0
	keys[0] = event.NewKeys(func() time.Time { return start.Add(offset[0]) }, 2)
	send(0, 2)

	// Events whose deliveries are written later keep their place.
	late := compose(1)
	late.Deferred = true
	ok(nodes[1].Commit(ctx, &store.Batch{Appends: []*store.Append{late}}))
	offset[0] = -2 * time.Hour
	keys[0] = event.NewKeys(func() time.Time { return start.Add(offset[0]) }, 3)
	send(0, 2) // deferred too
	for more := true; more; {
		f := &store.FanOut{Space: space, Limit: 1}
		ok(nodes[0].Commit(ctx, &store.Batch{FanOuts: []*store.FanOut{f}}))
		more = f.More
	}
	send(1, 1)

	lane, err := nodes[0].LoadLane(ctx, store.LaneScan{Endpoint: fifo, Limit: 100, MaxBytes: 1 << 20})
	ok(err)
	var got []event.Key
	for _, o := range lane {
		got = append(got, o.Delivery.ID.Event)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the lane is %v, sent were %v", got, want)
	}
	lane, err = nodes[0].LoadLane(ctx, store.LaneScan{Endpoint: free, Limit: 100, MaxBytes: 1 << 20})
	ok(err)
	for _, o := range lane {
		if !o.Delivery.Rank.Equal(o.Delivery.ID.Event.Time()) {
			t.Errorf("a delivery without an order has the rank %s instead of %s", o.Delivery.Rank, o.Delivery.ID.Event.Time())
		}
	}

	// Delivered events do not affect later ranks: these follow the clock again.
	ok(nodes[0].Commit(ctx, &store.Batch{Settlements: settleAll(lane0(t, nodes[0], fifo))}))
	want = nil
	offset[1] = time.Minute
	keys[1] = event.NewKeys(func() time.Time { return start.Add(offset[1]) }, 4)
	send(1, 1)
	if lane := lane0(t, nodes[0], fifo); len(lane) != 1 || !lane[0].Delivery.Rank.Equal(want[0].Time()) {
		t.Errorf("afterwards the lane is %+v", lane)
	}
}

func lane0(t *testing.T, s store.Store, no int64) []delivery.Outgoing {
	t.Helper()
	lane, err := s.LoadLane(context.Background(), store.LaneScan{Endpoint: no, Limit: 100, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return lane
}

// settleAll acknowledges deliveries.
func settleAll(outgoing []delivery.Outgoing) (all []store.Settlement) {
	for _, o := range outgoing {
		a := delivery.Attempt{Number: 1, Outcome: delivery.OutcomeSucceeded, Started: time.Now()}
		o.Delivery.Settle(&a, delivery.Policy{}, time.Now())
		all = append(all, store.Settlement{Delivery: o.Delivery, Attempt: &a})
	}
	return all
}
