// Package dispatch owns the order and the time of attempts: a lane for each endpoint that has
// work, the workers that lanes share fairly, timers, and the circuit breaker.
//
// Committed deliveries go straight to their lanes; there is no polling. Memory is bounded by
// lanes, not by backlog: deliveries that do not fit in a lane wait in the store and are read in
// order when the lane has room. The package must not know SQL or HTTP; it declares the few
// methods that it needs of the store and the sender.
//
// # States of a lane
//
// A lane has three independent states: the deliveries that may be attempted (mode), the lane's
// deliveries in the store (backlog), and its queue for workers (queue). Each is changed only by
// the named methods of lane, from any state unless one is named:
//
//	mode     any      -> sending        follow: its endpoint's breaker is closed
//	mode     any      -> probing        follow: its breaker is open
//	mode     any      -> paused         follow: it is disabled or not connected, or another node sends to it
//	mode     any      -> gone           follow: it is deleted
//
//	backlog  drained  -> waiting        more: a delivery is accepted, becomes due or goes back to the store
//	backlog  any      -> drained        beginLoad: a worker reads it, and says more or blocked afterwards
//	backlog  any      -> drained        noProbe: all that is due is held
//	backlog  any      -> drained        beginClear: its pending deliveries are cancelled
//	backlog  any      -> drained        disown: another node sends to the endpoint
//	backlog  any      -> behind         blocked: all that was read is held already
//	backlog  behind   -> waiting        catchUp: one of those is settled, or a person changed something
//
//	queue    any      -> amongHealthy   enqueue: the last attempt was acknowledged
//	queue    any      -> amongFresh     enqueue: nothing speaks against the endpoint
//	queue    any      -> amongSuspects  enqueue: the endpoint may be down
//	queue    any      -> unqueued       served: a worker takes it
//
// A worker holds Engine.mu between its tasks ([Engine.begin]), and not during one: reading
// from the store, an attempt, or writing.
package dispatch

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store contains the engine's queries, and its only write that does not use the recorder.
type Store interface {
	LoadLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error)
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)
	Lanes(ctx context.Context, after int64, limit int) ([]store.Lane, error)
	CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error)
	AllHealth(ctx context.Context) ([]store.Health, error)
}

// Recorder stores the outcomes of deliveries durably. Engine.Committed must be called
// afterwards.
type Recorder interface {
	Settle(s store.Settlement, h *store.Health)
}

// Sender makes one attempt. It returns OutcomeNone if ctx ended it.
type Sender interface {
	Send(ctx context.Context, r *sender.Request) delivery.Attempt
}

// Watcher receives the engine's reports. Its methods are called by workers, without locks held;
// they may be slow, but the worker waits.
type Watcher interface {
	// EndpointDead requests that an endpoint be disabled, for one of the endpoint.Disabled…
	// reasons.
	EndpointDead(f *Failure, reason string)
	// EndpointFailing reports that an endpoint has acknowledged nothing since a time, once until it
	// recovers.
	EndpointFailing(f *Failure, since time.Time)
	// DeliveryExhausted reports a delivery that has failed for good.
	DeliveryExhausted(f *Failure)
	// Attempted reports every attempt.
	Attempted(e *endpoint.Endpoint, a *delivery.Attempt)
}

// Failure describes a failed delivery for a Watcher.
type Failure struct {
	Endpoint *endpoint.Registered // as it was at the attempt
	Outgoing *delivery.Outgoing
	Delivery delivery.Delivery // after the attempt
	Attempt  *delivery.Attempt // nil: the delivery was given up without one
}

// Processor meters the processor time of endpoints' transformations. Its methods are called by
// workers, without locks held.
type Processor interface {
	// MayProcess reports whether a transformation of a space may be evaluated now.
	MayProcess(space event.Space) bool
	// Charge adds the approximate processor time of a transformation.
	Charge(space event.Space, cost time.Duration)
}

// Config contains the dependencies and settings of an Engine; all fields without a stated
// default are required.
type Config struct {
	Store     Store
	Recorder  Recorder
	Sender    Sender
	Watcher   Watcher
	Endpoints *endpoint.Registry
	Now       func() time.Time
	Random    func() float64 // in [0, 1)
	Processor Processor      // nil: transformations are not metered
	Log       *slog.Logger

	Live, Test  delivery.Schedule // default: delivery.LiveSchedule, delivery.TestSchedule
	Concurrency int               // concurrent attempts per endpoint; default 256
	Workers     int               // concurrent attempts in total; default 4096
	Tries       int               // attempts per second to endpoints that may be down, while others have work; default 300 per processor
	QueueBytes  int               // of ready deliveries in memory, in total; default 64 MiB
	Cluster     Cluster           // nil: there are no other nodes
	MaxAge      time.Duration     // of a pending delivery, after which it is given up; 0: unlimited
	Health      delivery.Health   // rules for failing endpoints; default: disabled after 5 days
}

// Engine attempts deliveries when they are due. Use [New], then Start.
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
	scanned  bool                       // all lanes of the store at startup are known
	rescan   bool                       // start the running scan again when it ends
	waiting  [places]fifo[*share]       // spaces with waiting lanes, by queue
	shares   map[event.Space]*share
	used     [pools]int // workers serving a lane
	turn     int        // counts picks, so that all queues get their share
	tries    tries      // remaining attempts to suspects
	loads    int        // workers reading from the store
	servedAt time.Time  // when a healthy or fresh lane was last served
	wakes    wakeHeap
	running  int  // existing workers
	idle     int  // those of them that wait for work and were not called
	called   bool // one of the idle workers, or a new one, is about to run
	bytes    int  // size of the ready deliveries, and reserved for deliveries being read
	recalls  int  // counts calls of recall
	stopping bool

	arrived    []delivery.ID // accepted by other nodes and not read yet
	verifyUpTo event.Key     // events up to this key may have been sent by the previous owner of an endpoint
	fetching   bool

	stats counters
}

// counters contains the results of [Engine.Stats].
type counters struct {
	attempts, failures, inflight atomic.Int64
}

// Stats describes the engine's current load.
type Stats struct {
	Lanes, Ready, InFlight, Workers, Open int
	Failing                               int // lanes whose last attempt failed, including the open ones
	Attempts, Failures                    int64
}

const (
	maxIdle   = 128
	loadBytes = 2 << 20  // of bodies in one load, past its first
	rereads   = 16 << 20 // of bodies in one load that are already held
	lanePage  = 1000
	cutOff    = time.Second // for workers to end after their attempts were canceled
	longest   = time.Minute // maximum wait before the clock is read again
	quiet     = time.Second // without work of others, after which suspects are attempted without a limit

	triesPause = 10 * time.Millisecond
	maxLoads   = 32
)

// New returns an engine that must be started.
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
	e := &Engine{Config: c, lanes: map[int64]*lane{}, shares: map[event.Space]*share{}, kick: make(chan struct{}, 1), quit: make(chan struct{})}
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

// Start reads which endpoints have waiting deliveries and begins to send. It returns as soon as
// the health of endpoints is known; the lanes are filled while others are already served.
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

// scan finds the lanes that have work in the store.
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
			ep := e.Endpoints.Get(found.Endpoint)
			if ep != nil && ep.Remote {
				continue
			}
			l := e.lane(found.Endpoint)
			if found.Rank.After(now) && !ordered(ep) { // an ordered lane is ranked by acceptance, not by due time
				l.due(found.Rank)
			} else {
				l.more()
			}
			e.plan(l, now)
		}
		done := len(lanes) < lanePage
		if done && e.rescan {
			e.rescan, done, after = false, false, 0
		}
		e.scanned = done
		stopping := e.stopping
		e.mu.Unlock()
		if done || stopping {
			return
		}
	}
}

// pause waits and reports whether the engine is still running.
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

// Stop lets attempts under way finish until ctx ends; the rest is canceled and stays pending in
// the store. It returns when no worker is left, or a second after ctx ended: workers whose
// outcomes the Recorder does not accept end when that stops.
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

// lane returns the lane of an endpoint, and creates it if necessary. A lane that is created
// before all of the store's lanes are known starts by reading the store, so that no new
// delivery overtakes older ones.
func (e *Engine) lane(no int64) *lane {
	l := e.lanes[no]
	if l == nil {
		has := drained
		if !e.scanned {
			has = waiting
		}
		var breaker delivery.Breaker
		if b, ok := e.known[no]; ok {
			breaker = e.restored(no, b)
			delete(e.known, no)
		}
		l = newLane(no, has, breaker)
		e.lanes[no] = l
	}
	return l
}

// restored adapts a stored breaker to the current state: it is reset if a user has enabled the
// endpoint since (see Forgive), and its probe is not delayed by a clock that was stepped back.
func (e *Engine) restored(no int64, b delivery.Breaker) delivery.Breaker {
	if ep := e.Endpoints.Get(no); ep != nil && ep.EnabledSince.After(b.FailingSince) {
		return delivery.Breaker{LastSuccess: b.LastSuccess}
	}
	return inReach(b, e.Now())
}

// Committed processes a written transaction: new deliveries go to their lanes, settled ones
// leave memory. Calls must be in the order of the transactions.
func (e *Engine) Committed(b *store.Batch) {
	away, arrived := e.committed(b)
	if len(away) > 0 {
		e.Cluster.Elsewhere(away)
	}
	if len(arrived) > 0 {
		e.Arrived(arrived)
	}
}

// committed processes b and returns the new deliveries of other nodes, and those of events that
// another node may have accepted, by settings that this one has not read yet.
func (e *Engine) committed(b *store.Batch) (away []delivery.Outgoing, arrived []delivery.ID) {
	now := e.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range b.Settlements {
		d := &b.Settlements[i].Delivery
		l := e.lanes[d.ID.Endpoint]
		if l == nil {
			continue
		}
		l.settled(d, now)
		if l.backlog != drained || l.passes() || d.State == delivery.Pending {
			e.plan(l, now)
		}
	}
	for i := range b.Health {
		if l := e.lanes[b.Health[i].Endpoint]; l != nil {
			l.saved(b.Health[i].Breaker)
		}
	}
	for _, a := range b.Appends {
		if !a.Refused() && !a.Deferred {
			away = e.arrange(a, away, now)
		}
	}
	for _, f := range b.FanOuts {
		for _, a := range f.Written {
			if e.Cluster == nil {
				away = e.arrange(a, away, now)
				continue
			}
			for i := range a.Deliveries {
				if id := a.Deliveries[i].ID; e.elsewhere(e.Endpoints.Get(id.Endpoint)) {
					away = append(away, named(id))
				} else {
					arrived = append(arrived, id)
				}
			}
		}
	}
	return away, arrived
}

// arrange adds the deliveries of an event to their lanes, and those of other nodes to away.
func (e *Engine) arrange(a *store.Append, away []delivery.Outgoing, now time.Time) []delivery.Outgoing {
	for i := range a.Deliveries {
		no := a.Deliveries[i].ID.Endpoint
		ep := e.Endpoints.Get(no)
		o := delivery.Outgoing{Delivery: a.Deliveries[i], EventID: a.Event.ID, Type: a.Event.Type, Body: a.Event.Body, Trace: a.Event.Trace, Headers: a.Event.Headers, Version: a.Version}
		if e.elsewhere(ep) {
			if !ep.Remote || ordered(ep) || a.Version == 0 { // its owner reads it: for a listener, for an ordered endpoint, or to use the settings of the store
				o = named(o.Delivery.ID)
			}
			away = append(away, o)
			continue
		}
		l := e.lane(no)
		if e.Cluster != nil && ordered(ep) {
			// Another node may have accepted an earlier one that is unknown to this node.
			l.missed(a.Deliveries[i].Rank)
			l.catchUp()
			e.plan(l, now)
			continue
		}
		e.accept(l, ep, &o, l.reading != nil)
		e.plan(l, now)
	}
	return away
}

// accept adds a new delivery to its lane's memory if there is room and no older one waits in
// the store; otherwise the store keeps it until its turn. It may already have been read from
// the store. While types are passed over, deliveries of other types do not wait behind them.
// While the store is being read, it may have older ones.
func (e *Engine) accept(l *lane, ep *endpoint.Registered, o *delivery.Outgoing, reading bool) {
	if !l.noteAccepted(o) {
		return
	}
	full := l.ready.len() >= maxReady || len(l.held) >= maxHeld || e.bytes+weight(o) > e.QueueBytes
	passes := l.passes() && !ordered(ep)
	switch {
	case full || l.holdUntil != 0, !passes && (l.backlog != drained || reading || l.breaker.Open()):
		l.missed(o.Delivery.Rank)
	case passes && !l.mayGo(o, e.Now()):
		l.passOver(&o.Delivery, o.Type)
		if l.breaker.Open() { // there is a delivery to probe with
			l.more()
		}
	default:
		e.push(l, o)
	}
}

func ordered(ep *endpoint.Registered) bool {
	return ep != nil && ep.Settings.Ordering == endpoint.FIFO
}

func (e *Engine) push(l *lane, o *delivery.Outgoing) {
	l.push(o)
	e.bytes += weight(o)
}

// Wake reports that an endpoint's deliveries or settings changed: some deliveries were
// requeued, or the endpoint was enabled, disabled, changed or deleted.
func (e *Engine) Wake(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(endpoint)
	l.changed()
	e.plan(l, e.Now())
}

// Recall returns the deliveries of an endpoint in memory to the store, because some of them
// must no longer be sent. Attempts under way are completed.
func (e *Engine) Recall(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recall(e.lane(endpoint))
}

// recall recalls them on the node that sends to the endpoint.
func (e *Engine) recall(l *lane) {
	e.recalls++
	e.bytes -= l.drop(l.ready)
	urgent := e.dropUrgent(l)
	l.recalled(e.Now())
	e.plan(l, e.Now())
	if len(urgent) > 0 && !e.stopping {
		e.workers.Go(func() { e.loadUrgent(urgent) })
	}
}

// Forgive closes an endpoint's breaker, because a user has enabled the endpoint.
func (e *Engine) Forgive(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(endpoint)
	l.forgive()
	e.plan(l, e.Now())
}

// clear cancels the pending deliveries of a deleted endpoint.
func (e *Engine) clear(l *lane) {
	const slice = 1000
	for more := true; more; more = e.clearOn(l) {
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

// clearOn reports whether deliveries may remain to be canceled: events that were matched before
// the endpoint was deleted can arrive during the cancellation.
func (e *Engine) clearOn(l *lane) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	more := l.beginClear()
	if !more {
		e.forgetDeleted(l)
	}
	return more
}

// halted reports whether the engine is stopping.
func (e *Engine) halted() bool {
	select {
	case <-e.quit:
		return true
	default:
		return false
	}
}
