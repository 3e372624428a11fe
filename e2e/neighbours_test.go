package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	neighboursFor = flag.Duration("neighbours.for", 0, "how long TestNeighbours measures each attack; 0: only until it has shown what it must")
	neighboursRun = flag.String("neighbours.only", "", "the one attack that TestNeighbours makes; empty: all of them")
)

// Bounds for the effect on a neighbour. Times are compared within one run with the same attack
// on another server of the same machine, because the attacker uses the processors too.
const (
	victimEvery  = 20 * time.Millisecond
	victimEdits  = time.Second
	slowAnswer   = 9 * time.Second // less than the timeout of an attempt
	mostTimes    = 2.0             // the 99th percentile beside an attack, divided by that of the comparison
	judgeTries   = 3               // how often an attack is repeated if the bound is exceeded
	victimEvents = 15              // that the short form sends beside each attack, at least
	mostMemory   = 1 << 30         // bytes
)

// neighbours is a server that a victim and one attacker at a time use.
type neighbours struct {
	*server
	receiver *httptest.Server
	victim   *victim
	last     *caller // the last attacker, in the long form
}

// newNeighbours starts a server with start, and the victim on it.
func newNeighbours(t *testing.T, start func() *server) *neighbours {
	n := &neighbours{server: start()}
	release := make(chan struct{})
	n.receiver = newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		var e struct {
			Data struct{ Object struct{ N int } }
		}
		switch err := json.NewDecoder(r.Body).Decode(&e); {
		case err != nil:
		case r.URL.Path == "/victim":
			n.victim.came(e.Data.Object.N)
		case r.URL.Path == "/slow" && e.Data.Object.N > 0:
			select {
			case <-release:
			case <-r.Context().Done():
			case <-time.After(slowAnswer):
			}
		}
	})
	t.Cleanup(func() { close(release) })
	n.victim = &victim{caller: n.account("victim", nil), sent: map[int]time.Time{}}
	a := n.victim.ask(t.Context(), "POST", "/v1/webhooks", object{"url": n.receiver.URL + "/victim", "enabled_events": []string{"*"}})
	if n.victim.endpoint = a.object.text("id"); a.status != http.StatusOK {
		t.Fatalf("the victim's endpoint: %d %s", a.status, a.body)
	}
	return n
}

// account creates an account with a key.
func (n *neighbours) account(name string, limits object, more ...any) *caller {
	n.t.Helper()
	operator := []string{"Authorization", "Bearer " + adminKey}
	in := object{"name": name}
	if limits != nil {
		in["limits"] = limits
	}
	for i := 0; i < len(more); i += 2 {
		in[more[i].(string)] = more[i+1]
	}
	id := n.must("POST", "/v1/accounts", in, operator...).text("id")
	key := n.must("POST", "/v1/api_keys", object{"name": name, "livemode": false}, append(operator, "Payment-Account", id)...).text("secret")
	return &caller{base: n.base, key: key, id: id, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: patience}, said: map[string]int{}}
}

// suspend ends the remaining operations of an account.
func (n *neighbours) suspend(c *caller) {
	n.t.Helper()
	n.must("POST", "/v1/accounts/"+c.id, object{"status": "suspended"}, "Authorization", "Bearer "+adminKey)
	c.client.CloseIdleConnections()
}

// caller is a client with a key of its own account.
type caller struct {
	base, key, id string
	client        *http.Client

	mu   sync.Mutex
	said map[string]int // responses, as "429 quota_exceeded tails"
}

// ask sends a request and records the response. A status of 0 means no response.
func (c *caller) ask(ctx context.Context, method, path string, body any, header ...string) answer {
	text, isText := body.(string)
	if !isText && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		text = string(b)
	}
	path = strings.TrimPrefix(path, c.base)
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(text))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.client.Do(r)
	if err != nil {
		c.note("no answer")
		return answer{}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(raw)}
	_ = json.Unmarshal(raw, &a.object)
	param := a.err("param")
	c.note(strings.TrimSpace(fmt.Sprintf("%d %s %s", a.status, a.err("code"), param[:min(len(param), 20)])))
	for _, one := range a.object.list() { // of a batch
		if refused, _ := one["error"].(map[string]any); refused != nil {
			c.note(strings.TrimSpace(fmt.Sprintf("%v %v %v", one["status"], refused["code"], refused["param"])))
		}
	}
	return a
}

func (c *caller) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said[what]++
}

func (c *caller) heard(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said[what] > 0
}

// summary lists the refusals, most frequent first.
func (c *caller) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	words := slices.SortedFunc(maps.Keys(c.said), func(a, b string) int { return c.said[b] - c.said[a] })
	var out []string
	for _, w := range words {
		if !strings.HasPrefix(w, "2") {
			out = append(out, fmt.Sprintf("%d × %s", c.said[w], w))
		}
	}
	return strings.Join(out[:min(len(out), 4)], ", ")
}

// unnamed lists refusals with 429 that do not name the limit.
func (c *caller) unnamed() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.said {
		if strings.HasPrefix(w, "429") && len(strings.Fields(w)) != 3 {
			all = append(all, w)
		}
	}
	return all
}

// victim sends events and edits its endpoint, and measures how long that takes.
type victim struct {
	*caller
	endpoint string

	mu                sync.Mutex
	next              int
	sent              map[int]time.Time // that have not arrived yet
	acks, comes, edit []time.Duration
	refused           []string
}

func (v *victim) came(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, ok := v.sent[n]; ok {
		v.comes = append(v.comes, time.Since(at))
		delete(v.sent, n)
	}
}

// run sends until ctx ends and returns when all requests have ended.
func (v *victim) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick, edit := time.NewTicker(victimEvery), time.NewTicker(victimEdits)
	defer tick.Stop()
	defer edit.Stop()
	v.editOnce()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wg.Go(v.sendOnce)
		case <-edit.C:
			wg.Go(v.editOnce)
		}
	}
}

func (v *victim) sendOnce() {
	v.mu.Lock()
	v.next++
	n, began := v.next, time.Now()
	v.sent[n] = began
	v.mu.Unlock()
	a := v.ask(context.Background(), "POST", "/v1/events", fmt.Sprintf(`{"type":"victim.sent","data":{"object":{"n":%d}}}`, n))
	v.done(&v.acks, began, a)
}

func (v *victim) editOnce() {
	began := time.Now()
	a := v.ask(context.Background(), "PATCH", "/v1/webhooks/"+v.endpoint, fmt.Sprintf(`{"description":"at %d"}`, began.UnixNano()))
	v.done(&v.edit, began, a)
}

func (v *victim) done(times *[]time.Duration, began time.Time, a answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*times = append(*times, time.Since(began))
	if a.status != http.StatusOK {
		v.refused = append(v.refused, fmt.Sprintf("%d %s", a.status, a.body))
	}
}

func (v *victim) progress() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.acks)
}

// waiting returns how many events have not been delivered.
func (v *victim) waiting() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.sent)
}

// noticed is the effect on the victim in a period.
type noticed struct {
	acks, comes, edits spread
	refused            []string
}

type spread struct{ p50, p99 time.Duration }

func spreadOf(all []time.Duration) (s spread) {
	if slices.Sort(all); len(all) > 0 {
		s = spread{all[len(all)/2], all[min(len(all)*99/100, len(all)-1)]}
	}
	return s
}

func (s spread) String() string {
	ms := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) }
	return ms(s.p50) + "/" + ms(s.p99)
}

// take returns the effect on the victim since the last call.
func (v *victim) take() noticed {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := noticed{spreadOf(v.acks), spreadOf(v.comes), spreadOf(v.edit), v.refused}
	v.acks, v.comes, v.edit, v.refused = nil, nil, nil, nil
	return n
}

// during runs what, and returns the effect on the victim meanwhile.
func (n *neighbours) during(what func()) noticed {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.victim.run(ctx)
	}()
	what()
	cancel()
	<-ended
	until(n.t, "the victim's events to be delivered", func() bool { return n.victim.waiting() == 0 })
	return n.victim.take()
}

// endure lets an attacker make one attack until enough returns true, and returns the attacker.
func (n *neighbours) endure(a *abuse, enough func(*caller) bool) *caller {
	n.t.Helper()
	limits := a.limits
	by := &attacker{caller: n.account(a.name, limits, a.account...), receiver: n.receiver.URL, t: n.t}
	if a.prepare != nil {
		a.prepare(by)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	var wg sync.WaitGroup
	for worker := range max(a.workers, 1) {
		wg.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				a.do(ctx, by, worker, round)
			}
		})
	}
	until(n.t, a.name+" to show what it must", func() bool { return enough(by.caller) })
	cancel()
	wg.Wait()
	by.release()
	n.suspend(by.caller)
	return by.caller
}

// forget resets the maximum memory of the process.
func (s *server) forget() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0)
}

// TestNeighbours lets one account make each expensive operation with all its resources, while
// another one sends 50 events a second and edits an endpoint. No request of the other one is
// refused, all its events are delivered, memory stays bounded, and the attacker's errors name
// the limits. The long form also compares times.
func TestNeighbours(t *testing.T) {
	beside := func(t *testing.T) {
		if *neighboursFor == 0 { // otherwise they would influence each other's times
			t.Parallel()
		}
	}
	beside(t)
	t.Run("SQLite", func(t *testing.T) {
		beside(t)
		start := func() *server { return serveProductive(t, t.TempDir()) }
		testNeighbours(t, start)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		beside(t)
		start := func() *server { return serveProductive(t, t.TempDir(), "--database-url", database(t).URL("postgres")) }
		testNeighbours(t, start)
	})
}

// serveProductive starts a server with its default limits but few workers, so that slow
// receivers soon occupy them.
func serveProductive(t *testing.T, data string, args ...string) *server {
	t.Helper()
	return serveProgram(t, nil, data, append([]string{binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--rate-limit", "60000", "--workers", "256"}, args...)...)
}

func testNeighbours(t *testing.T, start func() *server) {
	n := newNeighbours(t, start)
	var elsewhere *neighbours
	if *neighboursFor > 0 {
		elsewhere = newNeighbours(t, start)
		t.Logf("milliseconds, median/99th percentile; compared: alone, and beside the same attack on another server")
		t.Logf("%-16s %-38s %-38s %-38s %7s %9s  %s", "attack", "acknowledgement", "delivery", "edit", "refused", "memory", "the attacker's refusals")
	}
	for _, a := range abuses() {
		if *neighboursRun != "" && a.name != *neighboursRun {
			continue
		}
		if elsewhere == nil {
			n.short(&a)
		} else {
			n.long(&a, elsewhere)
		}
		if t.Failed() {
			return
		}
	}
}

// short makes an attack until it has had the expected result, and checks what does not depend
// on the load of the machine.
func (n *neighbours) short(a *abuse) {
	n.t.Helper()
	n.forget()
	var by *caller
	had := n.during(func() {
		from := n.victim.progress()
		by = n.endure(a, func(c *caller) bool {
			return n.victim.progress() >= from+victimEvents && (a.want == "" || c.heard(a.want))
		})
	})
	n.t.Logf("%-16s acknowledgement %s, delivery %s, edit %s; the attacker's refusals: %s", a.name, had.acks, had.comes, had.edits, by.summary())
	n.check(a, had, by)
}

func (n *neighbours) check(a *abuse, had noticed, by *caller) {
	n.t.Helper()
	if len(had.refused) > 0 {
		n.t.Errorf("beside %s, %d of the victim's requests were refused, such as %s", a.name, len(had.refused), had.refused[0])
	}
	if unnamed := by.unnamed(); len(unnamed) > 0 {
		n.t.Errorf("%s was refused without the name of a limit: %v", a.name, unnamed)
	}
	if a.want != "" && !by.heard(a.want) {
		n.t.Errorf("%s was never refused with %s: %s", a.name, a.want, by.summary())
	}
	if m := n.peak(); m > mostMemory {
		n.t.Errorf("beside %s, the server took %.0f MB", a.name, m/1e6)
	}
}

// long measures an attack, and compares it with the same attack on another server.
func (n *neighbours) long(a *abuse, elsewhere *neighbours) {
	n.t.Helper()
	wait := func() { <-time.After(*neighboursFor) }
	var over string
	for range judgeTries {
		lasting := func(on *neighbours) func() {
			return func() {
				end := time.Now().Add(*neighboursFor)
				on.last = on.endure(a, func(c *caller) bool { return time.Now().After(end) && (a.want == "" || c.heard(a.want)) })
			}
		}
		alone := n.during(wait)
		apart := n.during(lasting(elsewhere))
		n.forget()
		beside := n.during(lasting(n))
		by := n.last
		row := func(f func(noticed) spread) string { return fmt.Sprintf("%s %s → %s", f(alone), f(apart), f(beside)) }
		n.t.Logf("%-16s %-38s %-38s %-38s %7d %6.0f MB  %s", a.name, row(func(w noticed) spread { return w.acks }), row(func(w noticed) spread { return w.comes }),
			row(func(w noticed) spread { return w.edits }), len(beside.refused), n.peak()/1e6, by.summary())
		n.check(a, beside, by)
		over = ""
		for what, f := range map[string]func(noticed) spread{"acknowledgements": func(w noticed) spread { return w.acks }, "deliveries": func(w noticed) spread { return w.comes },
			"edits": func(w noticed) spread { return w.edits }} {
			if with, without := f(beside).p99, max(f(alone).p99, f(apart).p99); with > time.Duration(mostTimes*float64(without)) {
				over += fmt.Sprintf(" %s %.1f times,", what, float64(with)/float64(without))
			}
		}
		if over == "" {
			return
		}
	}
	n.t.Logf("OVER: beside %s:%s in each of %d tries", a.name, over, judgeTries)
}
