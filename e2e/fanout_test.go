package e2e

import (
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to read the database
)

// audience is a receiver with many endpoints, by path, and the arrivals at each: ids of events
// in the order of their first arrival.
type audience struct {
	t    testing.TB
	url  string
	size int

	mu    sync.Mutex
	came  map[string][]string
	again int
}

func newAudience(t testing.TB, size int) *audience {
	a := &audience{t: t, size: size, came: map[string][]string{}}
	a.url = newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		if id := r.Header.Get("Webhook-Id"); slices.Contains(a.came[r.URL.Path], id) {
			a.again++
		} else {
			a.came[r.URL.Path] = append(a.came[r.URL.Path], id)
		}
	})).URL
	return a
}

// register creates the endpoints: all subscribe to "many.*"; /ordered also to "few.*", in
// order.
func (a *audience) register(s *server) {
	for i := range a.size - 1 {
		s.register(fmt.Sprint(a.url, "/", i), "enabled_events", []string{"many.*"})
	}
	s.register(a.url+"/ordered", "enabled_events", []string{"many.*", "few.*"}, "ordering", "fifo")
}

// complete waits until each event of "many.*" has arrived everywhere and each other one at its
// endpoint, and compares the order with that of the acknowledgements.
func (a *audience) complete(sent []string) {
	a.t.Helper()
	many := 0
	for _, id := range sent {
		if strings.HasPrefix(id, "evt_many") {
			many++
		}
	}
	until(a.t, "all deliveries", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for i := range a.size - 1 {
			if len(a.came[fmt.Sprint("/", i)]) < many {
				return false
			}
		}
		return len(a.came["/ordered"]) >= len(sent)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := a.came["/ordered"]; !slices.Equal(got, sent) {
		a.t.Errorf("out of order: %s", firstDifference(got, sent))
	}
	a.t.Logf("events=%d to-many=%d endpoints=%d again=%d", len(sent), many, a.size, a.again)
}

// stored checks that the store has each delivery once, as succeeded, and no deferred event.
func (a *audience) stored(db *sql.DB, sent []string) {
	a.t.Helper()
	var unfinished int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM fan_outs) + (SELECT count(*) FROM deliveries WHERE state != 1)`).Scan(&unfinished); err != nil {
		a.t.Fatal(err)
	}
	if unfinished > 0 {
		a.t.Errorf("%d deliveries or lists of deferred events are left", unfinished)
	}
	rows, err := db.Query(`SELECT e.custom_id, count(*) FROM events e JOIN deliveries d ON d.event = e.key GROUP BY e.custom_id`)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	have := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			a.t.Fatal(err)
		}
		have[id] = n
	}
	if err := rows.Err(); err != nil {
		a.t.Fatal(err)
	}
	for _, id := range sent {
		want := 1
		if strings.HasPrefix(id, "evt_many") {
			want = a.size
		}
		if have[id] != want {
			a.t.Errorf("%s has %d deliveries, want %d", id, have[id], want)
		}
	}
}

// send sends an event until the server acknowledges it: alternately one for many endpoints and
// one for the ordered endpoint alone.
func (a *audience) send(n int, to func() *life) (id string) {
	a.t.Helper()
	typ := []string{"many", "few"}[n%2]
	id = fmt.Sprintf("evt_%s%016d", typ, n)
	until(a.t, "the acknowledgement of "+id, func() bool {
		s := to()
		got, err := s.try("POST", "/v1/events", fmt.Sprintf(`{"id":%q,"type":"%s.done","data":{"object":{"n":%d}}}`, id, typ, n))
		switch {
		case err == nil && got.status == http.StatusOK:
			return true
		case err == nil && !got.retryable(), err != nil && !s.killed.Load():
			a.t.Errorf("%s: %v %d %s", id, err, got.status, got.body)
			return true
		}
		return false
	})
	return id
}

// sendTogether sends events in one request, which must be acknowledged.
func (a *audience) sendTogether(s *server, n, count int) (ids []string) {
	a.t.Helper()
	var events []object
	for i := n; i < n+count; i++ {
		typ := []string{"many", "few"}[i%2]
		ids = append(ids, fmt.Sprintf("evt_%s%016d", typ, i))
		events = append(events, object{"id": ids[len(ids)-1], "type": typ + ".done", "data": object{"object": object{"n": i}}})
	}
	if got := s.must("POST", "/v1/events/batch", object{"events": events}); got["accepted"] != float64(count) {
		a.t.Fatalf("of %d events in one request: %v", count, got)
	}
	return ids
}

// TestFanOut_killed kills the server while it writes the deliveries of acknowledged events: the
// next process continues, writes each delivery once, and keeps the order.
func TestFanOut_killed(t *testing.T) {
	t.Parallel()
	a := newAudience(t, 400)
	data := t.TempDir()
	current := &life{server: serve(t, data)}
	a.register(current.server)
	random := rand.New(rand.NewPCG(1, 2))
	var sent []string
	cut := 0
	for kill := range 8 {
		for range 6 {
			sent = append(sent, a.send(len(sent), func() *life { return current }))
		}
		sent = append(sent, a.sendTogether(current.server, len(sent), 12)...)
		<-time.After(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		current.killed.Store(true)
		current.kill()
		db := storeIn(t, data)
		var left int
		if err := db.QueryRow(`SELECT coalesce(sum(total - done), 0) FROM fan_outs`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if left > 0 {
			cut++
		}
		t.Logf("kill %d: %d deliveries were not written", kill+1, left)
		current = &life{server: serve(t, data)}
	}
	if cut == 0 {
		t.Error("no kill met an event that was not fanned out: the test proves little")
	}
	a.complete(sent)
	until(t, "all outcomes", func() bool {
		return len(current.must("GET", "/v1/deliveries?status=pending&limit=1", nil).list()) == 0
	})
	current.stop()
	db := storeIn(t, data)
	a.stored(db, sent)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	checkStore(t, data)
}

func storeIn(t testing.TB, data string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestFanOut_takenOver kills a node that has acknowledged events and not written their
// deliveries yet: another node continues, in order, without the first one.
func TestFanOut_takenOver(t *testing.T) {
	t.Parallel()
	c := database(t)
	f := newFleet(t, c.URL("postgres"), 2)
	a := newAudience(t, 300)
	a.register(f.node(0).server)
	f.know(300)
	db, err := sql.Open("pgx", c.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var sent []string
	// The events are sent to the two nodes in turn, each after the acknowledgement of the one
	// before.
	for n := range 24 {
		sent = append(sent, a.send(n, func() *life { return f.node(n / 2 % 2) }))
	}
	for left := 0; left == 0; {
		for range 4 {
			sent = append(sent, a.send(len(sent), func() *life { return f.node(0) }))
		}
		if err := db.QueryRow(`SELECT coalesce(sum(total - done), 0)::bigint FROM fan_outs`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if t.Failed() || len(sent) > 400 {
			t.Fatal("deliveries are written before a kill can come between")
		}
	}
	f.node(0).killed.Store(true)
	f.node(0).kill()
	sent = append(sent, a.send(len(sent), func() *life { return f.node(1) }))
	a.complete(sent)
	until(t, "all outcomes", func() bool {
		return len(f.node(1).must("GET", "/v1/deliveries?status=pending&limit=1", nil).list()) == 0
	})
	a.stored(db, sent)
	f.node(1).stop()
}
