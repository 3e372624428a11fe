package dispatch

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// lane is what the engine knows of one endpoint that has work, or had some
// lately. It is small, and bounded: what does not fit waits in the store. All
// fields belong to Engine.mu.
type lane struct {
	no int64

	// ready holds deliveries that may be sent now, in order of rank. While the breaker is
	// open, these are probes.
	ready jobQueue
	// urgent holds deliveries that a person asked for. They go before the ready ones and
	// through an open breaker.
	urgent *jobQueue
	// held names the deliveries that are in memory: ready, under way, or settled
	// without the settlement being on disk yet. The store still shows those as
	// pending, so what is loaded is checked against it.
	held      map[event.Key]holding
	heldBytes int // of their bodies
	// settled names what was settled on disk while a worker reads from the store:
	// what it reads may be older than that.
	settled []event.Key
	// edits counts how often a person changed deliveries (Engine.Wake).
	edits uint32
	// more says that the store may have due deliveries that are neither held nor passed
	// over.
	more bool
	// look says that the store may have deliveries of types that have not failed since the
	// last acknowledgement, while the breaker is open.
	look   bool
	looked bool // that was so since the breaker opened, or since this node knows the lane
	// cursor is up to where the store was read while types are passed over: before it are
	// only deliveries that are held or passed over. floor is the lowest place that it must
	// not be past after the read that is under way, nil while there is none. rewinds counts
	// changes to either.
	cursor  store.Place
	floor   *store.Place
	rewinds uint32
	streaks []streak // of types that fail; order has no meaning
	passed  uint32   // counts deliveries that were passed over
	turn    uint32   // counts probes
	// behind says that all that the store showed last was held, and that it has
	// more: it is not asked again before some of that is settled.
	behind bool
	// nextDue is when the earliest delivery in the store that is not due yet will
	// be; zero when none is known.
	nextDue time.Time
	// holdUntil is when the delivery at the head of a FIFO lane is due again, or
	// when a store that could not be read is asked again.
	holdUntil time.Time

	inflight int
	probing  int // attempts in flight that an open breaker let through, urgent ones apart
	pace     pace
	proven   bool // the last attempt succeeded
	loading  bool // a worker reads from the store
	clearing bool // its pending deliveries are being cancelled
	queued   bool // stands in a run queue
	rushing  bool // stands in the run queue of lanes with urgent deliveries
	suspect  bool // it was not proven when it was queued
	news     bool // something was sent to it since it was served last

	breaker delivery.Breaker
	unsaved bool          // what the store remembers is older than breaker
	limiter *rate.Limiter // nil without a rate limit

	wakeAt    time.Time // zero when it need not wake
	wakeIndex int       // place in the engine's heap, -1 when in none
	idleSince time.Time
}

const (
	maxReady    = 4096 // fresh deliveries in memory
	minLoad     = 8
	maxHeld     = 8192 // deliveries in memory in any state
	jobOverhead = 256  // bytes that a ready delivery takes besides its body
	keepReady   = 256  // places of an empty queue that are kept
	maxUrgent   = 64   // urgent deliveries in memory
	maxRush     = 4    // attempts in flight, beyond which an open breaker lets no urgent one through
	maxProbing  = 2    // probes in flight: one at its time, and one of a type that has not failed
	pageSize    = 256  // deliveries in one load, while types are passed over
	probeSize   = 8    // deliveries to choose a probe from
	doubt       = 3    // failures in a row of an endpoint that has answered before
	lanePatient = 5 * time.Minute
)

// holding is what a lane knows of a delivery that it holds.
type holding struct {
	bytes int    // of its body
	edits uint32 // lane.edits when it was taken
}

func newLane(no int64) *lane {
	return &lane{no: no, pace: newPace(), wakeIndex: -1}
}

// loadSize is how many deliveries to read at once: enough for the pace the lane
// has reached, so that a lane that stands still holds next to nothing. One that may
// be down gets what it is tried with, because very many can wait for their next try.
func (l *lane) loadSize() int {
	if !l.proven {
		return 1
	}
	return max(2*l.pace.limit, minLoad)
}

// resting reports whether nothing of the lane is under way.
func (l *lane) resting() bool {
	return l.inflight == 0 && len(l.held) == 0 && !l.more && !l.loading && !l.clearing && !l.queued && !l.rushing && !l.waiting()
}

// idle reports whether the lane can be forgotten without losing anything.
func (l *lane) idle(now time.Time) bool {
	return l.resting() && l.nextDue.IsZero() && l.breaker.FailingSince.IsZero() && !l.unsaved &&
		(l.limiter == nil || l.limiter.TokensAt(now) >= float64(l.limiter.Burst()))
}

// doubtful reports whether the endpoint may be down. One that somebody just sent
// something and that has failed nothing is not, nor one that has answered and failed
// once or twice since: it must not wait behind all those that are.
func (l *lane) doubtful() bool {
	switch {
	case l.breaker.Failures == 0:
		return !l.news
	case l.breaker.Failures < doubt:
		return l.pace.flow == nil // nothing has succeeded
	}
	return true
}

// hold notes that a delivery is in memory.
func (l *lane) hold(j *store.Job) {
	if l.held == nil {
		l.held = map[event.Key]holding{}
	}
	l.held[j.Delivery.ID.Event] = holding{bytes: len(j.Body), edits: l.edits}
	l.heldBytes += len(j.Body)
}

// letGo notes that a delivery is not in memory any more. If a person changed
// deliveries while it was, the store may show it as pending again and have been
// asked too early, so it is asked once more.
func (l *lane) letGo(k event.Key) {
	h, ok := l.held[k]
	if !ok {
		return
	}
	delete(l.held, k)
	l.heldBytes -= h.bytes
	l.behind = false
	l.probeEnded(k)
	if h.edits != l.edits {
		l.rewind()
	}
	if !l.proven {
		l.shed()
	}
}

// changed notes that a person changed deliveries or settings: what is known of
// the store may not be so any more.
func (l *lane) changed() {
	l.edits++
	l.rewind()
	l.behind, l.holdUntil = false, time.Time{}
}

// shed lets go of memory that is empty. Very many lanes can have nothing in memory for
// long, because their endpoints are down.
func (l *lane) shed() {
	if l.ready.len() == 0 {
		l.ready = jobQueue{}
	}
	if l.urgent.len() == 0 {
		l.urgent = nil
	}
	if len(l.held) == 0 {
		l.held = nil
	}
}

// drop gives queued deliveries back to the store, which still has them, and returns
// what they weigh.
func (l *lane) drop(q *jobQueue) (bytes int) {
	for {
		j, ok := q.pop()
		if !ok {
			l.shed()
			return bytes
		}
		bytes += weight(&j)
		l.letGo(j.Delivery.ID.Event)
		l.missed(j.Delivery.Rank)
	}
}

// due notes that a delivery in the store becomes due at t.
func (l *lane) due(t time.Time) {
	if l.nextDue.IsZero() || t.Before(l.nextDue) {
		l.nextDue = t
	}
}

// concurrency is how many attempts the lane may have in flight now.
func (l *lane) concurrency(e *endpoint.Endpoint, standard int) int {
	return l.pace.atATime(most(e, standard))
}

// most is how many attempts at a time an endpoint's settings allow.
func most(e *endpoint.Endpoint, standard int) int {
	if e.Settings.Ordering == endpoint.FIFO {
		return 1
	}
	if e.Settings.Concurrency > 0 {
		return e.Settings.Concurrency
	}
	return standard
}

// weight is how many bytes a ready delivery takes in memory, about.
func weight(j *store.Job) int { return len(j.Body) + jobOverhead }

// jobQueue is a first-in, first-out queue that reuses its memory.
type jobQueue struct {
	jobs []store.Job
	head int
}

func (q *jobQueue) len() int {
	if q == nil {
		return 0
	}
	return len(q.jobs) - q.head
}

// first returns the one that pop returns next; there must be one.
func (q *jobQueue) first() *store.Job { return &q.jobs[q.head] }

func (q *jobQueue) push(j store.Job) {
	q.jobs, q.head = closeGap(q.jobs, q.head)
	q.jobs = append(q.jobs, j)
}

// closeGap moves what is left of a queue to its front once the gap there is the
// larger part, so that a queue that is never empty does not grow without bound.
func closeGap[T any](items []T, head int) ([]T, int) {
	if head < 64 || head*2 < len(items) {
		return items, head
	}
	n := copy(items, items[head:])
	clear(items[n:])
	return items[:n], 0
}

func (q *jobQueue) pop() (store.Job, bool) {
	if q.len() == 0 {
		return store.Job{}, false
	}
	j := q.jobs[q.head]
	q.jobs[q.head] = store.Job{} // let go of the body
	q.head++
	if q.head == len(q.jobs) {
		q.jobs, q.head = q.jobs[:0], 0
		if cap(q.jobs) > keepReady {
			q.jobs = nil
		}
	}
	return j, true
}

// runQueue is the lanes that wait for a worker, each at most once.
type runQueue struct {
	lanes []*lane
	head  int
}

func (q *runQueue) len() int { return len(q.lanes) - q.head }

func (q *runQueue) push(l *lane) {
	q.lanes, q.head = closeGap(q.lanes, q.head)
	q.lanes = append(q.lanes, l)
}

func (q *runQueue) pop() *lane {
	l := q.lanes[q.head]
	q.lanes[q.head] = nil
	q.head++
	if q.head == len(q.lanes) {
		q.lanes, q.head = q.lanes[:0], 0
	}
	return l
}

// wakeHeap orders lanes by when they wake (container/heap).
type wakeHeap []*lane

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].wakeAt.Before(h[j].wakeAt) }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].wakeIndex, h[j].wakeIndex = i, j
}

func (h *wakeHeap) Push(x any) {
	l := x.(*lane)
	l.wakeIndex = len(*h)
	*h = append(*h, l)
}

func (h *wakeHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.wakeIndex = -1
	return l
}
