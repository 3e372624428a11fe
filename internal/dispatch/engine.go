// Package dispatch owns when what is sent: a lane for each endpoint that has
// work, the workers that lanes share fairly, timers, and the circuit breaker.
//
// What was just committed goes straight to its lane; nothing polls. Memory is
// bounded by lanes, not by backlog: what does not fit in a lane waits in the
// store and is read in order when the lane has room. The package must not know
// SQL or HTTP; it declares the few things it needs of the store and the sender.
//
// # States of a lane
//
// A lane has three states beside each other: which of its deliveries may be attempted
// (mode), what the store has of it (backlog), and where it waits for a worker (queue).
// Each changes by the named methods of lane only, from any state unless one is named:
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

// Store is what the engine reads, and the one thing it writes without the recorder.
type Store interface {
	LoadLane(ctx context.Context, endpoint int64, limit, maxBytes int) ([]delivery.Outgoing, error)
	ScanLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error)
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)
	Lanes(ctx context.Context, after int64, limit int) ([]store.Lane, error)
	CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error)
	AllHealth(ctx context.Context) ([]store.Health, error)
}

// Recorder stores the outcomes of deliveries durably.
// Engine.Committed must be called when it is.
type Recorder interface {
	Settle(s store.Settlement, h *store.Health)
}

// Sender makes one attempt. It returns OutcomeNone when ctx ended it.
type Sender interface {
	Send(ctx context.Context, r *sender.Request) delivery.Attempt
}

// Watcher receives the events that operators should know of. Its methods are called by
// workers, without locks held; they may take their time, but the worker waits.
type Watcher interface {
	// EndpointDead asks for an endpoint to be disabled, for one of the
	// endpoint.Disabled… reasons.
	EndpointDead(f *Failure, reason string)
	// EndpointFailing tells that an endpoint has acknowledged nothing since then, once until it recovers.
	EndpointFailing(f *Failure, since time.Time)
	// DeliveryExhausted tells of a delivery that has failed for good.
	DeliveryExhausted(f *Failure)
	// Attempted sees every attempt.
	Attempted(e *endpoint.Endpoint, a *delivery.Attempt)
}

// Failure is what a Watcher is told of a failed delivery.
type Failure struct {
	Endpoint *endpoint.Endpoint // as it was when the attempt was made
	Outgoing *delivery.Outgoing
	Delivery delivery.Delivery // after the attempt
	Attempt  *delivery.Attempt // nil: the delivery was given up without one
}

// Processor meters the processor time that endpoints' transformations take. Its methods are
// called by workers, without locks held.
type Processor interface {
	// MayTransform reports whether a transformation of the endpoint may be evaluated now.
	MayTransform(e *endpoint.Endpoint) bool
	// Transformed is told about how much processor time one took.
	Transformed(e *endpoint.Endpoint, cost time.Duration)
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
	Processor Processor      // nil: transformations are not metered
	Log       *slog.Logger

	Live, Test  delivery.Schedule // default: delivery.LiveSchedule, delivery.TestSchedule
	Concurrency int               // concurrent attempts per endpoint; default 256
	Workers     int               // attempts at a time in all; default 4096
	Tries       int               // attempts a second to endpoints that may be down, while others have work; default 300 for each processor
	QueueBytes  int               // of deliveries that are ready in memory, in all; default 64 MiB
	Cluster     Cluster           // nil: there are no other nodes
	MaxAge      time.Duration     // of a pending delivery, after which it is given up; 0: none is
	Health      delivery.Health   // when an endpoint is failing, and when it is given up; default: after 5 days
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
	scanned  bool                       // all lanes that the store had at start are known
	rescan   bool                       // the scan under way is to begin anew at its end
	waiting  [places]fifo[*share]       // spaces with lanes that wait for a worker there
	shares   map[event.Space]*share
	used     [pools]int // workers that serve a lane
	turn     int        // counts picks, so that all queues get their share
	tries    tries      // how many suspects may be tried
	loads    int        // workers that read from the store
	servedAt time.Time  // when a healthy or fresh lane was served last
	wakes    wakeHeap
	running  int  // workers that exist
	idle     int  // of which wait for work and were not called
	called   bool // one of them, or a new one, is on its way
	bytes    int  // that ready deliveries take, and may take that are being read
	recalls  int  // counts calls of recall
	stopping bool

	arrived    []delivery.ID // what other nodes took and is not read yet
	verifyUpTo event.Key     // events up to this key may have been sent by the previous owner of an endpoint
	fetching   bool

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
			ep := e.Endpoints.Get(found.Endpoint)
			if ep != nil && ep.Remote {
				continue
			}
			l := e.lane(found.Endpoint)
			if found.Rank.After(now) && !ordered(ep) { // what is in order is ranked by its place, not by a time to wait for
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
	away, arrived := e.committed(b)
	if len(away) > 0 {
		e.Cluster.Elsewhere(away)
	}
	if len(arrived) > 0 {
		e.Arrived(arrived)
	}
}

// committed does so and returns the fresh deliveries that other nodes make, and those of
// events that another node may have accepted, by settings that this one has not read yet.
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

// arrange takes the deliveries of an event into their lanes, and adds those that other nodes
// make to away.
func (e *Engine) arrange(a *store.Append, away []delivery.Outgoing, now time.Time) []delivery.Outgoing {
	for i := range a.Deliveries {
		no := a.Deliveries[i].ID.Endpoint
		ep := e.Endpoints.Get(no)
		o := delivery.Outgoing{Delivery: a.Deliveries[i], EventID: a.Event.ID, Type: a.Event.Type, Body: a.Event.Body, Trace: a.Event.Trace, Version: a.Version}
		if e.elsewhere(ep) {
			if !ep.Remote || ordered(ep) || a.Version == 0 { // its owner reads it: the node of the listener, in order, or by the settings of the store
				o = named(o.Delivery.ID)
			}
			away = append(away, o)
			continue
		}
		l := e.lane(no)
		if e.Cluster != nil && ordered(ep) {
			// Another node may have taken an earlier one that this one has not heard of yet.
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

// accept takes a fresh delivery into its lane's memory if there is room and nothing
// older waits in the store; else the store keeps it until its turn. It may have been
// read from there already. While types are passed over, those that are not do not wait
// behind what is read past. While the store is read, it may have older ones.
func (e *Engine) accept(l *lane, ep *endpoint.Endpoint, o *delivery.Outgoing, reading bool) {
	if !l.heard(o) {
		return
	}
	full := l.ready.len() >= maxReady || len(l.held) >= maxHeld || e.bytes+weight(o) > e.QueueBytes
	passes := l.passes() && !ordered(ep)
	switch {
	case full || l.holdUntil != 0, !passes && (l.backlog != drained || reading || l.breaker.Open()):
		l.missed(o.Delivery.Rank)
	case passes && !l.mayGo(o, e.Now()):
		l.passOver(&o.Delivery, o.Type)
		if l.breaker.Open() { // there is something to probe with
			l.more()
		}
	default:
		e.push(l, o)
	}
}

func ordered(ep *endpoint.Endpoint) bool {
	return ep != nil && ep.Settings.Ordering == endpoint.FIFO
}

func (e *Engine) push(l *lane, o *delivery.Outgoing) {
	l.push(o)
	e.bytes += weight(o)
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

// Recall gives the deliveries of an endpoint that wait in memory back to the store, because
// some of them are to be sent no more. Attempts under way end by themselves.
func (e *Engine) Recall(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recall(e.lane(endpoint))
}

// recall does so on the node that sends to the endpoint.
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

// Forgive closes an endpoint's breaker: a person says that it works again.
func (e *Engine) Forgive(endpoint int64) {
	e.pass(endpoint)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lane(endpoint)
	l.forgive()
	e.plan(l, e.Now())
}

// clear cancels what is pending for an endpoint that is gone.
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

// clearOn reports whether there may be something left to cancel: events that
// were matched before the endpoint was deleted can come while its deliveries are
// being cancelled.
func (e *Engine) clearOn(l *lane) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	more := l.beginClear()
	if !more {
		e.forgetDeleted(l)
	}
	return more
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
