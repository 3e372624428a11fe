package dispatch

import "time"

// enqueue puts the lane into its queue for workers.
func (e *Engine) enqueue(l *lane) {
	if l.queue != unqueued {
		return
	}
	switch l.enqueue() {
	case amongHealthy:
		e.healthy.push(l)
	case amongFresh:
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
