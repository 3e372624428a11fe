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

// lane is the engine's state of one endpoint that has work, or had some recently. It is small
// and bounded: deliveries that do not fit wait in the store. All fields are guarded by
// Engine.mu, and only methods of lane change them. The package comment declares the states.
type lane struct {
	no int64

	// ready contains deliveries that may be sent now, in order of rank. While the breaker is open,
	// these are probes.
	ready *outQueue
	// urgent contains deliveries that a user retried. They precede the ready ones and pass an open
	// breaker.
	urgent *outQueue
	// held contains the deliveries in memory: ready, in flight, or settled without the settlement
	// being on disk yet. The store still shows those as pending, so loaded deliveries are compared
	// with it.
	held      map[event.Key]holding
	heldBytes int // of their bodies
	// reading is the running read of the store, nil if there is none.
	reading *reading
	// nextDue is the due time of the earliest delivery in the store that is not due yet; zero if
	// unknown.
	nextDue moment
	// holdUntil is when the head of a FIFO lane is due again, or when a store that could not be
	// read is read again.
	holdUntil moment
	wakeAt    moment // zero: no wake-up
	idleSince moment
	// cursor is the place up to which the store was read while types are passed over: every
	// delivery before it is held or passed over.
	cursor store.Place
	// readUpTo is the highest key of the events read from the store. Events up to it may have been
	// sent before a message of another node announces them.
	readUpTo event.Key
	streaks  []streak // of failing types, unordered
	pace     pace
	breaker  delivery.Breaker
	limiter  *rate.Limiter // nil without a rate limit

	edits     uint32 // counts users' changes of its deliveries (Engine.Wake)
	rewinds   uint32 // counts changes of cursor and of the floor of a read
	passed    uint32 // counts passed-over deliveries
	turn      uint32 // counts probes
	inflight  int32  // attempts
	wakeIndex int32  // index in the engine's heap, -1 if none
	probing   int8   // attempts in flight that passed an open breaker, except urgent ones

	mode    mode
	backlog backlog
	queue   place
	// look means that the store may have deliveries of types that have not failed since the last
	// acknowledgement, while the breaker is open.
	look    bool
	looked  bool // look was set since the breaker opened, or since this node knows the lane
	rushing bool // in the queue of lanes with urgent deliveries
	proven  bool // the last attempt succeeded
	news    bool // a delivery was accepted since the lane was last served
	unsaved bool // the store's copy of breaker is older
	clears  bool // its pending deliveries are being cancelled
}

const (
	maxReady    = 4096 // fresh deliveries in memory
	minLoad     = 8
	maxHeld     = 8192 // deliveries in memory in any state
	overhead    = 256  // bytes of a ready delivery besides its body
	keepReady   = 256  // allocated places of an empty queue
	maxUrgent   = 64   // urgent deliveries in memory
	maxRush     = 4    // attempts in flight beyond which an open breaker lets no urgent one pass
	maxProbing  = 2    // probes in flight: one at the probe time, and one of a type that has not failed
	pageSize    = 256  // deliveries in one load, while types are passed over
	probeSize   = 8    // deliveries from which a probe is chosen
	fewFailures = 3    // consecutive failures after which an endpoint that has succeeded before may be down
	lanePatient = 5 * time.Minute
)

// mode determines which deliveries of a lane may be attempted. It follows from the endpoint's
// settings and its breaker; see [Engine.plan].
type mode uint8

const (
	sending mode = iota // the endpoint's breaker is closed
	probing             // its breaker is open
	paused              // it is disabled, not connected, or another node sends to it
	gone                // it is deleted
)

// backlog describes a lane's deliveries in the store.
type backlog uint8

const (
	drained backlog = iota // no due delivery that is neither held nor passed over
	waiting                // there may be some
	behind                 // there are some behind others that are all held: it is not read again before one of those is settled
)

// place is the queue for workers that contains a lane.
type place uint8

const (
	unqueued place = iota
	amongHealthy
	amongFresh // not proven, but with few or no failures: see lane.mayBeDown
	amongSuspects
	amongUrgent // in addition to another queue
	places
)

// reading is a running read of a lane's deliveries from the store.
type reading struct {
	// settled contains deliveries whose outcomes were stored meanwhile: the read may show them as
	// pending.
	settled []event.Key
	// floor is the lowest place, which the cursor must not pass afterwards.
	floor store.Place
	// recalled means that the read may show deliveries that must no longer be sent.
	recalled bool
}

// holding describes a held delivery.
type holding struct {
	bytes int    // of its body
	edits uint32 // value of lane.edits when it was added
}

// moment is a time on the wall clock, in a third of time.Time's bytes, because there are very
// many lanes. Zero is none.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.Sub(time.Unix(0, 0))) // Sub limits the result to the range of an int64
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(m))
}

// passed reports whether the moment is set and in the past.
func (m moment) passed(now time.Time) bool { return m != 0 && m <= momentOf(now) }

// newLane returns the lane of an endpoint. Unless its backlog is drained, it is read from the store first.
func newLane(no int64, b backlog, breaker delivery.Breaker) *lane {
	return &lane{no: no, backlog: b, breaker: breaker, pace: newPace(), wakeIndex: -1}
}

// loadSize returns how many deliveries to read at once: enough for the lane's current
// concurrency, so that a slow lane holds few. One that may be down reads a single delivery,
// because very many such lanes can wait for their next attempt.
func (l *lane) loadSize() int {
	if !l.proven {
		return 1
	}
	return max(2*int(l.pace.limit), minLoad)
}

// resting reports whether the lane has no work in progress.
func (l *lane) resting() bool {
	return l.inflight == 0 && len(l.held) == 0 && l.backlog == drained && l.reading == nil && !l.clears && l.queue == unqueued && !l.rushing && !l.passesSome()
}

// idle reports whether the lane can be removed without losing anything.
func (l *lane) idle(now time.Time) bool {
	return l.resting() && l.nextDue == 0 && l.breaker.FailingSince.IsZero() && !l.unsaved &&
		(l.limiter == nil || l.limiter.TokensAt(now) >= float64(l.limiter.Burst()))
}

// rest records whether the lane is idle, and reports whether it has been idle for lanePatient
// and can be removed.
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

// mayBeDown reports whether the endpoint may be down. An endpoint with a new delivery and no
// failure does not count, nor does one that has succeeded and failed once or twice since: these
// must not wait behind all those that are down.
func (l *lane) mayBeDown() bool {
	switch {
	case l.breaker.Failures == 0:
		return !l.news
	case l.breaker.Failures < fewFailures:
		return l.pace.flow == nil // no attempt has succeeded
	}
	return true
}

// follow sets the mode from the endpoint, nil if it is deleted. A lane of another node's
// endpoint keeps no state that its owner decides.
func (l *lane) follow(ep *endpoint.Registered) mode {
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

// disown removes the state that the endpoint's owner decides.
func (l *lane) disown() {
	l.backlog, l.look, l.unsaved, l.nextDue, l.holdUntil = drained, false, false, 0, 0
	l.breaker, l.streaks = delivery.Breaker{}, nil
}

// adopt sets the lane's health to the stored one.
func (l *lane) adopt(b delivery.Breaker) {
	l.breaker, l.unsaved = b, false
	l.changed()
}

// forgive closes the breaker, because a user has enabled the endpoint.
func (l *lane) forgive() {
	l.breaker, l.unsaved, l.streaks = delivery.Breaker{}, true, nil
	l.pace.restart()
	l.changed()
}

// saved records the breaker that the store has now: outcomes of one endpoint can be stored out
// of order.
func (l *lane) saved(b delivery.Breaker) { l.unsaved = l.breaker != b }

// hold records that a delivery is in memory.
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

// noteRead records that a delivery was read from the store.
func (l *lane) noteRead(o *delivery.Outgoing) { l.readUpTo = max(l.readUpTo, o.Delivery.ID.Event) }

// noteAccepted records that a delivery was accepted, and reports whether it is new to the lane.
func (l *lane) noteAccepted(o *delivery.Outgoing) bool {
	l.news = true
	return !l.holds(o.Delivery.ID.Event)
}

// settled records that the store has the outcome of a delivery.
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

// letGo records that a delivery is no longer in memory. If a user changed deliveries meanwhile,
// the store may show it as pending again and may have been read too early, so it is read once
// more.
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

// changed records that a user changed deliveries or settings: the lane's knowledge of the store
// may be stale.
func (l *lane) changed() {
	l.edits++
	l.rewind()
	l.catchUp()
	l.holdUntil = 0
}

// recalled records that deliveries in memory, or on their way from other nodes, may no longer
// be pending.
func (l *lane) recalled(now time.Time) {
	l.readUpTo = max(l.readUpTo, event.KeyAt(now))
	if l.reading != nil {
		l.reading.recalled = true
	}
	l.changed()
	l.more()
}

// expedited records that a user retried a delivery: if it is held, it may be settled meanwhile,
// and in an ordered lane the head may have changed.
func (l *lane) expedited(ordered bool) {
	l.edits++
	l.catchUp()
	if ordered {
		l.more()
		l.holdUntil = 0
	}
}

// shed releases empty memory. Very many lanes can be empty for a long time, because their
// endpoints are down.
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

// push adds a ready delivery.
func (l *lane) push(o *delivery.Outgoing) {
	if l.ready == nil {
		l.ready = new(outQueue)
	}
	l.ready.push(*o)
	l.hold(o)
}

// pushUrgent adds a delivery that a user retried.
func (l *lane) pushUrgent(o *delivery.Outgoing) {
	if l.urgent == nil {
		l.urgent = new(outQueue)
	}
	l.urgent.push(*o)
	l.hold(o)
}

// popUrgent removes the next urgent delivery; there must be one.
func (l *lane) popUrgent() delivery.Outgoing {
	o, _ := l.urgent.pop()
	l.shed()
	return o
}

// drop returns queued deliveries to the store, which still has them, and returns their weight.
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

// more records that the store may have due deliveries.
func (l *lane) more() {
	if l.backlog == drained {
		l.backlog = waiting
	}
}

// blocked records that the store has due deliveries behind others that are all held.
func (l *lane) blocked() { l.backlog = behind }

// catchUp records that reading the store may show new deliveries.
func (l *lane) catchUp() {
	if l.backlog == behind {
		l.backlog = waiting
	}
}

// due records that a delivery in the store becomes due at t.
func (l *lane) due(t time.Time) {
	if m := momentOf(t); l.nextDue == 0 || m < l.nextDue {
		l.nextDue = m
	}
}

// wait makes the lane wait until t: it is not read before, and nothing is sent.
func (l *lane) wait(t time.Time) { l.holdUntil = momentOf(t) }

// tick records the deliveries that have become due. The cursor may be past them.
func (l *lane) tick(now time.Time) {
	if l.nextDue.passed(now) {
		at := l.nextDue.time()
		l.reached(at)
		if l.breaker.Open() { // they are not read from the store, so their types are unknown
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

// steppedBack corrects the lane's waiting times after the clock was stepped back: they would be
// longer by the step.
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

// failedToRead records that the store could not be read: no new delivery may overtake those in
// the store.
func (l *lane) failedToRead(now time.Time) {
	l.wait(now.Add(time.Second))
	l.rewind()
}

// beginRead records that a worker reads from the store.
func (l *lane) beginRead() { l.reading = &reading{floor: store.Place{Millis: math.MaxInt64}} }

// endRead records that the read has ended, and releases deliveries that were settled meanwhile.
func (l *lane) endRead() {
	r := l.reading
	l.reading = nil
	for _, k := range r.settled {
		l.letGo(k)
	}
}

// beginLoad records that a worker reads the lane's next deliveries, which drains the backlog
// unless the read shows more, and returns the part to read.
func (l *lane) beginLoad(passes bool) store.LaneScan {
	r := store.LaneScan{Endpoint: l.no, After: l.cursor, Limit: pageSize}
	if passes {
		l.look = false
	} else {
		l.cursor, r.After = store.Place{}, store.Place{}
		r.Limit = l.loadSize() + len(l.held) // those may be among the results
	}
	l.backlog = drained
	return r
}

// endLoad records the place that the read of beginLoad has reached. While the breaker is open,
// a lane that had a backlog keeps it: probes are taken from passed-over deliveries.
func (l *lane) endLoad(end store.Place, passes, hadMore bool) {
	if l.reading.floor.Before(end) { // deliveries before the place may have changed meanwhile
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

// unread records that the store has more deliveries than were read.
func (l *lane) unread() {
	l.more()
	l.look = l.breaker.Open()
}

// noProbe records that there is no due delivery to probe with: all are held, or due later.
func (l *lane) noProbe() { l.backlog, l.cursor = drained, store.Place{} }

// beginClear records whether there may be pending deliveries to cancel, because the endpoint is
// deleted.
func (l *lane) beginClear() bool {
	l.clears = l.backlog != drained
	l.backlog, l.nextDue = drained, 0
	return l.clears
}

// enqueue puts the lane into a queue for workers, and returns the queue.
func (l *lane) enqueue() place {
	switch {
	case l.proven:
		l.queue = amongHealthy
	case !l.mayBeDown():
		l.queue = amongFresh
	default:
		l.queue = amongSuspects
	}
	return l.queue
}

// placed records the lane's index in the engine's heap, -1 for none.
func (l *lane) placed(i int) { l.wakeIndex = int32(i) }

// wakes records when the lane is to be planned again, zero if only an event can change its plan.
func (l *lane) wakes(at moment) { l.wakeAt = at }

// rush records whether the lane is in the queue of lanes with urgent deliveries.
func (l *lane) rush(in bool) { l.rushing = in }

// served records that a worker has taken the lane from its queue.
func (l *lane) served() { l.queue, l.news = unqueued, false }

// started records that an attempt begins, and returns its details.
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

// ended records that an attempt has ended.
func (l *lane) ended(s sent) {
	l.inflight--
	if s.beside {
		l.probing--
	}
}

// released records that a delivery was not attempted: the store still has it.
func (l *lane) released(d *delivery.Delivery) {
	l.letGo(d.ID.Event)
	l.missed(d.Rank)
}

// learn updates pace and breaker from the result of an attempt, and returns the endpoint's
// health: whether to store it, whether to warn the account, and whether to disable the
// endpoint.
func (l *lane) learn(a *delivery.Attempt, effect delivery.Effect, s sent, most int, judge *delivery.Health, now time.Time) (save, failing, dead bool) {
	if effect != delivery.NoEffect || a.Outcome == delivery.OutcomeGone {
		l.pace.ended(s.round, a, most, now)
		l.proven = a.Succeeded() || l.proven && effect == delivery.EventRefused // a refusal is a response too, and a quick one
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

// followBreaker adapts the lane to its breaker after an attempt, and reports whether the
// breaker has just opened and the ready deliveries must be returned.
func (l *lane) followBreaker(wasOpen, ordered bool) (opened bool) {
	switch open := l.breaker.Open(); {
	case open && (!wasOpen || !l.looked): // or it was open when this node started
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

// retries records that the head of an ordered lane waits for its next attempt. An urgent
// delivery need not be the head.
func (l *lane) retries(d *delivery.Delivery, urgent bool) {
	l.more()
	if !urgent {
		l.wait(d.Due)
	}
}

// readable reports whether reading the store would return new deliveries.
func (l *lane) readable() bool {
	return l.backlog != behind && l.reading == nil && len(l.held) < maxHeld
}

// throttled returns when the next attempt may start by the lane's rate limit, or by the learned
// rate of the endpoint; zero is now.
func (l *lane) throttled(ep *endpoint.Registered, now time.Time) time.Time {
	set := ep.Rate()
	limit, burst := rate.Limit(set), max(1, int(set))
	if observed := rate.Limit(l.pace.rate()); observed > 0 && (limit <= 0 || observed < limit) {
		limit, burst = observed, max(1, int(observed/20)) // evenly, because the endpoint's tolerance of bursts is unknown
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
		seconds := min(missing/float64(limit), longest.Seconds()) // it can exceed the range of a Duration
		return now.Add(time.Duration(seconds*float64(time.Second)) + time.Millisecond)
	}
	return time.Time{}
}

// concurrency returns how many attempts the lane may have in flight now.
func (l *lane) concurrency(e *endpoint.Registered, standard int) int {
	return l.pace.atATime(most(e, standard))
}

// most returns the maximum number of concurrent attempts by the endpoint's settings.
func most(e *endpoint.Registered, standard int) int {
	if e.Settings.Ordering == endpoint.FIFO {
		return 1
	}
	if e.Settings.Concurrency > 0 {
		return e.Settings.Concurrency
	}
	return standard
}

// inReach returns a breaker whose probe is not delayed by a clock that was stepped back.
func inReach(b delivery.Breaker, now time.Time) delivery.Breaker {
	if latest := now.Add(b.Interval); b.ProbeAt.After(latest) {
		b.ProbeAt = latest
	}
	return b
}
