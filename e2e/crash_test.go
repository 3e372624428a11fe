package e2e

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	crashKills = flag.Int("crash.kills", 20, "how often TestCrash kills the server")
	crashSeed  = flag.Uint64("crash.seed", 0, "seed of TestCrash; 0 takes the clock")
)

// ledger is what a crash test knows: which ids were acknowledged, and what
// arrived.
type ledger struct {
	mu           sync.Mutex
	acknowledged map[string]bool
	arrived      map[string]string // body by id
	duplicates   int
	changed      []string // ids that came with two different bodies
}

func (l *ledger) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id := r.Header.Get("Webhook-Id")
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, again := l.arrived[id]; !again {
		l.arrived[id] = string(body)
	} else {
		l.duplicates++
		if first != string(body) {
			l.changed = append(l.changed, id)
		}
	}
	w.WriteHeader(http.StatusOK)
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

// TestCrash kills the server at random moments under load, starts it again, and
// reconciles: every event that was acknowledged arrives.
func TestCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	l := &ledger{acknowledged: map[string]bool{}, arrived: map[string]string{}}
	r := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(r.Close)
	data := t.TempDir()

	var current atomic.Pointer[server]
	s := serve(t, data)
	s.register(r.URL)
	current.Store(s)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent, next atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := next.Add(1)
				own := ""
				if worker%2 == 0 {
					own = fmt.Sprintf(`"id":"evt_crash%016d",`, n)
				}
				sent.Add(1)
				a, err := current.Load().try("POST", "/v1/events", fmt.Sprintf(`{%s"type":"payment.succeeded","data":{"object":{"n":%d}}}`, own, n))
				if err == nil && a.status == http.StatusOK {
					l.mu.Lock()
					l.acknowledged[a.object.text("id")] = true
					l.mu.Unlock()
				}
			}
		})
	}
	acknowledged := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acknowledged)
	}
	for kill := range *crashKills {
		// Wait for progress, so that each life does something, then for a random moment.
		goal := acknowledged() + 20
		until(t, fmt.Sprintf("progress before kill %d", kill+1), func() bool { return acknowledged() >= goal })
		moment := time.NewTimer(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
		<-moment.C
		current.Load().kill()
		current.Store(serve(t, data))
	}
	close(stop)
	wg.Wait()
	until(t, "every acknowledged event to arrive", func() bool { return len(l.missing()) == 0 })
	current.Load().stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.changed) > 0 {
		t.Errorf("%d events came with different bodies: %v", len(l.changed), l.changed[:1])
	}
	lost := 0
	for id := range l.acknowledged {
		if _, ok := l.arrived[id]; !ok {
			lost++
		}
	}
	t.Logf("kills=%d sent=%d acknowledged=%d arrived=%d lost=%d duplicates=%d",
		*crashKills, sent.Load(), len(l.acknowledged), len(l.arrived), lost, l.duplicates)
}
