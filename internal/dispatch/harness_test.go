//go:build !wasip1

package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// world is an engine on a real store, under fake time (testing/synctest), with
// receivers that a test scripts. It can be stopped and started again.
type world struct {
	t      testing.TB
	dir    string
	config dispatch.Config // defaults that a test may change

	store     *countingStore
	commits   *commit.Committer
	engine    *dispatch.Engine
	endpoints *endpoint.Registry
	keys      *event.Keys
	random    *rand.Rand
	account   int64 // of the endpoints that receiver registers; 0: 1

	mu        sync.Mutex
	receivers map[string]func(ctx context.Context, r *sender.Request) delivery.Attempt // by URL
	attempts  map[string][]time.Time                                                   // by URL and event id
	underWay  map[string]int                                                           // by URL
	most      map[string]int                                                           // maximum number under way at the same time
	twice     []string                                                                 // deliveries with two concurrent attempts
	running   map[string]bool
	dead      map[int64]string
	failing   []int64
	exhausted map[delivery.ID]int
}

// countingStore counts the reads of lanes.
type countingStore struct {
	*sqlite.Store
	loads atomic.Int64
}

func (s *countingStore) LoadLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error) {
	s.loads.Add(1)
	return s.Store.LoadLane(ctx, r)
}

var testRing = seal.NewRing(seal.NewKey())

func newWorld(t testing.TB) *world {
	return &world{
		t: t, dir: t.TempDir(), endpoints: endpoint.NewRegistry(), keys: event.NewKeys(time.Now, 0), random: rand.New(rand.NewPCG(1, 2)),
		receivers: map[string]func(context.Context, *sender.Request) delivery.Attempt{}, attempts: map[string][]time.Time{},
		underWay: map[string]int{}, most: map[string]int{}, running: map[string]bool{}, dead: map[int64]string{}, exhausted: map[delivery.ID]int{},
	}
}

// reopen opens the store without an engine.
func (w *world) reopen() {
	w.t.Helper()
	st, err := sqlite.Open(context.Background(), w.dir, testRing)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = &countingStore{Store: st}
}

func (w *world) start() {
	w.t.Helper()
	w.reopen()
	log := slog.New(slog.DiscardHandler)
	w.commits = commit.New(w.store, log)
	c := w.config
	c.Store, c.Recorder, c.Sender, c.Watcher, c.Endpoints = w.store, w.commits, w, w, w.endpoints
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Random, c.Log = func() float64 { w.mu.Lock(); defer w.mu.Unlock(); return w.random.Float64() }, log
	w.engine = dispatch.New(c)
	w.commits.Start(w.engine.Committed)
	if err := w.engine.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop(patience time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.engine.Stop(ctx)
	if err := w.commits.Stop(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// receiver registers an endpoint whose answers come from answer.
func (w *world) receiver(name string, live bool, settings endpoint.Settings, answer func(context.Context, *sender.Request) delivery.Attempt) *endpoint.Endpoint {
	w.t.Helper()
	url := "https://" + name + ".example"
	now := time.Now()
	e := &endpoint.Endpoint{ID: "we_" + name, Space: event.SpaceOf(max(w.account, 1), live), Config: endpoint.Config{URL: url, Events: []string{"to." + name},
		Settings: settings}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now}, Secrets: []endpoint.Secret{endpoint.NewSecret("sec_1", now)}, Created: now, Updated: now}
	if err := w.store.CreateEndpoint(context.Background(), e, store.Trail{}); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.receivers[url] = answer
	w.mu.Unlock()
	w.endpoints.Put(e, endpoint.Process{})
	return e
}

// send appends n events for an endpoint at once and returns their ids.
func (w *world) send(e *endpoint.Endpoint, n int) []string {
	w.t.Helper()
	ids := make([]string, n)
	if n == 1 {
		id, err := w.trySend(e)
		if err != nil {
			w.t.Error(err)
		}
		ids[0] = id
		return ids
	}
	var wg sync.WaitGroup
	for i := range n {
		a := w.newEvent(e)
		ids[i] = a.Event.ID
		wg.Go(func() {
			if err := w.commits.Append(context.Background(), a); err != nil {
				w.t.Error(err)
			}
		})
	}
	wg.Wait()
	return ids
}

// trySend appends one event and returns its id.
func (w *world) trySend(e *endpoint.Endpoint) (string, error) {
	a := w.newEvent(e)
	return a.Event.ID, w.commits.Append(context.Background(), a)
}

func (w *world) newEvent(e *endpoint.Endpoint) *store.Append {
	key := w.keys.Next()
	id := event.FormatID(event.PrefixEvent, key, 7)
	return &store.Append{
		Event:      event.Event{Key: key, ID: id, Nonce: 7, Space: e.Space, Type: e.Events[0], Created: 1, Body: []byte(`{"id":"` + id + `"}`)},
		Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: e.No}, e.Space)},
	}
}

// Send implements dispatch.Sender.
func (w *world) Send(ctx context.Context, r *sender.Request) delivery.Attempt {
	key := r.URL + " " + r.EventID
	w.mu.Lock()
	answer := w.receivers[r.URL]
	w.attempts[key] = append(w.attempts[key], time.Now())
	w.underWay[r.URL]++
	w.most[r.URL] = max(w.most[r.URL], w.underWay[r.URL])
	if w.running[key] {
		w.twice = append(w.twice, key)
	}
	w.running[key] = true
	w.mu.Unlock()
	began := time.Now()
	a := answer(ctx, r)
	a.Number, a.Started, a.Duration = r.Number, began, time.Since(began)
	w.mu.Lock()
	w.underWay[r.URL]--
	delete(w.running, key)
	w.mu.Unlock()
	return a
}

func (w *world) EndpointDead(f *dispatch.Failure, reason string) {
	no := f.Endpoint.No
	w.mu.Lock()
	w.dead[no] = reason
	w.mu.Unlock()
	e := *w.endpoints.Get(no).Endpoint
	e.Status, e.DisabledReason = endpoint.Disabled, reason
	w.endpoints.Put(&e, endpoint.Process{})
	w.engine.Wake(no)
}

func (w *world) EndpointFailing(f *dispatch.Failure, _ time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing = append(w.failing, f.Endpoint.No)
}

func (w *world) DeliveryExhausted(f *dispatch.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exhausted[f.Delivery.ID]++
}

func (w *world) Attempted(*endpoint.Endpoint, *delivery.Attempt) {}

// tries returns the times of the attempts of an event to an endpoint.
func (w *world) tries(e *endpoint.Endpoint, id string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.attempts[e.URL+" "+id]...)
}

// states counts the stored deliveries of an endpoint by state.
func (w *world) states(e *endpoint.Endpoint) map[delivery.State]int {
	w.t.Helper()
	out := map[delivery.State]int{}
	p := store.Page[delivery.ID]{Limit: 1000}
	for {
		items, next, err := w.store.ListDeliveries(context.Background(), e.Space, store.DeliveryFilter{Endpoint: e.No}, p)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, d := range items {
			out[d.State]++
		}
		if next == nil {
			return out
		}
		p.After = &items[len(items)-1].ID
	}
}

func (w *world) want(e *endpoint.Endpoint, want map[delivery.State]int) {
	w.t.Helper()
	if got := w.states(e); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: deliveries by state %v, want %v", e.ID, got, want)
	}
}

func storeFilter(e *endpoint.Endpoint) store.DeliveryFilter {
	return store.DeliveryFilter{Endpoint: e.No}
}
func storePage() store.Page[delivery.ID] { return store.Page[delivery.ID]{Limit: 100} }
