package dispatch

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Cluster contains the functions of a cluster that an engine needs (cluster.Cluster).
type Cluster interface {
	// Elsewhere announces deliveries to endpoints of other nodes: new ones with their events,
	// others by ID only; an ID without an event announces an endpoint that has work. It must not
	// block.
	Elsewhere(outgoing []delivery.Outgoing)
	// Sending returns a context that ends when this node must stop sending; attempts under way are
	// canceled then.
	Sending() context.Context
	// Load returns the pending ones of some deliveries.
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)
	// Expedite is Elsewhere for deliveries that a user retried.
	Expedite(deliveries []delivery.ID)
}

// maxArrived is the maximum number of deliveries that wait to be read together; further ones
// are read lane by lane.
const maxArrived = 4096

// Arrived reports new deliveries in the store that another node accepted; an ID without an
// event reports an endpoint that has work.
func (e *Engine) Arrived(deliveries []delivery.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now()
	for _, id := range deliveries {
		ep := e.Endpoints.Get(id.Endpoint)
		if ep == nil || ep.Remote {
			continue // it is read when this node owns the endpoint
		}
		l := e.lane(id.Endpoint)
		switch {
		case id.Event == 0:
			e.recall(l)
			continue
		case len(e.arrived) >= maxArrived, ordered(ep), !l.passes() && (l.backlog != drained || l.holdUntil != 0):
			l.missed(id.Event.Time())
			l.catchUp()
			e.plan(l, now)
			continue
		}
		e.arrived = append(e.arrived, id)
	}
	if len(e.arrived) > 0 && !e.fetching && !e.stopping {
		e.fetching = true
		e.workers.Go(e.fetch)
	}
}

// named returns an outgoing delivery that has only the delivery's ID.
func named(id delivery.ID) delivery.Outgoing {
	return delivery.Outgoing{Delivery: delivery.Delivery{ID: id}}
}

// Forwarded adds new deliveries that another node has accepted and stored, and returns those to
// endpoints of other nodes. This node must have the settings under which they were accepted. A
// message can arrive late: this node, or the previous owner of the endpoint, may already have read
// the delivery from the store and sent it. Such deliveries are looked up in the store.
func (e *Engine) Forwarded(outgoing []delivery.Outgoing) (misdirected []delivery.ID) {
	var unsure []delivery.ID
	e.mu.Lock()
	now := e.Now()
	for i := range outgoing {
		o := &outgoing[i]
		id := o.Delivery.ID
		ep := e.Endpoints.Get(id.Endpoint)
		if ep == nil {
			continue // it was deleted
		}
		if ep.Remote {
			misdirected = append(misdirected, id)
			continue
		}
		l := e.lane(id.Endpoint)
		if id.Event <= max(e.verifyUpTo, l.readUpTo) || ordered(ep) {
			unsure = append(unsure, id)
			continue
		}
		e.accept(l, ep, o, l.reading != nil)
		e.plan(l, now)
	}
	e.mu.Unlock()
	if len(unsure) > 0 {
		e.Arrived(unsure)
	}
	return misdirected
}

// VerifyUpTo makes the engine look up forwarded deliveries of events up to a key before it sends
// them. The cluster calls it before this node takes over endpoints, whose previous owners may have
// sent any of these.
func (e *Engine) VerifyUpTo(before event.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.verifyUpTo = max(e.verifyUpTo, before)
}

// fetch reads the arrived deliveries, for all lanes together; those that arrive during the read
// are read next.
func (e *Engine) fetch() {
	for {
		wanted, lanes := e.beginFetch()
		if wanted == nil {
			return
		}
		outgoing, err := e.Cluster.Load(e.sending, wanted)
		if err != nil && e.sending.Err() == nil {
			e.Log.Error("read deliveries accepted by other nodes", "err", err)
		}
		e.endFetch(lanes, outgoing, err)
	}
}

// beginFetch returns the arrived deliveries and their lanes, which are being read from then on;
// nil if there are none.
func (e *Engine) beginFetch() (wanted []delivery.ID, lanes map[int64]*lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.arrived) == 0 || e.stopping {
		e.fetching = false
		return nil, nil
	}
	arrived := e.arrived
	e.arrived = nil
	wanted, lanes = arrived[:0], map[int64]*lane{}
	for _, id := range arrived {
		l := e.lane(id.Endpoint)
		switch {
		case lanes[id.Endpoint] != nil:
		case l.reading != nil: // by a worker, which may have missed it
			l.missed(id.Event.Time())
			continue
		default:
			l.beginRead()
			lanes[id.Endpoint] = l
		}
		wanted = append(wanted, id)
	}
	return wanted, lanes
}

// endFetch adds the read deliveries to the lanes' memory.
func (e *Engine) endFetch(lanes map[int64]*lane, outgoing []delivery.Outgoing, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now()
	for i := range outgoing {
		o := &outgoing[i]
		l := lanes[o.Delivery.ID.Endpoint]
		l.noteRead(o)
		if l.reading.recalled {
			l.missed(o.Delivery.Rank)
			continue
		}
		if !due(&o.Delivery, now) { // it was already attempted
			l.due(o.Delivery.Due)
			continue
		}
		e.accept(l, e.Endpoints.Get(l.no), o, false)
	}
	for _, l := range lanes {
		if err != nil {
			l.rewind()
		}
		l.endRead()
		e.plan(l, now)
	}
}

// Releasing returns the endpoints of other nodes that still have attempts or unrecorded outcomes
// on this node.
func (e *Engine) Releasing() (endpoints []int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for no, l := range e.lanes {
		if ep := e.Endpoints.Get(no); ep != nil && ep.Remote && (l.inflight > 0 || len(l.held) > 0 || l.reading != nil) {
			endpoints = append(endpoints, no)
		}
	}
	return endpoints
}

// Adopt begins to send to endpoints that another node owned, with their pending deliveries and
// stored health.
func (e *Engine) Adopt(endpoints []int64, health []store.Health) {
	breakers := make(map[int64]delivery.Breaker, len(health))
	for _, h := range health {
		breakers[h.Endpoint] = h.Breaker
	}
	e.mu.Lock()
	for _, no := range endpoints {
		b, known := breakers[no]
		switch l := e.lanes[no]; {
		case l != nil:
			l.adopt(e.restored(no, b))
			e.plan(l, e.Now())
		case known:
			if e.known == nil {
				e.known = map[int64]delivery.Breaker{}
			}
			e.known[no] = b
		}
	}
	e.mu.Unlock()
	e.Rescan()
}

// Rescan searches the store for endpoints that have work, in case a notification was lost.
func (e *Engine) Rescan() {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopping:
	case e.scanned:
		e.scanned = false
		e.workers.Go(e.scan)
	default: // it is running, and may have passed the changed endpoints
		e.rescan = true
	}
}

// pass notifies the other nodes of work for an endpoint of one of them.
func (e *Engine) pass(endpoint int64) {
	if e.elsewhere(e.Endpoints.Get(endpoint)) {
		e.Cluster.Elsewhere([]delivery.Outgoing{named(delivery.ID{Endpoint: endpoint})})
	}
}

// elsewhere reports whether another node may send to an endpoint. A listener that is not
// connected to this node may be connected to another.
func (e *Engine) elsewhere(ep *endpoint.Registered) bool {
	return e.Cluster != nil && ep != nil && (ep.Remote || ep.Paused)
}

// allowed returns a context that ends when attempts under way must.
func (e *Engine) allowed() (context.Context, func()) {
	if e.Cluster == nil {
		return e.sending, func() {}
	}
	ctx, cancel := context.WithCancel(e.Cluster.Sending())
	stop := context.AfterFunc(e.sending, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
