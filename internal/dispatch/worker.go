package dispatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// task is a worker's operation while e.mu is free.
type task uint8

const (
	taskNone   task = iota
	taskSend        // an attempt
	taskRead        // a read of the lane's next deliveries
	taskSearch      // a read that looks for a probe
	taskRedate      // writing deliveries with a corrected due time
	taskGiveUp      // settling deliveries that are too old
)

// turn is a worker's work for one lane: a sequence of tasks, during which e.mu is free, with at
// most one attempt.
type turn struct {
	lane  *lane
	ep    *endpoint.Registered
	share *share // of the endpoint's space, to which the worker is assigned
	pool  pool   // of the worker
	task  task

	out   delivery.Outgoing // of taskSend
	sent  sent
	scan  scan // of taskRead and taskSearch
	read  load
	find  search
	again bool                // taskSearch: this is the second search
	dated []delivery.Delivery // of taskRedate
	old   []delivery.Outgoing // of taskGiveUp
	since time.Time           // since when the endpoint fails
}

// sent contains the details of an attempt besides its outcome.
type sent struct {
	round  uint32 // see pace
	probe  bool   // a probe of an open breaker at the probe time
	beside bool   // it passed an open breaker, as a probe or otherwise
	urgent bool
}

// load contains the details of a read of a lane's next deliveries besides the scan.
type load struct {
	passes  bool // some types are passed over
	hadMore bool // the lane had a backlog
}

// worker serves one lane after the other: it takes one delivery from the lane whose turn it is,
// makes the attempt, and puts the lane at the end of the queue.
func (e *Engine) worker() {
	var t turn
	for e.begin(&t) {
		switch t.task {
		case taskSend:
			e.attempt(t.lane, t.ep, &t.out, t.sent)
		case taskRead, taskSearch:
			e.read(&t.scan)
		case taskRedate:
			for _, d := range t.dated {
				e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
			}
		case taskGiveUp:
			e.giveUp(t.ep, t.old, t.since)
		}
	}
}

// begin ends the worker's last task and begins its next one, for which it waits. It returns
// false when the worker is no longer needed.
func (e *Engine) begin(t *turn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case t.task == taskNone:
		e.called = false
	case e.goOn(t):
		return true
	default:
		e.leave(t)
	}
	for e.next(t) {
		e.call()
		if e.serve(t) {
			return true
		}
		e.leave(t)
	}
	e.running--
	return false
}

// next waits for a lane. It returns false when the worker is no longer needed.
func (e *Engine) next(t *turn) bool {
	for !e.stopping {
		if at := e.pick(); at != unqueued {
			t.share, t.lane = e.pop(at)
			t.pool = poolOf[at]
			e.lend(t.share, t.pool)
			e.picked(t.lane, at)
			return true
		}
		if e.idle >= maxIdle {
			return false
		}
		e.idle++
		e.work.Wait() // the caller removes it from the idle workers
		e.called = false
	}
	return false
}

// picked records that a worker has taken a lane from its queue.
func (e *Engine) picked(l *lane, at place) {
	if at == amongUrgent {
		l.rush(false)
		return
	}
	l.served()
	if now := e.Now(); at != amongSuspects {
		e.servedAt = now
	} else if now.Sub(e.servedAt) < quiet {
		e.tries.credit--
	}
}

// leave ends a turn.
func (e *Engine) leave(t *turn) {
	e.giveBack(t.share, t.pool)
	e.plan(t.lane, e.Now())
	*t = turn{}
}

// serve begins the first task of a turn, if there is one.
func (e *Engine) serve(t *turn) bool {
	if t.pool == rushes {
		return e.sendUrgent(t)
	}
	switch e.admit(t) {
	case stepSend:
		return e.send(t)
	case stepRead:
		e.load(t)
	case stepProbe:
		e.search(t, t.lane.nextTurn()%2 == 0)
	default:
		return false
	}
	return true
}

// goOn ends a task and begins the next one of the turn, if there is one.
func (e *Engine) goOn(t *turn) bool {
	switch t.task {
	case taskSend:
		t.lane.ended(t.sent)
		return false
	case taskRead:
		return e.loaded(t)
	case taskSearch:
		return e.searched(t)
	case taskRedate:
		return e.resume(t)
	}
	return false
}

// resume begins an attempt after a read of the store, if it is still allowed, because the state
// can have changed meanwhile.
func (e *Engine) resume(t *turn) bool { return e.admit(t) == stepSend && e.send(t) }

// admit returns the worker's next step for the lane.
func (e *Engine) admit(t *turn) step {
	ep, now := e.Endpoints.Get(t.lane.no), e.Now()
	if e.stopping || ep == nil || !ep.Sends() {
		return stepWait
	}
	t.ep = ep
	next, _ := e.decide(t.lane, ep, now)
	return next
}

// send begins an attempt of the next ready delivery that may be sent.
func (e *Engine) send(t *turn) bool {
	l, now := t.lane, e.Now()
	for {
		out, ok := l.ready.pop()
		if !ok {
			return false
		}
		e.bytes -= weight(&out)
		if e.tooOld(t.ep, &out, now) {
			t.task, t.old, t.since = taskGiveUp, []delivery.Outgoing{out}, l.breaker.FailingSince
			return true
		}
		if ordered(t.ep) || l.mayGo(&out, now) {
			e.start(t, out, sent{probe: l.breaker.Open() && !now.Before(l.breaker.ProbeAt)}, now)
			return true
		}
		l.letGo(out.Delivery.ID.Event)
		l.passOver(&out.Delivery, out.Type)
	}
}

// start begins an attempt, and lets another worker take the lane's next delivery meanwhile.
func (e *Engine) start(t *turn, out delivery.Outgoing, s sent, now time.Time) {
	l := t.lane
	t.task, t.out, t.sent = taskSend, out, l.started(s, most(t.ep, e.Concurrency), now)
	if l.ready.len() > 0 || l.backlog != drained || l.passesSome() || l.urgent.len() > 0 {
		e.plan(l, now)
	}
}

// load begins a read of the lane's next deliveries.
func (e *Engine) load(t *turn) {
	l := t.lane
	t.read = load{passes: l.passes() && !ordered(t.ep), hadMore: l.backlog != drained}
	t.task, t.scan = taskRead, e.beginScan(l, l.beginLoad(t.read.passes))
}

// loaded ends it.
func (e *Engine) loaded(t *turn) bool {
	l, now := t.lane, e.Now()
	e.endScan(l, &t.scan)
	if t.scan.err != nil {
		l.failedToRead(now)
	}
	end, dated := e.take(l, t.ep, t.scan.outgoing, t.scan.full, now)
	l.endLoad(end, t.read.passes, t.read.hadMore)
	l.endRead()
	if len(dated) > 0 {
		t.task, t.dated = taskRedate, dated
		return true
	}
	return e.resume(t)
}

// search begins to read a delivery with which to probe the endpoint, or a held type. Probes
// rotate over the types, and alternate between the newest and the oldest deliveries.
func (e *Engine) search(t *turn, newest bool) {
	t.find = t.lane.search(newest, e.Now())
	t.task, t.scan = taskSearch, e.beginScan(t.lane, t.find.LaneScan)
}

// searched ends the search, and adds the probe to the lane's memory.
func (e *Engine) searched(t *turn) bool {
	l, now, s := t.lane, e.Now(), &t.scan
	e.endScan(l, s)
	if s.err != nil {
		l.failedToRead(now)
	}
	if l.breaker.Open() && (l.inflight > 0 || now.Before(l.breaker.ProbeAt)) { // the breaker has opened meanwhile
		l.endRead()
		return e.resume(t)
	}
	o := l.pick(s.outgoing, now)
	if s.err == nil {
		l.searched(&t.find, s.outgoing, s.full, o, now)
	}
	if o != nil {
		e.push(l, o)
	}
	l.endRead()
	switch {
	case o != nil || s.err != nil || e.stopping:
		return e.resume(t)
	case !t.again:
		t.again = true
		e.search(t, !t.find.newest)
	case l.breaker.Open(): // all due deliveries are held; find the next due time
		l.noProbe()
		e.load(t)
	default:
		return e.resume(t)
	}
	return true
}

// scan is a read of a part of a lane.
type scan struct {
	store.LaneScan
	room     int // bytes reserved for it
	outgoing []delivery.Outgoing
	full     bool // there may be more
	err      error
}

// beginScan reserves memory for reading a part of a lane.
func (e *Engine) beginScan(l *lane, r store.LaneScan) scan {
	room := min(loadBytes, e.QueueBytes-e.bytes)
	if room <= 0 { // one at a time, so that every lane makes progress
		r.Limit, room = 1+len(l.held), 0
	}
	r.MaxBytes = room + min(l.heldBytes, rereads)
	e.bytes += room
	e.loads++
	l.beginRead()
	return scan{LaneScan: r, room: room}
}

// read performs the scan. It is called without e.mu.
func (e *Engine) read(s *scan) {
	if s.outgoing, s.err = e.Store.LoadLane(e.sending, s.LaneScan); s.err != nil && e.sending.Err() == nil {
		e.Log.Error("load lane", "endpoint_no", s.Endpoint, "err", s.err)
	}
	s.full = len(s.outgoing) >= s.Limit || bodies(s.outgoing) > s.MaxBytes
}

// errRecalled is the result of a read during which deliveries of the lane were recalled.
var errRecalled = errors.New("the lane's deliveries were recalled")

// endScan returns the reserved memory. The caller ends the lane's reading after it has taken
// the deliveries.
func (e *Engine) endScan(l *lane, s *scan) {
	if l.reading.recalled {
		s.outgoing, s.full, s.err = nil, false, errRecalled
	}
	if e.loads--; e.loads == maxLoads-1 {
		e.call()
	}
	e.bytes -= s.room
	for i := range s.outgoing {
		l.noteRead(&s.outgoing[i])
	}
}

// take adds the read deliveries that may be sent to the lane's memory. The list is in order of
// rank; full means that the store may have more. It returns the place up to which all
// deliveries are held or passed over, and the deliveries whose due time was corrected because a
// clock was stepped back; these are held until that is on disk.
func (e *Engine) take(l *lane, ep *endpoint.Registered, outgoing []delivery.Outgoing, full bool, now time.Time) (end store.Place, dated []delivery.Delivery) {
	fresh, fifo, size := false, ordered(ep), l.loadSize()
	passes := l.passes() && !fifo
	end = l.cursor
	for i := range outgoing {
		o := &outgoing[i]
		if l.holds(o.Delivery.ID.Event) {
			end = store.PlaceOf(&o.Delivery)
			continue
		}
		if !due(&o.Delivery, now) {
			redated := o.Delivery.Redate(e.policy(ep), now)
			if redated {
				l.hold(o)
				dated = append(dated, o.Delivery)
			}
			if fifo { // it holds back the following ones
				if l.ready.len() == 0 {
					l.wait(o.Delivery.Due)
				}
				l.more()
				return end, dated
			}
			if !redated { // otherwise its due time is known from the store
				l.due(o.Delivery.Due)
			}
			end = store.PlaceOf(&o.Delivery)
			continue
		}
		if passes && !l.mayGo(o, now) {
			l.passOver(&o.Delivery, o.Type)
			end = store.PlaceOf(&o.Delivery)
			continue
		}
		if fresh && e.bytes+weight(o) > e.QueueBytes || passes && l.ready.len() >= size { // it stays in the store
			l.probeEnded(o.Delivery.ID.Event)
			l.unread()
			return end, dated
		}
		e.push(l, o)
		end = store.PlaceOf(&o.Delivery)
		fresh = true
	}
	switch {
	case !full || len(outgoing) == 0:
	case len(dated) > 0: // the following ones also have a time too far in the future
		l.unread()
	case due(&outgoing[len(outgoing)-1].Delivery, now):
		if l.unread(); !fresh && !passes {
			l.blocked()
		}
	default: // no following delivery is due earlier
		l.due(later(outgoing[len(outgoing)-1].Delivery.Rank, now.Add(time.Second)))
	}
	return end, dated
}

// due reports whether a delivery may be attempted. A new one always may: if its time has not
// come, a clock was stepped back.
func due(d *delivery.Delivery, now time.Time) bool {
	return d.Budget == 0 || !d.Due.After(now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func bodies(outgoing []delivery.Outgoing) (n int) {
	for i := range outgoing {
		n += len(outgoing[i].Body)
	}
	return n
}

func (e *Engine) schedule(ep *endpoint.Registered) delivery.Schedule {
	switch {
	case ep.Settings.Schedule != nil:
		return ep.Settings.Schedule
	case ep.Live():
		return e.Live
	}
	return e.Test
}

func (e *Engine) policy(ep *endpoint.Registered) delivery.Policy {
	return delivery.Policy{Schedule: e.schedule(ep), FIFO: ep.Settings.Ordering == endpoint.FIFO, Random: e.Random}
}

// attempt sends one delivery and records the outcome. It is called without e.mu.
func (e *Engine) attempt(l *lane, ep *endpoint.Registered, out *delivery.Outgoing, s sent) {
	d := out.Delivery
	if e.Processor != nil && ep.Transform() != "" && !e.Processor.MayProcess(ep.Space) {
		e.release(l, &d, true)
		e.Log.Debug("attempt postponed: the account's processor time is used up", "endpoint", l.no)
		return
	}
	e.stats.inflight.Add(1)
	ctx, done := e.allowed()
	a := e.try(ctx, ep, out)
	done()
	e.stats.inflight.Add(-1)
	if a.Outcome == delivery.OutcomeNone { // the server is stopping, has lost its lease or lacks a resource; the delivery stays pending
		if e.release(l, &d, a.Shortage); a.Shortage {
			e.Log.Warn("attempt postponed: no file descriptors left", "endpoint", l.no)
		}
		return
	}
	e.stats.attempts.Add(1)
	e.Watcher.Attempted(ep.Endpoint, &a)
	now := e.Now()
	d.Settle(&a, e.policy(ep), now)

	health, failing, dead := e.note(l, ep, out, &d, &a, s, now)
	e.Recorder.Settle(store.Settlement{Delivery: d, Attempt: &a}, health)

	if a.Succeeded() {
		return
	}
	f := &Failure{Endpoint: ep, Outgoing: out, Delivery: d, Attempt: &a}
	if failing {
		e.Watcher.EndpointFailing(f, health.Breaker.FailingSince)
	}
	if d.State == delivery.Failed {
		e.Watcher.DeliveryExhausted(f)
	}
	switch {
	case a.Outcome == delivery.OutcomeGone:
		e.Watcher.EndpointDead(f, endpoint.DisabledGone)
	case dead:
		e.Watcher.EndpointDead(f, endpoint.DisabledFailed)
	}
}

// try makes the next attempt of a delivery. If its payload cannot be rendered, the attempt
// fails without a request; it is retried, and finally becomes a dead letter.
func (e *Engine) try(ctx context.Context, ep *endpoint.Registered, out *delivery.Outgoing) delivery.Attempt {
	now := e.Now()
	p, err := ep.Payload(out.Delivery.ID.Event, out.EventID, out.Type, out.Body)
	if p.Cost > 0 && e.Processor != nil {
		e.Processor.Charge(ep.Space, p.Cost)
	}
	if err != nil {
		return delivery.Attempt{Number: out.Delivery.Attempts + 1, Started: now, Outcome: delivery.OutcomeMisconfigured,
			Error: "nothing was sent, because the endpoint's format or transformation fails for this event: " + err.Error()}
	}
	a := e.Sender.Send(ctx, request(ep, out, &p, now))
	if p.Made { // otherwise the event's own body proves what was sent
		sum := sha256.Sum256(p.Body)
		a.BodySum = sum[:]
	}
	return a
}

// request returns the request of the next attempt of a delivery.
func request(ep *endpoint.Registered, out *delivery.Outgoing, p *endpoint.Payload, now time.Time) *sender.Request {
	r := &sender.Request{
		EventID: out.EventID, Trace: out.Trace, EventHeader: out.Headers, Body: p.Body, ContentType: p.ContentType, Attributes: p.Attributes, URL: ep.URL, Secrets: ep.LiveSecrets(now),
		Timeout: ep.Settings.Timeout, Number: out.Delivery.Attempts + 1, Header: ep.Headers,
		EventType: out.Type, Signature: ep.Signature(), Method: ep.Settings.Method,
		EndpointID: ep.ID, Origin: ep.Origin(),
		Trusted: ep.Space.Account() == 0, // not of an account: the operator's own endpoint
	}
	if ep.Auth.Type != endpoint.AuthNone {
		r.Auth = &ep.Auth
	}
	if ep.TLS != (endpoint.TLS{}) {
		r.TLS = &ep.TLS
	}
	return r
}

func (e *Engine) release(l *lane, d *delivery.Delivery, shortage bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.released(d)
	if shortage { // the missing resource is not available at once
		l.wait(e.Now().Add(shortagePause))
	}
}

// shortagePause is the wait of a lane if the server lacks a resource for an attempt, or the
// account has used up its processor time.
const shortagePause = time.Second

// note updates the lane with the result of an attempt. It returns the health to store, nil if
// it is unchanged, whether the endpoint has just become failing, and whether it must be
// disabled.
func (e *Engine) note(l *lane, ep *endpoint.Registered, out *delivery.Outgoing, d *delivery.Delivery, a *delivery.Attempt, s sent, now time.Time) (h *store.Health, failing, dead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	effect, judge := delivery.EffectOf(a.Outcome), &e.Health
	if ep.Kind().Connects { // a user sees each result
		judge = nil
	} else {
		effect = l.showed(out.Type, effect, s.urgent, now)
	}
	wasOpen := l.breaker.Open()
	save, failing, dead := l.learn(a, effect, s, most(ep, e.Concurrency), judge, now)
	if save {
		h = &store.Health{Endpoint: l.no, Breaker: l.breaker}
	}
	if l.followBreaker(wasOpen, ordered(ep)) {
		e.bytes -= l.drop(l.ready)
	}
	if a.Succeeded() {
		return h, false, false
	}
	e.stats.failures.Add(1)
	if ordered(ep) && d.State == delivery.Pending {
		e.bytes -= l.drop(l.ready)
		l.retries(d, s.urgent)
	}
	return h, failing, dead
}
