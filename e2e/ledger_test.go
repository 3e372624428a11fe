package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to read the store of a stopped server
)

// ledger records for a test of faults which events were acknowledged and which arrived.
type ledger struct {
	pad          string // added to each event's object: more members, after a comma
	mu           sync.Mutex
	acknowledged map[string]string // the body to expect, by id
	arrived      map[string]string // the first body that was accepted, by id
	refused      map[string]string // the first body that was answered 500, by id
	turnedAway   map[int64]bool    // numbers of refused events that are to be sent again
	latest       int64             // the highest number that was acknowledged
	cutOff       map[int64]bool    // numbers without a response: they may have been accepted
	duplicates   int
	changed      []string // ids that arrived with two different bodies
	unexpected   []string // responses and errors of the API that the fault does not explain
}

func newLedger() *ledger {
	return &ledger{acknowledged: map[string]string{}, arrived: map[string]string{}, refused: map[string]string{},
		turnedAway: map[int64]bool{}, cutOff: map[int64]bool{}}
}

// receive accepts an event, except that it refuses one in ten the first time: so there are
// retries under way during a fault, too.
func (l *ledger) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := r.Header.Get("Webhook-Id")
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, before := range []map[string]string{l.refused, l.arrived} {
		if first, again := before[id]; again && first != string(body) {
			l.changed = append(l.changed, id)
		}
	}
	_, refused := l.refused[id]
	_, taken := l.arrived[id]
	switch {
	case taken:
		l.duplicates++
	case !refused && unlucky(id):
		l.refused[id] = string(body)
		w.WriteHeader(http.StatusInternalServerError)
	default:
		l.arrived[id] = string(body)
	}
}

// unlucky selects one id in ten, always the same ones.
func unlucky(id string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()%10 == 0
}

// excuse is the set of errors that a fault explains.
type excuse struct {
	cutOff  bool // requests without a response
	refused bool // requests answered 503 with Retry-After
}

// note records the API's response to event number n, and reports whether the event was
// acknowledged.
func (l *ledger) note(n int64, own string, a answer, err error, x excuse) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.cutOff[n] = true
		if !x.cutOff {
			l.unexpected = append(l.unexpected, err.Error())
		}
	case a.retryable() && x.refused:
		l.turnedAway[n] = true
	case a.err("code") == "outcome_unknown" && x.refused:
		l.cutOff[n] = true
	case a.status != http.StatusOK:
		l.unexpected = append(l.unexpected, fmt.Sprintf("%d %s", a.status, a.body))
	default:
		id := a.object.text("id")
		if own != "" && id != own {
			l.unexpected = append(l.unexpected, fmt.Sprintf("sent id %s, got %s", own, id))
		}
		created, _ := a.object["created"].(float64)
		l.latest = max(l.latest, n)
		l.acknowledged[id] = fmt.Sprintf(`{"id":"%s","type":"payment.succeeded","created":%d,"data":{"object":{"n":%d%s}}}`, id, int64(created), n, l.pad)
		return true
	}
	return false
}

func (l *ledger) progress() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// newest returns the highest number that was acknowledged.
func (l *ledger) newest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

func (l *ledger) arrivals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.arrived)
}

func (l *ledger) refusals() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.turnedAway)
}

func (l *ledger) missing() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.acknowledged {
		if _, ok := l.arrived[id]; !ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// life is the server between two kills.
type life struct {
	*server
	killed atomic.Bool   // set before it is killed: requests may have no response
	failed atomic.Bool   // set while a fault makes it refuse events
	next   chan struct{} // closed when the next life has begun
}

func (s *life) excuse() excuse { return excuse{cutOff: s.killed.Load(), refused: s.failed.Load()} }

// load is senders of events to a server, across restarts, and their receiver.
type load struct {
	*ledger
	t        testing.TB
	receiver *httptest.Server

	current                 atomic.Pointer[life]
	next, sent, interrupted atomic.Int64
	stop                    func() // returns when the senders have stopped
}

// newLoad returns a load without senders. Its receiver is before, which passes requests on to
// the ledger.
func newLoad(t testing.TB, before func(next http.HandlerFunc) http.HandlerFunc) *load {
	l := &load{ledger: newLedger(), t: t}
	h := http.HandlerFunc(l.receive)
	if before != nil {
		h = before(h)
	}
	l.receiver = newServer(t, h)
	return l
}

// begin makes s the server of the senders.
func (l *load) begin(s *server) *life {
	n := &life{server: s, next: make(chan struct{})}
	if old := l.current.Swap(n); old != nil {
		close(old.next)
	}
	return n
}

// start starts senders; half of them choose the ids of their events. An event that is refused
// temporarily is sent again until it is accepted.
func (l *load) start(senders int) {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for !closed(ended) {
				n := l.next.Add(1)
				for !closed(ended) && !l.announce(ended, n, sender%2 == 0) {
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		close(ended)
		wg.Wait()
	})
	l.t.Cleanup(l.stop)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// announce sends event number n once. It reports whether the sender is done with it: an event
// without a response is not sent again, as it may have been accepted.
func (l *load) announce(ended <-chan struct{}, n int64, ownID bool) (done bool) {
	s := l.current.Load()
	own, field := "", ""
	if ownID {
		own = fmt.Sprintf("evt_crash%016d", n)
		field = fmt.Sprintf(`"id":%q,`, own)
	}
	l.sent.Add(1)
	before := s.excuse()
	a, err := s.try("POST", "/v1/events", fmt.Sprintf(`{%s"type":"payment.succeeded","data":{"object":{"n":%d%s}}}`, field, n, l.pad))
	after := s.excuse()
	if l.note(n, own, a, err, excuse{cutOff: before.cutOff || after.cutOff, refused: before.refused || after.refused}) {
		return true
	}
	if err == nil { // refused; its Retry-After is meant for people
		again := time.NewTimer(50 * time.Millisecond)
		defer again.Stop()
		select {
		case <-again.C:
		case <-ended:
		}
		return !a.retryable()
	}
	l.interrupted.Add(1)
	select {
	case <-s.next:
	case <-ended:
	}
	return true
}

// reconcile stops the senders, waits until all acknowledged events have arrived, stops the
// server, compares the arrivals with the acknowledgements, and checks the store.
func (l *load) reconcile(what string) {
	l.t.Helper()
	l.stop()
	s := l.current.Load()
	holds(func() bool { return len(l.missing()) == 0 })
	lost := l.missing()
	// The outcome of the last attempt is written after its response, so wait for that, too.
	var left []object
	holds(func() bool {
		left = s.must("GET", "/v1/deliveries?status=pending&limit=5", nil).list()
		return len(left) == 0
	})
	left = append(left, s.must("GET", "/v1/deliveries?status=failed&limit=5", nil).list()...)
	s.stop()
	if len(left) > 0 {
		l.t.Errorf("deliveries that did not succeed, such as %v", left)
	}
	l.compare(what, lost)
	checkStore(l.t, s.data)
}

// compare compares the arrivals with the acknowledgements.
func (l *load) compare(what string, lost []string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("%s sent=%d interrupted=%d turned-away=%d acknowledged=%d arrived=%d lost=%d refused-once=%d duplicates=%d",
		what, l.sent.Load(), l.interrupted.Load(), len(l.turnedAway), len(l.acknowledged), len(l.arrived), len(lost), len(l.refused), l.duplicates)
	report := func(what string, list []string) {
		l.t.Helper()
		if len(list) > 0 {
			l.t.Errorf("%s: %d, such as %v", what, len(list), list[:min(3, len(list))])
		}
	}
	report("acknowledged events that never arrived", lost)
	report("events that came with two different bodies", l.changed)
	report("answers that no fault explains", l.unexpected)
	var differ, halfDone []string
	times := map[int64]int{}
	for id, got := range l.arrived {
		want, known := l.acknowledged[id]
		if known && got != want {
			differ = append(differ, got+" for "+want)
		}
		n := number(l.t, got)
		if times[n]++; !known && !l.cutOff[n] || times[n] > 1 && !l.cutOff[n] {
			halfDone = append(halfDone, id)
		}
	}
	report("events that arrived other than acknowledged", differ)
	report("events that arrived although they were refused", halfDone)
}

// number returns the number of the event in a body.
func number(t testing.TB, body string) int64 {
	var e struct {
		Data struct{ Object struct{ N int64 } }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Error(err)
	}
	return e.Data.Object.N
}

// checkStore checks the store of a stopped server: the file is intact, and each event has all
// of its deliveries or does not exist.
func checkStore(t testing.TB, data string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for query, want := range map[string]string{
		`PRAGMA integrity_check`: "ok",
		`SELECT count(*) FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.key = d.event)`:                                 "0",
		`SELECT count(*) FROM events e WHERE type LIKE 'payment.%' AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.key)`:       "0",
		`SELECT count(*) FROM attempts a WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = a.event AND d.endpoint = a.endpoint)`: "0",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if got != want {
			t.Errorf("%s: %s", query, strings.TrimSpace(got))
		}
	}
}
