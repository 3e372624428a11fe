package dispatch

import (
	"maps"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// ageEvery is the interval between checks of the age of waiting deliveries.
const ageEvery = time.Minute

// giveUpOld gives up deliveries that have become too old while they wait behind a breaker.
// Others are checked when their turn comes.
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

// giveUpPage gives up the deliveries after a place that are too old, if the lane passes over
// some, and returns the place to continue from and whether there may be more. The longest
// waiting deliveries come first: a retry that is due later is checked then.
func (e *Engine) giveUpPage(l *lane, after store.Place) (end store.Place, more bool) {
	s, may := e.beginAgeScan(l, after)
	if !may {
		return after, false
	}
	e.read(&s)
	old, since, end, more := e.endAgeScan(l, &s)
	if len(old) > 0 {
		e.giveUp(e.Endpoints.Get(l.no), old, since)
	}
	return end, more
}

// beginAgeScan begins to read the lane's deliveries after a place, if the lane passes over some.
func (e *Engine) beginAgeScan(l *lane, after store.Place) (scan, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep := e.Endpoints.Get(l.no)
	if e.stopping || ep == nil || !ep.Sends() || l.reading != nil || !l.breaker.Open() && !l.passesSome() {
		return scan{}, false
	}
	return e.beginScan(l, store.LaneScan{Endpoint: l.no, After: after, Limit: pageSize}), true
}

// endAgeScan ends the read, and holds deliveries that are too old.
func (e *Engine) endAgeScan(l *lane, s *scan) (old []delivery.Outgoing, since time.Time, end store.Place, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endScan(l, s)
	defer l.endRead()
	now, ep := e.Now(), e.Endpoints.Get(l.no)
	if s.err != nil || ep == nil {
		l.rewind()
		return nil, time.Time{}, s.After, false
	}
	end, more = s.After, s.full
	for i := range s.outgoing {
		o := &s.outgoing[i]
		end = store.PlaceOf(&o.Delivery)
		switch {
		case l.holds(o.Delivery.ID.Event):
		case e.tooOld(ep, o, now):
			l.hold(o)
			old = append(old, *o)
		default:
			more = false
		}
	}
	return old, l.breaker.FailingSince, end, more
}

// tooOld reports whether a delivery has waited longer than the maximum age, not counting the
// time while its endpoint was disabled.
func (e *Engine) tooOld(ep *endpoint.Registered, o *delivery.Outgoing, now time.Time) bool {
	return e.MaxAge > 0 && now.Sub(later(o.Delivery.Since, ep.EnabledSince)) > e.MaxAge
}

// giveUp settles held deliveries of an endpoint that has been failing since a time.
func (e *Engine) giveUp(ep *endpoint.Registered, old []delivery.Outgoing, since time.Time) {
	for i := range old {
		d := old[i].Delivery
		d.Expire(e.Now(), since)
		e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
		e.Watcher.DeliveryExhausted(&Failure{Endpoint: ep, Outgoing: &old[i], Delivery: d})
	}
}
