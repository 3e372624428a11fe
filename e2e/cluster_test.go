package e2e

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

var (
	clusterFor   = flag.Duration("cluster.for", 9*time.Second, "how long TestCluster_killed kills nodes")
	clusterEvery = flag.Duration("cluster.every", 3*time.Second, "how often TestCluster_killed kills one")
)

const nodeLease = "2s"

// fleet is several nodes on one database.
type fleet struct {
	t     testing.TB
	data  string // of all nodes: it contains only the master key
	args  []string
	nodes []atomic.Pointer[life]
	first func(data string, args ...string) *server // starts node 0; nil: like the others
}

// database starts a PostgreSQL server for the test.
func database(t testing.TB) *pgtest.Cluster {
	t.Helper()
	c, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// newFleet starts nodes on a database, all at once.
func newFleet(t testing.TB, url string, size int, args ...string) *fleet {
	t.Helper()
	return newFleetWith(t, nil, url, size, args...)
}

// newFleetWith is newFleet with a different start of the first node.
func newFleetWith(t testing.TB, first func(data string, args ...string) *server, url string, size int, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, data: t.TempDir(), nodes: make([]atomic.Pointer[life], size), first: first,
		args: append([]string{"--dev", "--database-url", url, "--node-lease", nodeLease}, args...)}
	if code := start(t, nil, binary, "keys", "new-master", "--out", f.data+"/master-key").exit(); code != 0 {
		t.Fatalf("keys new-master: exit code %d", code)
	}
	var wg sync.WaitGroup
	for i := range size {
		wg.Go(func() { f.begin(i) })
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return f
}

// begin starts a node, in place of one that has ended.
func (f *fleet) begin(i int) {
	n := &life{next: make(chan struct{})}
	if i == 0 && f.first != nil {
		n.server = f.first(f.data, f.args...)
	} else {
		n.server = serveWith(f.t, f.data, f.args...)
	}
	if old := f.nodes[i].Swap(n); old != nil {
		close(old.next)
	}
}

func (f *fleet) node(i int) *life { return f.nodes[i].Load() }

// one returns any node that is not about to be killed.
func (f *fleet) one() *life {
	for {
		if n := f.node(rand.IntN(len(f.nodes))); !n.killed.Load() {
			return n
		}
	}
}

func (f *fleet) stop() {
	for i := range f.nodes {
		f.node(i).stop()
	}
}

// sequence is a receiver whose endpoint is ordered.
type sequence struct {
	mu      sync.Mutex
	taken   []string // ids, in the order of their first arrival
	again   int
	refused map[string]bool
}

func (s *sequence) receive(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	id := r.Header.Get("Webhook-Id")
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case slices.Contains(s.taken, id):
		s.again++
	case unlucky(id) && !s.refused[id]:
		s.refused[id] = true
		w.WriteHeader(http.StatusInternalServerError)
	default:
		s.taken = append(s.taken, id)
	}
}

func (s *sequence) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

// TestCluster_killed kills one of three nodes every few seconds, under load. All acknowledged
// events arrive, and in order at ordered endpoints.
func TestCluster_killed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 3, "--test-schedule", "200ms,200ms,200ms,1s,1s,1s,1s,1s,1s")
	l := newLedger()
	order := &sequence{refused: map[string]bool{}}
	all, ordered := httptest.NewServer(http.HandlerFunc(l.receive)), httptest.NewServer(http.HandlerFunc(order.receive))
	t.Cleanup(all.Close)
	t.Cleanup(ordered.Close)
	for range 4 { // so that each node has some
		f.node(0).register(all.URL, "enabled_events", []string{"payment.*"})
	}
	f.node(1).register(ordered.URL, "enabled_events", []string{"step.*"}, "ordering", "fifo")
	f.know(5)

	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var wg sync.WaitGroup
	var next, interrupted atomic.Int64
	// deliver sends one event until a node acknowledges it.
	deliver := func(id, typ string) (a answer, sent int64) {
		n := next.Add(1)
		for tries := 0; ; tries++ {
			node := f.one()
			a, err := node.try("POST", "/v1/events", fmt.Sprintf(`{"id":%q,"type":%q,"data":{"object":{"n":%d}}}`, id, typ, n))
			switch {
			case err == nil && a.status == http.StatusOK:
				return a, n
			case err == nil && a.status == http.StatusServiceUnavailable || err != nil && node.killed.Load():
				interrupted.Add(1)
			default:
				t.Errorf("%s to a node that lives: %v %d %s", id, err, a.status, a.body)
				return a, n
			}
			if tries > 100 {
				t.Errorf("no node accepts %s", id)
				return a, n
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	for range 6 {
		wg.Go(func() {
			for !stopped() {
				id := fmt.Sprintf("evt_many%016d", rand.Uint64N(1e16))
				a, n := deliver(id, "payment.succeeded")
				l.note(n, id, a, nil, excuse{})
			}
		})
	}
	var steps []string
	wg.Go(func() {
		for !stopped() {
			id := fmt.Sprintf("evt_step%016d", len(steps))
			deliver(id, "step.done")
			steps = append(steps, id)
		}
	})
	kills := 0
	// On a busy machine few requests are under way, so a kill may interrupt none.
	began := time.Now()
	for ; time.Since(began) < *clusterFor || interrupted.Load() == 0 && time.Since(began) < patience; kills++ {
		<-time.After(*clusterEvery)
		i := kills % len(f.nodes)
		n := f.node(i)
		n.killed.Store(true)
		n.kill()
		<-time.After(time.Duration(rand.Int64N(int64(time.Second))))
		f.begin(i)
	}
	close(stop)
	wg.Wait()

	holds(func() bool { return len(l.missing()) == 0 })
	holds(func() bool { return order.len() >= len(steps) })
	var left []object
	holds(func() bool {
		left = f.node(0).must("GET", "/v1/deliveries?status=pending&limit=5", nil).list()
		return len(left) == 0
	})
	left = append(left, f.node(1).must("GET", "/v1/deliveries?status=failed&limit=5", nil).list()...)
	f.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	order.mu.Lock()
	defer order.mu.Unlock()
	lost := 0
	for id := range l.acknowledged {
		if _, ok := l.arrived[id]; !ok {
			lost++
		}
	}
	t.Logf("nodes=3 kills=%d interrupted=%d acknowledged=%d deliveries=%d lost=%d duplicates=%d; in order: acknowledged=%d arrived=%d again=%d", kills, interrupted.Load(),
		len(l.acknowledged), 4*len(l.acknowledged), lost, l.duplicates-3*len(l.acknowledged), len(steps), len(order.taken), order.again)
	if lost > 0 || len(l.changed) > 0 || len(l.unexpected) > 0 || len(left) > 0 {
		t.Errorf("lost %d, changed %v, unexpected %v, left %v", lost, l.changed, l.unexpected, left)
	}
	if !slices.Equal(order.taken, steps) {
		t.Errorf("out of order: %v", firstDifference(order.taken, steps))
	}
	if kills > 0 && interrupted.Load() == 0 {
		t.Error("no request met a kill: the test proves little")
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d came %v, wanted %v", i, got[i:min(i+3, len(got))], want[i:min(i+3, len(want))])
		}
	}
	return fmt.Sprintf("%d came of %d", len(got), len(want))
}

// know waits until all nodes have loaded that many endpoints.
func (f *fleet) know(endpoints int) {
	f.t.Helper()
	for i := range f.nodes {
		until(f.t, "the endpoints to be known", func() bool {
			return strings.Contains(f.node(i).call("GET", "/metrics", nil).body, fmt.Sprintf("\nposthaste_endpoints %d\n", endpoints))
		})
	}
}

// TestCluster_paused stops a node during an attempt for longer than its lease: its later writes
// are refused, and it ends.
func TestCluster_paused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	var mu sync.Mutex
	from := map[string][]string{} // event ids by the endpoint's path
	hang := make(chan struct{})
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.URL.Path] = append(from[r.URL.Path], r.Header.Get("Webhook-Id"))
		first := len(from[r.URL.Path]) == 1
		mu.Unlock()
		if first {
			<-hang
		}
	}))
	t.Cleanup(r.Close)
	release := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(release)
	const endpoints = 8 // each node owns at least one, except in one case of 128
	for i := range endpoints {
		f.node(0).register(fmt.Sprint(r.URL, "/", i), "ordering", "fifo")
	}
	f.know(endpoints)
	first := f.node(0).send("payment.succeeded", object{"n": 1}).text("id")
	second := f.node(1).send("payment.succeeded", object{"n": 2}).text("id")
	came := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for i := range endpoints {
				if len(from[fmt.Sprint("/", i)]) < n {
					return false
				}
			}
			return true
		}
	}
	until(t, "the first attempts", came(1))
	signal := func(s os.Signal) {
		if err := f.node(0).cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	f.node(1).out.await(t, `msg="endpoints assigned" generation=\d+ adopted=[1-9]`)
	release()
	for _, d := range f.node(1).settled(second) {
		if d.text("status") != "succeeded" {
			t.Errorf("delivery %v", d)
		}
	}
	settled := f.node(1).settled(first)
	mu.Lock()
	before := fmt.Sprint(from)
	mu.Unlock()
	signal(syscall.SIGCONT)
	if code := f.node(0).exit(); code == 0 {
		t.Error("the paused node ended as if all were well")
	}
	f.node(0).out.await(t, `lease has ended, and others have taken over`)
	mu.Lock()
	defer mu.Unlock()
	if after := fmt.Sprint(from); after != before {
		t.Errorf("the paused node sent on: %s, then %s", before, after)
	}
	again := 0
	for i := range endpoints {
		ids := slices.Compact(slices.Clone(from[fmt.Sprint("/", i)]))
		again += len(from[fmt.Sprint("/", i)]) - len(ids)
		if !slices.Equal(ids, []string{first, second}) {
			t.Errorf("endpoint %d got %v", i, from[fmt.Sprint("/", i)])
		}
	}
	if again == 0 {
		t.Error("the paused node owned nothing: the test proves nothing")
	}
	for i, d := range f.node(1).settled(first) {
		if fmt.Sprint(d) != fmt.Sprint(settled[i]) {
			t.Errorf("the paused node wrote: %v, then %v", settled[i], d)
		}
	}
	t.Logf("attempts that the new owner made again: %d of %d", again, endpoints)
}

// TestCluster_failover kills the primary under load and promotes its standby: no acknowledged
// event is lost, and delivery continues.
func TestCluster_failover(t *testing.T) {
	t.Parallel()
	primary := database(t)
	standby, err := primary.Standby()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, q := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		if err := primary.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t, "postgres://posthaste@"+primary.Host()+","+standby.Host()+"/postgres?sslmode=disable", 2, "--test-schedule", "200ms,200ms,1s,1s")
	l := newLedger()
	r := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(r.Close)
	for range 2 {
		f.node(0).register(r.URL)
	}
	f.know(2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := rand.Int64N(1e15)
				a, err := f.one().try("POST", "/v1/events", fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"n":%d}}}`, n))
				if err != nil || a.status == http.StatusServiceUnavailable {
					refused.Add(1)
					<-time.After(20 * time.Millisecond)
					continue
				}
				l.note(n, "", a, err, excuse{})
			}
		})
	}
	goOn := func(what string) {
		goal := l.progress() + 50
		until(t, what, func() bool { return l.progress() >= goal })
	}
	goOn("events before the failure")
	primary.Kill()
	if code := f.node(0).call("GET", "/readyz", nil).status; code != http.StatusServiceUnavailable {
		t.Errorf("without a database, /readyz answers %d", code)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	goOn("events after the failure")
	resumed := time.Since(promoted)
	close(stop)
	wg.Wait()
	if !holds(func() bool { return len(l.missing()) == 0 }) {
		t.Errorf("lost: %v", l.missing())
	}
	for i := range f.nodes {
		f.node(i).until("the node to be ready", func() bool { return f.node(i).call("GET", "/readyz", nil).status == http.StatusOK })
	}
	f.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("acknowledged=%d arrived=%d refused meanwhile=%d; 50 events more %s after the promotion", len(l.acknowledged), len(l.arrived), refused.Load(), resumed.Round(10*time.Millisecond))
	if len(l.changed) > 0 || len(l.unexpected) > 0 {
		t.Errorf("changed %v, unexpected %v", l.changed, l.unexpected)
	}
	if refused.Load() == 0 {
		t.Error("no request failed during the failover: the test proves little")
	}
}

// TestCluster_settings checks that changes through one node apply on all, and that an
// endpoint's limits apply to all nodes together.
func TestCluster_settings(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 3)
	var mu sync.Mutex
	var now, most, count int
	var began, ended time.Time
	r := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		now++
		count++
		most = max(most, now)
		if count == 1 {
			began = time.Now()
		}
		mu.Unlock()
		<-time.After(5 * time.Millisecond)
		mu.Lock()
		now--
		ended = time.Now()
		mu.Unlock()
	}))
	t.Cleanup(r.Close)
	e := f.node(0).register(r.URL, "max_concurrency", 2, "rate_limit", 20).text("id")
	f.know(1)
	const events = 50 // at 20 a second: the first 20 at once, and 1.5 s for the rest
	for i := range events {
		f.node(i%3).send("payment.succeeded", object{"n": i})
	}
	received := func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
	until(t, "all events", func() bool { return received() == events })
	mu.Lock()
	took, atOnce := ended.Sub(began), most
	mu.Unlock()
	t.Logf("%d events in %s, at most %d at a time", events, took.Round(time.Millisecond), atOnce)
	if took < time.Second || atOnce > 2 { // a busy machine records the first ones late
		t.Errorf("%d events in %s, %d at a time: the limits are 20 a second and 2", events, took, atOnce)
	}

	seen := func(what string, change func(), ok func(n *life) bool) {
		t.Helper()
		change()
		since := time.Now()
		for i := range f.nodes {
			until(t, what, func() bool { return ok(f.node(i)) })
		}
		t.Logf("%s: all nodes know after %s", what, time.Since(since).Round(time.Millisecond))
	}
	f.node(1).must("PATCH", "/v1/webhooks/"+e, object{"status": "disabled"})
	until(t, "no node to send to it any more", func() bool {
		for i := range f.nodes {
			e := f.node(i).send("payment.succeeded", object{"n": 0}).text("id")
			if len(f.node(i).must("GET", "/v1/events/"+e+"/deliveries", nil).list()) > 0 {
				return false
			}
		}
		return true
	})
	since := time.Now()
	f.node(2).must("DELETE", "/v1/webhooks/"+e, nil)
	f.know(0)
	t.Logf("endpoint deleted: all nodes know after %s", time.Since(since).Round(time.Millisecond))

	var key object
	asAdmin := []string{"Authorization", "Bearer " + adminKey}
	accounts := f.node(0).must("GET", "/v1/accounts", nil, asAdmin...).list()
	with := func(n *life) int {
		return n.call("GET", "/v1/webhooks", nil, "Authorization", "Bearer "+key.text("secret")).status
	}
	seen("key made", func() {
		key = f.node(0).must("POST", "/v1/api_keys", object{"name": "n"}, append(asAdmin, "Payment-Account", accounts[0].text("id"))...)
	}, func(n *life) bool { return with(n) == http.StatusOK })
	seen("key revoked", func() {
		f.node(1).must("DELETE", "/v1/api_keys/"+key.text("id"), nil, append(asAdmin, "Payment-Account", accounts[0].text("id"))...)
	},
		func(n *life) bool { return with(n) == http.StatusUnauthorized })

	// A definition of an event type through one node is used by all.
	kind := func(n *life) int {
		return n.call("POST", "/v1/events", object{"type": "invoice.paid", "data": object{"object": object{"amount": "much"}}}).status
	}
	amounts := object{"properties": object{"data": object{"properties": object{"object": object{"properties": object{"amount": object{"type": "integer"}}}}}}}
	seen("event type defined", func() {
		f.node(0).must("POST", "/v1/event_types", object{"name": "invoice.paid", "validation": "reject", "schema": amounts})
	}, func(n *life) bool { return kind(n) == http.StatusBadRequest })
	seen("event type changed", func() { f.node(1).must("PATCH", "/v1/event_types/invoice.paid", object{"validation": "off"}) },
		func(n *life) bool { return kind(n) == http.StatusOK })
	f.node(2).must("PATCH", "/v1/event_types/invoice.paid", object{"validation": "reject"})
	seen("event type deleted", func() { f.node(2).must("DELETE", "/v1/event_types/invoice.paid", nil) },
		func(n *life) bool { return kind(n) == http.StatusOK })
	f.stop()
}

// TestCluster_pooled runs nodes through a PgBouncer in transaction mode.
func TestCluster_pooled(t *testing.T) {
	t.Parallel()
	url, stop, err := database(t).Pooler("postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	f := newFleet(t, url, 2, "--test-schedule", "200ms,200ms,1s,1s")
	l := newLedger()
	r := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(r.Close)
	for range 4 {
		f.node(0).register(r.URL, "ordering", "fifo")
	}
	f.know(4)
	const events = 200
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range events / 8 {
				n := int64(worker*events + i)
				a, err := f.one().try("POST", "/v1/events", fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"n":%d}}}`, n))
				l.note(n, "", a, err, excuse{})
			}
		})
	}
	wg.Wait()
	if !holds(func() bool { return len(l.missing()) == 0 }) {
		t.Errorf("lost: %v", l.missing())
	}
	f.node(0).out.await(t, "do not pass a pooler")
	f.node(1).must("DELETE", "/v1/webhooks/"+f.node(1).must("GET", "/v1/webhooks", nil).list()[0].text("id"), nil)
	f.know(3)
	f.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.acknowledged) != events || len(l.unexpected) > 0 || len(l.changed) > 0 {
		t.Errorf("acknowledged %d of %d; unexpected %v, changed %v", len(l.acknowledged), events, l.unexpected, l.changed)
	}
}

// TestCluster_badDatabase checks that errors about the database state the cause, without the
// password.
func TestCluster_badDatabase(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for name, c := range map[string]struct{ url, want string }{
		"malformed":   {"postgres://posthaste:hunter2@[bad/posthaste", "not one such as postgres://"},
		"unreachable": {"postgres://posthaste:hunter2@127.0.0.1:1/posthaste", "database posthaste on 127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, []string{"POSTHASTE_DATABASE_URL=" + c.url}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data)
			if code := p.exit(); code == 0 {
				t.Error("it runs")
			}
			if out := p.out.String(); !strings.Contains(out, c.want) || strings.Contains(out, "hunter2") {
				t.Errorf("the output is %s", out)
			}
		})
	}
}

// TestMigrateStore moves a data directory with pending events, secrets and keys into a
// database; a node on that continues where the server stopped.
func TestMigrateStore(t *testing.T) {
	t.Parallel()
	db := database(t).URL("postgres")
	var up atomic.Bool
	var mu sync.Mutex
	got := map[string]int{}
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.Header.Get("Webhook-Id")]++
	}))
	t.Cleanup(r.Close)
	schedule := []string{"--test-schedule", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"}
	old := serve(t, "", schedule...)
	secret := old.must("POST", "/v1/webhooks/"+old.register(r.URL).text("id")+"/reveal_secret", object{}).text("secret")
	const events = 1500
	for i := range events {
		fields := object{"type": "payment.succeeded", "data": object{"object": object{"n": i, "text": "ü\u0000"}}}
		if i%3 == 0 {
			fields["id"] = fmt.Sprintf("evt_moved%016d", i)
		}
		old.must("POST", "/v1/events", fields)
	}
	old.must("POST", "/v1/event_types", object{"name": "invoice.paid", "validation": "warn", "schema": object{"required": []string{"data"}}, "samples": []any{object{"object": object{"text": "ü"}}}})
	old.must("PATCH", "/v1/event_types/invoice.paid", object{"validation": "reject", "schema": object{"properties": object{"data": object{"properties": object{"object": object{"required": []string{"text"}}}}}}})
	kind := fmt.Sprint(old.must("GET", "/v1/event_types/invoice.paid", nil), old.must("GET", "/v1/event_types/invoice.paid/versions", nil))
	before := old.must("GET", "/v1/events?limit=100", nil).list()
	move := func(args ...string) *process {
		return start(t, nil, binary, append([]string{"migrate-store", "--from", "sqlite", "--to", "postgres", "--data", old.data, "--database-url", db}, args...)...)
	}
	if p := move(); p.exit() == 0 {
		t.Error("it moves the data of a running server")
	} else {
		p.out.await(t, "a server runs on")
	}
	old.stop()
	p := move("--json")
	if p.exit() != 0 {
		t.Fatalf("migrate-store: %s", p.out)
	}
	p.out.await(t, `"events": ?1500`)
	t.Log(strings.TrimSpace(p.out.String()))
	if p := move(); p.exit() == 0 {
		t.Error("it moves into a database that is not empty")
	} else {
		p.out.await(t, "not empty")
	}

	up.Store(true)
	node := serve(t, old.data, append(schedule, "--database-url", db)...)
	node.until("what waited to arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == events
	})
	if after := node.must("GET", "/v1/events?limit=100", nil).list(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the events are not those of before")
	}
	if now := fmt.Sprint(node.must("GET", "/v1/event_types/invoice.paid", nil), node.must("GET", "/v1/event_types/invoice.paid/versions", nil)); now != kind {
		t.Errorf("the event type is\n%s and was\n%s", now, kind)
	}
	if a := node.call("POST", "/v1/events", object{"type": "invoice.paid", "data": object{"object": object{}}}); a.err("code") != "schema_mismatch" {
		t.Errorf("an event that does not fit the type that was moved: %d %s", a.status, a.body)
	}
	e := node.must("GET", "/v1/webhooks", nil).list()[0]
	if s := node.must("POST", "/v1/webhooks/"+e.text("id")+"/reveal_secret", object{}).text("secret"); s != secret || s == "" {
		t.Error("the secret was changed")
	}
	again := object{"id": "evt_moved0000000000000000", "type": "payment.succeeded", "data": object{"object": object{"n": 0, "text": "ü\u0000"}}}
	if id := node.must("POST", "/v1/events", again).text("id"); id != again["id"] {
		t.Errorf("an event of before is taken as %s", id)
	}
	if n := node.register(r.URL); n.text("id") == e.text("id") {
		t.Error("a new endpoint has an old number")
	}
	node.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(got) != events {
		t.Errorf("%d of %d events arrived", len(got), events)
	}
}

var settingsRounds = flag.Int("settings.rounds", 50, "rounds of TestCluster_readYourWrites")

// TestCluster_readYourWrites checks that an edit which one node has acknowledged applies at
// once to all events that another node accepts.
func TestCluster_readYourWrites(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	var mu sync.Mutex
	arrived := map[string][]string{} // paths, by event
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("Webhook-Id")
		arrived[id] = append(arrived[id], r.URL.Path)
	}))
	t.Cleanup(r.Close)
	asAdmin := []string{"Authorization", "Bearer " + adminKey}
	account := f.node(0).must("GET", "/v1/accounts", nil, asAdmin...).list()[0].text("id")
	inAccount := append([]string{"Payment-Account", account}, asAdmin...)
	event := func(typ string) object {
		return object{"type": typ, "data": object{"object": object{"amount": "much"}}}
	}
	count := func(n *life, id string) int { return len(n.must("GET", "/v1/events/"+id+"/deliveries", nil).list()) }
	typed := object{"properties": object{"data": object{"properties": object{"object": object{"properties": object{"amount": object{"type": "integer"}}}}}}}

	wrong := map[string]int{}
	check := func(what string, good bool) {
		if _, seen := wrong[what]; !seen {
			wrong[what] = 0
		}
		if !good {
			wrong[what]++
		}
	}
	for i := range *settingsRounds {
		edits, sends := f.node(i%2), f.node(1-i%2)
		typ := fmt.Sprint("round.r", i)
		first, second := fmt.Sprint("/", i, "/first"), fmt.Sprint("/", i, "/second")

		e := edits.register(r.URL+first, "enabled_events", []string{typ}).text("id")
		id := sends.must("POST", "/v1/events", event(typ)).text("id")
		check("an endpoint is created: no delivery", count(sends, id) == 1)

		edits.must("PATCH", "/v1/webhooks/"+e, object{"url": r.URL + second})
		id = sends.must("POST", "/v1/events", event(typ)).text("id")
		var came []string
		until(t, "the event to arrive", func() bool {
			mu.Lock()
			defer mu.Unlock()
			came = slices.Clone(arrived[id])
			return len(came) > 0
		})
		check("the URL is changed: sent to the old one", slices.Equal(came, []string{second}))

		edits.must("POST", "/v1/event_types", object{"name": typ, "validation": "reject", "schema": typed})
		check("a schema is defined: accepted", sends.call("POST", "/v1/events", event(typ)).err("code") == "schema_mismatch")
		edits.must("PATCH", "/v1/event_types/"+typ, object{"validation": "off"})
		check("validation is switched off: refused", sends.call("POST", "/v1/events", event(typ)).status == http.StatusOK)

		edits.must("PATCH", "/v1/webhooks/"+e, object{"status": "disabled"})
		batch := sends.must("POST", "/v1/events/batch", object{"events": []any{event(typ), event(typ)}})
		for _, one := range batch.list() {
			if one.text("id") == "" {
				t.Fatalf("of a batch: %v", one)
			}
			check("an endpoint is disabled: a delivery", count(edits, one.text("id")) == 0)
		}
		check("an endpoint is disabled: a test event", sends.call("POST", "/v1/webhooks/"+e+"/test", object{}).err("code") == "endpoint_disabled")
		edits.must("PATCH", "/v1/webhooks/"+e, object{"status": "enabled", "enabled_events": []string{"refund.created"}})
		payment := sends.must("POST", "/v1/payments", object{"amount": 100, "currency": "usd",
			"payment_method": object{"type": "card", "card": object{"number": "4242424242424242", "exp_month": 12, "exp_year": time.Now().Year() + 1, "cvc": "123"}}})
		edits.must("PATCH", "/v1/webhooks/"+e, object{"enabled_events": []string{typ, "refund.*"}})
		sends.must("POST", "/v1/refunds", object{"payment_id": payment.text("id")})
		deliveries := sends.must("GET", "/v1/deliveries?type=refund.created&endpoint="+e, nil).list()
		check("the sandbox makes an event: no delivery", len(deliveries) == 1)
		edits.must("DELETE", "/v1/webhooks/"+e, nil)
		id = sends.must("POST", "/v1/events", event(typ)).text("id")
		check("an endpoint is deleted: a delivery", count(sends, id) == 0)

		key := edits.must("POST", "/v1/api_keys", object{"name": "n"}, inAccount...)
		as := []string{"Authorization", "Bearer " + key.text("secret")}
		check("a key is made: refused", sends.call("POST", "/v1/events", event(typ), as...).status == http.StatusOK)
		edits.must("DELETE", "/v1/api_keys/"+key.text("id"), nil, inAccount...)
		check("a key is revoked: an event is accepted", sends.call("POST", "/v1/events", event(typ), as...).status == http.StatusUnauthorized)
		key = edits.must("POST", "/v1/api_keys", object{"name": "n"}, inAccount...)
		as[1] = "Bearer " + key.text("secret")
		check("a key is made: refused", sends.call("GET", "/v1/events", nil, as...).status == http.StatusOK)
		edits.must("DELETE", "/v1/api_keys/"+key.text("id"), nil, inAccount...)
		check("a key is revoked: the list is shown", sends.call("GET", "/v1/events", nil, as...).status == http.StatusUnauthorized)

		// Another account, whose bucket is full again when its limit is changed.
		other := edits.must("POST", "/v1/accounts", object{"name": typ}, asAdmin...).text("id")
		of := append([]string{"Payment-Account", other}, asAdmin...)
		key = sends.must("POST", "/v1/api_keys", object{"name": "n"}, of...)
		as[1] = "Bearer " + key.text("secret")
		sends.must("POST", "/v1/events", event(typ), as...)
		edits.must("POST", "/v1/accounts/"+other, object{"rate_limit": 1}, asAdmin...)
		sends.call("POST", "/v1/events", event(typ), as...)
		check("a limit is set: accepted beyond it", sends.call("POST", "/v1/events", event(typ), as...).status == http.StatusTooManyRequests)
		edits.must("POST", "/v1/accounts/"+other, object{"rate_limit": 0}, asAdmin...)
		check("a limit is lifted: refused", sends.call("POST", "/v1/events", event(typ), as...).status == http.StatusOK)
	}
	f.stop()
	for what, n := range wrong {
		t.Logf("%s: %d of %d", what, n, *settingsRounds)
		if n > 0 {
			t.Errorf("%s: %d times in %d rounds", what, n, *settingsRounds)
		}
	}
}

// A revocation or suspension through one node ends connections, portals and deliveries on the
// others. Each node chains its own entries of the audit log, and both chains verify.
func TestCluster_revocation(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	one, two := f.node(0), f.node(1)
	account := one.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
	operator := []string{"Authorization", "Bearer " + adminKey}
	acting := append(operator, "Payment-Account", account)
	// tail follows the log of a node with a key; the channel is closed when that ends.
	tail := func(n *life, key string) <-chan struct{} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", n.base+"/v1/logs/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("tail: %v, %v", resp, err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}()
		return ended
	}
	ends := func(what string, ended <-chan struct{}) {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Errorf("%s goes on", what)
		}
	}
	made := one.must("POST", "/v1/api_keys", object{}, acting...)
	followed := tail(two, made.text("secret"))
	portal := one.must("POST", "/v1/portal_sessions", object{}, "Authorization", "Bearer "+made.text("secret")).text("url")
	_, path, _ := strings.Cut(portal, "/portal/")
	one.must("DELETE", "/v1/api_keys/"+made.text("id"), nil, acting...)
	ends("the tail of a revoked key at the other node", followed)
	if a := two.call("GET", "/portal/"+path, nil); a.status != http.StatusNotFound {
		t.Errorf("the portal of a revoked key at the other node: %d", a.status)
	}

	r := receive(t, answers())
	var endpoints []string
	for range 4 { // so that each node sends to some
		endpoints = append(endpoints, two.register(r.URL).text("id"))
	}
	followed = tail(two, testKey)
	one.must("POST", "/v1/accounts/"+account, object{"status": "suspended"}, operator...)
	ends("the tail of a suspended account at the other node", followed)
	for _, n := range []*life{one, two} {
		if a := n.call("POST", "/v1/events", object{"type": "a.b", "data": object{"object": object{}}}); a.status != http.StatusForbidden || a.err("code") != "account_suspended" {
			t.Errorf("an event of a suspended account: %d %s", a.status, a.body)
		}
	}
	for _, id := range endpoints { // operators may request it, and nothing is sent
		two.must("POST", "/v1/webhooks/"+id+"/test", nil, acting...)
	}
	pause(time.Second)
	if n := r.count(); n > 0 {
		t.Errorf("%d deliveries of a suspended account", n)
	}
	two.must("POST", "/v1/accounts/"+account, object{"status": "active"}, operator...)
	one.until("the deliveries to go on", func() bool { return r.count() == len(endpoints) })

	report := two.must("GET", "/v1/audit_log/verify", nil, operator...)
	if chains, _ := report["chains"].([]any); report["ok"] != true || len(chains) < 2 {
		t.Errorf("the audit log: %v", report)
	}
	f.stop()
}

// A manual retry is attempted at once, through any node and whichever node owns the endpoint,
// although its breaker is open, and the response contains the attempt.
func TestCluster_personAsks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	var works atomic.Bool
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if !works.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	var endpoints []string
	for range 6 { // so that each node sends to some, except in one case of 32
		endpoints = append(endpoints, f.node(0).register(r.URL).text("id"))
	}
	f.know(len(endpoints))
	for range 12 { // enough to open the breakers
		f.node(0).send("payment.succeeded", object{})
	}
	waiting := map[string]string{}
	for _, e := range endpoints {
		f.node(0).until("the breaker of "+e+" to open", func() bool {
			tried := 0
			for _, d := range f.node(0).must("GET", "/v1/deliveries?endpoint="+e, nil).list() {
				if waiting[e] = d.text("id"); d["attempts"].(float64) > 0 {
					tried++
				}
			}
			return tried >= 10
		})
	}
	for i, e := range endpoints {
		for n := range f.nodes {
			if a := f.node(n).call("POST", "/v1/deliveries/"+waiting[e]+"/retry?wait=30", nil); a.status != http.StatusOK || !strings.Contains(string(a.body), `"response_status_code":502`) {
				t.Errorf("a retry to endpoint %d, asked for at node %d: %d %s", i, n, a.status, a.body)
			}
		}
	}
	works.Store(true)
	for i, e := range endpoints {
		n := i / 2 % 2 // each node receives requests for some endpoints of either owner
		if a := f.node(n).call("POST", "/v1/webhooks/"+e+"/test?wait=30", object{}); a.status != http.StatusOK || !strings.Contains(string(a.body), `"response_status_code":200`) {
			t.Errorf("a test event to endpoint %d, asked for at node %d: %d %s", i, n, a.status, a.body)
		}
	}
	f.stop()
}
