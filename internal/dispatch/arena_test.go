package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// days is longer than any retry schedule.
const days = 6 * 24 * time.Hour

// arena is an engine on a store whose calls an adversary can delay or refuse, with receivers
// that a test scripts.
type arena struct {
	t      testing.TB
	config dispatch.Config // defaults that a test may change

	store     *memstore.Store
	commits   *commit.Committer
	engine    *dispatch.Engine
	endpoints *endpoint.Registry
	keys      *event.Keys

	// Hooks of a test; see game.
	yield      func()
	record     func(next dispatch.Recorder) dispatch.Recorder // wraps the committer
	attempting func(id delivery.ID, r *sender.Request)        // before an attempt
	attempted  func(id delivery.ID, a *delivery.Attempt)      // after it

	mu        sync.Mutex
	life      int // number of starts of the engine
	random    *rand.Rand
	answers   map[int64]answer
	tries     map[delivery.ID][]try
	order     map[int64][]event.Key // of acknowledgement
	types     map[event.Key]string  // of the events of sendOf
	underWay  map[underWay]int
	load      map[int64]int // attempts under way by endpoint
	peak      map[int64]int
	exhausted map[delivery.ID]int
	dead      map[int64]string
	failing   map[int64]int
	faults    []string // broken guarantees
}

type answer func(context.Context, *sender.Request) delivery.Attempt

type try struct{ at, ended time.Time }

// underWay is a delivery with a running attempt of an engine. Attempts of a killed engine do
// not count for the next one.
type underWay struct {
	life int
	id   delivery.ID
}

func newArena(t testing.TB) *arena {
	return &arena{
		t: t, store: memstore.New(), endpoints: endpoint.NewRegistry(), keys: event.NewKeys(time.Now, 0),
		random: rand.New(rand.NewPCG(3, 4)), answers: map[int64]answer{}, tries: map[delivery.ID][]try{}, order: map[int64][]event.Key{}, types: map[event.Key]string{},
		underWay: map[underWay]int{}, load: map[int64]int{}, peak: map[int64]int{}, exhausted: map[delivery.ID]int{},
		dead: map[int64]string{}, failing: map[int64]int{},
	}
}

func (w *arena) start() {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	commits := commit.New(w.store, log)
	if w.yield != nil {
		commits.Yield = w.yield
	}
	w.mu.Lock()
	w.commits = commits // clients wait for it
	w.mu.Unlock()
	c := w.config
	c.Store, c.Sender, c.Watcher, c.Endpoints, c.Log = w.store, w, w, w.endpoints, log
	if c.Recorder == nil {
		c.Recorder = w.commits
	}
	w.mu.Lock()
	w.life++
	w.mu.Unlock()
	if w.record != nil {
		c.Recorder = w.record(c.Recorder)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Random = func() float64 { w.mu.Lock(); defer w.mu.Unlock(); return w.random.Float64() }
	w.engine = dispatch.New(c)
	w.commits.Start(w.engine.Committed)
	if err := w.engine.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *arena) stop(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.engine.Stop(ctx)
	flush, cancelFlush := context.WithTimeout(context.Background(), time.Minute)
	defer cancelFlush()
	if err := w.commits.Stop(flush); err != nil {
		w.t.Error(err)
	}
}

// crash ends engine and committer like kill -9: unsynced writes are lost, except for those of
// the writes under way that landed selects.
func (w *arena) crash(landed func(unheard int) int) {
	next := w.store.Crash(landed)
	w.mu.Lock()
	w.life++ // the old engine's reports are ignored
	w.mu.Unlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.engine.Stop(now)
	_ = w.commits.Stop(now) // unwritten outcomes are lost on purpose
	w.mu.Lock()
	w.store = next
	w.mu.Unlock()
}

// receiver registers an endpoint with the given number.
func (w *arena) receiver(no int64, live bool, settings endpoint.Settings, a answer) *endpoint.Endpoint {
	now := time.Now()
	e := &endpoint.Endpoint{No: no, ID: fmt.Sprint("we_", no), Space: event.SpaceOf(1, live), Config: endpoint.Config{URL: fmt.Sprintf("https://r%d.example", no),
		Events: []string{"*"}, Settings: settings}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now}, Created: now}
	w.mu.Lock()
	w.answers[no] = a
	w.mu.Unlock()
	w.endpoints.Put(e, endpoint.Process{})
	return e
}

// change replaces an endpoint by a changed copy, unless it was deleted.
func (w *arena) change(no int64, change func(*endpoint.Endpoint)) {
	there := w.endpoints.Get(no)
	if there == nil {
		return
	}
	e := *there.Endpoint
	change(&e)
	w.endpoints.Put(&e, endpoint.Process{})
}

// event returns an event with a body of the given size to the given endpoints.
func (w *arena) event(size int, to ...int64) *store.Append {
	key := w.keys.Next()
	a := &store.Append{Event: event.Event{Key: key, ID: event.FormatID(event.PrefixEvent, key, 7), Type: "a.b", Body: make([]byte, size)}}
	for _, no := range to {
		a.Deliveries = append(a.Deliveries, delivery.New(delivery.ID{Event: key, Endpoint: no}, w.endpoints.Get(no).Space))
	}
	return a
}

func (w *arena) send(size int, to ...int64) delivery.ID {
	w.t.Helper()
	a := w.event(size, to...)
	if err := w.commits.Append(context.Background(), a); err != nil {
		w.t.Errorf("append: %v", err)
	}
	return a.Deliveries[0].ID
}

// sendOf sends events of the given types to an endpoint, in order, in one transaction.
func (w *arena) sendOf(to int64, types ...string) (ids []delivery.ID) {
	w.t.Helper()
	all := make([]*store.Append, len(types))
	for i, typ := range types {
		all[i] = w.event(10, to)
		all[i].Event.Type = typ
		w.mu.Lock()
		w.types[all[i].Event.Key] = typ
		w.mu.Unlock()
		ids = append(ids, all[i].Deliveries[0].ID)
	}
	for _, err := range w.commits.AppendAll(context.Background(), all) {
		if err != nil {
			w.t.Errorf("append: %v", err)
		}
	}
	return ids
}

// byType answers each event by its type, and other types with success.
func (w *arena) byType(answers map[string]answer) answer {
	return func(ctx context.Context, r *sender.Request) delivery.Attempt {
		key, _, _ := event.ParseID(event.PrefixEvent, r.EventID)
		w.mu.Lock()
		a := answers[w.types[key]]
		w.mu.Unlock()
		if a == nil {
			a = yes
		}
		return a(ctx, r)
	}
}

// backlog writes n events to disk without the engine.
func (w *arena) backlog(n, size int, to int64) (ids []delivery.ID) {
	w.t.Helper()
	b := &store.Batch{}
	for range n {
		a := w.event(size, to)
		b.Appends = append(b.Appends, a)
		ids = append(ids, a.Deliveries[0].ID)
	}
	if err := w.store.Commit(context.Background(), b); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func (w *arena) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// Send implements dispatch.Sender.
func (w *arena) Send(ctx context.Context, r *sender.Request) delivery.Attempt {
	no, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(r.URL, "https://r"), ".example"), 10, 64)
	if err != nil {
		w.t.Errorf("url %q: %v", r.URL, err)
	}
	key, _, _ := event.ParseID(event.PrefixEvent, r.EventID)
	id := delivery.ID{Event: key, Endpoint: no}
	began := time.Now()
	w.mu.Lock()
	a := w.answers[no]
	w.load[no]++
	w.peak[no] = max(w.peak[no], w.load[no])
	here := underWay{w.life, id}
	w.underWay[here]++
	if w.underWay[here] > 1 {
		w.fault("%s is attempted twice at a time", id)
	}
	w.mu.Unlock()
	if w.attempting != nil {
		w.attempting(id, r)
	}
	out := a(ctx, r)
	if w.attempted != nil {
		w.attempted(id, &out)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load[no]--
	if w.underWay[here]--; w.underWay[here] <= 0 {
		delete(w.underWay, here)
	}
	w.tries[id] = append(w.tries[id], try{began, time.Now()})
	if out.Succeeded() {
		w.order[no] = append(w.order[no], key)
	}
	out.Number, out.Started, out.Duration = r.Number, began, time.Since(began)
	if w.config.Now != nil {
		out.Started = w.config.Now().Add(-out.Duration)
	}
	return out
}

// EndpointDead and the other three implement dispatch.Watcher.
func (w *arena) EndpointDead(f *dispatch.Failure, reason string) {
	no := f.Endpoint.No
	w.mu.Lock()
	w.dead[no] = reason
	w.mu.Unlock()
	w.change(no, func(e *endpoint.Endpoint) { e.Status, e.DisabledReason = endpoint.Disabled, reason })
	w.engine.Wake(no)
}

func (w *arena) EndpointFailing(f *dispatch.Failure, _ time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing[f.Endpoint.No]++
}

func (w *arena) DeliveryExhausted(f *dispatch.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exhausted[f.Delivery.ID]++
}

func (w *arena) Attempted(*endpoint.Endpoint, *delivery.Attempt) {}

// attempts returns the number of attempts of a delivery.
func (w *arena) attempts(id delivery.ID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tries[id])
}

// tried returns the number of attempted deliveries.
func (w *arena) tried() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tries)
}

// want compares the stored deliveries of an endpoint by state.
func (w *arena) want(no int64, want map[delivery.State]int) {
	w.t.Helper()
	if got := w.store.States(no); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("endpoint %d: deliveries by state %v, want %v", no, got, want)
	}
}

// wantKept reports broken guarantees.
func (w *arena) wantKept() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, f := range w.faults {
		if i == 10 {
			w.t.Errorf("… and %d more", len(w.faults)-i)
			return
		}
		w.t.Error(f)
	}
}

// slowly responds with success after d.
func slowly(d time.Duration) answer {
	return after(d, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
}

func yes(context.Context, *sender.Request) delivery.Attempt {
	return delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
}

func no(context.Context, *sender.Request) delivery.Attempt {
	return delivery.Attempt{Outcome: delivery.OutcomeServerError, StatusCode: 500}
}

// hang does not respond until the attempt times out.
func hang(ctx context.Context, r *sender.Request) delivery.Attempt {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = sender.DefaultTimeout
	}
	return after(timeout, delivery.Attempt{Outcome: delivery.OutcomeTimeout})(ctx, r)
}

// after returns a after a delay.
func after(d time.Duration, a delivery.Attempt) func(context.Context, *sender.Request) delivery.Attempt {
	return func(ctx context.Context, _ *sender.Request) delivery.Attempt {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return a
		case <-ctx.Done():
			return delivery.Attempt{}
		}
	}
}

// settle lets d of the fake time pass, with everything that happens in it.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pass lets fake time pass for the caller only.
func pass(d time.Duration) { time.Sleep(d) }
