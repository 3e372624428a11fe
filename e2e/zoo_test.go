package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/e2e/zoo"
)

// Every animal of the zoo is an endpoint, beside a healthy one. Each attempt has the right
// outcome and ends with the timeout; the healthy endpoint is not affected; and after the
// animals were closed, no resources remain in use.
func TestZoo(t *testing.T) {
	t.Parallel()
	const timeout = time.Second // the shortest that the server allows
	z, err := zoo.Open()
	if err != nil {
		t.Fatal(err)
	}
	closeZoo := sync.OnceFunc(z.Close)
	t.Cleanup(closeZoo)
	data := t.TempDir()
	roots := filepath.Join(data, "roots.pem")
	if err := os.WriteFile(roots, z.RootCA, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"POSTHASTE_TEST_KEY=" + testKey, "SSL_CERT_FILE=" + roots, "SSL_CERT_DIR=" + data}, binary,
		"serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--timeout", timeout.String(), "--test-schedule", "")
	s := &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}

	well := &arrivals{at: map[string]time.Time{}}
	healthy := newServer(t, well.receive)
	s.register(healthy.URL)
	const burst = 100
	// healthyBurst sends events to the healthy endpoint only.
	healthyBurst := func() (ids []string, accepted time.Time) {
		return s.burst("healthy.event", burst)
	}
	ids, _ := healthyBurst()
	s.until("the healthy endpoint to have its first events", func() bool { return well.have(ids) })
	// The idle connections to the healthy endpoint, whose number depends on its concurrency, are
	// not the animals' fault.
	healthy.CloseClientConnections()
	s.settledAll(ids[len(ids)-1])
	before := s.gauges()

	animals := map[string]*zoo.Animal{} // by endpoint
	var confusers []string
	for i := range z.Animals {
		a := &z.Animals[i]
		types := []string{"zoo.visit"}
		if a.Large {
			types = []string{"zoo.large"}
		}
		if strings.HasPrefix(a.Name, zoo.Confuser) {
			types = append(types, "zoo.again")
		}
		id := s.register(z.URL(a), "enabled_events", types, "description", a.Name).text("id")
		animals[id] = a
		if len(types) > 1 {
			confusers = append(confusers, id)
		}
	}
	attempts, late, longest := 0, burst, 0.0
	visit := func(round int) {
		visits := []string{s.send("zoo.visit", object{"n": round}).text("id"), s.send("zoo.large", object{"filling": strings.Repeat("x", 200<<10)}).text("id")}
		ids, accepted := healthyBurst()
		s.until("the healthy endpoint to have its events", func() bool { return well.have(ids) })
		slow := 0
		for _, id := range ids {
			if took := well.when(id).Sub(accepted); took >= timeout {
				slow++
			}
		}
		late = min(late, slow) // a busy machine may be slow once
		for _, d := range slices.Concat(s.settledAll(visits[0]), s.settledAll(visits[1])) {
			a := animals[d.text("endpoint")]
			if a == nil {
				continue // the healthy one
			}
			all := s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list()
			// On a busy machine, any request may time out: failures are repeated separately.
			for tries := 1; tries < 4 && len(all) > 0 && all[0].text("outcome") == "timeout" && !slices.Contains(a.Outcomes, "timeout"); tries++ {
				s.must("POST", "/v1/deliveries/"+d.text("id")+"/retry", nil)
				s.until("another attempt", func() bool {
					all = s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list()
					return len(all) > tries
				})
			}
			if len(all) == 0 {
				t.Errorf("%s: no attempt", a.Name)
				continue
			}
			for _, one := range all {
				attempts++
				longest = max(longest, one["duration_ms"].(float64))
			}
			check(t, a, all[0])
		}
	}
	visit(1)
	visit(2) // it uses the connections that the first one left
	if late > 0 {
		t.Errorf("each time some deliveries to the healthy endpoint, %d at least, took as long as an animal's timeout", late)
	}
	if limit := 10 * timeout; longest > float64(limit.Milliseconds()) {
		t.Errorf("the longest attempt took %.0f ms, with a timeout of %s", longest, timeout)
	}

	// Many concurrent deliveries to animals that send more responses than requests.
	again, _ := s.burst("zoo.again", burst)
	stolen, own := 0, 0
	for _, id := range again {
		for _, d := range s.settledAll(id) {
			if !slices.Contains(confusers, d.text("endpoint")) {
				continue
			}
			for _, a := range s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list() {
				attempts++
				switch said := headerOf(a, zoo.Answers); {
				case said == id:
					own++
				case said != "":
					stolen++
				}
			}
		}
	}
	if stolen > 0 || own == 0 {
		t.Errorf("of %d answers that arrived, %d were for other deliveries", own+stolen, stolen)
	}
	if n := z.Entered(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}

	peak := s.peak()
	closeZoo()
	healthy.CloseClientConnections()
	var after gauges
	if !holds(func() bool {
		after = s.gauges()
		return after.goroutines <= before.goroutines+20 && after.files <= before.files+20 // the store's own number varies
	}) {
		t.Errorf("the animals left resources: %.0f goroutines and %.0f files, %.0f and %.0f before", after.goroutines, after.files, before.goroutines, before.files)
	}
	const most = 192 << 20 // one completely read response would be more than half of it
	if peak-before.memory > most || after.memory-before.memory > most {
		t.Errorf("memory: %.0f MiB before, %.0f at most, %.0f after", before.memory/(1<<20), peak/(1<<20), after.memory/(1<<20))
	}
	t.Logf("animals=%d attempts=%d longest=%.0fms answers=%d memory=%.0f/%.0f/%.0fMiB goroutines=%.0f/%.0f files=%.0f/%.0f", len(z.Animals), attempts, longest, own,
		before.memory/(1<<20), peak/(1<<20), after.memory/(1<<20), before.goroutines, after.goroutines, before.files, after.files)
}

// check compares an attempt with its animal's expected result.
func check(t *testing.T, a *zoo.Animal, attempt object) {
	t.Helper()
	status, _ := attempt["response_status_code"].(float64)
	if !slices.Contains(a.Outcomes, attempt.text("outcome")) || a.Status != zoo.AnyStatus && int(status) != a.Status {
		t.Errorf("%s: %s %v %q, want %v %d", a.Name, attempt.text("outcome"), attempt["response_status_code"], attempt.text("error"), a.Outcomes, a.Status)
	}
	if attempt.text("outcome") == "succeeded" && (status < 200 || status > 299) || len(attempt.text("response_body")) > 100<<10 {
		t.Errorf("%s: %v", a.Name, attempt)
	}
	for _, private := range []string{"whsec_", "goroutine"} {
		if strings.Contains(attempt.text("error"), private) {
			t.Errorf("%s: %q shows %s", a.Name, attempt.text("error"), private)
		}
	}
}

func headerOf(attempt object, name string) string {
	all, _ := attempt["response_headers"].([]any)
	for _, h := range all {
		if h, _ := h.(map[string]any); h["name"] == name {
			return h["value"].(string)
		}
	}
	return ""
}

// arrivals has the times of events at an endpoint that acknowledges them.
type arrivals struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (a *arrivals) receive(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if id := r.Header.Get("Webhook-Id"); a.at[id].IsZero() {
		a.at[id] = time.Now()
	}
}

func (a *arrivals) when(id string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[id]
}

func (a *arrivals) have(ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return a.when(id).IsZero() })
}

// burst sends events in one request and returns their ids and when they were accepted.
func (s *server) burst(typ string, count int) (ids []string, accepted time.Time) {
	s.t.Helper()
	events := make([]object, count)
	for i := range events {
		events[i] = object{"type": typ, "data": object{"object": object{"n": i}}}
	}
	sent := s.must("POST", "/v1/events/batch", object{"events": events})
	accepted = time.Now()
	for _, e := range sent.list() {
		ids = append(ids, e.text("id"))
	}
	return ids, accepted
}

// settledAll is settled for an event with more deliveries than a page contains.
func (s *server) settledAll(event string) (all []object) {
	s.t.Helper()
	s.until("deliveries of "+event+" to settle", func() bool {
		all = nil
		for after := ""; ; {
			page := s.must("GET", "/v1/events/"+event+"/deliveries?limit=100"+after, nil)
			list := page.list()
			all = append(all, list...)
			if page["has_more"] != true {
				break
			}
			after = "&starting_after=" + list[len(list)-1].text("id")
		}
		return len(all) > 0 && !slices.ContainsFunc(all, func(d object) bool { return d.text("status") == "pending" })
	})
	return all
}

// gauges is the resources of a process.
type gauges struct{ memory, goroutines, files float64 }

func (s *server) gauges() gauges {
	s.t.Helper()
	text := s.call("GET", "/metrics", nil).body
	read := func(name string) float64 {
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			s.t.Fatalf("no metric %s", name)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	// Idle workers remain for a while, for the next burst.
	return gauges{read("process_resident_memory_bytes"), read("go_goroutines") - read("posthaste_workers"), read("process_open_fds")}
}

// peak returns the maximum memory of the process, in bytes.
func (s *server) peak() float64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skip("the most memory that a process had is known on Linux only")
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		s.t.Fatalf("no VmHWM in %s", text)
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return kb * 1024
}
