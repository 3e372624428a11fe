package dispatch

import (
	"maps"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// ageEvery is how often deliveries that wait are looked at for their age.
const ageEvery = time.Minute

// giveUpOld gives up deliveries that have become too old while they wait behind a
// breaker. Others are looked at when their turn comes.
func (e *Engine) giveUpOld() {
	for e.pause(ageEvery) {
		e.mu.Lock()
		lanes := slices.Collect(maps.Values(e.lanes))
		e.mu.Unlock()
		for _, l := range lanes {
			for after, more := (store.Place{}), true; more; {
				after, more = e.giveUpPage(l, after)
			}
		}
	}
}

// giveUpPage gives up those that are too old of a lane's deliveries after a place, if the
// lane passes over some, and returns the place to go on after and whether there may be
// more. What waits longest comes first: a retry that is due later comes when it is.
func (e *Engine) giveUpPage(l *lane, after store.Place) (end store.Place, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep := e.Endpoints.Get(l.no)
	if e.stopping || ep == nil || !ep.Sends() || l.loading || !l.breaker.Open() && !l.waiting() {
		return after, false
	}
	jobs, full, err := e.scanStore(l, store.LaneScan{Endpoint: l.no, After: after, Limit: pageSize})
	defer e.settled(l)
	now := e.Now()
	if err != nil || e.Endpoints.Get(l.no) == nil {
		l.rewind()
		return after, false
	}
	var old []store.Job
	more = full
	for i := range jobs {
		j := &jobs[i]
		end = store.PlaceOf(&j.Delivery)
		_, held := l.held[j.Delivery.ID.Event]
		switch {
		case held:
		case e.tooOld(ep, j, now):
			l.hold(j)
			old = append(old, *j)
		default:
			more = false
		}
	}
	e.giveUp(l, old, now)
	return end, more
}

// tooOld reports whether a delivery has waited for longer than any may. While its
// endpoint was disabled it did not.
func (e *Engine) tooOld(ep *endpoint.Endpoint, j *store.Job, now time.Time) bool {
	return e.MaxAge > 0 && now.Sub(later(j.Delivery.Since, ep.EnabledSince)) > e.MaxAge
}

// giveUp settles deliveries that are held. It is called and returns with e.mu held, and
// lets go of it to settle.
func (e *Engine) giveUp(l *lane, old []store.Job, now time.Time) {
	since := l.breaker.FailingSince
	e.mu.Unlock()
	for i := range old {
		d := old[i].Delivery
		d.Expire(now, since)
		e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
		e.Watcher.DeliveryExhausted(d, &old[i])
	}
	e.mu.Lock()
}
