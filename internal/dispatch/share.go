package dispatch

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// pool is the kind of work that a worker serves.
type pool uint8

const (
	proven pool = iota // lanes whose last attempt succeeded, with all remaining workers
	trials             // lanes that may be down, with half of the workers, so that hanging endpoints never use all
	rushes             // urgent deliveries, with a quarter
	pools
)

// poolOf is the pool of the lanes of each queue.
var poolOf = [places]pool{amongHealthy: proven, amongFresh: trials, amongSuspects: trials, amongUrgent: rushes}

// free returns the number of a pool's free workers.
func (e *Engine) free(p pool) int {
	left := e.Workers
	for _, n := range e.used {
		left -= n
	}
	if p == proven {
		return left
	}
	size := [pools]int{trials: e.Workers / 2, rushes: e.Workers / 4}[p]
	return min(max(size, 1)-e.used[p], left)
}

// workersPerFree is the number of a pool's workers that a space may use per free worker. With 3, one
// space gets three quarters of the workers and two get three sevenths each, so a space without
// workers always finds some.
const workersPerFree = 3

// share is a space's part of the workers, with its lanes that wait for one. A space is an
// account's live or test mode.
type share struct {
	space event.Space
	used  [pools]int // workers serving its lanes
	lanes [places]fifo[*lane]
}

// maxShares is the number of remembered spaces without waiting lanes and workers.
const maxShares = 256

// share returns the share of an endpoint's space.
func (e *Engine) share(ep *endpoint.Registered) *share {
	s := e.shares[ep.Space]
	if s == nil {
		s = &share{space: ep.Space}
		e.shares[ep.Space] = s
	}
	return s
}

// mayHave reports whether a space may use another worker of a pool. If only one space has
// endpoints, it may use all.
func (e *Engine) mayHave(s *share, p pool) bool {
	free := e.free(p)
	return s.used[p] < workersPerFree*free || free > 0 && e.Endpoints.Spaces() == 1
}

// lend assigns a worker of a pool to a space.
func (e *Engine) lend(s *share, p pool) {
	s.used[p]++
	e.used[p]++
}

// giveBack returns the worker.
func (e *Engine) giveBack(s *share, p pool) {
	s.used[p]--
	e.used[p]--
	if len(e.shares) > maxShares && s.idle() {
		delete(e.shares, s.space)
	}
}

// idle reports whether none of the space's lanes has a worker or waits for one.
func (s *share) idle() bool {
	if s.used != [pools]int{} {
		return false
	}
	for i := range s.lanes {
		if s.lanes[i].len() > 0 {
			return false
		}
	}
	return true
}

// wait puts a lane into a queue. Spaces take turns there, independent of their number of
// endpoints; the lanes of a space are in order of arrival.
func (e *Engine) wait(l *lane, ep *endpoint.Registered, at place) {
	s := e.share(ep)
	if s.lanes[at].push(l); s.lanes[at].len() == 1 {
		e.waiting[at].push(s)
	}
	e.call()
}

// pop removes the next lane of the space whose turn it is.
func (e *Engine) pop(at place) (*share, *lane) {
	s, _ := e.waiting[at].pop()
	l, _ := s.lanes[at].pop()
	if s.lanes[at].len() > 0 {
		e.waiting[at].push(s)
	}
	return s, l
}

// waits reports whether lanes wait in a queue that a worker may serve now. Spaces with their
// maximum of workers are skipped.
func (e *Engine) waits(at place) bool {
	q := &e.waiting[at]
	for range q.len() {
		if e.mayHave(*q.first(), poolOf[at]) {
			return true
		}
		s, _ := q.pop()
		q.push(s)
	}
	return false
}

// enqueue puts the lane into its queue for workers.
func (e *Engine) enqueue(l *lane, ep *endpoint.Registered) {
	if l.queue != unqueued {
		return
	}
	e.wait(l, ep, l.enqueue())
}

// call makes sure that a worker serves the waiting lanes. One at a time is started; it calls
// the next if it leaves a lane behind, so that no lane waits for an attempt of another, and few
// are called if attempts are short.
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
	return e.waits(amongUrgent) || e.waits(amongHealthy) || e.waits(amongFresh) || e.waits(amongSuspects) && e.mayTry()
}

// pick returns the queue whose next lane a worker serves now, unqueued if there is none. Lanes
// that may be down are served after the others, except for every fourth turn.
func (e *Engine) pick() place {
	if e.waits(amongUrgent) {
		return amongUrgent
	}
	e.turn++
	switch {
	case e.turn%4 == 0 && e.waits(amongSuspects) && e.mayTry():
		return amongSuspects
	case e.turn%2 == 0 && e.waits(amongFresh):
		return amongFresh
	case e.waits(amongHealthy):
		return amongHealthy
	case e.waits(amongFresh):
		return amongFresh
	case e.waits(amongSuspects) && e.mayTry():
		return amongSuspects
	}
	return unqueued
}

// mayTry reports whether a suspect may be attempted now. While other lanes have work, suspects
// are attempted at a bounded rate: an attempt that fails at once costs as much processor time
// as one that succeeds, and there can be very many of them.
func (e *Engine) mayTry() bool {
	if e.loads >= maxLoads { // more would only wait for each other
		return false
	}
	now := e.Now()
	if now.Sub(e.servedAt) >= quiet || e.tries.left(now, float64(e.Tries)) >= 1 {
		return true
	}
	if !e.tries.waiting { // keepTime calls a worker when there is credit again
		e.tries.waiting = true
		e.poke()
	}
	return false
}

// tries is the remaining number of attempts to suspects.
type tries struct {
	credit  float64
	at      time.Time // time of that number
	waiting bool      // a suspect was not attempted for lack of credit
}

// left returns the credit, which grows at this rate per second.
func (t *tries) left(now time.Time, rate float64) float64 {
	if passed := now.Sub(t.at); passed > 0 {
		t.credit = min(t.credit+passed.Seconds()*rate, max(rate/10, 1))
	}
	t.at = now
	return t.credit
}
