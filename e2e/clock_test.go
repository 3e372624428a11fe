package e2e

import (
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is the wall clock of the servers that it starts, which a test steps. The machine's
// own stays as it is, and theirs of time that passes does.
type clock struct {
	t    testing.TB
	file *os.File

	mu    sync.Mutex
	steps []time.Duration // off the machine's clock, one after the other
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

// newClock returns a clock that is right. The program is built once more, with testdata/clock
// in it; nothing else is another than in the one that is shipped.
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

// step puts the clock so far ahead of the machine's, or behind it.
func (c *clock) step(to time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, to)
	if _, err := c.file.WriteAt(endian.NativeEndian.AppendUint64(nil, uint64(to/time.Second)), 0); err != nil {
		c.t.Fatal(err)
	}
}

// now is what the clock shows.
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

// serve starts a server whose clock this is.
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

// The delay of the waiting retries in tests of the clock, and the longest that chance
// makes of it.
const (
	clockDelay   = 10 * time.Minute
	clockLongest = clockDelay * 12 / 10
)

// sitters are endpoints that refuse their event once: it waits, for longer than a test, for
// its retry.
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

// sit makes one more retry wait.
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

// sane waits until no retry is dated further ahead than its schedule explains.
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

// left are the events that did not arrive again.
func (w *sitters) left() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.refused) - len(w.taken)
}

// stamped counts deliveries, and those whose signature bears a time that a clock did not show.
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

// A wall clock that is stepped by hours and days, forward and back, while the server runs
// and while it does not, loses nothing and puts nothing off: what was acknowledged arrives,
// retries are due when their schedule says, and signatures bear the time of the clock.
func TestFault_clockSteps(t *testing.T) {
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
	c.step(clockLongest) // ahead of all that waits
	begin()
	until(t, "the retries that waited", func() bool { return sat.left() == 0 })
	l.reconcile(fmt.Sprintf("steps=%d waited=%d", *faultRounds*6, len(sat.taken)))
	stamps.mu.Lock()
	defer stamps.mu.Unlock()
	if len(stamps.bad) > 0 || stamps.good == 0 {
		t.Errorf("%d signatures bear the time of the clock, and %d do not, such as %s", stamps.good, len(stamps.bad), strings.Join(stamps.bad[:min(3, len(stamps.bad))], ", "))
	}
}
