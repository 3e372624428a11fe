// Package dispatch owns when what is sent: a lane for each endpoint that has
// work, the workers that lanes share fairly, timers, and the circuit breaker.
//
// What was just committed goes straight to its lane; nothing polls. Memory is
// bounded by lanes, not by backlog: what does not fit in a lane waits in the
// store and is read in order when the lane has room. The package must not know
// SQL or HTTP; it declares the few things it needs of the store and the sender.
package dispatch

import (
	"container/heap"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store is what the engine reads, and the one thing it writes by itself.
type Store interface {
	LoadLane(ctx context.Context, endpoint int64, limit, maxBytes int) ([]store.Job, error)
	ScanLane(ctx context.Context, r store.LaneScan) ([]store.Job, error)
	Load(ctx context.Context, deliveries []delivery.ID) ([]store.Job, error)
	Lanes(ctx context.Context, after int64, limit int) ([]store.Lane, error)
	CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error)
	AllHealth(ctx context.Context) ([]store.Health, error)
}

// Recorder takes what became of a delivery and sees to it that it gets to disk.
// Engine.Committed must be called when it is.
type Recorder interface {
	Settle(s store.Settlement, h *store.Health)
}

// Sender makes one attempt. It returns OutcomeNone when ctx ended it.
type Sender interface {
	Send(ctx context.Context, r *sender.Request) delivery.Attempt
}

// Watcher is told what somebody should know of. Its methods are called by
// workers, without locks held; they may take their time, but the worker waits.
type Watcher interface {
	// EndpointDead asks for an endpoint to be disabled, for one of the
	// endpoint.Disabled… reasons.
	EndpointDead(no int64, reason string)
	// EndpointFailing tells that an endpoint fails all the time, once until it recovers.
	EndpointFailing(no int64, since time.Time)
	// DeliveryExhausted tells of a delivery that is out of attempts.
	DeliveryExhausted(d delivery.Delivery, j *store.Job)
	// Attempted sees every attempt.
	Attempted(e *endpoint.Endpoint, a *delivery.Attempt)
}

// Config is what an Engine is made of; all fields but those with a stated default are required.
type Config struct {
	Store     Store
	Recorder  Recorder
	Sender    Sender
	Watcher   Watcher
	Endpoints *endpoint.Registry
	Now       func() time.Time
	Random    func() float64 // in [0, 1)
	Log       *slog.Logger

	Live, Test  delivery.Schedule // default: delivery.LiveSchedule, delivery.TestSchedule
	Concurrency int               // the most attempts at a time to one endpoint; default 256
	Workers     int               // attempts at a time in all; default 4096
	Tries       int               // attempts a second to endpoints that may be down, while others have work; default 300 for each processor
	QueueBytes  int               // of deliveries that are ready in memory, in all; default 64 MiB
	Cluster     Cluster           // nil: there are no other nodes
	MaxAge      time.Duration     // of a pending delivery, after which it is given up; 0: none is
	Health      delivery.Health   // when an endpoint is failing, and when it is given up; default: after 5 days
}

// Engine sends what is due to whom it is due. Use [New], then Start.
type Engine struct {
	Config
	sending context.Context // ends when attempts under way must end
	cancel  context.CancelFunc
	quit    chan struct{} // closed when no new attempt may start
	kick    chan struct{} // the earliest wake-up has changed
	workers sync.WaitGroup

	mu       sync.Mutex
	work     sync.Cond
	lanes    map[int64]*lane
	known    map[int64]delivery.Breaker // breakers read at start, until their lane exists
	scanned  bool                       // all lanes that the store had at start are known
	urgent   runQueue                   // lanes with urgent deliveries
	healthy  runQueue
	fresh    runQueue // not proven, but little speaks against them: see lane.doubtful
	suspects runQueue
	turn     int       // counts picks, so that all queues get their share
	tries    trials    // how many suspects may be tried
	loads    int       // workers that read from the store
	servedAt time.Time // when a healthy or fresh lane was served last
	wakes    wakeHeap
	running  int  // workers that exist
	idle     int  // of which wait for work and were not called
	called   bool // one of them, or a new one, is on its way
	onTrial  int  // attempts under way to suspects
	rushing  int  // workers that serve urgent deliveries
	bytes    int  // that ready deliveries take, and may take that are being read
	stopping bool

	arrived  []delivery.ID // what other nodes took and is not read yet
	fetching bool

	stats counters
}

// counters are what [Engine.Stats] returns.
type counters struct {
	attempts, failures, inflight atomic.Int64
}

// Stats is the engine's load at one moment.
type Stats struct {
	Lanes, Ready, InFlight, Workers, Open int
	Failing                               int // lanes whose last attempt failed, the open ones among them
	Attempts, Failures                    int64
}

const (
	maxIdle   = 128
	loadBytes = 2 << 20  // of bodies in one load, past its first
	rereads   = 16 << 20 // of bodies in one load that are held already
	lanePage  = 1000
	cutOff    = time.Second // for workers to end after their attempts were cut off
	longest   = time.Minute // to wait before a clock is looked at again
	quiet     = time.Second // without work for others, until suspects are tried as fast as can be

	triesPause = 10 * time.Millisecond
	maxLoads   = 32
)

// New returns an engine that does nothing until it is started.
func New(c Config) *Engine {
	setDefault(&c.Concurrency, 256)
	setDefault(&c.Workers, 4096)
	setDefault(&c.QueueBytes, 64<<20)
	setDefault(&c.Tries, 300*runtime.GOMAXPROCS(0))
	setDefault(&c.Health.DisableAfter, delivery.DefaultDisableAfter)
	if c.Live == nil {
		c.Live = delivery.LiveSchedule()
	}
	if c.Test == nil {
		c.Test = delivery.TestSchedule()
	}
	e := &Engine{Config: c, lanes: map[int64]*lane{}, kick: make(chan struct{}, 1), quit: make(chan struct{})}
	e.work.L = &e.mu
	e.sending, e.cancel = context.WithCancel(context.Background())
	return e
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Start reads which endpoints have deliveries waiting and begins to send. It
// returns as soon as the health of endpoints is known; the lanes fill while
// others are served already.
func (e *Engine) Start(ctx context.Context) error {
	health, err := e.Store.AllHealth(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.known = make(map[int64]delivery.Breaker, len(health))
	for _, h := range health {
		e.known[h.Endpoint] = h.Breaker
	}
	e.mu.Unlock()
	e.workers.Go(e.keepTime)
	e.workers.Go(e.scan)
	if e.MaxAge > 0 {
		e.workers.Go(e.giveUpOld)
	}
	return nil
}

// scan finds the lanes that the store has work for.
func (e *Engine) scan() {
	after := int64(0)
	for {
		lanes, err := e.Store.Lanes(e.sending, after, lanePage)
		if err != nil {
			if e.sending.Err() == nil {
				e.Log.Error("list lanes", "err", err)
			}
			if !e.pause(time.Second) {
				return
			}
			continue
		}
		now := e.Now()
		e.mu.Lock()
		for _, found := range lanes {
			after = found.Endpoint
			if ep := e.Endpoints.Get(found.Endpoint); ep != nil && ep.Remote {
				continue
			}
			l := e.lane(found.Endpoint)
			if found.Rank.After(now) {
				l.due(found.Rank)
			} else {
				l.more = true
			}
			e.plan(l, now)
		}
		done := len(lanes) < lanePage
		e.scanned = done
		stopping := e.stopping
		e.mu.Unlock()
		if done || stopping {
			return
		}
	}
}

// pause waits and reports whether the engine goes on.
func (e *Engine) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.quit:
		return false
	}
}

// Stop lets attempts under way finish until ctx ends; what is left then is cut
// off and stays pending in the store. It returns when no worker is left, or a
// second after ctx ended: workers whose outcomes the Recorder does not take end
// when that stops.
func (e *Engine) Stop(ctx context.Context) {
	e.mu.Lock()
	if !e.stopping {
		e.stopping = true
		close(e.quit)
	}
	e.work.Broadcast()
	e.mu.Unlock()
	e.poke()
	done := make(chan struct{})
	go func() {
		e.workers.Wait()
		close(done)
	}()
	defer e.cancel()
	select {
	case <-done:
		return
	case <-ctx.Done():
		e.cancel()
	}
	t := time.NewTimer(cutOff)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		e.Log.Warn("outcomes of the last attempts cannot be recorded")
	}
}

// Stats returns the engine's load.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stats{Lanes: len(e.lanes), Workers: e.running, InFlight: int(e.stats.inflight.Load()),
		Attempts: e.stats.attempts.Load(), Failures: e.stats.failures.Load()}
	for _, l := range e.lanes {
		s.Ready += l.ready.len()
		if l.breaker.Open() {
			s.Open++
		}
		if !l.breaker.FailingSince.IsZero() {
			s.Failing++
		}
	}
	return s
}

// Breaker returns the circuit breaker of an endpoint.
func (e *Engine) Breaker(endpoint int64) delivery.Breaker {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.lanes[endpoint]; l != nil {
		return l.breaker
	}
	return e.known[endpoint]
}

// lane returns the lane of an endpoint, making it when needed. A lane made before
// all of the store's are known starts by looking there, so that nothing new
// overtakes what waited.
func (e *Engine) lane(no int64) *lane {
	l := e.lanes[no]
	if l == nil {
		l = newLane(no)
		l.more = !e.scanned
		if b, ok := e.known[no]; ok {
			l.breaker = e.restored(no, b)
			delete(e.known, no)
		}
		e.lanes[no] = l
	}
	return l
}

// restored is a breaker that the store remembers, as it counts now: not at all if
// a person has enabled the endpoint since (see Forgive), and with a probe that a
// clock stepped back does not put off.
func (e *Engine) restored(no int64, b delivery.Breaker) delivery.Breaker {
	if ep := e.Endpoints.Get(no); ep != nil && ep.EnabledSince.After(b.FailingSince) {
		return delivery.Breaker{LastSuccess: b.LastSuccess}
	}
	return inReach(b, e.Now())
}

// Committed takes what a transaction wrote: fresh deliveries go to their lanes,
// settled ones leave memory. Calls must come in the order of the transactions.
func (e *Engine) Committed(b *store.Batch) {
	if away := e.committed(b); len(away) > 0 {
		e.Cluster.Elsewhere(away)
	}
}

// committed does so and returns the fresh deliveries that other nodes make.
func (e *Engine) committed(b *store.Batch) (away []delivery.ID) {
	now := e.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range b.Settlements {
		d := &b.Settlements[i].Delivery
		l := e.lanes[d.ID.Endpoint]
		if l == nil {
			continue
		}
		if l.loading {
			l.settled = append(l.settled, d.ID.Event)
		} else {
			l.letGo(d.ID.Event)
		}
		if d.State == delivery.Pending { // from now on the store shows when it is due
			l.due(d.Due)
			if !d.Rank.After(now) {
				l.missed(d.Rank)
			}
		}
		if l.more || l.passes() || d.State == delivery.Pending {
			e.plan(l, now)
		}
	}
	for i := range b.Health {
		// Outcomes of one endpoint can pass each other on their way here.
		if l := e.lanes[b.Health[i].Endpoint]; l != nil {
			l.unsaved = l.breaker != b.Health[i].Breaker
		}
	}
	for _, a := range b.Appends {
		if a.Refused() {
			continue
		}
		for i := range a.Deliveries {
			no := a.Deliveries[i].ID.Endpoint
			ep := e.Endpoints.Get(no)
			if e.elsewhere(ep) {
				away = append(away, a.Deliveries[i].ID)
				continue
			}
			l := e.lane(no)
			if e.Cluster != nil && ep != nil && ep.Settings.Ordering == endpoint.FIFO {
				// Another node may have taken an earlier one that this one has not heard of yet.
				l.missed(a.Deliveries[i].Rank)
				l.behind = false
				e.plan(l, now)
				continue
			}
			e.accept(l, ep, &store.Job{Delivery: a.Deliveries[i], EventID: a.Event.ID, Type: a.Event.Type, Body: a.Event.Body, Trace: a.Event.Trace})
			e.plan(l, now)
		}
	}
	return away
}

// accept takes a fresh delivery into its lane's memory if there is room and nothing
// older waits in the store; else the store keeps it until its turn. It may have been
// read from there already. While types are passed over, those that are not do not wait
// behind what is read past.
func (e *Engine) accept(l *lane, ep *endpoint.Endpoint, j *store.Job) {
	l.news = true
	if _, held := l.held[j.Delivery.ID.Event]; held {
		return
	}
	full := l.ready.len() >= maxReady || len(l.held) >= maxHeld || e.bytes+weight(j) > e.QueueBytes
	passes := l.passes() && !ordered(ep)
	switch {
	case full || !l.holdUntil.IsZero(), !passes && (l.more || l.loading || l.breaker.Open()):
		l.missed(j.Delivery.Rank)
	case passes && !l.mayGo(j, e.Now()):
		l.passOver(&j.Delivery, j.Type)
		l.more = l.more || l.breaker.Open() // there is something to probe with
	default:
		e.push(l, j)
	}
}

func ordered(ep *endpoint.Endpoint) bool {
	return ep != nil && ep.Settings.Ordering == endpoint.FIFO
}

func (e *Engine) push(l *lane, j *store.Job) {
	l.ready.push(*j)
	l.hold(j)
	e.bytes += weight(j)
}

// Wake tells the engine that an endpoint's deliveries or settings changed: some
// were requeued, or it was enabled, disabled, changed or deleted.
func (e *Engine) Wake(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(endpoint)
	l.changed()
	e.plan(l, e.Now())
}

// Forgive closes an endpoint's breaker: a person says that it works again.
func (e *Engine) Forgive(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(endpoint)
	l.breaker, l.unsaved, l.streaks = delivery.Breaker{}, true, nil
	l.pace.restart()
	l.changed()
	e.plan(l, e.Now())
}

// plan decides what a lane does next. It is called after every change to it, with
// e.mu held.
func (e *Engine) plan(l *lane, now time.Time) {
	ep := e.Endpoints.Get(l.no)
	switch {
	case e.stopping:
		return
	case ep == nil: // deleted
		e.dropReady(l)
		e.dropUrgent(l)
		e.wake(l, time.Time{})
		l.breaker, l.unsaved, l.streaks = delivery.Breaker{}, false, nil // it fails nobody any more
		if l.more && !l.clearing {
			l.clearing = true
			e.workers.Go(func() { e.clear(l) })
		}
		return
	case !ep.Sends():
		e.dropReady(l)
		e.dropUrgent(l)
		e.wake(l, time.Time{})
		if ep.Remote { // whoever sends looks in the store by itself
			l.more, l.look, l.behind, l.unsaved, l.nextDue, l.holdUntil = false, false, false, false, time.Time{}, time.Time{}
			l.breaker, l.streaks = delivery.Breaker{}, nil
		}
		return
	}
	if !l.nextDue.IsZero() && !l.nextDue.After(now) {
		l.reached(l.nextDue) // the cursor may be past it
		l.nextDue, l.more = time.Time{}, true
	}
	if !l.holdUntil.IsZero() && !l.holdUntil.After(now) {
		l.holdUntil, l.more = time.Time{}, true
	}
	rush, rushAt := e.rush(l, ep, now)
	if rush {
		e.hurry(l)
	}
	next, at := e.decide(l, ep, now)
	if next != stepWait {
		e.enqueue(l)
	}
	if at.IsZero() || !l.breaker.Open() { // else what becomes due waits for the probe's time too
		at = earliest(at, l.nextDue)
	}
	e.wake(l, earliest(rushAt, at))
}

// earliest returns the first of some times that is not zero, zero if all are.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// step is what a worker would do next with a lane.
type step uint8

const (
	stepWait  step = iota
	stepSend       // the next ready delivery
	stepRead       // deliveries from the store
	stepProbe      // with a delivery that is read from the store
)

// decide returns what a worker would do with a lane now. If that is to wait, it returns
// until when, zero if only an event can change it.
func (e *Engine) decide(l *lane, ep *endpoint.Endpoint, now time.Time) (step, time.Time) {
	if !l.holdUntil.IsZero() {
		return stepWait, l.holdUntil
	}
	var next step
	var at time.Time
	switch {
	case ordered(ep):
		next, at = e.decideOrdered(l, now)
	case l.breaker.Open():
		next, at = e.decideOpen(l, ep, now)
	default:
		next, at = e.decideClosed(l, ep, now)
	}
	if next != stepWait {
		if at := e.throttled(l, ep, now); !at.IsZero() {
			return stepWait, at
		}
	}
	return next, at
}

// decideClosed is decide for a lane whose breaker is closed.
func (e *Engine) decideClosed(l *lane, ep *endpoint.Endpoint, now time.Time) (step, time.Time) {
	due := l.probeDue()
	switch {
	case l.inflight >= l.concurrency(ep, e.Concurrency):
		return stepWait, time.Time{}
	case l.ready.len() > 0:
		return stepSend, time.Time{}
	case l.more && l.readable():
		return stepRead, time.Time{}
	case due.IsZero() || l.loading:
		return stepWait, time.Time{}
	case due.After(now):
		return stepWait, due
	}
	return stepProbe, time.Time{}
}

// decideOpen is decide for a lane whose breaker is open: it is probed at its time, once all
// attempts have ended; deliveries of types that have not failed go at once, one by one.
func (e *Engine) decideOpen(l *lane, ep *endpoint.Endpoint, now time.Time) (step, time.Time) {
	busy := l.probing >= maxProbing || l.inflight >= most(ep, e.Concurrency)
	switch {
	case l.ready.len() > 0 && !busy:
		return stepSend, time.Time{}
	case l.look && l.readable():
		return stepRead, time.Time{}
	case !l.more && !l.waiting(), l.ready.len() > 0 || l.inflight > 0 || !l.readable():
		return stepWait, time.Time{}
	case now.Before(l.breaker.ProbeAt):
		return stepWait, l.breaker.ProbeAt
	}
	return stepProbe, time.Time{}
}

// decideOrdered is decide for a lane that keeps the order: only its head may be sent, when
// the breaker and the pause of its type are over.
func (e *Engine) decideOrdered(l *lane, now time.Time) (step, time.Time) {
	if now.Before(l.breaker.ProbeAt) {
		e.dropReady(l)
		return stepWait, l.breaker.ProbeAt
	}
	switch {
	case l.inflight > 0:
		return stepWait, time.Time{}
	case l.ready.len() > 0:
		if s := l.streak(l.ready.first().Type); s != nil && s.Holds() && now.Before(s.NextAt) {
			return stepWait, s.NextAt
		}
		return stepSend, time.Time{}
	case l.more && l.readable() && len(l.held) == 0: // the store must show all settlements before it is asked what comes next
		return stepRead, time.Time{}
	}
	return stepWait, time.Time{}
}

// readable reports whether a worker would get something new from the store.
func (l *lane) readable() bool { return !l.behind && !l.loading && len(l.held) < maxHeld }

// throttled returns when the lane's rate limit, or the rate that the endpoint was
// found to take, lets the next attempt start; zero is now.
func (e *Engine) throttled(l *lane, ep *endpoint.Endpoint, now time.Time) time.Time {
	set := ep.Rate()
	limit, burst := rate.Limit(set), max(1, int(set))
	if found := rate.Limit(l.pace.rate()); found > 0 && (limit <= 0 || found < limit) {
		limit, burst = found, max(1, int(found/20)) // evenly, because what is too much at once is not known
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

// enqueue gives the lane a place among those that wait for a worker.
func (e *Engine) enqueue(l *lane) {
	if l.queued {
		return
	}
	l.queued, l.suspect = true, !l.proven
	switch {
	case l.proven:
		e.healthy.push(l)
	case !l.doubtful():
		e.fresh.push(l)
	default:
		e.suspects.push(l)
	}
	e.call()
}

// call sees to it that a worker comes for the lanes that wait. One at a time is
// on its way; it calls the next when it leaves a lane behind, so that no lane
// waits for an attempt to another, and few are called when attempts are short.
func (e *Engine) call() {
	switch {
	case e.called || e.stopping || !e.pickable():
	case e.idle > 0:
		e.idle--
		e.called = true
		e.work.Signal()
	case e.running < e.Workers:
		e.running++
		e.called = true
		e.workers.Go(e.worker)
	}
}

// pickable reports whether a lane waits that a worker may serve now.
func (e *Engine) pickable() bool {
	return e.urgent.len() > 0 && !e.rushFull() || e.healthy.len() > 0 || !e.trialFull() && (e.fresh.len() > 0 || e.suspects.len() > 0 && e.mayTry())
}

// mayTry reports whether a suspect may be tried now. While lanes that are not suspect
// have work, suspects are tried at a bounded rate: what fails at once costs no less of
// the processor than what succeeds, and there can be very many of them.
func (e *Engine) mayTry() bool {
	if e.loads >= maxLoads { // more would only wait for each other
		return false
	}
	now := e.Now()
	if now.Sub(e.servedAt) >= quiet || e.tries.left(now, float64(e.Tries)) >= 1 {
		return true
	}
	if !e.tries.waiting { // keepTime calls a worker when there is one left again
		e.tries.waiting = true
		e.poke()
	}
	return false
}

// trials is how many suspects may be tried still.
type trials struct {
	credit  float64
	at      time.Time // when it was that
	waiting bool      // a suspect would have been tried if there had been credit
}

// left returns the credit after it grew by so many a second.
func (t *trials) left(now time.Time, rate float64) float64 {
	if passed := now.Sub(t.at); passed > 0 {
		t.credit = min(t.credit+passed.Seconds()*rate, max(rate/10, 1))
	}
	t.at = now
	return t.credit
}

// trialFull reports whether suspects have their share of the workers: half.
func (e *Engine) trialFull() bool { return e.onTrial >= max(e.Workers/2, 1) }

func (e *Engine) dropReady(l *lane)  { e.bytes -= l.drop(&l.ready) }
func (e *Engine) dropUrgent(l *lane) { e.bytes -= l.drop(l.urgent) }

// wake sets when the lane is planned again; zero is only when something happens.
func (e *Engine) wake(l *lane, at time.Time) {
	if at.Equal(l.wakeAt) {
		return
	}
	l.wakeAt = at
	switch {
	case at.IsZero():
		heap.Remove(&e.wakes, l.wakeIndex)
	case l.wakeIndex >= 0:
		heap.Fix(&e.wakes, l.wakeIndex)
	default:
		heap.Push(&e.wakes, l)
	}
	if len(e.wakes) > 0 && e.wakes[0] == l {
		e.poke()
	}
}

func (e *Engine) poke() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// keepTime wakes lanes when their time has come and forgets the idle ones. It
// looks at the clock once a minute at least, because a clock can be stepped.
func (e *Engine) keepTime() {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	var last time.Time
	for {
		e.mu.Lock()
		if e.stopping {
			e.mu.Unlock()
			return
		}
		now := e.Now()
		wall := now.Round(0) // a monotonic reading would hide a step
		if last.Sub(wall) > time.Second {
			e.steppedBack(now)
		}
		last = wall
		for len(e.wakes) > 0 && !e.wakes[0].wakeAt.After(now) {
			l := e.wakes[0]
			e.wake(l, time.Time{})
			e.plan(l, now)
		}
		wait := longest
		if len(e.wakes) > 0 {
			wait = min(wait, e.wakes[0].wakeAt.Sub(now))
		}
		if e.tries.waiting {
			if e.tries.left(now, float64(e.Tries)) >= 1 || now.Sub(e.servedAt) >= quiet {
				e.tries.waiting = false
				e.call()
			} else {
				wait = min(wait, triesPause)
			}
		}
		e.forget(now)
		e.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-e.kick:
		}
	}
}

// steppedBack looks at all lanes again after the clock was stepped back: what they wait
// for would come late by the step.
func (e *Engine) steppedBack(now time.Time) {
	for _, l := range e.lanes {
		if !l.nextDue.IsZero() || !l.holdUntil.IsZero() {
			l.more, l.nextDue, l.holdUntil = true, time.Time{}, time.Time{}
		}
		l.breaker = inReach(l.breaker, now)
		if l.passes() {
			l.rewind()
			for i := range l.streaks {
				l.streaks[i].Pause(now)
			}
		}
		e.plan(l, now)
	}
}

// inReach is a breaker with a probe that a clock stepped back does not put off.
func inReach(b delivery.Breaker, now time.Time) delivery.Breaker {
	if latest := now.Add(b.Interval); b.ProbeAt.After(latest) {
		b.ProbeAt = latest
	}
	return b
}

// forget drops lanes that have been idle for a while, a few at a time: the map's
// order is random, so all get their turn.
func (e *Engine) forget(now time.Time) {
	seen := 0
	for no, l := range e.lanes {
		if seen++; seen > 256 {
			return
		}
		switch {
		case l.idleSince.IsZero() && e.forgetDeleted(l):
		case !l.idle(now):
			l.idleSince = time.Time{}
		case l.idleSince.IsZero():
			l.idleSince = now
		case now.Sub(l.idleSince) > lanePatient:
			e.wake(l, time.Time{})
			delete(e.lanes, no)
		}
	}
}

// forgetDeleted drops the lane of an endpoint that is gone, unless something of it is
// under way. One that failed would never be idle again.
func (e *Engine) forgetDeleted(l *lane) bool {
	if !l.resting() || e.Endpoints.Get(l.no) != nil {
		return false
	}
	e.wake(l, time.Time{})
	delete(e.lanes, l.no)
	return true
}

// clear cancels what is pending for an endpoint that is gone.
func (e *Engine) clear(l *lane) {
	const slice = 1000
	for e.clearOn(l) {
		for n := slice; n == slice; {
			var err error
			n, err = e.Store.CancelPending(e.sending, l.no, e.Now(), slice)
			switch {
			case err == nil:
				if e.halted() {
					return
				}
				continue
			case e.sending.Err() == nil:
				e.Log.Error("cancel deliveries of deleted endpoint", "endpoint_no", l.no, "err", err)
			}
			if !e.pause(time.Second) {
				return
			}
			n = slice
		}
	}
}

// clearOn reports whether there may be something left to cancel: events that
// were matched before the endpoint was deleted can come while its deliveries are
// being cancelled.
func (e *Engine) clearOn(l *lane) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.clearing = l.more
	l.more, l.behind, l.nextDue = false, false, time.Time{}
	if !l.clearing {
		e.forgetDeleted(l)
	}
	return l.clearing
}

// halted reports whether the engine stops.
func (e *Engine) halted() bool {
	select {
	case <-e.quit:
		return true
	default:
		return false
	}
}
