package dispatch

import (
	"container/heap"
	"time"
)

// wake sets the time at which the lane is planned again; zero means only after an event.
func (e *Engine) wake(l *lane, at time.Time) {
	m := momentOf(at)
	if m == l.wakeAt {
		return
	}
	l.wakes(m)
	switch {
	case m == 0:
		heap.Remove(&e.wakes, int(l.wakeIndex))
	case l.wakeIndex >= 0:
		heap.Fix(&e.wakes, int(l.wakeIndex))
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

// keepTime wakes lanes at their time and removes idle ones. It reads the clock at least once a
// minute, because a clock can be stepped.
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
		for len(e.wakes) > 0 && e.wakes[0].wakeAt.passed(now) {
			l := e.wakes[0]
			e.wake(l, time.Time{})
			e.plan(l, now)
		}
		wait := longest
		if len(e.wakes) > 0 {
			wait = min(wait, e.wakes[0].wakeAt.time().Sub(now))
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

// steppedBack plans all lanes again after the clock was stepped back: their waiting times would
// be longer by the step.
func (e *Engine) steppedBack(now time.Time) {
	for _, l := range e.lanes {
		l.steppedBack(now)
		e.plan(l, now)
	}
}

// forget removes lanes that have been idle for a while, a few at a time: the map's order is
// random, so every lane is examined eventually.
func (e *Engine) forget(now time.Time) {
	seen := 0
	for no, l := range e.lanes {
		if seen++; seen > 256 {
			return
		}
		switch {
		case l.idleSince == 0 && e.forgetDeleted(l):
		case l.rest(now):
			e.wake(l, time.Time{})
			e.verifyUpTo = max(e.verifyUpTo, l.readUpTo)
			delete(e.lanes, no)
		}
	}
}

// forgetDeleted removes the lane of a deleted endpoint, unless it has work under way. Otherwise
// one that failed would never be idle again.
func (e *Engine) forgetDeleted(l *lane) bool {
	if !l.resting() || e.Endpoints.Get(l.no) != nil {
		return false
	}
	e.wake(l, time.Time{})
	e.verifyUpTo = max(e.verifyUpTo, l.readUpTo)
	delete(e.lanes, l.no)
	return true
}
