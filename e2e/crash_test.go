package e2e

import (
	"flag"
	"fmt"
	"hash/fnv"
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

// ledger is what a crash test knows: what was acknowledged, and what arrived.
type ledger struct {
	mu           sync.Mutex
	acknowledged map[string]string // the body to expect, by id
	arrived      map[string]string // the body that came first and was taken, by id
	refused      map[string]string // the body that came first and was answered 500, by id
	duplicates   int
	changed      []string // ids that came with two different bodies
	unexpected   []string // answers and errors of the API that no kill explains
}

// receive takes an event, but for one in ten, which it refuses the first time: so
// that retries are under way at a kill, too.
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

// unlucky picks one id in ten, always the same ones.
func unlucky(id string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()%10 == 0
}

// note keeps what the API answered. killed tells whether the server was about to
// be killed, which excuses an error, but no answer other than 200.
func (l *ledger) note(n int64, own string, a answer, err error, killed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && killed:
	case err != nil:
		l.unexpected = append(l.unexpected, err.Error())
	case a.status != http.StatusOK:
		l.unexpected = append(l.unexpected, fmt.Sprintf("%d %s", a.status, a.body))
	default:
		id := a.object.text("id")
		if own != "" && id != own {
			l.unexpected = append(l.unexpected, fmt.Sprintf("sent id %s, got %s", own, id))
		}
		created, _ := a.object["created"].(float64)
		l.acknowledged[id] = fmt.Sprintf(`{"id":"%s","type":"payment.succeeded","created":%d,"data":{"object":{"n":%d}}}`, id, int64(created), n)
	}
}

func (l *ledger) progress() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
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
	killed atomic.Bool   // set before it is killed
	next   chan struct{} // closed when the next life has begun
}

// TestCrash kills the server at random moments under load, starts it again, and
// reconciles: every event that was acknowledged arrives, as it was acknowledged,
// and no delivery is left behind.
func TestCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	l := &ledger{acknowledged: map[string]string{}, arrived: map[string]string{}, refused: map[string]string{}}
	r := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(r.Close)
	data := t.TempDir()

	var current atomic.Pointer[life]
	begin := func() *life {
		n := &life{server: serve(t, data, "--test-schedule", "200ms,200ms,200ms,1s,1s,1s,1s"), next: make(chan struct{})}
		if old := current.Swap(n); old != nil {
			close(old.next)
		}
		return n
	}
	begin().register(r.URL)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent, interrupted, next atomic.Int64
	for worker := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, s := next.Add(1), current.Load()
				own, field := "", ""
				if worker%2 == 0 {
					own = fmt.Sprintf("evt_crash%016d", n)
					field = fmt.Sprintf(`"id":%q,`, own)
				}
				sent.Add(1)
				a, err := s.try("POST", "/v1/events", fmt.Sprintf(`{%s"type":"payment.succeeded","data":{"object":{"n":%d}}}`, field, n))
				l.note(n, own, a, err, s.killed.Load())
				if err == nil {
					continue
				}
				interrupted.Add(1)
				select {
				case <-s.next:
				case <-stop:
					return
				}
			}
		})
	}
	stopWorkers := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
	})
	t.Cleanup(stopWorkers)
	for kill := range *crashKills {
		// Wait for progress, so that each life does something, then for a random moment.
		goal := l.progress() + 20
		until(t, fmt.Sprintf("progress before kill %d", kill+1), func() bool { return l.progress() >= goal })
		moment := time.NewTimer(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
		<-moment.C
		s := current.Load()
		s.killed.Store(true)
		s.kill()
		begin()
	}
	stopWorkers()

	s := current.Load()
	holds(func() bool { return len(l.missing()) == 0 })
	lost := l.missing()
	// The outcome of the last attempt is written after its answer, so wait for that, too.
	var left []object
	holds(func() bool {
		left = s.must("GET", "/v1/deliveries?status=pending&limit=5", nil).list()
		return len(left) == 0
	})
	left = append(left, s.must("GET", "/v1/deliveries?status=failed&limit=5", nil).list()...)
	s.stop()

	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("kills=%d sent=%d interrupted=%d acknowledged=%d arrived=%d lost=%d refused-once=%d duplicates=%d",
		*crashKills, sent.Load(), interrupted.Load(), len(l.acknowledged), len(l.arrived), len(lost), len(l.refused), l.duplicates)
	report := func(what string, list []string) {
		if len(list) > 0 {
			t.Errorf("%s: %d, such as %v", what, len(list), list[:min(3, len(list))])
		}
	}
	report("acknowledged events that never arrived", lost)
	report("events that came with two different bodies", l.changed)
	report("answers that no kill explains", l.unexpected)
	if len(left) > 0 {
		t.Errorf("deliveries that did not succeed, such as %v", left)
	}
	var differ []string
	for id, want := range l.acknowledged {
		if got, ok := l.arrived[id]; ok && got != want {
			differ = append(differ, got+" for "+want)
		}
	}
	report("events that arrived other than acknowledged", differ)
	if *crashKills > 0 && (interrupted.Load() == 0 || len(l.refused) == 0) {
		t.Errorf("%d requests were cut off and %d events refused: the test proves little", interrupted.Load(), len(l.refused))
	}
}
