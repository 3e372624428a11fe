package dispatch

import (
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// Expedite attempts manually retried deliveries at once, which are pending in the store: before
// all others of their endpoints and through an open breaker. Concurrency and rate limits apply.
// It returns before they are attempted.
func (e *Engine) Expedite(deliveries ...delivery.ID) {
	var here, away []delivery.ID
	for _, id := range deliveries {
		if e.elsewhere(e.Endpoints.Get(id.Endpoint)) {
			away = append(away, id)
		} else {
			here = append(here, id)
		}
	}
	if len(away) > 0 {
		e.Cluster.Expedite(away)
	}
	e.Urgent(here)
}

// Urgent is Expedite for deliveries of this node, called by other nodes.
func (e *Engine) Urgent(deliveries []delivery.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	deliveries = slices.DeleteFunc(deliveries, func(id delivery.ID) bool {
		ep := e.Endpoints.Get(id.Endpoint)
		return ep == nil || ep.Remote || id.Event == 0
	})
	if len(deliveries) == 0 || e.stopping {
		return
	}
	wanted := deliveries[:0]
	for _, id := range deliveries {
		l := e.lane(id.Endpoint)
		l.expedited(ordered(e.Endpoints.Get(id.Endpoint)))
		if e.reserve(l, id) {
			wanted = append(wanted, id)
		}
		e.plan(l, e.Now())
	}
	if len(wanted) > 0 {
		e.workers.Go(func() { e.loadUrgent(wanted) })
	}
}

// reserve holds an urgent delivery, so that no other worker reads it, and reports whether to
// read it: not if it is in flight, or its outcome is not on disk yet.
func (e *Engine) reserve(l *lane, id delivery.ID) bool {
	if l.urgent.len() >= maxUrgent {
		l.missed(id.Event.Time())
		return false
	}
	for _, q := range []*outQueue{l.urgent, l.ready} {
		if j, ok := take(q, id.Event); ok { // in its state before the user's change
			e.bytes -= weight(&j)
			l.probeEnded(id.Event)
			return true
		}
	}
	if l.holds(id.Event) {
		return false
	}
	l.hold(&delivery.Outgoing{Delivery: delivery.Delivery{ID: id}})
	return true
}

// loadUrgent reads reserved deliveries from the store into their lanes.
func (e *Engine) loadUrgent(deliveries []delivery.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	outgoing := e.readUrgent(deliveries)
	found := make(map[delivery.ID]*delivery.Outgoing, len(outgoing))
	for i := range outgoing {
		found[outgoing[i].Delivery.ID] = &outgoing[i]
	}
	for _, id := range deliveries {
		l := e.lane(id.Endpoint)
		ep := e.Endpoints.Get(id.Endpoint)
		if o := found[id]; o != nil && ep != nil && ep.Sends() {
			l.noteRead(o)
			l.pushUrgent(o)
			e.bytes += weight(o)
		} else {
			l.letGo(id.Event)
			l.rewind()
		}
		e.plan(l, e.Now())
	}
}

// dropUrgent returns a lane's urgent deliveries to the store, and reserves them to be read again.
func (e *Engine) dropUrgent(l *lane) (again []delivery.ID) {
	for _, j := range l.urgent.all() {
		again = append(again, j.Delivery.ID)
	}
	e.bytes -= l.drop(l.urgent)
	for _, id := range again {
		l.hold(&delivery.Outgoing{Delivery: delivery.Delivery{ID: id}})
	}
	return again
}

// readUrgent reads deliveries from the store, and reads them again if some were recalled
// meanwhile. The caller holds e.mu, which is released during the read.
func (e *Engine) readUrgent(deliveries []delivery.ID) (outgoing []delivery.Outgoing) {
	for recalls := -1; recalls != e.recalls; {
		recalls = e.recalls
		e.mu.Unlock()
		var err error
		if outgoing, err = e.Store.Load(e.sending, deliveries); err != nil && e.sending.Err() == nil {
			e.Log.Error("read manual retries", "err", err) // they are sent in their ordinary turn
		}
		e.mu.Lock()
	}
	return outgoing
}

// mayRush reports whether an urgent delivery of a lane may be attempted now; if not, it returns
// when, zero if only an event can change it.
func (e *Engine) mayRush(l *lane, ep *endpoint.Registered, now time.Time) (bool, time.Time) {
	limit := most(ep, e.Concurrency)
	if l.breaker.Open() {
		limit = min(limit, maxRush)
	}
	if l.urgent.len() == 0 || int(l.inflight) >= limit {
		return false, time.Time{}
	}
	at := l.throttled(ep, now)
	return at.IsZero(), at
}

// hurry puts the lane into the queue of lanes with urgent deliveries.
func (e *Engine) hurry(l *lane, ep *endpoint.Registered) {
	if !l.rushing {
		l.rush(true)
		e.wait(l, ep, amongUrgent)
	}
}

// sendUrgent begins an attempt of the lane's next urgent delivery.
func (e *Engine) sendUrgent(t *turn) bool {
	l, now := t.lane, e.Now()
	t.ep = e.Endpoints.Get(l.no)
	if e.stopping || t.ep == nil || !t.ep.Sends() {
		return false
	}
	if may, _ := e.mayRush(l, t.ep, now); !may {
		return false
	}
	out := l.popUrgent()
	e.bytes -= weight(&out)
	e.start(t, out, sent{urgent: true}, now)
	return true
}
