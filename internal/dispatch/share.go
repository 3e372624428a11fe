package dispatch

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// pool is what a worker serves.
type pool uint8

const (
	proven pool = iota // lanes whose last attempt succeeded, with all workers that are left
	trials             // lanes that may be down, with half of the workers, so that hanging endpoints never take all
	rushes             // urgent deliveries, with a quarter
	pools
)

// poolOf is the pool that serves the lanes of each queue.
var poolOf = [places]pool{amongHealthy: proven, amongFresh: trials, amongSuspects: trials, amongUrgent: rushes}

// free returns how many workers a pool has left.
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

// greed is how many workers of a pool a space may have for each one that is left. With 3, one
// space gets three quarters of the workers and two get three sevenths each, so there
// are always some for a space that has none.
const greed = 3

// share is a space's part of the workers, and its lanes that wait for one: an account's in
// live or in test mode.
type share struct {
	space event.Space
	used  [pools]int // workers that serve its lanes
	lanes [places]fifo[*lane]
}

// maxShares is how many spaces without waiting lanes and workers are remembered.
const maxShares = 256

// share returns the share of an endpoint's space.
func (e *Engine) share(ep *endpoint.Endpoint) *share {
	s := e.shares[ep.Space]
	if s == nil {
		s = &share{space: ep.Space}
		e.shares[ep.Space] = s
	}
	return s
}

// mayHave reports whether a space may have another worker of a pool. The only one that has
// endpoints may have all.
func (e *Engine) mayHave(s *share, p pool) bool {
	free := e.free(p)
	return s.used[p] < greed*free || free > 0 && e.Endpoints.Spaces() == 1
}

// lend gives a space a worker of a pool.
func (e *Engine) lend(s *share, p pool) {
	s.used[p]++
	e.used[p]++
}

// giveBack takes it back.
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

// wait puts a lane into the queue of a place. Spaces take turns there, whatever number
// of endpoints they have; the lanes of a space go in the order in which they came.
func (e *Engine) wait(l *lane, ep *endpoint.Endpoint, at place) {
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

// waits reports whether lanes wait in a place that a worker may serve now. Spaces that
// have all the workers they may have lose their turn.
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
func (e *Engine) enqueue(l *lane, ep *endpoint.Endpoint) {
	if l.queue != unqueued {
		return
	}
	e.wait(l, ep, l.enqueue())
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
	return e.waits(amongUrgent) || e.waits(amongHealthy) || e.waits(amongFresh) || e.waits(amongSuspects) && e.mayTry()
}

// pick returns the place whose next lane a worker serves now, unqueued if there is none.
// Lanes that may be down go after the others, but every fourth turn is theirs.
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

// tries is how many suspects may be tried still.
type tries struct {
	credit  float64
	at      time.Time // when it was that
	waiting bool      // a suspect would have been tried if there had been credit
}

// left returns the credit after it grew by so many a second.
func (t *tries) left(now time.Time, rate float64) float64 {
	if passed := now.Sub(t.at); passed > 0 {
		t.credit = min(t.credit+passed.Seconds()*rate, max(rate/10, 1))
	}
	t.at = now
	return t.credit
}
