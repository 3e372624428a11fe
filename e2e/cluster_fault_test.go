package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/posthaste-hq/posthaste/internal/cluster"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

var (
	clusterFaults = flag.Bool("cluster.faults", false, "TestCluster_faults brings about all faults and holds the gaps to their limits")
	clusterFault  = flag.String("cluster.fault", "", "the faults that TestCluster_faults brings about, as a regular expression")
	clusterMany   = flag.Int("cluster.endpoints", 0, "endpoints of TestCluster_faults that get nothing, besides those that do")
	clusterLease  = flag.Duration("cluster.lease", 2*time.Second, "lease of the nodes of TestCluster_faults")
)

// arena is three nodes, each behind a proxy of its own, under constant load. Events go to all
// endpoints; the ordered endpoints receive theirs one after the other, in turn from each node
// that is in use.
type arena struct {
	t       *testing.T
	db      *pgtest.Cluster
	proxies []*pgtest.Proxy
	fleet   *fleet

	mu      sync.Mutex
	healthy []int                 // nodes that receive requests
	came    map[int64][]time.Time // first arrivals by endpoint
	seen    map[string]int        // arrivals by event and endpoint
	acked   map[string]time.Time  // by event
	acks    map[int][]time.Time   // by node
	refused int                   // requests with an error or without a response
	ordered map[int64][]string    // first arrivals of ordered endpoints
	steps   []string              // acknowledged, in order
	unsure  map[string]bool       // steps whose response was lost: they may arrive or not
	slow    atomic.Int64          // current attempts to endpoints that do not answer
	answer  chan struct{}         // closed when those shall answer
	stop    func()
}

const arenaEndpoints, arenaOrdered, arenaSlow = 12, 2, 8

func newArena(t *testing.T) *arena {
	a := &arena{t: t, db: database(t), came: map[int64][]time.Time{}, seen: map[string]int{}, acked: map[string]time.Time{},
		acks: map[int][]time.Time{}, ordered: map[int64][]string{}, unsure: map[string]bool{}, answer: make(chan struct{})}
	// The servers read the database's time through a function of this schema, which a test can
	// step. They do not use their own wall clocks.
	for _, q := range []string{"CREATE SCHEMA stepped", "CREATE TABLE stepped.clock (ahead INTERVAL)", "INSERT INTO stepped.clock VALUES ('0')",
		"CREATE FUNCTION stepped.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + (SELECT ahead FROM stepped.clock)'",
		"ALTER DATABASE postgres SET search_path = stepped, pg_catalog"} {
		if err := a.db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		p, err := a.db.Proxy()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		a.proxies = append(a.proxies, p)
	}
	a.fleet = &fleet{t: t, data: t.TempDir(), nodes: make([]atomic.Pointer[life], 3)}
	if code := start(t, nil, binary, "keys", "new-master", "--out", a.fleet.data+"/master-key").exit(); code != 0 {
		t.Fatalf("keys new-master: exit code %d", code)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { a.begin(i) })
	}
	wg.Wait()
	receiver := httptest.NewServer(http.HandlerFunc(a.receive))
	t.Cleanup(receiver.Close)
	for i := range arenaEndpoints + arenaOrdered {
		more := []any{"enabled_events", []string{"payment.*"}}
		if i >= arenaEndpoints {
			more = []any{"enabled_events", []string{"step.*"}, "ordering", "fifo"}
		}
		a.fleet.node(0).register(fmt.Sprintf("%s/%d", receiver.URL, i+1), more...)
	}
	for i := range arenaSlow {
		a.fleet.node(0).register(fmt.Sprintf("%s/slow/%d", receiver.URL, i), "enabled_events", []string{"slow.thing"})
	}
	var next atomic.Int64
	for range 4 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(*clusterMany); n = next.Add(1) {
				a.fleet.node(int(n%3)).register(fmt.Sprintf("%s/other/%d", receiver.URL, n), "enabled_events", []string{"other.thing"})
			}
		})
	}
	wg.Wait()
	a.fleet.know(arenaEndpoints + arenaOrdered + arenaSlow + *clusterMany)
	a.healthy = []int{0, 1, 2}
	return a
}

// begin starts a node behind its proxy.
func (a *arena) begin(i int) {
	a.fleet.args = nil
	n := &life{next: make(chan struct{}), server: a.serve(a.proxies[i].URL("postgres"))}
	a.fleet.nodes[i].Store(n)
}

// serve starts a node.
func (a *arena) serve(url string, args ...string) *server {
	return serveWith(a.t, a.fleet.data, append([]string{"--dev", "--database-url", url, "--node-lease", clusterLease.String(), "--rate-limit", "0",
		"--limits", "endpoints=100000", "--test-schedule", "200ms,200ms,1s,1s,1s,1s,1s"}, args...)...)
}

// number returns a node's number in the cluster.
func (a *arena) number(i int) int {
	n, err := strconv.Atoi(a.fleet.node(i).out.await(a.t, `msg="joined the cluster" node=(\d+)`)[1])
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (a *arena) receive(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if strings.HasPrefix(r.URL.Path, "/slow/") {
		a.slow.Add(1)
		defer a.slow.Add(-1)
		select {
		case <-a.answer:
		case <-r.Context().Done():
		}
		return
	}
	id := r.Header.Get("Webhook-Id")
	no, _ := strconv.ParseInt(strings.Trim(r.URL.Path, "/"), 10, 64)
	a.mu.Lock()
	defer a.mu.Unlock()
	key := id + " " + r.URL.Path
	if a.seen[key]++; a.seen[key] > 1 {
		return
	}
	a.came[no] = append(a.came[no], time.Now())
	if no > arenaEndpoints {
		a.ordered[no] = append(a.ordered[no], id)
	}
}

// ask posts an event to a node and records the response.
func (a *arena) ask(i int, id, typ, idem string) bool {
	client := http.Client{Timeout: 20 * time.Second}
	n := a.fleet.node(i)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", n.base+"/v1/events", strings.NewReader(fmt.Sprintf(`{"id":%q,"type":%q,"data":{"object":{}}}`, id, typ)))
	if err != nil {
		a.t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Content-Type", "application/json")
	if idem != "" {
		req.Header.Set("Idempotency-Key", idem)
	}
	resp, err := client.Do(req)
	status := 0
	if err == nil {
		status = resp.StatusCode
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if status != http.StatusOK {
		a.refused++
		return false
	}
	now := time.Now()
	if _, again := a.acked[id]; !again && typ == "payment.succeeded" {
		a.acked[id] = now
	}
	a.acks[i] = append(a.acks[i], now)
	return true
}

func (a *arena) pick(n int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.healthy[n%len(a.healthy)]
}

// load starts the senders.
func (a *arena) load() {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for sender := range 3 { // one for each position among the healthy nodes
		wg.Go(func() {
			for n := 0; !closed(ended); n++ {
				id, idem := fmt.Sprintf("evt_many_%d_%012d", sender, n), ""
				if n%2 == 0 {
					idem = id
				}
				a.ask(a.pick(sender), id, "payment.succeeded", idem)
				<-time.After(25 * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for n, tries := 0, 0; !closed(ended); tries++ {
			id := fmt.Sprintf("evt_step%016d", n)
			if a.ask(a.pick(tries), id, "step.done", "") { // with the same id until it is accepted
				a.mu.Lock()
				a.steps = append(a.steps, id)
				a.mu.Unlock()
				n++
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	a.stop = sync.OnceFunc(func() {
		close(ended)
		wg.Wait()
	})
	a.t.Cleanup(a.stop)
}

// leave removes a node from those that receive requests, as a load balancer does.
func (a *arena) leave(i int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.healthy = slices.DeleteFunc(slices.Clone(a.healthy), func(n int) bool { return n == i })
}

func (a *arena) enter(i int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.healthy = append(a.healthy, i)
}

// gap returns the longest time without an arrival between two times.
func gap(times []time.Time, from, until time.Time) (longest time.Duration) {
	last := from
	for _, t := range times {
		if t.Before(from) {
			continue
		}
		if t.After(until) {
			break
		}
		longest = max(longest, t.Sub(last))
		last = t
	}
	return max(longest, until.Sub(last))
}

// gaps returns the longest gaps of the acknowledgements of healthy nodes, of the deliveries to
// their endpoints, and of those to the victim's.
func (a *arena) gaps(from, until time.Time, members []int, victim, victimNo int) (acks, theirs, its time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.healthy {
		if i != victim {
			acks = max(acks, gap(a.acks[i], from, until))
		}
	}
	for no := range int64(arenaEndpoints) {
		g := gap(a.came[no+1], from, until)
		if victim >= 0 && cluster.Owner(members, no+1) == victimNo {
			its = max(its, g)
		} else {
			theirs = max(theirs, g)
		}
	}
	return acks, theirs, its
}

// clusterCase is a fault of a cluster. It affects node 2, which receives no requests meanwhile;
// with all, it affects the database or all nodes.
type clusterCase struct {
	name  string
	short bool // part of every test run
	all   bool
	slow  bool // all events are slow because of the fault
	do    func(a *arena) (undo func())
}

const faulty = 2

// replace starts a new node in place of a silent one behind its proxy.
func (a *arena) replace() {
	n := a.fleet.node(faulty)
	n.kill()
	a.proxies[faulty].Resume()
	a.begin(faulty)
}

func silentOn(statement string) func(a *arena) func() {
	return func(a *arena) func() {
		hit := a.proxies[faulty].SilenceOn(regexp.MustCompile(statement))
		for n, tick := 0, time.NewTicker(50*time.Millisecond); !closed(hit); n++ {
			<-tick.C
			go a.ask(faulty, fmt.Sprint("evt_silent_", time.Now().UnixNano()), "payment.succeeded", "")
			if n > 1000 {
				a.t.Fatalf("no %s was sent", statement)
			}
		}
		a.signal(syscall.SIGSTOP)
		return a.replace
	}
}

// clockStep steps the database's clock, and back at the end.
func clockStep(by string) func(a *arena) func() {
	return func(a *arena) func() {
		step := func(to string) {
			if err := a.db.Exec("UPDATE stepped.clock SET ahead = '" + to + "'"); err != nil {
				a.t.Fatal(err)
			}
		}
		step(by)
		return func() { step("0") }
	}
}

func (a *arena) exec(query string) {
	if err := a.db.Exec(query); err != nil {
		a.t.Fatalf("%s: %v", query, err)
	}
}

// fullDisk moves today's deliveries to a small file system and fills that. It needs root to
// mount one.
func fullDisk(a *arena) func() {
	dir, err := os.MkdirTemp("", "posthaste-small-")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, command := range [][]string{{"mount", "-t", "tmpfs", "-o", "size=48m,mode=777", "tmpfs", dir}, {"mkdir", "-m", "700", dir + "/space"}, {"chown", "postgres", dir + "/space"}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			a.t.Skipf("no small file system can be had: %s: %s", strings.Join(command, " "), out)
		}
	}
	a.t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	a.exec("CREATE TABLESPACE small LOCATION '" + dir + "/space'")
	for _, table := range []string{"deliveries", "attempts", "events"} {
		a.exec(fmt.Sprintf("ALTER TABLE %s_p%s SET TABLESPACE small", table, time.Now().UTC().Format("20060102")))
	}
	if out, err := exec.Command("sh", "-c", "cat /dev/zero >"+dir+"/filler; true").CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	<-time.After(3 * time.Second)
	if err := os.Remove(dir + "/filler"); err != nil {
		a.t.Fatal(err)
	}
	return func() {
		for _, table := range []string{"deliveries", "attempts", "events"} {
			a.exec(fmt.Sprintf("ALTER TABLE %s_p%s SET TABLESPACE pg_default", table, time.Now().UTC().Format("20060102")))
		}
		a.exec("DROP TABLESPACE small")
	}
}

func (a *arena) signal(s os.Signal) {
	if err := a.fleet.node(faulty).cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
}

// held runs statements in a transaction that stays open until end is called.
func (a *arena) held(statements ...string) (end func()) {
	end, err := a.db.Hold(statements...)
	if err != nil {
		a.t.Fatal(err)
	}
	return end
}

var clusterCases = []clusterCase{
	{name: "machine dies inside a transaction that stores events", short: true, do: silentOn(`INSERT INTO deliveries`)},
	{name: "machine dies while it renews its lease", short: true, do: silentOn(`UPDATE nodes SET`)},
	{name: "process is stopped (SIGSTOP)", do: func(a *arena) func() {
		a.signal(syscall.SIGSTOP)
		return func() { // the node notices that it was replaced, and ends
			a.signal(syscall.SIGCONT)
			a.fleet.node(faulty).exit()
			a.begin(faulty)
		}
	}},
	{name: "node is cut off from the database", do: func(a *arena) func() {
		a.proxies[faulty].Silence()
		return a.replace
	}},
	{name: "node is killed", do: func(a *arena) func() {
		a.fleet.node(faulty).kill()
		return func() { a.begin(faulty) }
	}},
	{name: "node is killed while its row is locked by a reader", do: func(a *arena) func() {
		end := a.held("BEGIN", fmt.Sprint("SELECT 1 FROM nodes WHERE no = ", a.number(faulty), " FOR KEY SHARE"))
		a.fleet.node(faulty).kill()
		return func() {
			end()
			a.begin(faulty)
		}
	}},
	{name: "300 ms to the database from all nodes", all: true, slow: true, do: func(a *arena) func() {
		for _, p := range a.proxies {
			p.Delay(300 * time.Millisecond)
		}
		return func() {
			for _, p := range a.proxies {
				p.Delay(0)
			}
		}
	}},
	{name: "an id is repeated that is in a silent transaction", do: func(a *arena) func() {
		hit := a.proxies[faulty].SilenceOn(regexp.MustCompile(`INSERT INTO event_ids`))
		const id = "evt_the_same_at_two_nodes"
		for !closed(hit) {
			go a.ask(faulty, id, "payment.succeeded", "")
			<-time.After(50 * time.Millisecond)
		}
		a.signal(syscall.SIGSTOP)
		go a.ask(0, id, "payment.succeeded", "")
		return a.replace
	}},
	{name: "deliveries are locked for 3 s", all: true, slow: true, do: func(a *arena) func() {
		end := a.held("BEGIN", "LOCK TABLE deliveries")
		<-time.After(3 * time.Second)
		end()
		return func() {}
	}},
	{name: "the database's disk is full for 3 s", all: true, slow: true, do: fullDisk},
	{name: "a day is due to be dropped beside a reader", all: true, do: func(a *arena) func() {
		old := time.Now().AddDate(0, 0, -60).UTC().Truncate(24 * time.Hour)
		for _, table := range []string{"events", "deliveries", "attempts"} {
			a.exec(fmt.Sprintf("CREATE TABLE %s_p%s (LIKE %[1]s INCLUDING ALL)", table, old.Format("20060102")))
			a.exec(fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %[1]s_p%s FOR VALUES FROM (%d) TO (%d)", table, old.Format("20060102"),
				int64(event.KeyAt(old)), int64(event.KeyAt(old.AddDate(0, 0, 1)))))
		}
		end := a.held("BEGIN", "SELECT count(*) FROM events", "SELECT count(*) FROM deliveries")
		n := a.serve(a.db.URL("postgres"), "--retention", "720h") // it purges when it starts
		return func() {
			end()
			n.stop()
		}
	}},
	{name: "an edit is left open (versions locked)", all: true, do: func(a *arena) func() {
		return a.held("BEGIN", "UPDATE versions SET version = version + 1 WHERE no = 1")
	}},
	{name: "the database's clock steps 5 s ahead", all: true, do: clockStep("5 seconds")},
	{name: "the database's clock steps 60 s back", short: true, all: true, do: clockStep("-60 seconds")},
	{name: "the database's clock steps 1 h ahead", all: true, do: clockStep("1 hour")},
	{name: "the database's clock steps 1 h back", all: true, do: clockStep("-1 hour")},
	{name: "a node joins", all: true, do: func(a *arena) func() {
		n := a.serve(a.db.URL("postgres"))
		n.out.await(a.t, `msg="endpoints assigned"`)
		return n.stop
	}},
	{name: "a node joins while attempts are under way", short: true, all: true, do: func(a *arena) func() {
		a.ask(0, "evt_slow000000000000", "slow.thing", "")
		until(a.t, "the attempts under way", func() bool { return a.slow.Load() == arenaSlow })
		n := a.serve(a.db.URL("postgres"))
		return func() {
			close(a.answer)
			n.out.await(a.t, `msg="endpoints assigned"`)
			n.stop()
		}
	}},
	{name: "8 nodes join at once", all: true, do: func(a *arena) func() {
		var wg sync.WaitGroup
		nodes := make([]*server, 8)
		for i := range nodes {
			wg.Go(func() {
				nodes[i] = a.serve(a.db.URL("postgres"))
				nodes[i].out.await(a.t, `msg="endpoints assigned"`)
			})
		}
		wg.Wait()
		return func() {
			for _, n := range nodes {
				n.stop()
			}
		}
	}},
}

// TestCluster_faults causes the possible faults of a node and of the database of a cluster, one
// after the other, under load, and prints the effect on the other nodes.
func TestCluster_faults(t *testing.T) {
	if *clusterFault == "" {
		t.Parallel()
	}
	a := newArena(t)
	a.load()
	until(t, "the first deliveries", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.came) == arenaEndpoints+arenaOrdered
	})
	table := &strings.Builder{}
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "fault\tacknowledged\tlost\tduplicates\treordered\trefused\tgap of acks\tof others' endpoints\tof its endpoints")
	chosen := regexp.MustCompile(*clusterFault)
	for _, c := range clusterCases {
		if *clusterFault == "" && !c.short && !*clusterFaults || !chosen.MatchString(c.name) {
			continue
		}
		r := a.run(c)
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", c.name, r.acked, r.lost, r.duplicates, r.reordered, r.refused, r.acks, r.theirs, r.its)
		_ = w.Flush()
		t.Logf("so far:\n%s", table)
		if r.lost > 0 || r.reordered > 0 {
			t.Errorf("%s: %d lost, %d reordered", c.name, r.lost, r.reordered)
		}
		if *clusterFaults && (!c.slow && max(r.acks, r.theirs) > time.Second || r.its > *clusterLease+3*time.Second) {
			t.Errorf("%s: gaps of %s, %s and %s; the limits are 1s, 1s and %s", c.name, r.acks, r.theirs, r.its, *clusterLease+3*time.Second)
		}
	}
	a.stop()
	a.fleet.stop()
}

type clusterResult struct {
	acked, lost, duplicates, reordered, refused int
	acks, theirs, its                           time.Duration
}

// run causes a fault, waits for longer than the lease, and checks all events after it.
func (a *arena) run(c clusterCase) (r clusterResult) {
	a.t.Helper()
	members := []int{a.number(0), a.number(1), a.number(2)}
	a.fleet.node(faulty).out.await(a.t, `msg="endpoints assigned"`)
	victim := -1
	if !c.all {
		victim = faulty
		a.leave(faulty)
	}
	a.mu.Lock()
	acked, refused, duplicates := len(a.acked), a.refused, a.again()
	a.mu.Unlock()
	from := time.Now()
	undo := c.do(a)
	<-time.After(*clusterLease*2 + 4*time.Second)
	until := time.Now()
	undo()
	if !c.all {
		a.enter(faulty)
	}
	r.acks, r.theirs, r.its = a.gaps(from, until, members, victim, members[faulty])
	for _, d := range []*time.Duration{&r.acks, &r.theirs, &r.its} {
		*d = d.Round(10 * time.Millisecond)
	}
	a.settle(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	r.acked, r.refused, r.duplicates = len(a.acked)-acked, a.refused-refused, a.again()-duplicates
	r.lost = len(a.lost(from))
	r.reordered = a.reordered()
	return r
}

// settle waits until all acknowledged events have arrived.
func (a *arena) settle(from time.Time) {
	limit := time.Now()
	holds(func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for id, at := range a.acked {
			if at.After(limit) {
				continue
			}
			for no := range arenaEndpoints {
				if a.seen[fmt.Sprintf("%s /%d", id, no+1)] == 0 {
					return false
				}
			}
		}
		return len(a.steps) == 0 || a.seen[fmt.Sprintf("%s /%d", a.steps[max(len(a.steps)-50, 0)], arenaEndpoints+1)] > 0
	})
}

// lost returns events that were acknowledged a while ago and have not arrived everywhere.
func (a *arena) lost(time.Time) (ids []string) {
	for id, at := range a.acked {
		for no := range arenaEndpoints {
			if a.seen[fmt.Sprintf("%s /%d", id, no+1)] == 0 && time.Since(at) > time.Minute {
				ids = append(ids, id)
				break
			}
		}
	}
	return ids
}

// again counts repeated arrivals.
func (a *arena) again() (n int) {
	for _, times := range a.seen {
		n += times - 1
	}
	return n
}

// reordered counts the steps that arrived before an earlier acknowledged one.
func (a *arena) reordered() (n int) {
	for _, ids := range a.ordered {
		for i := 1; i < len(ids); i++ {
			if ids[i] < ids[i-1] {
				n++
			}
		}
	}
	return n
}

// TestCluster_deadlines checks that a node which cannot commit, because it is cut off from the
// database or a table is locked, tells senders and load balancers so, and continues afterwards.
// An open transaction of an edit, or a lock on a table that no commit uses, has no effect.
func TestCluster_deadlines(t *testing.T) {
	t.Parallel()
	db := database(t)
	proxy, err := db.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	s := serve(t, "", "--database-url", proxy.URL("postgres"), "--commit-timeout", "2s")
	r := receive(t, answers())
	s.register(r.URL)
	post := func(id string) answer {
		return s.call("POST", "/v1/events", object{"id": id, "type": "a.b", "data": object{"object": object{}}})
	}
	ready := func() bool { return s.call("GET", "/readyz", nil).status == http.StatusOK }
	hold := func(statements ...string) func() {
		end, err := db.Hold(statements...)
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	sent := 0
	for _, c := range []struct {
		name   string
		begin  func() (end func())
		refuse bool
	}{
		{"cut_off", func() func() {
			proxy.Silence()
			return proxy.Resume
		}, true},
		{"deliveries_locked", func() func() { return hold("BEGIN", "LOCK TABLE deliveries") }, true},
		{"an_edit_is_open", func() func() { return hold("BEGIN", "UPDATE versions SET version = version WHERE no = 1") }, false},
		{"accounts_locked", func() func() { return hold("BEGIN", "LOCK TABLE accounts, endpoints, audit") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.until("the node to be ready", ready)
			id := fmt.Sprint("evt_during_the_fault_", c.name)
			end := c.begin()
			if c.refuse {
				s.until("the node to say that it is not ready", func() bool { return !ready() })
			}
			a := post(id)
			switch {
			case !c.refuse && a.status != http.StatusOK:
				t.Errorf("an event: %d %s", a.status, a.body)
			case c.refuse && a.status != http.StatusServiceUnavailable:
				t.Errorf("an event: %d %s", a.status, a.body)
			case !c.refuse && !ready():
				t.Error("it is not ready")
			}
			if c.name == "cut_off" { // no request hangs
				for _, request := range []struct {
					method, path string
					body         any
				}{
					{"POST", "/v1/events/batch", object{"events": []object{{"type": "a.b", "data": object{"object": object{}}}}}},
					{"POST", "/v1/webhooks", object{"url": r.URL, "enabled_events": []string{"*"}}},
					{"GET", "/v1/webhooks", nil},
				} {
					if a := s.call(request.method, request.path, request.body, "Idempotency-Key", "key of "+request.path); a.status != http.StatusServiceUnavailable {
						t.Errorf("%s %s: %d %s", request.method, request.path, a.status, a.body)
					}
				}
			}
			end()
			s.until("the same event to be taken", func() bool { return post(id).status == http.StatusOK })
			s.until("the node to be ready", ready)
			sent++
			s.until("the event to arrive", func() bool { return r.count() >= sent })
		})
	}
}
