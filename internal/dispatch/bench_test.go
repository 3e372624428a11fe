package dispatch_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// instant is a Sender and Watcher without receivers, and a Recorder without a disk: only the
// engine remains.
type instant struct {
	engine *dispatch.Engine
	done   atomic.Int64
}

func (i *instant) Send(context.Context, *sender.Request) delivery.Attempt {
	return delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
}

func (i *instant) Settle(s store.Settlement, _ *store.Health) {
	i.engine.Committed(&store.Batch{Settlements: []store.Settlement{s}})
	i.done.Add(1)
}

func (*instant) EndpointDead(*dispatch.Failure, string)          {}
func (*instant) EndpointFailing(*dispatch.Failure, time.Time)    {}
func (*instant) DeliveryExhausted(*dispatch.Failure)             {}
func (*instant) Attempted(*endpoint.Endpoint, *delivery.Attempt) {}

// BenchmarkEngine measures one delivery from its commit to its outcome, over a hundred lanes,
// in batches like the committer's.
func BenchmarkEngine(b *testing.B) {
	const lanes, batch = 100, 50
	i := &instant{}
	st, endpoints := memstore.New(), endpoint.NewRegistry()
	for no := range int64(lanes) {
		endpoints.Put(&endpoint.Endpoint{No: no + 1, Config: endpoint.Config{URL: "https://a.example"}, State: endpoint.State{Status: endpoint.Enabled}}, endpoint.Process{})
		// A waiting one lets every lane learn that the store has no more.
		waiting := delivery.New(delivery.ID{Event: event.Key(no + 1), Endpoint: no + 1}, 0)
		if err := st.Commit(b.Context(), &store.Batch{Appends: []*store.Append{{Event: event.Event{Key: waiting.ID.Event}, Deliveries: []delivery.Delivery{waiting}}}}); err != nil {
			b.Fatal(err)
		}
	}
	i.engine = dispatch.New(dispatch.Config{Store: st, Recorder: i, Sender: i, Watcher: i, Endpoints: endpoints,
		Now: time.Now, Random: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler)})
	if err := i.engine.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	await := func(n int64) {
		for i.done.Load() < n {
			if b.Context().Err() != nil {
				b.Fatal("cut off")
			}
			runtime.Gosched()
		}
	}
	await(lanes)
	i.done.Store(0)
	body := make([]byte, 500)
	b.ReportAllocs()
	sent := int64(0)
	for b.Loop() {
		sent++
		if sent%batch != 0 {
			continue
		}
		appends := &store.Batch{Appends: make([]*store.Append, batch)}
		for n := range int64(batch) {
			k := event.Key(lanes + sent + n)
			appends.Appends[n] = &store.Append{Event: event.Event{Key: k, Body: body},
				Deliveries: []delivery.Delivery{{ID: delivery.ID{Event: k, Endpoint: int64(k)%lanes + 1}}}}
		}
		i.engine.Committed(appends)
		await(sent - 1000) // no more than fits in memory
	}
	await(sent - sent%batch)
	b.ReportMetric(float64(i.done.Load())/b.Elapsed().Seconds(), "deliveries/s")
	i.engine.Stop(b.Context())
}
