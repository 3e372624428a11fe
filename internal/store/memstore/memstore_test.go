package memstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

var space = event.SpaceOf(1, false)

func letter(k event.Key, to ...int64) *store.Append {
	a := &store.Append{Event: event.Event{Key: k, ID: event.FormatID(event.PrefixEvent, k, 7), Nonce: 7, Space: space, Type: "a.b", Created: 1, Body: fmt.Appendf(nil, `{"n":%d}`, k)}}
	for _, no := range to {
		a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: k, Endpoint: no}, space))
	}
	return a
}

// A crash keeps the first few unacknowledged writes, and all acknowledged ones.
func TestStore_crash(t *testing.T) {
	for landed := range 4 {
		t.Run(fmt.Sprint("landed=", landed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memstore.New()
				keys := event.NewKeys(time.Now, 0)
				var ids []delivery.ID
				commit := func(trouble memstore.Trouble) error {
					st.Disturb(func(memstore.Call) memstore.Trouble { return trouble })
					a := letter(keys.Next(), 1)
					ids = append(ids, a.Deliveries[0].ID)
					return st.Commit(context.Background(), &store.Batch{Appends: []*store.Append{a}})
				}
				if err := commit(memstore.Trouble{}); err != nil {
					t.Fatal(err)
				}
				answers := make(chan error, 3)
				for _, trouble := range []memstore.Trouble{{After: time.Second}, {After: time.Second}, {Before: time.Second}} {
					go func() { answers <- commit(trouble) }()
					synctest.Wait()
				}
				if _, _, seen := st.Delivery(ids[2]); !seen {
					t.Error("a write that took effect is not seen")
				}
				next := st.Crash(func(unheard int) int {
					if unheard != 3 {
						t.Errorf("%d writes that nobody has heard of, want 3", unheard)
					}
					return landed
				})
				for range 3 {
					if err := <-answers; err == nil {
						t.Error("a write was acknowledged after the crash")
					}
				}
				for i, id := range ids {
					if _, _, there := next.Delivery(id); there != (i <= landed) {
						t.Errorf("write %d is on the disk: %t", i, there)
					}
				}
				if err := st.Commit(context.Background(), &store.Batch{}); err == nil {
					t.Error("a crashed store accepts a write")
				}
			})
		})
	}
}

// The layers above both stores see no difference.
func TestStore_likeSQLite(t *testing.T) {
	ctx := context.Background()
	real, err := sqlite.Open(ctx, t.TempDir(), seal.NewRing(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := real.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 3 {
		e := &endpoint.Endpoint{ID: fmt.Sprint("we_", i), Space: space, Config: endpoint.Config{URL: "https://a.example", Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled}, Created: time.Now()}
		if err := real.CreateEndpoint(ctx, e, store.Trail{}); err != nil || e.No != int64(i+1) {
			t.Fatal(e.No, err)
		}
	}
	mem := memstore.New()
	dice := rand.New(rand.NewPCG(1, 1))
	now := time.UnixMilli(1_700_000_000_000)
	keys := event.NewKeys(func() time.Time { return now }, 0)
	var known []delivery.Delivery
	for step := range 400 {
		now = now.Add(time.Duration(dice.IntN(3000)) * time.Millisecond)
		b := &store.Batch{}
		for range dice.IntN(4) {
			a := letter(keys.Next(), []int64{1, 2, 3}[dice.IntN(3):]...)
			b.Appends = append(b.Appends, a)
			known = append(known, a.Deliveries...)
		}
		for range min(len(known), dice.IntN(5)) {
			i := dice.IntN(len(known))
			a := delivery.Attempt{Number: known[i].Attempts + 1, Started: now, Outcome: delivery.Outcome(1 + dice.IntN(7)), StatusCode: 500}
			known[i].Settle(&a, delivery.Policy{Schedule: delivery.TestSchedule(), FIFO: known[i].ID.Endpoint == 2, Random: dice.Float64}, now)
			b.Settlements = append(b.Settlements, store.Settlement{Delivery: known[i], Attempt: &a})
		}
		if no := 1 + dice.Int64N(3); dice.IntN(3) == 0 {
			b.Health = append(b.Health, store.Health{Endpoint: no, Breaker: delivery.Breaker{Failures: step}})
		}
		var again []delivery.Delivery
		if len(known) > 0 && dice.IntN(10) == 0 {
			d := &known[dice.IntN(len(known))]
			d.Requeue(now)
			again = append(again, *d)
		}
		for _, st := range []interface {
			Commit(context.Context, *store.Batch) error
		}{real, mem} {
			if err := st.Commit(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
		if len(again) > 0 {
			if err := real.Requeue(ctx, again, store.Trail{}); err != nil {
				t.Fatal(err)
			}
			if err := mem.Requeue(ctx, again...); err != nil {
				t.Fatal(err)
			}
		}
		for no := range int64(4) {
			limit, size := 1+dice.IntN(20), dice.IntN(200)
			want, err := real.LoadLane(ctx, store.LaneScan{Endpoint: no, Limit: limit, MaxBytes: size})
			if err != nil {
				t.Fatal(err)
			}
			got, err := mem.LoadLane(ctx, store.LaneScan{Endpoint: no, Limit: limit, MaxBytes: size})
			if err != nil {
				t.Fatal(err)
			}
			if a, b := outgoing(got), outgoing(want); a != b {
				t.Fatalf("step %d, lane %d: got\n%s\nwant\n%s", step, no, a, b)
			}
			scan := store.LaneScan{Endpoint: no, Limit: limit, MaxBytes: size}
			switch {
			case dice.IntN(2) == 0:
				scan.Until = now
			case len(want) > 0:
				scan.After = store.PlaceOf(&want[dice.IntN(len(want))].Delivery)
			}
			if want, err = real.LoadLane(ctx, scan); err != nil {
				t.Fatal(err)
			}
			if got, err = mem.LoadLane(ctx, scan); err != nil {
				t.Fatal(err)
			}
			if a, b := outgoing(got), outgoing(want); a != b {
				t.Fatalf("step %d, scan %+v: got\n%s\nwant\n%s", step, scan, a, b)
			}
		}
		after, limit := dice.Int64N(3), 1+dice.IntN(3)
		want, err := real.Lanes(ctx, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := mem.Lanes(ctx, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := lanes(got), lanes(want); a != b {
			t.Fatalf("step %d: lanes %s, want %s", step, a, b)
		}
	}
}

// outgoing describes deliveries as an engine sees them.
func outgoing(all []delivery.Outgoing) string {
	var b bytes.Buffer
	for _, o := range all {
		d := o.Delivery
		_, _ = fmt.Fprintln(&b, d.ID, d.State, d.Attempts, d.Budget, d.Due.UnixMilli(), d.Rank.UnixMilli(), d.Since.UnixMilli(), d.LastOutcome, d.LastStatus, o.EventID, o.Type, string(o.Body))
	}
	return b.String()
}

func lanes(all []store.Lane) string {
	var b bytes.Buffer
	for _, l := range all {
		_, _ = fmt.Fprint(&b, l.Endpoint, " ", l.Rank.UnixMilli(), "; ")
	}
	return b.String()
}
