package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/api"
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// Keys of every world. The first is that of the documentation.
const (
	testKey  = "sk_test_1234567890abcdef"
	liveKey  = "sk_live_1234567890abcdef"
	otherKey = "sk_test_otheraccount1234"
	goneKey  = "sk_test_revokedkey123456"
	adminKey = "sk_admin_1234567890abcdef"
)

// cheap is the cost of passwords in tests: bcrypt's minimum.
const cheap = 4

// start is the initial time of every world: that of the documentation's examples.
var start = time.Unix(1699564800, 0)

// world is the API over a real service and store, with a clock that only the test moves and an
// engine that only records its calls.
type world struct {
	t        testing.TB
	url      string
	dir      string // of the data
	handler  http.Handler
	service  *service.Service
	store    *sqlite.Store
	commits  *commit.Committer
	events   *gate
	engine   *engine
	log      *logBuffer
	account  account.Account // of testKey and liveKey
	nameless bool            // the server has no public name

	mu    sync.Mutex
	seen  map[string]int // requests reported to Observe
	found map[service.Verdict]int
	gone  map[service.Kind]int
	lost  []string // reasons for which the server disabled endpoints
	clock time.Time
	ready error
	close func()
}

var testRing = seal.NewRing(seal.NewKey())

// emptyStore is the file of an empty store with the current schema: creating it takes a large
// part of a second with the race detector.
var emptyStore = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "posthaste-httpapi-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	st, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, sqlite.FileName))
})

func newWorld(t testing.TB) *world {
	return newWorldLogging(t, slog.LevelDebug)
}

// newWorldLogging creates a world in which no name resolves, unless change sets another
// resolver.
func newWorldLogging(t testing.TB, level slog.Level, change ...func(*sender.Config)) *world {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	empty, err := emptyStore()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, sqlite.FileName), empty, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := sqlite.Open(ctx, dir, testRing)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, store: st, engine: &engine{}, log: &logBuffer{}, clock: start, found: map[service.Verdict]int{}, gone: map[service.Kind]int{}}
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: level}))
	w.commits = commit.New(st, log)
	w.commits.Start(func(*store.Batch) {})
	w.events = &gate{next: w.commits}
	to := sender.Config{Brand: "Payment", Version: "test", Timeout: time.Second, Now: w.now, Resolver: &net.Resolver{PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name servers here")
		}}}
	for _, c := range change {
		c(&to)
	}
	targets := sender.New(to)
	w.service = service.New(service.Config{
		Store: st, Events: w.events, Endpoints: endpoint.NewRegistry(), Targets: targets,
		IDs: event.NewIDs(event.NewKeys(w.now, 0)), Now: w.now, Log: log, Rules: endpoint.Rules{Signature: "Payment-Signature"}, Passwords: account.Passwords{Cost: cheap}, PublicURL: w.publicURL,
		Validated: func(v service.Verdict) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.found[v]++
		},
		GivenUp: func(reason string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lost = append(w.lost, reason)
		},
		Forgotten: func(k service.Kind, n int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gone[k] += n
		},
		RotateMaster: func(context.Context) (service.MasterRotation, error) {
			return service.MasterRotation{From: "a", To: "b", Records: 1}, nil
		},
	})
	if err := w.service.Load(ctx, w.engine); err != nil {
		t.Fatal(err)
	}
	w.seed(ctx)
	running, stopJobs := context.WithCancel(ctx)
	var recovering sync.WaitGroup
	recovering.Go(func() { w.service.Jobs.Run(running) })
	w.handler = httpapi.New(httpapi.Config{
		Service: w.service, Sandbox: sandbox.New(sandbox.Config{Store: st, Events: w.service, BaseURL: func() string { return "https://pay.example" }}), Brand: "Payment", Version: "1.2.3", Log: log, OpenAPI: api.OpenAPI, PublicURL: func() string { return "https://pay.example" },
		Ready: func(ctx context.Context) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return errors.Join(w.ready, w.service.Ready(ctx))
		},
		Metrics:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("metrics of a secret kind") }),
		Profiles: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "profile of "+r.URL.Path) }),
		Observe:  w.observe,
	})
	web := httptest.NewServer(w.handler)
	w.url = web.URL
	w.close = sync.OnceFunc(func() {
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		web.Close()
		stopJobs()
		recovering.Wait()
		targets.Close()
		if err := errors.Join(w.commits.Stop(stop), st.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { w.close() })
	return w
}

// seed creates two accounts with their keys. The first account owns the first key.
func (w *world) seed(ctx context.Context) {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, k := range []string{adminKey, testKey, liveKey} {
		_, err := w.service.Auth.EnsureKey(ctx, k, "Acme")
		must(err)
	}
	all, err := w.store.AllAccounts(ctx)
	must(err)
	w.account = all[0]
	other := account.Account{ID: w.service.IDs.New(event.PrefixAccount), Name: "Other", Created: start}
	must(w.store.CreateAccount(ctx, &other, store.Trail{}))
	for secret, no := range map[string]int64{otherKey: other.No, goneKey: w.account.No} {
		k, ok := account.NewKey(w.service.IDs.New(event.PrefixKey), secret, "", no, start)
		if !ok {
			w.t.Fatal("bad key")
		}
		must(w.store.CreateKey(ctx, &k, store.Trail{}))
		if secret == goneKey {
			must(w.store.RevokeKey(ctx, k.ID, start, store.Trail{}))
		}
	}
	must(w.service.Load(ctx, w.engine))
}

func (w *world) publicURL() string {
	if w.nameless {
		return ""
	}
	return w.url
}

func (w *world) observe(method, route string, status int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]int{}
	}
	w.seen[fmt.Sprint(method, " ", route, " ", status, " ", took > 0)]++
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// gate lets a test block events before they are written.
type gate struct {
	next    *commit.Committer
	mu      sync.Mutex
	arrived chan struct{}
	open    chan struct{}
}

func (g *gate) Append(ctx context.Context, a *store.Append) error {
	g.pass()
	return g.next.Append(ctx, a)
}

func (g *gate) FanOut(space event.Space) { g.next.FanOut(space) }

func (g *gate) AppendAll(ctx context.Context, all []*store.Append) []error {
	g.pass()
	return g.next.AppendAll(ctx, all)
}

func (g *gate) pass() {
	g.mu.Lock()
	arrived, open := g.arrived, g.open
	g.mu.Unlock()
	if open != nil {
		arrived <- struct{}{}
		<-open
	}
}

// shut blocks Append until the returned function is called; arrived receives a value for each
// blocked call.
func (g *gate) shut() (arrived <-chan struct{}, open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.arrived, g.open = make(chan struct{}), make(chan struct{})
	return g.arrived, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(g.open)
		g.open = nil
	}
}

// engine records its calls.
type engine struct {
	mu       sync.Mutex
	woken    []int64
	forgiven []int64
	expedite func(delivery.ID) // attempts a delivery; nil: no attempt is made
}

func (e *engine) Wake(no int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.woken = append(e.woken, no)
}

func (e *engine) Expedite(ids ...delivery.ID) {
	for _, id := range ids {
		e.Wake(id.Endpoint)
		if e.expedite != nil {
			e.expedite(id)
		}
	}
}

func (e *engine) Recall(no int64) { e.Wake(no) }

func (e *engine) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }

func (e *engine) Forgive(no int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgiven = append(e.forgiven, no)
}

// told returns the calls since the last call of told.
func (e *engine) told() (woken, forgiven []int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	woken, forgiven = e.woken, e.forgiven
	e.woken, e.forgiven = nil, nil
	return woken, forgiven
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// lines returns the lines that contain text.
func (l *logBuffer) lines(text string) []string {
	return slices.DeleteFunc(strings.Split(l.String(), "\n"), func(s string) bool { return !strings.Contains(s, text) })
}

// answer is a response.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// object is a decoded JSON object.
type object map[string]any

func (o object) text(name string) string { s, _ := o[name].(string); return s }

func (o object) in(name string) object { m, _ := o[name].(map[string]any); return m }

func (o object) list() []object {
	data, _ := o["data"].([]any)
	out := make([]object, len(data))
	for i, v := range data {
		out[i], _ = v.(map[string]any)
	}
	return out
}

func (a answer) object() object {
	a.t.Helper()
	var o object
	if err := json.Unmarshal([]byte(a.body), &o); err != nil {
		a.t.Fatalf("%v in %q", err, a.body)
	}
	return o
}

// call makes a request with the documentation's key. header contains names and values; an empty
// value removes the header.
func (w *world) call(method, path, body string, header ...string) answer {
	w.t.Helper()
	a, err := w.try(method, path, body, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *world) try(method, path, body string, header ...string) (answer, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, w.url+path, r)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil {
		conform(w.t, req, body, resp, string(text))
	}
	return answer{w.t, resp.StatusCode, resp.Header, string(text)}, err
}

// must calls and fails the test unless the status is 200.
func (w *world) must(method, path, body string, header ...string) object {
	w.t.Helper()
	a := w.call(method, path, body, header...)
	if a.status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a.object()
}

// with returns the header with another key.
func with(key string) []string { return []string{"Authorization", "Bearer " + key} }

// asOperator returns the headers of the operator acting for the first account.
func (w *world) asOperator() []string { return append(with(adminKey), "Payment-Account", w.account.ID) }

func (w *world) register(events string, more ...string) object {
	w.t.Helper()
	return w.must("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":["`+events+`"]}`, more...)
}

func (w *world) send(typ string, more ...string) object {
	w.t.Helper()
	return w.must("POST", "/v1/events", `{"type":"`+typ+`","data":{"object":{"id":"pay_1"}}}`, more...)
}

// deliveryOf returns the only delivery of an event.
func (w *world) deliveryOf(eventID string) object {
	w.t.Helper()
	list := w.must("GET", "/v1/events/"+eventID+"/deliveries", "").list()
	if len(list) != 1 {
		w.t.Fatalf("%s has %d deliveries, want 1", eventID, len(list))
	}
	return list[0]
}

// attempted records an attempt, like the engine.
func (w *world) attempted(id string, a delivery.Attempt) {
	w.t.Helper()
	did, ok := delivery.ParseID(id)
	if !ok {
		w.t.Fatalf("bad id %q", id)
	}
	space := event.SpaceOf(w.account.No, false)
	v, err := w.store.Delivery(context.Background(), space, did)
	if err != nil {
		w.t.Fatal(err)
	}
	d := v.Delivery
	a.Number = d.Attempts + 1
	d.Settle(&a, delivery.Policy{Schedule: delivery.TestSchedule(), Random: func() float64 { return 0 }}, a.Started.Add(a.Duration))
	if err := w.store.Commit(context.Background(), &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &a}}}); err != nil {
		w.t.Fatal(err)
	}
}

// everything returns all contents of the store, to check that nothing has changed. With the
// race detector it is not compared: make test runs both.
func (w *world) everything() string {
	w.t.Helper()
	if underRace {
		return ""
	}
	ctx := context.Background()
	var b strings.Builder
	note := func(v any, err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&b, "%+v\n", v)
	}
	accounts, err := w.store.AllAccounts(ctx)
	note(accounts, err)
	keys, err := w.store.AllKeys(ctx)
	note(keys, err)
	note("", w.store.AllEndpoints(ctx, func(e *endpoint.Endpoint) error {
		_, err := fmt.Fprintf(&b, "%+v\n", *e)
		return err
	}))
	for _, a := range accounts {
		for _, live := range []bool{false, true} {
			events, _, err := w.store.ListEvents(ctx, event.SpaceOf(a.No, live), store.EventFilter{}, store.Page[event.Key]{Limit: 1000})
			note(events, err)
			ds, _, err := w.store.ListDeliveries(ctx, event.SpaceOf(a.No, live), store.DeliveryFilter{}, store.Page[delivery.ID]{Limit: 1000})
			note(ds, err)
		}
	}
	return b.String()
}
