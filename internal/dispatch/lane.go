package dispatch

import (
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// lane is what the engine knows of one endpoint that has work, or had some
// recently. It is small and bounded: deliveries that do not fit wait in the store. All
// fields belong to Engine.mu, and only methods of lane change them. The package
// comment declares the states.
type lane struct {
	no int64

	// ready holds deliveries that may be sent now, in order of rank. While the breaker is
	// open, these are probes.
	ready *outQueue
	// urgent holds deliveries that a person asked for. They go before the ready ones and
	// through an open breaker.
	urgent *outQueue
	// held names the deliveries that are in memory: ready, in flight, or settled
	// without the settlement being on disk yet. The store still shows those as
	// pending, so what is loaded is checked against it.
	held      map[event.Key]holding
	heldBytes int // of their bodies
	// reading is the read of the store that is in progress, nil if there is none.
	reading *reading
	// nextDue is when the earliest delivery in the store that is not due yet will
	// be; zero when none is known.
	nextDue moment
	// holdUntil is when the delivery at the head of a FIFO lane is due again, or
	// when a store that could not be read is asked again.
	holdUntil moment
	wakeAt    moment // zero when it need not wake
	idleSince moment
	// cursor is up to where the store was read while types are passed over: before it are
	// only deliveries that are held or passed over.
	cursor store.Place
	// readUpTo is the highest key of the events that were read from the store. Events up to it may
	// have been sent before a message of another node announces them.
	readUpTo event.Key
	streaks  []streak // of types that fail; order has no meaning
	pace     pace
	breaker  delivery.Breaker
	limiter  *rate.Limiter // nil without a rate limit

	edits     uint32 // counts the changes that a person made to its deliveries (Engine.Wake)
	rewinds   uint32 // counts changes to cursor and to the floor of a read
	passed    uint32 // counts deliveries that were passed over
	turn      uint32 // counts probes
	inflight  int32  // attempts
	wakeIndex int32  // place in the engine's heap, -1 when in none
	probing   int8   // attempts in flight that an open breaker let through, urgent ones apart

	mode    mode
	backlog backlog
	queue   place
	// look says that the store may have deliveries of types that have not failed since the
	// last acknowledgement, while the breaker is open.
	look    bool
	looked  bool // that was so since the breaker opened, or since this node knows the lane
	rushing bool // in the queue of lanes with urgent deliveries
	proven  bool // the last attempt succeeded
	news    bool // a delivery was accepted since it was served last
	unsaved bool // the store's copy of breaker is older
	clears  bool // its pending deliveries are being cancelled
}

const (
	maxReady    = 4096 // fresh deliveries in memory
	minLoad     = 8
	maxHeld     = 8192 // deliveries in memory in any state
	overhead    = 256  // bytes that a ready delivery takes besides its body
	keepReady   = 256  // places of an empty queue that are kept
	maxUrgent   = 64   // urgent deliveries in memory
	maxRush     = 4    // attempts in flight, beyond which an open breaker lets no urgent one through
	maxProbing  = 2    // probes in flight: one at its time, and one of a type that has not failed
	pageSize    = 256  // deliveries in one load, while types are passed over
	probeSize   = 8    // deliveries to choose a probe from
	fewFailures = 3    // consecutive failures from which on an endpoint that has answered before may be down
	lanePatient = 5 * time.Minute
)

// mode is which deliveries of a lane may be attempted. It follows from the endpoint's
// settings and its breaker; see [Engine.plan].
type mode uint8

const (
	sending mode = iota // the endpoint's breaker is closed
	probing             // its breaker is open
	paused              // it is disabled, not connected, or another node sends to it
	gone                // it is deleted
)

// backlog is what the store has of a lane.
type backlog uint8

const (
	drained backlog = iota // no due delivery that is neither held nor passed over
	waiting                // it may have some
	behind                 // it has some behind others that are all held: it is not asked again before one of those is settled
)

// place is the queue for workers that a lane is in.
type place uint8

const (
	unqueued place = iota
	amongHealthy
	amongFresh // not proven, but little speaks against them: see lane.doubtful
	amongSuspects
	amongUrgent // besides one of the others
	places
)

// reading is a read of a lane's deliveries from the store while it is in progress.
type reading struct {
	// settled names deliveries whose outcomes were stored meanwhile: the read may show them as pending.
	settled []event.Key
	// floor is the lowest place that the cursor must not be past afterwards.
	floor store.Place
	// recalled says that the read may show deliveries that are to be sent no more.
	recalled bool
}

// holding is what a lane knows of a delivery that it holds.
type holding struct {
	bytes int    // of its body
	edits uint32 // lane.edits when it was taken
}

// moment is a time on the wall clock, in a third of time.Time's bytes: very many lanes
// keep some. Zero is none.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.Sub(time.Unix(0, 0))) // which keeps to what an int64 holds
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(m))
}

// passed reports whether it is set and has come.
func (m moment) passed(now time.Time) bool { return m != 0 && m <= momentOf(now) }

// newLane returns the lane of an endpoint. Unless it is known to be drained, it is read from the store first.
func newLane(no int64, b backlog, breaker delivery.Breaker) *lane {
	return &lane{no: no, backlog: b, breaker: breaker, pace: newPace(), wakeIndex: -1}
}

// loadSize is how many deliveries to read at once: enough for the pace that the lane
// has reached, so that a lane that does not move holds next to nothing. One that may
// be down gets a single delivery, because very many can wait for their next attempt.
func (l *lane) loadSize() int {
	if !l.proven {
		return 1
	}
	return max(2*int(l.pace.limit), minLoad)
}

// resting reports whether nothing of the lane is in progress.
func (l *lane) resting() bool {
	return l.inflight == 0 && len(l.held) == 0 && l.backlog == drained && l.reading == nil && !l.clears && l.queue == unqueued && !l.rushing && !l.passesSome()
}

// idle reports whether the lane can be forgotten without losing anything.
func (l *lane) idle(now time.Time) bool {
	return l.resting() && l.nextDue == 0 && l.breaker.FailingSince.IsZero() && !l.unsaved &&
		(l.limiter == nil || l.limiter.TokensAt(now) >= float64(l.limiter.Burst()))
}

// rest notes whether the lane is idle, and reports whether it has been idle for lanePatient and
// can be forgotten.
func (l *lane) rest(now time.Time) bool {
	switch {
	case !l.idle(now):
		l.idleSince = 0
	case l.idleSince == 0:
		l.idleSince = momentOf(now)
	default:
		return momentOf(now)-l.idleSince > moment(lanePatient)
	}
	return false
}

// doubtful reports whether the endpoint may be down. One with a fresh delivery and without
// a failure is not, nor one that has answered and failed once or twice since: it must not
// wait behind all those that are.
func (l *lane) doubtful() bool {
	switch {
	case l.breaker.Failures == 0:
		return !l.news
	case l.breaker.Failures < fewFailures:
		return l.pace.flow == nil // nothing has succeeded
	}
	return true
}

// follow sets the mode by the endpoint, nil if it is deleted. A lane that this node does not
// send for keeps nothing that its owner decides.
func (l *lane) follow(ep *endpoint.Endpoint) mode {
	switch {
	case ep == nil:
		l.mode = gone
		l.breaker, l.unsaved, l.streaks = delivery.Breaker{}, false, nil
	case !ep.Sends():
		l.mode = paused
		if ep.Remote {
			l.disown()
		}
	case l.breaker.Open():
		l.mode = probing
	default:
		l.mode = sending
	}
	return l.mode
}

// disown forgets what the endpoint's owner knows better.
func (l *lane) disown() {
	l.backlog, l.look, l.unsaved, l.nextDue, l.holdUntil = drained, false, false, 0, 0
	l.breaker, l.streaks = delivery.Breaker{}, nil
}

// adopt makes the lane as healthy as the store knows its endpoint.
func (l *lane) adopt(b delivery.Breaker) {
	l.breaker, l.unsaved = b, false
	l.changed()
}

// forgive closes the breaker: a person says that the endpoint works again.
func (l *lane) forgive() {
	l.breaker, l.unsaved, l.streaks = delivery.Breaker{}, true, nil
	l.pace.restart()
	l.changed()
}

// saved notes the breaker that the store has now: outcomes of one endpoint can pass each
// other on their way there.
func (l *lane) saved(b delivery.Breaker) { l.unsaved = l.breaker != b }

// hold notes that a delivery is in memory.
func (l *lane) hold(o *delivery.Outgoing) {
	if l.held == nil {
		l.held = map[event.Key]holding{}
	}
	k := o.Delivery.ID.Event
	l.heldBytes += len(o.Body) - l.held[k].bytes
	l.held[k] = holding{bytes: len(o.Body), edits: l.edits}
}

// holds reports whether a delivery is in memory.
func (l *lane) holds(k event.Key) bool {
	_, ok := l.held[k]
	return ok
}

// noteRead notes that a delivery was read from the store.
func (l *lane) noteRead(o *delivery.Outgoing) { l.readUpTo = max(l.readUpTo, o.Delivery.ID.Event) }

// heard notes that a delivery was accepted, and reports whether it is new to the lane.
func (l *lane) heard(o *delivery.Outgoing) bool {
	l.news = true
	return !l.holds(o.Delivery.ID.Event)
}

// settled notes that the store has the outcome of a delivery.
func (l *lane) settled(d *delivery.Delivery, now time.Time) {
	if r := l.reading; r != nil {
		r.settled = append(r.settled, d.ID.Event)
	} else {
		l.letGo(d.ID.Event)
	}
	if d.State != delivery.Pending {
		return
	}
	l.due(d.Due)
	if !d.Rank.After(now) {
		l.missed(d.Rank)
	}
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
	l.catchUp()
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
	l.catchUp()
	l.holdUntil = 0
}

// recalled notes that deliveries which are in memory, or on their way from other nodes, may be
// pending no more.
func (l *lane) recalled(now time.Time) {
	l.readUpTo = max(l.readUpTo, event.KeyAt(now))
	if l.reading != nil {
		l.reading.recalled = true
	}
	l.changed()
	l.more()
}

// expedited notes that a person asked for a delivery: if it is held, it may be settled in
// between, and if the order is kept, its head may have changed.
func (l *lane) expedited(ordered bool) {
	l.edits++
	l.catchUp()
	if ordered {
		l.more()
		l.holdUntil = 0
	}
}

// shed releases memory that is empty. Very many lanes can have nothing in memory for
// long, because their endpoints are down.
func (l *lane) shed() {
	if l.ready.len() == 0 {
		l.ready = nil
	}
	if l.urgent.len() == 0 {
		l.urgent = nil
	}
	if len(l.held) == 0 {
		l.held = nil
	}
}

// push adds a delivery that may be sent.
func (l *lane) push(o *delivery.Outgoing) {
	if l.ready == nil {
		l.ready = new(outQueue)
	}
	l.ready.push(*o)
	l.hold(o)
}

// pushUrgent adds a delivery that a person asked for.
func (l *lane) pushUrgent(o *delivery.Outgoing) {
	if l.urgent == nil {
		l.urgent = new(outQueue)
	}
	l.urgent.push(*o)
	l.hold(o)
}

// popUrgent removes the next delivery that a person asked for; there must be one.
func (l *lane) popUrgent() delivery.Outgoing {
	o, _ := l.urgent.pop()
	l.shed()
	return o
}

// drop gives queued deliveries back to the store, which still has them, and returns
// their weight.
func (l *lane) drop(q *outQueue) (bytes int) {
	for {
		o, ok := q.pop()
		if !ok {
			l.shed()
			return bytes
		}
		bytes += weight(&o)
		l.letGo(o.Delivery.ID.Event)
		l.missed(o.Delivery.Rank)
	}
}

// more notes that the store may have due deliveries.
func (l *lane) more() {
	if l.backlog == drained {
		l.backlog = waiting
	}
}

// blocked notes that the store has due deliveries behind others that are all held.
func (l *lane) blocked() { l.backlog = behind }

// catchUp notes that asking the store may show something new.
func (l *lane) catchUp() {
	if l.backlog == behind {
		l.backlog = waiting
	}
}

// due notes that a delivery in the store becomes due at t.
func (l *lane) due(t time.Time) {
	if m := momentOf(t); l.nextDue == 0 || m < l.nextDue {
		l.nextDue = m
	}
}

// wait makes the lane wait until t: it is not read before, and nothing of it is sent.
func (l *lane) wait(t time.Time) { l.holdUntil = momentOf(t) }

// tick notes what has become due. The cursor may be past it.
func (l *lane) tick(now time.Time) {
	if l.nextDue.passed(now) {
		at := l.nextDue.time()
		l.reached(at)
		if l.breaker.Open() { // the store is not read past them, so their types are not known
			l.mayWait(store.PlaceBefore(at))
		}
		l.nextDue = 0
		l.more()
	}
	if l.holdUntil.passed(now) {
		l.holdUntil = 0
		l.more()
	}
}

// steppedBack corrects what the lane waits for after the clock was stepped back: it
// would come late by the step.
func (l *lane) steppedBack(now time.Time) {
	if l.nextDue != 0 || l.holdUntil != 0 {
		l.nextDue, l.holdUntil = 0, 0
		l.more()
	}
	l.breaker = inReach(l.breaker, now)
	if l.passes() {
		l.rewind()
		for i := range l.streaks {
			l.streaks[i].Pause(now)
		}
	}
}

// failedToRead notes that the store could not be read: nothing new may pass what waits there.
func (l *lane) failedToRead(now time.Time) {
	l.wait(now.Add(time.Second))
	l.rewind()
}

// beginRead notes that a worker reads from the store.
func (l *lane) beginRead() { l.reading = &reading{floor: store.Place{Millis: math.MaxInt64}} }

// endRead notes that the read has ended, and releases deliveries that were settled meanwhile.
func (l *lane) endRead() {
	r := l.reading
	l.reading = nil
	for _, k := range r.settled {
		l.letGo(k)
	}
}

// beginLoad notes that a worker reads the lane's next deliveries, which drain its backlog
// unless they show that there is more, and returns where it reads from.
func (l *lane) beginLoad(passes bool) store.LaneScan {
	r := store.LaneScan{Endpoint: l.no, After: l.cursor, Limit: pageSize}
	if passes {
		l.look = false
	} else {
		l.cursor, r.After = store.Place{}, store.Place{}
		r.Limit = l.loadSize() + len(l.held) // those may come again
	}
	l.backlog = drained
	return r
}

// endLoad notes the place that the read of beginLoad has reached. While the breaker is open, a
// lane that had a backlog keeps it: probes are taken from deliveries that were passed over.
func (l *lane) endLoad(end store.Place, passes, hadMore bool) {
	if l.reading.floor.Before(end) { // what was read past may have changed
		end = l.reading.floor
		l.unread()
	}
	if passes {
		l.cursor = end
	}
	if passes && l.breaker.Open() && hadMore {
		l.more()
	}
}

// unread notes that the store has more than was read.
func (l *lane) unread() {
	l.more()
	l.look = l.breaker.Open()
}

// noProbe notes that no due delivery was found to probe with: all are held, or they are due later.
func (l *lane) noProbe() { l.backlog, l.cursor = drained, store.Place{} }

// beginClear notes whether there may be pending deliveries to cancel, because the endpoint is deleted.
func (l *lane) beginClear() bool {
	l.clears = l.backlog != drained
	l.backlog, l.nextDue = drained, 0
	return l.clears
}

// enqueue puts the lane into a queue for workers, and returns which one.
func (l *lane) enqueue() place {
	switch {
	case l.proven:
		l.queue = amongHealthy
	case !l.doubtful():
		l.queue = amongFresh
	default:
		l.queue = amongSuspects
	}
	return l.queue
}

// placed notes the lane's place in the engine's heap, -1 for none.
func (l *lane) placed(i int) { l.wakeIndex = int32(i) }

// wakes notes when the lane is to be planned again, zero when only something that happens can change it.
func (l *lane) wakes(at moment) { l.wakeAt = at }

// rush notes whether the lane is in the queue of those with urgent deliveries.
func (l *lane) rush(in bool) { l.rushing = in }

// served notes that a worker has taken the lane from its queue.
func (l *lane) served() { l.queue, l.news = unqueued, false }

// started notes that an attempt begins, and what there is to know of it.
func (l *lane) started(s sent, most int, now time.Time) sent {
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	if s.beside = l.breaker.Open() && !s.urgent; s.beside {
		l.probing++
	}
	l.inflight++
	s.round = l.pace.began(int(l.inflight), most)
	return s
}

// ended notes that an attempt has ended.
func (l *lane) ended(s sent) {
	l.inflight--
	if s.beside {
		l.probing--
	}
}

// released notes that a delivery was not attempted: the store still has it.
func (l *lane) released(d *delivery.Delivery) {
	l.letGo(d.ID.Event)
	l.missed(d.Rank)
}

// learn updates pace and breaker by what an attempt showed, and returns what the endpoint's
// health has become: whether the store must know, whether the account must be warned,
// and whether the endpoint is to be disabled.
func (l *lane) learn(a *delivery.Attempt, effect delivery.Effect, s sent, most int, judge *delivery.Health, now time.Time) (save, failing, dead bool) {
	if effect != delivery.NoEffect || a.Outcome == delivery.OutcomeGone {
		l.pace.ended(s.round, a, most, now)
		l.proven = a.Succeeded() || l.proven && effect == delivery.EventRefused // which is an answer, and a quick one
	}
	if a.Succeeded() {
		save = l.breaker.Succeeded(now) || l.unsaved
		l.unsaved = false
		return save, false, false
	}
	if judge != nil {
		l.breaker.Failed(effect, s.probe, a.Started, now)
		if failing, dead = judge.Judge(&l.breaker, now); failing {
			l.breaker.Warned = true
		}
	}
	return true, failing, dead
}

// followBreaker makes the lane follow its breaker after an attempt, and reports whether it
// has just opened and the ready deliveries must go back.
func (l *lane) followBreaker(wasOpen, ordered bool) (opened bool) {
	switch open := l.breaker.Open(); {
	case open && (!wasOpen || !l.looked): // or it was open when this node began
		if l.looked = true; ordered {
			return false
		}
		l.look = true
		return !wasOpen
	case !open && wasOpen:
		l.looked = false
		l.pace.restart()
		l.rewind()
	}
	return false
}

// retries notes that the head of a lane that keeps the order waits for its next attempt. An
// urgent delivery need not be the head.
func (l *lane) retries(d *delivery.Delivery, urgent bool) {
	l.more()
	if !urgent {
		l.wait(d.Due)
	}
}

// readable reports whether a worker would get something new from the store.
func (l *lane) readable() bool {
	return l.backlog != behind && l.reading == nil && len(l.held) < maxHeld
}

// throttled returns when the lane's rate limit, or the rate that the endpoint was
// observed to take, lets the next attempt start; zero is now.
func (l *lane) throttled(ep *endpoint.Endpoint, now time.Time) time.Time {
	set := ep.Rate()
	limit, burst := rate.Limit(set), max(1, int(set))
	if observed := rate.Limit(l.pace.rate()); observed > 0 && (limit <= 0 || observed < limit) {
		limit, burst = observed, max(1, int(observed/20)) // evenly, because what is too much at once is not known
	}
	switch {
	case limit <= 0:
		l.limiter = nil
		return time.Time{}
	case l.limiter == nil:
		l.limiter = rate.NewLimiter(limit, burst)
	case l.limiter.Limit() != limit:
		l.limiter.SetLimitAt(now, limit)
		l.limiter.SetBurstAt(now, burst)
	}
	if missing := 1 - l.limiter.TokensAt(now); missing > 0 {
		seconds := min(missing/float64(limit), longest.Seconds()) // which can be more than a Duration holds
		return now.Add(time.Duration(seconds*float64(time.Second)) + time.Millisecond)
	}
	return time.Time{}
}

// concurrency is how many attempts the lane may have in flight now.
func (l *lane) concurrency(e *endpoint.Endpoint, standard int) int {
	return l.pace.atATime(most(e, standard))
}

// most is how many concurrent attempts an endpoint's settings allow.
func most(e *endpoint.Endpoint, standard int) int {
	if e.Settings.Ordering == endpoint.FIFO {
		return 1
	}
	if e.Settings.Concurrency > 0 {
		return e.Settings.Concurrency
	}
	return standard
}

// inReach is a breaker with a probe that a clock stepped back does not put off.
func inReach(b delivery.Breaker, now time.Time) delivery.Breaker {
	if latest := now.Add(b.Interval); b.ProbeAt.After(latest) {
		b.ProbeAt = latest
	}
	return b
}
