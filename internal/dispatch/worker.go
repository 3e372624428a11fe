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

// task is what a worker does while e.mu is free.
type task uint8

const (
	taskNone   task = iota
	taskSend        // an attempt
	taskRead        // a read of the lane's next deliveries
	taskSearch      // a read that looks for a probe
	taskRedate      // writing deliveries that got a new date
	taskGiveUp      // settling deliveries that are too old
)

// turn is what a worker does for one lane: tasks, one after the other, for which e.mu is
// free, up to one attempt.
type turn struct {
	lane  *lane
	ep    *endpoint.Endpoint
	share *share // of the endpoint's space, which the worker is lent to
	pool  pool   // that the worker is of
	task  task

	out   delivery.Outgoing // of taskSend
	sent  sent
	scan  scan // of taskRead and taskSearch
	read  load
	find  search
	again bool                // taskSearch: this is the second look
	dated []delivery.Delivery // of taskRedate
	old   []delivery.Outgoing // of taskGiveUp
	since time.Time           // the endpoint fails
}

// sent is what there is to know of an attempt besides its outcome.
type sent struct {
	round  uint32 // see pace
	probe  bool   // an open breaker let it through at its time
	beside bool   // an open breaker let it through, at its time or not
	urgent bool
}

// load is what there is to know of a read of a lane's next deliveries besides the scan.
type load struct {
	passes  bool // some types are passed over
	hadMore bool // the lane had a backlog
}

// worker serves one lane after the other: it takes one delivery from the lane
// whose turn it is, makes the attempt, and goes to the back of the queue.
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

// begin ends the worker's last task and begins its next one, for which it waits. It
// returns false when the worker is not needed any more.
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

// next waits for a lane that wants a worker. It returns false when the worker is not
// needed any more.
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
		e.work.Wait() // the caller takes it off the idle ones
		e.called = false
	}
	return false
}

// picked notes that a worker has taken a lane from its place.
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

// resume begins an attempt after the store was read, if there may be one: much can have
// changed meanwhile.
func (e *Engine) resume(t *turn) bool { return e.admit(t) == stepSend && e.send(t) }

// admit returns what a worker would do with the lane now.
func (e *Engine) admit(t *turn) step {
	ep, now := e.Endpoints.Get(t.lane.no), e.Now()
	if e.stopping || ep == nil || !ep.Sends() {
		return stepWait
	}
	t.ep = ep
	next, _ := e.decide(t.lane, ep, now)
	return next
}

// send begins an attempt at the next ready delivery that may go.
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

// search begins a read for a delivery to probe the endpoint with, or a type that is held.
// Probes rotate over the types, and alternate between the newest and the oldest
// deliveries.
func (e *Engine) search(t *turn, newest bool) {
	t.find = t.lane.search(newest, e.Now())
	t.task, t.scan = taskSearch, e.beginScan(t.lane, t.find.LaneScan)
}

// searched ends it, and takes the probe into the lane's memory.
func (e *Engine) searched(t *turn) bool {
	l, now, s := t.lane, e.Now(), &t.scan
	e.endScan(l, s)
	if s.err != nil {
		l.failedToRead(now)
	}
	if l.breaker.Open() && (l.inflight > 0 || now.Before(l.breaker.ProbeAt)) { // it has opened meanwhile
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
	case l.breaker.Open(): // all that is due is held; find out when something else will be
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
	room     int // bytes that were reserved for it
	outgoing []delivery.Outgoing
	full     bool // there may be more
	err      error
}

// beginScan reserves what a read of a part of a lane needs.
func (e *Engine) beginScan(l *lane, r store.LaneScan) scan {
	room := min(loadBytes, e.QueueBytes-e.bytes)
	if room <= 0 { // one at a time, so that every lane gets on
		r.Limit, room = 1+len(l.held), 0
	}
	r.MaxBytes = room + min(l.heldBytes, rereads)
	e.bytes += room
	e.loads++
	l.beginRead()
	return scan{LaneScan: r, room: room}
}

// read makes it. It is called without e.mu.
func (e *Engine) read(s *scan) {
	if s.After == (store.Place{}) && s.Until.IsZero() {
		s.outgoing, s.err = e.Store.LoadLane(e.sending, s.Endpoint, s.Limit, s.MaxBytes)
	} else {
		s.outgoing, s.err = e.Store.ScanLane(e.sending, s.LaneScan)
	}
	if s.err != nil && e.sending.Err() == nil {
		e.Log.Error("load lane", "endpoint_no", s.Endpoint, "err", s.err)
	}
	s.full = len(s.outgoing) >= s.Limit || bodies(s.outgoing) > s.MaxBytes
}

// errRecalled is the result of a read during which deliveries of the lane were recalled.
var errRecalled = errors.New("the lane's deliveries were recalled")

// endScan returns the reserved room. The caller ends the lane's reading after it has taken the
// deliveries.
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

// take puts what was read and may be sent into the lane's memory. The list is in order
// of rank; full says that the store may have more than that. It returns the place up to
// which all is held or passed over, and the deliveries that got a new date because a
// clock was stepped back; they are held until that is on disk.
func (e *Engine) take(l *lane, ep *endpoint.Endpoint, outgoing []delivery.Outgoing, full bool, now time.Time) (end store.Place, dated []delivery.Delivery) {
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
			if fifo { // it holds back what follows
				if l.ready.len() == 0 {
					l.wait(o.Delivery.Due)
				}
				l.more()
				return end, dated
			}
			if !redated { // else it is known to be due when the store shows it
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
		if fresh && e.bytes+weight(o) > e.QueueBytes || passes && l.ready.len() >= size { // it waits where it is
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
	case len(dated) > 0: // what follows is dated too far ahead as well
		l.unread()
	case due(&outgoing[len(outgoing)-1].Delivery, now):
		if l.unread(); !fresh && !passes {
			l.blocked()
		}
	default: // nothing that follows is due before
		l.due(later(outgoing[len(outgoing)-1].Delivery.Rank, now.Add(time.Second)))
	}
	return end, dated
}

// due reports whether a delivery may be attempted. One that was not tried yet
// always may: if its time has not come, a clock was stepped back.
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

func (e *Engine) schedule(ep *endpoint.Endpoint) delivery.Schedule {
	switch {
	case ep.Settings.Schedule != nil:
		return ep.Settings.Schedule
	case ep.Live():
		return e.Live
	}
	return e.Test
}

func (e *Engine) policy(ep *endpoint.Endpoint) delivery.Policy {
	return delivery.Policy{Schedule: e.schedule(ep), FIFO: ep.Settings.Ordering == endpoint.FIFO, Random: e.Random}
}

// attempt sends one delivery and records what came of it. It is called without e.mu.
func (e *Engine) attempt(l *lane, ep *endpoint.Endpoint, out *delivery.Outgoing, s sent) {
	d := out.Delivery
	if e.Processor != nil && ep.Transform() != "" && !e.Processor.MayTransform(ep) {
		e.release(l, &d, true)
		e.Log.Debug("attempt postponed: the account's processor time is used up", "endpoint", l.no)
		return
	}
	e.stats.inflight.Add(1)
	ctx, done := e.allowed()
	a := e.try(ctx, ep, out)
	done()
	e.stats.inflight.Add(-1)
	if a.Outcome == delivery.OutcomeNone { // the server stops, has lost its lease or lacks something; the delivery stays pending
		if e.release(l, &d, a.Shortage); a.Shortage {
			e.Log.Warn("attempt postponed: no file descriptors left", "endpoint", l.no)
		}
		return
	}
	e.stats.attempts.Add(1)
	e.Watcher.Attempted(ep, &a)
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

// try makes the next attempt at a delivery. One whose payload cannot be made fails
// without a request: it is tried again, and ends where people look for what failed.
func (e *Engine) try(ctx context.Context, ep *endpoint.Endpoint, out *delivery.Outgoing) delivery.Attempt {
	now := e.Now()
	p, err := ep.Payload(out.Delivery.ID.Event, out.EventID, out.Type, out.Body)
	if p.Cost > 0 && e.Processor != nil {
		e.Processor.Transformed(ep, p.Cost)
	}
	if err != nil {
		return delivery.Attempt{Number: out.Delivery.Attempts + 1, Started: now, Outcome: delivery.OutcomeMisconfigured,
			Error: "nothing was sent, because the endpoint's format or transformation fails for this event: " + err.Error()}
	}
	a := e.Sender.Send(ctx, request(ep, out, &p, now))
	if p.Made { // else the event's own body is the proof of what was sent
		sum := sha256.Sum256(p.Body)
		a.BodySum = sum[:]
	}
	return a
}

// request returns the request of the next attempt at a delivery.
func request(ep *endpoint.Endpoint, out *delivery.Outgoing, p *endpoint.Payload, now time.Time) *sender.Request {
	r := &sender.Request{
		EventID: out.EventID, Trace: out.Trace, Body: p.Body, ContentType: p.ContentType, Attributes: p.Attributes, URL: ep.URL, Secrets: ep.LiveSecrets(now),
		Timeout: ep.Settings.Timeout, Number: out.Delivery.Attempts + 1, Header: ep.Headers,
		EventType: out.Type, Signature: ep.Signature(), Method: ep.Settings.Method,
		EndpointID: ep.ID, Origin: ep.Origin(),
		Trusted: ep.Space.Account() == 0, // no account's: the operator's own
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
	if shortage { // what is lacking is not there at once
		l.wait(e.Now().Add(shortagePause))
	}
}

// shortagePause is how long a lane waits when the server lacks what an attempt needs, or the
// account has used its processor time.
const shortagePause = time.Second

// note updates the lane by what an attempt showed. It returns the health to
// store, nil when it is unchanged, whether the endpoint just began to fail for
// good, and whether it has for too long.
func (e *Engine) note(l *lane, ep *endpoint.Endpoint, out *delivery.Outgoing, d *delivery.Delivery, a *delivery.Attempt, s sent, now time.Time) (h *store.Health, failing, dead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	effect, judge := delivery.EffectOf(a.Outcome), &e.Health
	if ep.Kind().Connects { // a person looks at each result
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
