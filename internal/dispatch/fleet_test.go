//go:build !wasip1

package dispatch_test

import (
	"context"
	"flag"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

var fleetSize = flag.Int("fleet", 1000, "dead endpoints in TestEngine_deadFleet")

// refusing is a Sender and Watcher of receivers that refuse every connection, and a Recorder
// that writes each outcome separately.
type refusing struct {
	instant
	store *memstore.Store
}

func (r *refusing) Settle(s store.Settlement, h *store.Health) {
	b := &store.Batch{Settlements: []store.Settlement{s}}
	if h != nil {
		b.Health = []store.Health{*h}
	}
	if err := r.store.Commit(context.Background(), b); err != nil {
		panic(err)
	}
	r.engine.Committed(b)
}

func (r *refusing) Send(context.Context, *sender.Request) delivery.Attempt {
	r.done.Add(1)
	return delivery.Attempt{Outcome: delivery.OutcomeConnection}
}

// heapInUse returns the bytes of live objects.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestEngine_deadFleet measures the cost of a dead endpoint with a backlog: its memory, and its
// reads of the store and attempts in an hour. -v prints the numbers; -fleet sets the number of
// endpoints.
func TestEngine_deadFleet(t *testing.T) {
	const backlog = 20
	if underRace {
		t.Skip("it measures the program as it is")
	}
	synctest.Test(t, func(t *testing.T) {
		st, endpoints, r := memstore.New(), endpoint.NewRegistry(), &refusing{}
		r.store = st
		keys := event.NewKeys(time.Now, 0)
		for no := range int64(*fleetSize) {
			endpoints.Put(&endpoint.Endpoint{No: no + 1, Config: endpoint.Config{URL: "https://a.example"}, State: endpoint.State{Status: endpoint.Enabled}}, endpoint.Process{})
			b := &store.Batch{}
			for range backlog {
				k := keys.Next()
				b.Appends = append(b.Appends, &store.Append{Event: event.Event{Key: k, Type: "po.paid"},
					Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: k, Endpoint: no + 1}, 0)}})
			}
			if err := st.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		r.engine = dispatch.New(dispatch.Config{Store: st, Recorder: r, Sender: r, Watcher: r, Endpoints: endpoints, Now: time.Now,
			Random: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler), Test: delivery.LiveSchedule()})
		if err := r.engine.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		with := heapInUse()
		r.engine.Stop(t.Context())
		r.engine = nil
		n := float64(*fleetSize)
		bytes := float64(with-heapInUse()) / n
		reads := float64(st.Calls("LoadLane")+st.Calls("ScanLane")) / n
		attempts := float64(r.done.Load()) / n
		t.Logf("each of %d dead endpoints: %.0f bytes, %.1f reads and %.1f attempts in an hour", *fleetSize, bytes, reads, attempts)
		if reads > 1.2*attempts {
			t.Errorf("%.1f reads for %.1f attempts: a dead endpoint costs more than its probes", reads, attempts)
		}
		if bytes > 600 {
			t.Errorf("%.0f bytes each", bytes)
		}
		runtime.KeepAlive(st)
		runtime.KeepAlive(endpoints)
	})
}
