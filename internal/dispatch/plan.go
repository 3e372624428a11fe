package dispatch

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// plan determines a lane's next step. It is called after every change of the lane, with e.mu
// held.
func (e *Engine) plan(l *lane, now time.Time) {
	if e.stopping {
		return
	}
	ep := e.Endpoints.Get(l.no)
	if ep == nil || !ep.Sends() {
		e.bytes -= l.drop(l.ready)
		e.bytes -= l.drop(l.urgent)
		e.wake(l, time.Time{})
	}
	switch l.follow(ep) {
	case paused:
		return
	case gone:
		if !l.clears && l.beginClear() {
			e.workers.Go(func() { e.clear(l) })
		}
		return
	}
	l.tick(now)
	rush, rushAt := e.mayRush(l, ep, now)
	if rush {
		e.hurry(l, ep)
	}
	next, at := e.decide(l, ep, now)
	if next != stepWait {
		e.enqueue(l, ep)
	}
	if at.IsZero() || l.mode == sending { // otherwise due deliveries wait for the probe time too
		at = earliest(at, l.nextDue.time())
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

// step is a worker's next step for a lane.
type step uint8

const (
	stepWait  step = iota
	stepSend       // the next ready delivery
	stepRead       // deliveries from the store
	stepProbe      // with a delivery read from the store
)

// decide returns a worker's next step for a lane. If that is to wait, it returns until when,
// zero if only an event can change it.
func (e *Engine) decide(l *lane, ep *endpoint.Registered, now time.Time) (step, time.Time) {
	if l.holdUntil != 0 {
		return stepWait, l.holdUntil.time()
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
		if at := l.throttled(ep, now); !at.IsZero() {
			return stepWait, at
		}
	}
	return next, at
}

// decideClosed is decide for a lane whose breaker is closed.
func (e *Engine) decideClosed(l *lane, ep *endpoint.Registered, now time.Time) (step, time.Time) {
	due := l.probeDue()
	switch {
	case int(l.inflight) >= l.concurrency(ep, e.Concurrency):
		return stepWait, time.Time{}
	case l.ready.len() > 0:
		return stepSend, time.Time{}
	case l.backlog == waiting && l.readable():
		return stepRead, time.Time{}
	case due.IsZero() || l.reading != nil:
		return stepWait, time.Time{}
	case due.After(now):
		return stepWait, due
	}
	return stepProbe, time.Time{}
}

// decideOpen is decide for a lane whose breaker is open: it is probed at the probe time, after
// all attempts have ended; deliveries of types that have not failed are sent at once, one by
// one.
func (e *Engine) decideOpen(l *lane, ep *endpoint.Registered, now time.Time) (step, time.Time) {
	busy := l.probing >= maxProbing || int(l.inflight) >= most(ep, e.Concurrency)
	switch {
	case l.ready.len() > 0 && !busy:
		return stepSend, time.Time{}
	case l.look && l.readable():
		return stepRead, time.Time{}
	case l.backlog == drained && !l.passesSome(), l.ready.len() > 0 || l.inflight > 0 || !l.readable():
		return stepWait, time.Time{}
	case now.Before(l.breaker.ProbeAt):
		return stepWait, l.breaker.ProbeAt
	}
	return stepProbe, time.Time{}
}

// decideOrdered is decide for an ordered lane: only its head may be sent, after the breaker's
// interval and the pause of its type.
func (e *Engine) decideOrdered(l *lane, now time.Time) (step, time.Time) {
	if now.Before(l.breaker.ProbeAt) {
		e.bytes -= l.drop(l.ready)
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
	case l.backlog == waiting && l.readable() && len(l.held) == 0: // all settlements must be stored before the next delivery is read
		return stepRead, time.Time{}
	}
	return stepWait, time.Time{}
}
