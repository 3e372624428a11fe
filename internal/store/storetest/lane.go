package storetest

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testLoadLane(b *bundle) {
	start := now()
	var want []delivery.Outgoing // in order of rank
	for i, minutes := range rand.Perm(20) {
		a := b.compose(mine, "a.b", 7, 8)
		if i%3 == 0 {
			a = b.composeCustom(live, "evt_of-the-sender-"+string(rune('a'+i)), 7, 8)
		}
		d := &a.Deliveries[0]
		d.Rank = start.Add(time.Duration(minutes/2) * time.Minute) // so two share each rank
		d.Due = d.Rank.Add(time.Hour)                              // due or not
		b.commit(a)
		want = append(want, delivery.Outgoing{Delivery: *d, EventID: a.Event.ID, Type: a.Event.Type, Body: a.Event.Body})
	}
	slices.SortFunc(want, func(x, y delivery.Outgoing) int {
		if c := x.Delivery.Rank.Compare(y.Delivery.Rank); c != 0 {
			return c
		}
		return int(x.Delivery.ID.Event - y.Delivery.ID.Event)
	})
	for _, limit := range []int{1, 3, 19, 20, 100} {
		outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: limit, MaxBytes: 1 << 20})
		b.ok(err)
		b.equal("outgoing", unversioned(outgoing), want[:min(limit, 20)])
	}
	outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 9, Limit: 100, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("nobody's", len(outgoing), 0)
	for i := range want {
		outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, After: store.PlaceOf(&want[i].Delivery), Limit: 3, MaxBytes: 1 << 20})
		b.ok(err)
		b.equal("those after a place", append([]delivery.Outgoing{}, unversioned(outgoing)...), append([]delivery.Outgoing{}, want[i+1:min(i+4, 20)]...))
	}
	outgoing, err = b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: 3, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("those from the start", unversioned(outgoing), want[:3])
	backwards := slices.Clone(want[:12])
	slices.Reverse(backwards)
	outgoing, err = b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Until: want[11].Delivery.Rank, Limit: 5, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("those up to a rank", unversioned(outgoing), backwards[:5])
	outgoing, err = b.Load(b.ctx, []delivery.ID{want[3].Delivery.ID, {Event: want[4].Delivery.ID.Event, Endpoint: 9}})
	b.ok(err)
	b.equal("those that are named", unversioned(outgoing), want[3:4])

	// The first is postponed to the end, and the second, third and fourth are settled.
	later := want[0].Delivery
	later.Rank = start.Add(time.Hour)
	b.settle(later)
	for i, state := range []delivery.State{delivery.Succeeded, delivery.Failed, delivery.Canceled} {
		d := want[i+1].Delivery
		d.State, d.Settled = state, now()
		b.settle(d)
	}
	want[0].Delivery = later
	outgoing, err = b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: 100, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("the rest", unversioned(outgoing), append(slices.Clone(want[4:]), want[0]))
	outgoing, err = b.Load(b.ctx, []delivery.ID{want[0].Delivery.ID, want[1].Delivery.ID})
	b.ok(err)
	b.equal("those that are named and pending", unversioned(outgoing), want[:1])
	outgoing, err = b.LoadLane(b.ctx, store.LaneScan{Endpoint: 8, Limit: 100, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("another lane", len(outgoing), 20)
}

// unversioned returns outgoing without the version of the settings, which is 0 if no other
// process changes them.
func unversioned(outgoing []delivery.Outgoing) []delivery.Outgoing {
	for i := range outgoing {
		outgoing[i].Version = 0
	}
	return outgoing
}

func testLoadLaneBytes(b *bundle) {
	for _, size := range []int{100, 1000, 10, 5000, 1} {
		a := b.compose(mine, "a.b", 7)
		a.Event.Body = bytes.Repeat([]byte{'1'}, size)
		b.commit(a)
	}
	for _, tt := range []struct{ limit, maxBytes, want int }{
		{10, 0, 1}, {10, 99, 1}, {10, 100, 2}, {10, 1099, 2}, {10, 1100, 3}, {10, 1109, 3}, {10, 1110, 4}, {10, 6109, 4}, {10, 6110, 5}, {10, 1 << 30, 5}, {2, 1 << 30, 2}, {1, 0, 1},
	} {
		outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: tt.limit, MaxBytes: tt.maxBytes})
		b.ok(err)
		if len(outgoing) != tt.want {
			b.Errorf("limit %d, %d bytes: got %d outgoing, want %d", tt.limit, tt.maxBytes, len(outgoing), tt.want)
		}
	}
}

func testLanes(b *bundle) {
	none, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	b.equal("of an empty store", len(none), 0)

	var want []store.Lane
	for _, no := range []int64{1, 2, 5, 6, 1 << 31} {
		var lowest time.Time
		for i := range 5 {
			a := b.compose(mine, "a.b", no)
			a.Deliveries[0].Rank = now().Add(time.Duration((i+2)%5) * time.Hour) // the lowest is in the middle
			b.commit(a)
			if i == 3 {
				lowest = a.Deliveries[0].Rank
			}
		}
		want = append(want, store.Lane{Endpoint: no, Rank: lowest})
	}
	for i, state := range []delivery.State{delivery.Succeeded, delivery.Failed, delivery.Canceled} {
		done := b.append(mine, "a.b", []int64{3, 4, 9}[i]).Deliveries[0]
		done.State, done.Settled = state, now()
		b.settle(done)
	}
	for _, tt := range []struct {
		after    int64
		limit    int
		from, to int
	}{{0, 100, 0, 5}, {0, 5, 0, 5}, {0, 3, 0, 3}, {0, 1, 0, 1}, {1, 2, 1, 3}, {2, 100, 2, 5}, {3, 100, 2, 5}, {6, 1, 4, 5}, {1 << 31, 10, 5, 5}} {
		lanes, err := b.Lanes(b.ctx, tt.after, tt.limit)
		b.ok(err)
		b.equal("lanes", lanes, want[tt.from:tt.to])
	}

	// The lowest is settled, and the next one takes its place.
	outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 5, Limit: 2, MaxBytes: 1 << 20})
	b.ok(err)
	b.ok(b.cancel(outgoing[0].Delivery.ID, now(), store.Trail{}))
	lanes, err := b.Lanes(b.ctx, 2, 1)
	b.ok(err)
	b.equal("after a cancellation", lanes, []store.Lane{{Endpoint: 5, Rank: outgoing[1].Delivery.Rank}})
}

func testCancelPending(b *bundle) {
	var all []delivery.ID
	for range 5 {
		all = append(all, b.append(mine, "a.b", 7, 8).Deliveries[0].ID)
	}
	done := b.append(mine, "a.b", 7).Deliveries[0]
	done.State, done.Settled = delivery.Failed, now()
	b.settle(done)
	at := now().Add(time.Minute)
	for _, want := range []int{3, 2, 0} {
		n, err := b.CancelPending(b.ctx, 7, at, 3)
		b.ok(err)
		b.equal("canceled", n, want)
		outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: 100, MaxBytes: 1 << 20})
		b.ok(err)
		canceled := 0
		for _, id := range all {
			if d := b.delivery(id); d.State == delivery.Canceled && d.Settled.Equal(at) {
				canceled++
			}
		}
		b.equal("canceled or waiting", canceled+len(outgoing), len(all))
	}
	b.equal("what was settled before", b.delivery(done.ID), done)
	lanes, err := b.Lanes(b.ctx, 0, 10)
	b.ok(err)
	if len(lanes) != 1 || lanes[0].Endpoint != 8 {
		b.Errorf("lanes %+v", lanes)
	}

	alive := b.endpoint(mine)
	kept := b.append(mine, "a.b", alive.No).Deliveries[0]
	n, err := b.CancelPending(b.ctx, alive.No, at, 3)
	b.ok(err)
	b.equal("canceled of an endpoint that is not deleted", n, 0)
	b.equal("its delivery", b.delivery(kept.ID).State, delivery.Pending)
	outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 8, Limit: 100, MaxBytes: 1 << 20})
	b.ok(err)
	b.equal("another endpoint's", len(outgoing), 5)
}

// testLoadLaneTrace checks that an event's trace and its headers are stored byte for byte.
func testLoadLaneTrace(b *bundle) {
	traced, plain := b.compose(mine, "a.b", 7), b.compose(mine, "a.b", 7)
	for i := range 25 {
		traced.Event.Trace = append(traced.Event.Trace, byte(i*0x1f))
	}
	traced.Event.Headers = event.EncodeHeaders(map[string]string{"X-Tenant": "é\x00\"", "A": ""})
	b.commit(traced, plain)
	outgoing, err := b.LoadLane(b.ctx, store.LaneScan{Endpoint: 7, Limit: 10, MaxBytes: 1 << 20})
	b.ok(err)
	if len(outgoing) != 2 || string(outgoing[0].Trace) != string(traced.Event.Trace) || len(outgoing[1].Trace) != 0 ||
		string(outgoing[0].Headers) != string(traced.Event.Headers) || len(outgoing[1].Headers) != 0 {
		b.Errorf("%d outgoing: %+v", len(outgoing), outgoing)
	}
}
