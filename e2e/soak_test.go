package e2e

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

var (
	soakFor  = flag.Duration("soak.for", 0, "how long TestSoak goes on; 0 skips it")
	soakRate = flag.Int("soak.rate", 100, "events a second of TestSoak, beside its batches")
)

// TestSoak runs a server for a long time under a load of all its functions, checks that no
// event is lost, and looks for leaks. The server is idle before and after the load, so that its
// resources can be compared: goroutines, file descriptors and used space in the file return to
// their values before, and memory does except for the page caches of the store; during the
// load, memory and disk use stay constant after its beginning. Expired data is deleted.
func TestSoak(t *testing.T) {
	t.Parallel()
	if *soakFor == 0 {
		t.Skip("make soak runs this")
	}
	k := newSoak(t)
	k.work(min(*soakFor/4, 20*time.Second)) // caches are filled and workers started
	k.rest()
	before := k.sample()
	load := k.work(*soakFor)
	k.rest()
	after := k.sample()
	k.report(before, after, load)
	if err := k.file.Close(); err != nil {
		t.Fatal(err)
	}
	k.s.stop()
	stopped := time.Now()
	l := k.load
	l.compare(fmt.Sprintf("for=%s", *soakFor), l.missing())
	k.order.mu.Lock()
	defer k.order.mu.Unlock()
	if !slices.Equal(k.order.taken, k.steps) {
		t.Errorf("out of order: %v", firstDifference(k.order.taken, k.steps))
	}
	checkStore(t, k.s.data)
	checkForgotten(t, k.s.data, stopped)
	t.Logf("rows left: %s", strings.Join(rowsLeft(t, k.s.data), ", "))
	t.Logf("in order=%d; batches of 50=%d listeners=%d endpoints made and deleted=%d rotations=%d jobs=%d lists=%d pages=%d",
		len(k.steps), k.batches.Load(), k.listeners.Load(), k.churned.Load(), k.rotations.Load(), k.jobs.Load(), k.lists.Load(), k.pages.Load())
}

// soak is a server, its clients, and its receivers.
type soak struct {
	t         testing.TB
	load      *load
	s         *server
	debug     string // base URL of the profiles
	good      string // id of the endpoint whose secrets are rotated
	receivers []*httptest.Server
	troubled  []string // URLs that are slow, fail, fail sometimes, or hang
	endpoints []string // ids of their endpoints, during the load
	order     *sequence
	steps     []string // ids in the order of their acceptance
	admin     *http.Client
	accounts  string  // path of the account's pages
	file      *sql.DB // the server's file, for reading

	batches, listeners, churned, rotations, jobs, lists, pages atomic.Int64
}

func newSoak(t testing.TB) *soak {
	k := &soak{t: t, load: newLoad(t, nil), order: &sequence{refused: map[string]bool{}}}
	k.s = serve(t, "", "--retention", "1m", "--audit-retention", "1m", "--job-retention", "1m", "--debug-addr", "127.0.0.1:0", "--timeout", "2s", "--test-schedule", "200ms,500ms,1s,2s,2s,2s,2s")
	k.load.begin(k.s)
	var err error
	if k.file, err = sql.Open("sqlite", "file:"+filepath.Join(k.s.data, "posthaste.db")+"?mode=ro&_pragma=busy_timeout(10000)"); err != nil {
		t.Fatal(err)
	}
	k.file.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = k.file.Close() })
	k.debug = "http://" + k.s.out.await(t, `debug_addr=(\S+)`)[1]
	receiver := func(h http.HandlerFunc) string {
		r := newServer(t, h)
		k.receivers = append(k.receivers, r)
		return r.URL
	}
	k.receivers = append(k.receivers, k.load.receiver)
	k.good = k.s.register(k.load.receiver.URL, "enabled_events", []string{"payment.succeeded"}).text("id")
	k.s.register(receiver(k.order.receive), "enabled_events", []string{"step.*"}, "ordering", "fifo")
	trouble := func(h http.HandlerFunc) {
		k.troubled = append(k.troubled, receiver(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // otherwise the end of the connection would not be noticed
			h(w, r)
		}))
	}
	trouble(func(http.ResponseWriter, *http.Request) { pause(200 * time.Millisecond) })
	trouble(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	var flap atomic.Int64
	trouble(func(w http.ResponseWriter, _ *http.Request) {
		if flap.Add(1)/200%2 == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	trouble(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })

	k.admin, _ = k.s.signIn("admin", k.s.out.await(t, `Password +(\S+)`)[1])
	me, _ := k.s.must("GET", "/v1/account", nil)["account"].(map[string]any)
	k.accounts = "/admin/" + object(me).text("id") + "/test"
	return k
}

// work applies the load for d and returns the use of resources meanwhile.
func (k *soak) work(d time.Duration) (samples []sample) {
	k.replace()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	every := func(d time.Duration, do func()) {
		wg.Go(func() {
			tick := time.NewTicker(d)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					do()
				case <-ended:
					return
				}
			}
		})
	}
	const senders = 4
	for i := range senders {
		every(senders*time.Second/time.Duration(*soakRate), func() { k.load.announce(ended, k.load.next.Add(1), i%2 == 0) })
	}
	every(100*time.Millisecond, func() {
		id := fmt.Sprintf("evt_step%016d", len(k.steps))
		k.s.must("POST", "/v1/events", object{"id": id, "type": "step.done", "data": object{"object": object{}}})
		k.steps = append(k.steps, id)
	})
	every(time.Second, k.batch)
	every(500*time.Millisecond, k.churn)
	every(3*time.Second, k.listen)
	every(2*time.Second, func() {
		k.s.must("POST", "/v1/webhooks/"+k.good+"/rotate_secret", object{"expires_in": 0})
		k.rotations.Add(1)
	})
	every(10*time.Second, k.retry)
	every(30*time.Second, k.replace)
	every(200*time.Millisecond, func() {
		paths := []string{"/v1/events?limit=50", "/v1/deliveries?limit=50&status=failed", "/v1/deliveries?endpoint=" + k.good, "/v1/webhooks", "/v1/audit_log", "/metrics", "/readyz"}
		k.s.call("GET", paths[k.lists.Add(1)%int64(len(paths))], nil)
	})
	every(300*time.Millisecond, k.page)
	end := time.NewTimer(d)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			samples = append(samples, k.sample())
			continue
		case <-end.C:
		}
		close(ended)
		wg.Wait()
		return samples
	}
}

func (k *soak) batch() {
	events := make([]object, 50)
	for i := range events {
		events[i] = object{"type": "other.batch", "data": object{"object": object{"text": strings.Repeat("x", 500)}}}
	}
	k.s.must("POST", "/v1/events/batch", object{"events": events})
	k.batches.Add(1)
}

// replace creates new endpoints in place of the failing ones. Otherwise their pending
// deliveries, and the disk use, would grow throughout the load.
func (k *soak) replace() {
	old := k.endpoints
	k.endpoints = nil
	for _, to := range k.troubled {
		k.endpoints = append(k.endpoints, k.s.register(to, "enabled_events", []string{"other.*"}).text("id"))
	}
	k.drop(old)
}

func (k *soak) drop(endpoints []string) {
	for _, id := range endpoints {
		k.s.must("DELETE", "/v1/webhooks/"+id, nil)
	}
}

// churn creates an endpoint, sends it events, and deletes it while they are being delivered.
func (k *soak) churn() {
	id := k.s.register(k.receivers[2].URL, "enabled_events", []string{"churn.*"}).text("id")
	k.s.must("POST", "/v1/events", object{"type": "churn.one", "data": object{"object": object{}}})
	k.s.must("DELETE", "/v1/webhooks/"+id, nil)
	k.churned.Add(1)
}

// retry resends recent failures. One job runs at a time, so it waits for the end of its own;
// the next must be accepted then.
func (k *soak) retry() {
	job := k.s.must("POST", "/v1/deliveries/retry", object{"since": time.Now().Add(-15 * time.Second).Unix()})
	for deadline := time.Now().Add(patience); job.text("status") == "running" && time.Now().Before(deadline); pause(50 * time.Millisecond) {
		job = k.s.must("GET", "/v1/jobs/"+job.text("id"), nil)
	}
	if job.text("status") != "succeeded" {
		k.t.Errorf("job: %v", job)
	}
	k.jobs.Add(1)
}

// listen connects a listener that disconnects after its first event.
func (k *soak) listen() {
	p := k.s.command("listen", "--events", "heard.*")
	p.out.await(k.t, "Ready")
	k.s.must("POST", "/v1/events", object{"type": "heard.one", "data": object{"object": object{}}})
	p.out.await(k.t, `heard\.one`)
	_ = p.cmd.Process.Signal(os.Interrupt)
	p.exit()
	k.listeners.Add(1)
}

// hear connects a listener until it has acknowledged all events. A listener that disconnects
// after an event may leave that unacknowledged, and then it is pending.
func (k *soak) hear() {
	waiting := func() int {
		return len(k.s.must("GET", "/v1/deliveries?status=pending&type=heard.*&limit=1", nil).list())
	}
	if waiting() == 0 {
		return
	}
	p := k.s.command("listen", "--events", "heard.*")
	until(k.t, "the listener to acknowledge", func() bool { return waiting() == 0 })
	_ = p.cmd.Process.Signal(os.Interrupt)
	p.exit()
}

func (k *soak) page() {
	names := []string{"overview", "webhooks", "webhooks/" + k.good, "events", "deliveries", "dead-letters", "jobs", "types", "keys", "audit", "sandbox"}
	path := k.accounts + "/" + names[k.pages.Add(1)%int64(len(names))]
	resp, err := k.admin.Get(k.s.base + path)
	if err != nil {
		k.t.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		k.t.Errorf("%s: %d", path, resp.StatusCode)
	}
}

// rest waits until nothing is pending and no listener is connected.
func (k *soak) rest() {
	k.t.Helper()
	until(k.t, "all events to arrive", func() bool { return len(k.load.missing()) == 0 && k.order.len() == len(k.steps) })
	k.drop(k.endpoints) // their deliveries would be pending for minutes
	k.endpoints = nil
	k.hear()
	var pending []object
	defer func() {
		if k.t.Failed() {
			k.t.Logf("pending: %v", pending)
		}
	}()
	until(k.t, "all deliveries to settle", func() bool {
		pending = k.s.must("GET", "/v1/deliveries?status=pending&limit=3", nil).list()
		return len(pending) == 0
	})
	until(k.t, "jobs to end", func() bool { return !strings.Contains(k.s.call("GET", "/v1/jobs", nil).body, `"running"`) })
	if *soakFor >= steadyFrom {
		k.await(3*time.Minute, "all events to be forgotten", func() bool {
			return len(k.s.must("GET", "/v1/events?limit=1", nil).list()) == 0 && len(k.s.must("GET", "/v1/audit_log?limit=1", nil).list()) == 0
		})
	}
	for _, r := range k.receivers {
		r.CloseClientConnections()
	}
	k.admin.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	var last sample
	until(k.t, "the server to be idle", func() bool { // until the server releases no more resources
		now := k.sample()
		idle := last.goroutines > 0 && now.goroutines >= last.goroutines && now.files >= last.files
		last = now
		pause(2 * time.Second)
		return idle
	})
}

// await waits for an operation that takes a while.
func (k *soak) await(most time.Duration, what string, ok func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(most); !ok(); pause(time.Second) {
		if time.Now().After(deadline) {
			k.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// sample is the use of resources at one moment.
type sample struct {
	goroutines int // without those that only wait for deliveries
	files      int // descriptors
	resident   int // KiB
	beyond     int // KiB of it that do not belong to the Go runtime: program, page caches of the store
	live       int // KiB of the heap, after a collection
	lanes      int // endpoints in memory
	disk       int // KiB of the data directory
	used       int // KiB of the store's file that are in use
	waiting    int // deliveries
}

var sampled = []struct {
	name   string
	of     func(sample) int
	idle   int  // how much more of it is allowed after the load than before; 0: not compared
	steady bool // it is compared only after the load has lasted for a while
}{
	{"goroutines", func(s sample) int { return s.goroutines }, moreIdle, false},
	{"file descriptors", func(s sample) int { return s.files }, moreIdle, false},
	{"resident memory, KiB", func(s sample) int { return s.resident }, sqlite.PageCaches + slack, true},
	{"of which not Go's, KiB", func(s sample) int { return s.beyond }, sqlite.PageCaches + slack, true},
	{"live heap, KiB", func(s sample) int { return s.live }, parsedSecrets + slack/4, true},
	{"lanes", func(s sample) int { return s.lanes }, moreIdle, false},
	{"disk, KiB", func(s sample) int { return s.disk }, 0, true}, // space that is freed in the file remains part of it
	{"used of it, KiB", func(s sample) int { return s.used }, slack / 4, true},
	{"deliveries waiting", func(s sample) int { return s.waiting }, 1, false},
}

func (k *soak) sample() (s sample) {
	k.t.Helper()
	// The text of this profile states how large the heap was between the collection and the
	// writing of the profile, which leaves more garbage the longer the server has run.
	resp, err := http.Get(k.debug + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		k.t.Fatal(err)
	}
	profile, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	live := regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`).FindSubmatch(profile)
	if live == nil {
		k.t.Fatal("the profile does not say how large the heap is")
	}
	text := k.s.call("GET", "/metrics", nil).body
	metric := func(name string) int {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			k.t.Fatalf("the server has no metric %s", name)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			k.t.Fatal(err)
		}
		return int(v)
	}
	s = sample{goroutines: metric("go_goroutines") - metric("posthaste_workers"), files: metric("process_open_fds"),
		resident: metric("process_resident_memory_bytes") >> 10, lanes: metric("posthaste_lanes")}
	if s.live, err = strconv.Atoi(string(live[1])); err != nil {
		k.t.Fatal(err)
	}
	s.live >>= 10
	s.beyond = s.resident - (metric("go_memstats_sys_bytes")-metric("go_memstats_heap_released_bytes"))>>10
	var pages, free, size int
	for query, to := range map[string]*int{"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "PRAGMA page_size": &size,
		"SELECT count(*) FROM deliveries WHERE state = 0": &s.waiting} {
		if err := k.file.QueryRow(query).Scan(to); err != nil {
			k.t.Fatal(err)
		}
	}
	s.used = (pages - free) * size >> 10
	err = filepath.WalkDir(k.s.data, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			s.disk += int(info.Size() >> 10)
		}
		return nil
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// Tolerances of a soak.
const (
	moreIdle = 8       // additional goroutines or descriptors after the load
	growth   = 25      // percent, from the middle third of the load to its last third
	slack    = 8 << 10 // KiB that memory and disk use may grow in addition
	// KiB of the parsed secrets that the sender caches, also of deleted endpoints: 16384 of 350
	// bytes.
	parsedSecrets = 16384 * 350 >> 10
	steadyFrom    = 5 * time.Minute // in shorter soaks, data does not yet expire as fast as it arrives
)

// report prints the use of resources, and fails the test for leaks.
func (k *soak) report(before, after sample, load []sample) {
	k.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%-22s %10s %10s %10s %10s %12s %10s\n", "", "idle", "1st third", "2nd third", "3rd third", "slope/hour", "idle again")
	third := len(load) / 3
	for _, m := range sampled {
		mean := func(part []sample) int {
			sum := 0
			for _, s := range part {
				sum += m.of(s)
			}
			return sum / max(len(part), 1)
		}
		first, second, last := mean(load[:third]), mean(load[third:2*third]), mean(load[2*third:])
		fmt.Fprintf(&text, "%-22s %10d %10d %10d %10d %12.0f %10d\n", m.name, m.of(before), first, second, last, slope(load[third:], m.of), m.of(after))
		if m.idle > 0 && (!m.steady || *soakFor >= steadyFrom) && m.of(after) > m.of(before)+m.idle {
			k.t.Errorf("%s: %d before the load, %d after, which may be %d more", m.name, m.of(before), m.of(after), m.idle)
		}
		if m.steady && *soakFor >= steadyFrom && last > second+second*growth/100+slack {
			k.t.Errorf("%s: grew from %d to %d", m.name, second, last)
		}
	}
	k.t.Logf("%d samples\n%s", len(load), text.String())
}

// checkForgotten checks in the store of a stopped server that data with a retention of one minute is not
// older than three: one for the retention, one until the next purge, one for a busy machine. The age of
// an event counts from when none of its deliveries was pending. Deleted endpoints are kept for ten.
func checkForgotten(t testing.TB, data string, stopped time.Time) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, c := range []struct {
		what, query string
		after       time.Duration
	}{
		{"audit entries", "SELECT count(*) FROM audit WHERE time < ?", 3 * time.Minute},
		{"ended jobs", "SELECT count(*) FROM recoveries WHERE finished > 0 AND finished < ?", 3 * time.Minute},
		{"events", "SELECT count(*) FROM events WHERE key >> 21 < ?1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = key AND settled >= ?1)", 3 * time.Minute},
		{"deleted endpoints", "SELECT count(*) FROM endpoints WHERE deleted > 0 AND deleted < ?", 13 * time.Minute},
	} {
		var n int
		if err := db.QueryRow(c.query, stopped.Add(-c.after).UnixMilli()).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			t.Errorf("%d %s are older than %s", n, c.what, c.after)
		}
	}
}

// rowsLeft lists the number of rows in each table in the store of a stopped server, and the
// number of free pages in its file.
func rowsLeft(t testing.TB, data string) (out []string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	count := func(what, query string) {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("%s %d", what, n))
		}
	}
	for _, name := range tables {
		count(name, `SELECT count(*) FROM "`+name+`"`)
	}
	count("pages", "PRAGMA page_count")
	count("free pages", "PRAGMA freelist_count")
	return out
}

// slope returns the growth of a value per hour, by least squares over samples at intervals of
// two seconds.
func slope(samples []sample, of func(sample) int) float64 {
	n := float64(len(samples))
	var x, y, xx, xy float64
	for i, s := range samples {
		at, v := float64(i), float64(of(s))
		x, y, xx, xy = x+at, y+v, xx+at*at, xy+at*v
	}
	if d := n*xx - x*x; d != 0 {
		return (n*xy - x*y) / d * float64(time.Hour/(2*time.Second))
	}
	return 0
}
