package e2e

import (
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is the wall clock of the servers that it starts. A test can step it. The clock of the
// machine and the monotonic clock of the servers do not change.
type clock struct {
	t    testing.TB
	file *os.File

	mu    sync.Mutex
	steps []time.Duration // differences from the machine's clock, in turn
}

var buildClock = sync.OnceValues(func() (program string, err error) {
	from, err := filepath.Abs("testdata/clock")
	if err != nil {
		return "", err
	}
	to, err := filepath.Abs("../cmd/posthaste")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, name := range []string{"clock.go", "clock_amd64.s"} {
		replace[filepath.Join(to, name)] = filepath.Join(from, name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file, program := filepath.Join(filepath.Dir(binary), "overlay.json"), binary+"-clock"
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", err
	}
	build := []string{"build", "-overlay", file, "-ldflags=-checklinkname=0", "-o", program}
	if underRace {
		build = append(build, "-race")
	}
	if out, err := exec.Command("go", append(build, to)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return program, nil
})

// newClock returns a correct clock. It builds the program again with testdata/clock; nothing
// else differs from the release.
func newClock(t testing.TB) *clock {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("stepping the clock of one process is made for Linux on amd64")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "step"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	c := &clock{t: t, file: f}
	c.step(0)
	return c
}

// step sets the clock ahead of the machine's by to, or behind it.
func (c *clock) step(to time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, to)
	if _, err := c.file.WriteAt(endian.NativeEndian.AppendUint64(nil, uint64(to/time.Second)), 0); err != nil {
		c.t.Fatal(err)
	}
}

// now returns the time of the clock.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.steps[len(c.steps)-1])
}

// showed reports whether the clock can have shown a time just now, or before its last step.
func (c *clock) showed(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.steps[max(len(c.steps)-2, 0):] {
		if off := time.Until(at.Add(-s)); off.Abs() < patience {
			return true
		}
	}
	return false
}

// serve starts a server that uses the clock.
func (c *clock) serve(data string, args ...string) *server {
	c.t.Helper()
	program, err := buildClock()
	if err != nil {
		c.t.Fatal(err)
	}
	s := serveProgram(c.t, []string{"CLOCK_STEP=" + c.file.Name()}, data, append([]string{program, "serve", "--addr", "127.0.0.1:0", "--data", data}, args...)...)
	date, err := http.ParseTime(s.call("GET", "/healthz", nil).header.Get("Date"))
	if err != nil || !c.showed(date) {
		c.t.Fatalf("the server's clock shows %s, not %s: %v", date, c.now(), err)
	}
	return s
}

// The delay of pending retries in tests of the clock, and its maximum with the random part.
const (
	clockDelay   = 10 * time.Minute
	clockLongest = clockDelay * 12 / 10
)

// sitters are endpoints that refuse their event once: its retry is pending for longer than a
// test.
type sitters struct {
	t        testing.TB
	receiver string

	mu      sync.Mutex
	refused map[string]bool // by id
	taken   map[string]bool
}

func newSitters(t testing.TB) *sitters {
	w := &sitters{t: t, refused: map[string]bool{}, taken: map[string]bool{}}
	w.receiver = newServer(t, func(rw http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Webhook-Id")
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.refused[id] {
			w.refused[id] = true
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.taken[id] = true
	}).URL
	return w
}

// sit creates one more pending retry.
func (w *sitters) sit(s *server) {
	w.t.Helper()
	name := fmt.Sprintf("sit.no%d", len(w.refused))
	delay := int(clockDelay / time.Second)
	s.register(w.receiver, "enabled_events", []string{name}, "retry_schedule", []int{delay, delay, delay})
	id := s.send(name, object{"n": 1}).text("id")
	until(w.t, "an event to wait for its retry", func() bool {
		d := s.must("GET", "/v1/events/"+id+"/deliveries", nil).list()
		return len(d) == 1 && (d[0]["attempts"] != 0.0 || d[0].text("status") != "pending")
	})
}

// sane waits until no retry is due later than its schedule allows.
func (w *sitters) sane(s *server, now func() time.Time) {
	w.t.Helper()
	var late []object
	if !holds(func() bool {
		late = late[:0]
		for _, d := range s.must("GET", "/v1/deliveries?status=pending&type=sit.*&limit=100", nil).list() {
			if next, _ := d["next_attempt_at"].(float64); time.Unix(int64(next), 0).Sub(now()) > clockLongest {
				late = append(late, d)
			}
		}
		return len(late) == 0
	}) {
		w.t.Errorf("at %d, retries are put off: %v", now().Unix(), late)
	}
}

// left returns the number of events that did not arrive again.
func (w *sitters) left() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.refused) - len(w.taken)
}

// stamped counts deliveries, and those whose signature has a time that the clock did not show.
type stamped struct {
	clocks []*clock
	mu     sync.Mutex
	good   int
	bad    []string
}

func (s *stamped) note(r *http.Request) {
	sec, err := strconv.ParseInt(r.Header.Get("Webhook-Timestamp"), 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clocks {
		if err == nil && c.showed(time.Unix(sec, 0)) {
			s.good++
			return
		}
	}
	s.bad = append(s.bad, r.Header.Get("Webhook-Timestamp"))
}

func (s *stamped) before(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		next(w, r)
	}
}

// Steps of the wall clock by hours and days, forward and back, while the server runs or is
// stopped, lose and delay nothing: acknowledged events arrive, retries are due by their
// schedule, and signatures have the time of the clock.
func TestFault_clockSteps(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	stamps := &stamped{clocks: []*clock{c}}
	l := newLoad(t, stamps.before)
	sat := newSitters(t)
	data := t.TempDir()
	begin := func() *life { return l.begin(c.serve(data, "--dev", "--test-schedule", faultSchedule)) }
	begin().register(l.receiver.URL, "enabled_events", []string{"payment.*"})
	l.start(8)
	end := func() {
		s := l.current.Load()
		s.killed.Store(true)
		s.kill()
	}
	for range *faultRounds {
		for _, step := range []struct {
			to      time.Duration
			restart bool
		}{
			{2 * time.Hour, false}, {-26 * time.Hour, false}, {0, true}, {72 * time.Hour, true}, {0, false}, {-72 * time.Hour, true},
		} {
			l.advance(50)
			sat.sit(l.current.Load().server)
			if step.restart {
				end()
			}
			c.step(step.to)
			if step.restart {
				begin()
			}
			before := l.arrivals()
			l.advance(50)
			until(t, "deliveries after a step", func() bool { return l.arrivals() > before+20 })
			sat.sane(l.current.Load().server, c.now)
		}
	}
	end()
	c.step(clockLongest) // after all pending retries
	begin()
	until(t, "the retries that waited", func() bool { return sat.left() == 0 })
	l.reconcile(fmt.Sprintf("steps=%d waited=%d", *faultRounds*6, len(sat.taken)))
	stamps.mu.Lock()
	defer stamps.mu.Unlock()
	if len(stamps.bad) > 0 || stamps.good == 0 {
		t.Errorf("%d signatures bear the time of the clock, and %d do not, such as %s", stamps.good, len(stamps.bad), strings.Join(stamps.bad[:min(3, len(stamps.bad))], ", "))
	}
}

// visit requests a page of the Admin UI with a session, and reports whether it is shown.
func visit(s *server, session string) bool {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.base+"/admin", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Cookie", session)
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	to := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusSeeOther {
		s.t.Errorf("/admin: %d", resp.StatusCode)
	}
	return !strings.HasPrefix(to, "/admin/sign-in")
}

// Durations are correct in spite of steps of the wall clock: repeated requests with the same
// key have one effect, a clock that was ahead leaves no session valid for too long, limits are
// neither refilled nor frozen, and jobs continue.
func TestFault_clockStepsAndLives(t *testing.T) {
	t.Parallel()
	c := newClock(t)
	data := t.TempDir()
	s := c.serve(data, "--dev")
	password := s.out.await(t, `Password +(\S+)`)[1]

	type request struct {
		path, key string
		body      any
		made      string // id of the first object
	}
	var requests []*request
	repeat := func(when string) {
		t.Helper()
		for _, r := range requests {
			a := s.call("POST", r.path, r.body, "Idempotency-Key", r.key)
			if id := a.object.text("id"); a.status != http.StatusOK || id != r.made {
				t.Errorf("%s, the request %s is answered %d with %s, not %s", when, r.key, a.status, id, r.made)
			}
		}
	}
	begin := func(name string) {
		t.Helper()
		for _, r := range []*request{
			{path: "/v1/events", key: name + " event", body: object{"type": "once.sent", "data": object{"object": object{"name": name}}}},
			{path: "/v1/webhooks", key: name + " endpoint", body: object{"url": "http://127.0.0.1:1/" + name, "enabled_events": []string{"never.sent"}}},
		} {
			r.made = s.must("POST", r.path, r.body, "Idempotency-Key", r.key).text("id")
			requests = append(requests, r)
		}
	}
	signIn := func() string {
		t.Helper()
		resp, err := http.DefaultTransport.RoundTrip(signInRequest(t, s.base, password))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if len(resp.Cookies()) == 0 {
			t.Fatalf("no session: %d", resp.StatusCode)
		}
		return resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
	}
	session := func(when, session string, want bool) {
		t.Helper()
		if got := visit(s, session); got != want {
			t.Errorf("%s, the session is good: %t", when, got)
		}
	}

	// Five requests a minute: a step of the clock is not a minute.
	limited := s.must("POST", "/v1/accounts", object{"name": "limited", "rate_limit": 5}, "Authorization", "Bearer "+adminKey).text("id")
	key := s.must("POST", "/v1/api_keys", object{"name": "limited"}, "Authorization", "Bearer "+adminKey, "Payment-Account", limited).text("secret")
	ask := func() answer { return s.call("GET", "/v1/events", nil, "Authorization", "Bearer "+key) }
	until(t, "the limit to be reached", func() bool { return ask().status == http.StatusTooManyRequests })
	limit := func(when string) {
		t.Helper()
		wait, err := strconv.Atoi(ask().header.Get("Retry-After"))
		if until(t, when+", the limit to be reached", func() bool { return ask().status == http.StatusTooManyRequests }); err == nil && wait > 12 {
			t.Errorf("%s, the limit holds for %d s", when, wait)
		}
		taken := 0
		for range 10 {
			if ask().status == http.StatusOK {
				taken++
			}
		}
		if taken > 3 {
			t.Errorf("%s, %d of 10 requests over the limit are accepted", when, taken)
		}
	}

	// A receiver that fails while the clock is ahead.
	var up atomic.Bool
	var recovered atomic.Int64
	receiver := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		recovered.Add(1)
	})
	down := s.register(receiver.URL, "enabled_events", []string{"down.*"}, "retry_schedule", []int{1}).text("id")

	begin("right")
	first := signIn()
	c.step(11 * time.Hour)
	session("eleven hours ahead", first, true)
	c.step(13 * time.Hour)
	session("thirteen hours ahead", first, false)
	c.step(72 * time.Hour)
	repeat("three days ahead")
	begin("ahead")
	ahead := signIn()
	session("three days ahead", ahead, true)
	limit("three days ahead")
	s.settled(s.send("down.one", object{"n": 1}).text("id"))

	c.step(0)
	repeat("right again")
	session("right again", first, true)
	session("made three days ahead", ahead, false)
	limit("right again")
	up.Store(true)
	job := s.must("POST", "/v1/webhooks/"+down+"/recover", object{"since": c.now().Add(-time.Hour).Unix()})
	s.until("the job to be done", func() bool { return s.must("GET", "/v1/jobs/"+job.text("id"), nil).text("status") == "succeeded" })
	s.until("what failed ahead of time to arrive", func() bool { return recovered.Load() == 1 })

	c.step(-26 * time.Hour)
	repeat("a day behind")
	begin("behind")
	session("made a day in the future", first, false)
	behind := signIn()
	limit("a day behind")
	s.kill()
	s = c.serve(data, "--dev")
	repeat("a day behind, after a restart")
	session("a day behind, after a restart", behind, true)
	s.kill()
	c.step(0)
	s = c.serve(data, "--dev")
	session("a day later, after a restart", behind, false)
	for typ, want := range map[string]int{"once.sent": 3} {
		if got := len(s.must("GET", "/v1/events?type="+typ+"&limit=100", nil).list()); got != want {
			t.Errorf("%d events %s, not %d", got, typ, want)
		}
	}
	s.stop()
	checkStore(t, data)
}

func signInRequest(t testing.TB, base, password string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("POST", base+"/admin/sign-in", strings.NewReader(url.Values{"name": {"admin"}, "password": {password}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// The wall clock of one of several nodes has no effect: all use the database's clock. The node
// keeps its lease and takes over no other's, order holds on whichever node an event is sent to,
// retries are due at the same time, and signatures have the right time.
func TestFault_clockStepsOfANode(t *testing.T) {
	t.Parallel()
	db := database(t)
	c := newClock(t)
	right := &clock{t: t, steps: []time.Duration{0}}
	stamps := &stamped{clocks: []*clock{right}}
	l := newLoad(t, stamps.before)
	order := &sequence{refused: map[string]bool{}}
	sat := newSitters(t)
	f := newFleetWith(t, c.serve, db.URL("postgres"), 2, "--test-schedule", faultSchedule)
	for range 4 { // so that each node has some
		f.node(1).register(l.receiver.URL, "enabled_events", []string{"payment.*"})
	}
	f.node(0).register(newServer(t, order.receive).URL, "enabled_events", []string{"step.*"}, "ordering", "fifo")
	f.know(5)
	for i := range 2 {
		f.node(i).out.await(t, `members changed.* nodes=0,1`)
	}
	members := strings.Count(f.node(0).out.String()+f.node(1).out.String(), "members changed")
	var steps []string
	send := func(events int) {
		t.Helper()
		for range events {
			id := fmt.Sprintf("evt_step%016d", len(steps))
			f.node(len(steps)%2).must("POST", "/v1/events", object{"id": id, "type": "step.done", "data": object{"object": object{}}})
			steps = append(steps, id)
		}
	}
	key := []string{"Idempotency-Key", "across nodes"}
	once := object{"type": "once.sent", "data": object{"object": object{}}}
	made := f.node(1).must("POST", "/v1/events", once, key...).text("id")

	l.begin(f.node(0).server)
	l.start(4)
	for range *faultRounds {
		for _, to := range []time.Duration{2 * time.Hour, -26 * time.Hour, 72 * time.Hour, 0} {
			sat.sit(f.node(1).server)
			c.step(to)
			l.advance(50)
			send(10)
			sat.sane(f.node(0).server, time.Now)
			if id := f.node(0).must("POST", "/v1/events", once, key...).text("id"); id != made {
				t.Errorf("with its clock off by %s, a node does a request again that was done", to)
			}
		}
	}
	l.stop()
	until(t, "all that was acknowledged", func() bool { return len(l.missing()) == 0 && order.len() >= len(steps) })

	// A node that starts with a wrong clock works, and its dates are right for nodes that take
	// over from it.
	nothing := strings.Count(f.node(0).out.String()+f.node(1).out.String(), "members changed")
	f.node(0).stop()
	c.step(-72 * time.Hour)
	f.begin(0)
	f.know(5 + len(sat.refused))
	f.node(1).out.await(t, `(?s)members changed.*members changed.*members changed`)
	sat.sit(f.node(0).server)
	send(10)
	until(t, "events in order", func() bool { return order.len() >= len(steps) })
	if id := f.node(0).must("POST", "/v1/events", once, key...).text("id"); id != made {
		t.Error("started with its clock off, a node does a request again that was done")
	}
	f.node(0).stop()
	sat.sane(f.node(1).server, time.Now)
	f.node(1).stop()

	if left, err := db.Number("SELECT count(*) FROM deliveries d JOIN events e ON e.key = d.event WHERE d.state = 0 AND e.type NOT LIKE 'sit.%'"); err != nil || left > 0 {
		t.Errorf("%v deliveries are left: %v", left, err)
	}
	if n, err := db.Number("SELECT count(*) FROM events_default"); err != nil || n > 0 {
		t.Errorf("%v events are in no day's partition: %v", n, err)
	}
	l.compare(fmt.Sprintf("steps=%d waited=%d", *faultRounds*4, len(sat.refused)), l.missing())
	order.mu.Lock()
	defer order.mu.Unlock()
	if !slices.Equal(order.taken, steps) {
		t.Errorf("out of order: %v", firstDifference(order.taken, steps))
	}
	if nothing > members {
		t.Error("the members changed when a node's clock was stepped")
	}
	for _, said := range []string{"lease was not renewed", "renew the lease", "others have taken over"} {
		for i := range f.nodes {
			if strings.Contains(f.node(i).out.String(), said) {
				t.Errorf("node %d says: %s", i, said)
			}
		}
	}
	stamps.mu.Lock()
	defer stamps.mu.Unlock()
	if len(stamps.bad) > 0 || stamps.good == 0 {
		t.Errorf("%d signatures bear the database's time, and %d do not", stamps.good, len(stamps.bad))
	}
}
