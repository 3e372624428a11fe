package dispatch_test

import (
	"bytes"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// rules contains the guarantees that a game checks, with the state for that. It is guarded by
// arena.mu. Most rules are checked whenever an attempt begins, so that a trace ends near the
// failure; the others at each move and at the end.
type rules struct {
	clients      [3]bool                 // waiting for a response
	sizes        map[event.Key]int       // of bodies
	acknowledged map[int64][]delivery.ID // by endpoint
	refused      []delivery.ID
	unanswered   []delivery.ID // of a killed server: on disk or not
	requeued     map[delivery.ID]bool
	delivered    map[delivery.ID]bool

	// In the life of the engine:
	lifeBegan time.Time
	passed    map[delivery.ID]bool      // settled for good, on disk or not
	starts    []time.Time               // of attempts to the limited endpoint
	failed    map[int64]map[string]bool // types that failed since the last acknowledgement, by endpoint
	probing   map[underWay]bool
	probes    map[int64]int             // attempts in flight that passed an open breaker
	asked     map[delivery.ID]time.Time // manually retried, and not attempted since
	byHand    map[underWay]bool         // attempts of manual retries
	upSince   time.Time                 // since when the choosy endpoint is up or down
	waiting   map[delivery.ID]since     // acknowledged ones of the healthy endpoint without an attempt
	calmSince time.Time                 // since when the store works
	longest   time.Duration             // longest wait of one of those
}

type since struct{ acknowledged time.Time }

func newRules() rules {
	return rules{sizes: map[event.Key]int{}, acknowledged: map[int64][]delivery.ID{}, requeued: map[delivery.ID]bool{}, delivered: map[delivery.ID]bool{},
		failed: map[int64]map[string]bool{}, probes: map[int64]int{}, probing: map[underWay]bool{}, byHand: map[underWay]bool{}, asked: map[delivery.ID]time.Time{}, waiting: map[delivery.ID]since{}}
}

// began records the start of an engine.
func (g *game) began() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lifeBegan, g.calmSince, g.passed, g.starts = time.Now(), time.Now(), map[delivery.ID]bool{}, nil
	clear(g.failed)
	clear(g.probes)
	clear(g.asked)
}

// answered records a client's response.
func (g *game) answered(client, life int, all []*store.Append, errs []error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients[client] = false
	for i, a := range all {
		for _, d := range a.Deliveries {
			_, _, stored := g.store.Delivery(d.ID)
			switch {
			case life != g.life:
				g.unanswered = append(g.unanswered, d.ID)
			case errs[i] != nil:
				g.refused = append(g.refused, d.ID)
				if stored {
					g.fault("%s was refused and is on disk", d.ID)
				}
			default:
				g.acknowledged[d.ID.Endpoint] = append(g.acknowledged[d.ID.Endpoint], d.ID)
				if !stored {
					g.fault("%s was acknowledged before it was on disk", d.ID)
				}
				if d.ID.Endpoint == healthy && len(g.tries[d.ID]) == 0 && g.underWay[underWay{life, d.ID}] == 0 {
					g.waiting[d.ID] = since{time.Now()}
				}
			}
		}
	}
	g.trace.note("answered %d %v", client, errs)
}

// begins checks an attempt that is about to begin.
func (g *game) begins(id delivery.ID, r *sender.Request) {
	now, b, stats, books := time.Now(), g.engine.Breaker(id.Endpoint), g.engine.Stats(), g.engine.Audit(largestBody)
	d, _, stored := g.store.Delivery(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trace.note("attempt %d at %s %d", r.Number, id, g.load[id.Endpoint])

	// Contents and time.
	switch {
	case !stored:
		g.fault("%s was attempted before it was on disk", id)
	case d.State == delivery.Succeeded || d.State == delivery.Failed:
		g.fault("%s was attempted although it is %s", id, d.State)
	case d.State == delivery.Pending && d.Budget > 0 && d.Due.After(now):
		g.fault("%s was attempted %s before it was due", id, d.Due.Sub(now))
	case r.Number != d.Attempts+1 && !g.requeued[id]:
		g.fault("%s: attempt %d after %d", id, r.Number, d.Attempts)
	}
	if !bytes.Equal(r.Body, bodyOf(id.Event, g.sizes[id.Event])) || r.EventID != event.FormatID(event.PrefixEvent, id.Event, 7) {
		g.fault("%s: attempt %d as %s with a body that is not the event's", id, r.Number, r.EventID)
	}

	// Order.
	settings := settingsOf(id.Endpoint)
	_, asked := g.asked[id] // a manual retry is out of order
	delete(g.asked, id)
	if asked {
		g.byHand[underWay{g.life, id}] = true
	}
	if settings.Ordering == endpoint.FIFO && !asked {
		g.store.Ahead(id, func(first delivery.ID) bool {
			if !g.passed[first] {
				g.fault("endpoint %d: %s was attempted although %s comes first", id.Endpoint, id, first)
			}
			return g.passed[first]
		})
	}

	// Concurrency and rate.
	under := g.load[id.Endpoint]
	most := gameWorkers
	switch {
	case settings.Ordering == endpoint.FIFO:
		most = 1
	case settings.Concurrency > 0:
		most = settings.Concurrency
	}
	if under > most {
		g.fault("endpoint %d: %d at a time, want at most %d", id.Endpoint, under, most)
	}
	if id.Endpoint == limited {
		g.starts = append(g.starts, now)
		for i := len(g.starts) - 1; i >= max(0, len(g.starts)-200); i-- {
			over := now.Sub(g.starts[i]).Seconds()
			if n := len(g.starts) - i; float64(n) > 5+5*over+1 { // a burst of five, and rounding
				g.fault("endpoint %d: %d attempts in %g s at 5 a second", limited, n, over)
				break
			}
		}
	}

	// The breaker. One that opened at this very instant may have let an attempt pass. It lets pass
	// one delivery at the probe time, one at a time of a type that has not failed, and manual
	// retries.
	if b.Open() && !asked && b.ProbeAt.Add(-b.Interval).Before(now) {
		g.probes[id.Endpoint]++
		g.probing[underWay{g.life, id}] = true
		switch {
		case now.Before(b.ProbeAt) && g.failed[id.Endpoint][typeOf(id.Event)]:
			g.fault("%s was attempted %s before the breaker's next probe", id, b.ProbeAt.Sub(now))
		case g.probes[id.Endpoint] > 2:
			g.fault("endpoint %d: %d probes at a time", id.Endpoint, g.probes[id.Endpoint])
		}
	}

	// Memory and workers.
	if books != nil {
		g.fault("the engine's books: %v", books)
	}
	if stats.InFlight > gameWorkers || stats.Ready > gameQueue/256+lastLane {
		g.fault("%d under way and %d ready, with %d workers and %d bytes", stats.InFlight, stats.Ready, gameWorkers, gameQueue)
	}

	g.wantServed(id, now)
}

// patience is the maximum wait of an event for the healthy endpoint while all others hang:
// endpoints that succeeded before can use all workers for the duration of one attempt; then
// half of the workers are for responding ones. A failed read of the store is repeated after a
// second. The event also waits for the preceding ones of its burst of thirty, each of which
// takes its turn among ten lanes.
const patience = gameTimeout + 5*time.Second

// wantServed checks that the healthy endpoint is served. The caller holds g.mu.
func (g *game) wantServed(now delivery.ID, at time.Time) {
	if w, ok := g.waiting[now]; ok {
		g.longest = max(g.longest, at.Sub(later(later(w.acknowledged, g.calmSince), g.lifeBegan)))
		delete(g.waiting, now)
	}
	if g.away.Load() {
		return
	}
	for id, w := range g.waiting {
		if waits := at.Sub(later(later(w.acknowledged, g.calmSince), g.lifeBegan)); waits > patience {
			g.fault("%s waits for %s although its endpoint works", id, waits)
			delete(g.waiting, id)
		}
	}
}

// acceptedWithin is the time within which an accepted event is delivered after the endpoint is
// up and the delivery due, for any number of refused events of another type: three of the
// breaker's longest intervals, because probes alternate between two types, and the attempts and
// reads in between.
const acceptedWithin = 16 * time.Minute

// wantAccepted checks acceptedWithin. The caller holds g.mu.
func (g *game) wantAccepted(at time.Time) {
	if g.away.Load() || g.moods[choosy].Load() != fine {
		return
	}
	from := later(later(g.upSince, g.calmSince), g.lifeBegan)
	if at.Sub(from) < acceptedWithin {
		return
	}
	for _, id := range g.acknowledged[choosy] {
		if d, _, ok := g.store.Delivery(id); ok && d.State == delivery.Pending && typeOf(id.Event) != refusedType && at.Sub(later(from, d.Due)) > acceptedWithin {
			g.fault("%s, which its endpoint accepts, still waits %s after it was due", id, at.Sub(later(from, d.Due)))
		}
	}
}

// askedWithin is the time within which a manually retried delivery is attempted: hanging
// attempts can use all workers, and the endpoint's own concurrency, for the duration of one
// attempt each.
const askedWithin = 3 * gameTimeout

// wantAsked checks askedWithin. The caller holds g.mu.
func (g *game) wantAsked(at time.Time) {
	if g.away.Load() {
		return
	}
	for id, since := range g.asked {
		d, _, _ := g.store.Delivery(id)
		e := g.endpoints.Get(id.Endpoint)
		switch {
		case e == nil || !e.Sends() || d.State != delivery.Pending:
			delete(g.asked, id)
		case g.underWay[underWay{g.life, id}] > 0 || g.triedSince(id, since.Add(-time.Second)): // it was in flight, or not on disk yet
		case id.Endpoint == limited: // its rate limit applies
		case at.Sub(later(later(since, g.calmSince), g.lifeBegan)) > askedWithin:
			g.fault("%s was asked for and is not attempted after %s", id, at.Sub(since))
			delete(g.asked, id)
		}
	}
}

// triedSince reports whether an attempt at a delivery ended after a time. The caller
// holds g.mu.
func (g *game) triedSince(id delivery.ID, t time.Time) bool {
	tries := g.tries[id]
	return len(tries) > 0 && tries[len(tries)-1].ended.After(t)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ends records the result of an attempt.
func (g *game) ends(id delivery.ID, a *delivery.Attempt) {
	g.trace.note("answer to %s: %s", id, a.Outcome)
	g.mu.Lock()
	defer g.mu.Unlock()
	if here := (underWay{g.life, id}); g.probing[here] {
		g.probes[id.Endpoint]--
		delete(g.probing, here)
	}
	byHand := g.byHand[underWay{g.life, id}]
	delete(g.byHand, underWay{g.life, id})
	if a.Succeeded() {
		g.delivered[id] = true
		delete(g.failed, id.Endpoint)
	} else if !byHand && a.Outcome != delivery.OutcomeNone && a.Outcome != delivery.OutcomeGone {
		if g.failed[id.Endpoint] == nil {
			g.failed[id.Endpoint] = map[string]bool{}
		}
		g.failed[id.Endpoint][typeOf(id.Event)] = true
	}
}

// settles checks a settlement of the engine.
func (g *game) settles(life int, s *store.Settlement, h *store.Health) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if life != g.life {
		return
	}
	id := s.Delivery.ID
	g.trace.note("%s is %s", id, s.Delivery.State)
	if s.Delivery.State != delivery.Pending {
		g.passed[id] = true
	}
	if s.Delivery.State == delivery.Succeeded && !g.delivered[id] {
		g.fault("%s is said to have succeeded without an answer", id)
	}
	if s.Delivery.State == delivery.Failed {
		g.failsFor(id, s)
	}
	if h != nil && h.Breaker.Down >= delivery.BreakerThreshold && !h.Breaker.Open() {
		g.fault("endpoint %d: %d failures in a row and the breaker is closed", h.Endpoint, h.Breaker.Failures)
	}
}

// failsFor checks that a failed delivery has no attempts left.
func (g *game) failsFor(id delivery.ID, s *store.Settlement) {
	e := g.endpoints.Get(id.Endpoint)
	if e == nil {
		return
	}
	schedule := g.config.Test
	switch {
	case e.Settings.Schedule != nil:
		schedule = e.Settings.Schedule
	case e.Live():
		schedule = g.config.Live
	}
	if schedule == nil {
		schedule = map[bool]delivery.Schedule{true: delivery.LiveSchedule(), false: delivery.TestSchedule()}[e.Live()]
	}
	switch {
	case s.Attempt == nil:
		g.fault("%s failed without an attempt: %s", id, s.Delivery.LastOutcome)
	case s.Attempt.Outcome != delivery.OutcomeGone && s.Delivery.Budget <= len(schedule):
		g.fault("%s failed after %d attempts of %d", id, s.Delivery.Budget, len(schedule)+1)
	}
}

// wantOrder checks between moves the rules for an idle engine.
func (g *game) wantOrder() {
	books := g.engine.Audit(largestBody)
	for no := range int64(lastLane + 1) {
		if b := g.engine.Breaker(no); b.Down >= delivery.BreakerThreshold && !b.Open() {
			g.fault("endpoint %d: %d failures in a row and the breaker is closed", no, b.Down)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if books != nil {
		g.fault("the engine's books: %v", books)
	}
	g.wantAccepted(time.Now())
	g.wantAsked(time.Now())
	g.wantServed(delivery.ID{}, time.Now())
}

// wantAcknowledged checks that a crash lost no acknowledged event.
func (g *game) wantAcknowledged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ids := range g.acknowledged {
		for _, id := range ids {
			if _, _, ok := g.store.Delivery(id); !ok {
				g.fault("%s was acknowledged and a crash took it", id)
			}
		}
	}
}

// judge checks the rules for the end.
func (g *game) judge() {
	settle(time.Hour) // actions that were planned before the last delivery ended
	before := g.store.Calls("LoadLane")
	settle(time.Hour)
	if s, n := g.engine.Stats(), g.store.Calls("LoadLane")-before; s.Ready+s.InFlight+n > 0 {
		g.t.Errorf("no rest: %+v, %d reads", s, n)
	}
	g.wantOrder()
	g.store.Disturb(nil)
	g.stop(time.Minute)
	for no, ids := range g.acknowledged {
		for _, id := range ids {
			if _, _, ok := g.store.Delivery(id); !ok {
				g.t.Errorf("%s was acknowledged and is not on disk", id)
			}
			g.judgeDelivery(no, id)
		}
	}
	for _, id := range g.unanswered {
		g.judgeDelivery(id.Endpoint, id)
	}
	for _, id := range g.refused {
		if _, _, ok := g.store.Delivery(id); ok {
			g.t.Errorf("%s was refused and is on disk", id)
		}
	}
	g.wantKept()
}

func (g *game) judgeDelivery(no int64, id delivery.ID) {
	d, recorded, ok := g.store.Delivery(id)
	switch {
	case !ok:
	case d.State == delivery.Pending, d.State == delivery.Canceled && no != g.deleted:
		g.t.Errorf("endpoint %d: %s is %s in the end, after %d attempts, due %s", no, id, d.State, d.Attempts, d.Due)
	case d.State == delivery.Succeeded && (!g.delivered[id] || recorded == 0):
		g.t.Errorf("%s is said to have succeeded without an attempt", id)
	case d.State == delivery.Failed && g.exhausted[id] == 0:
		g.t.Errorf("the failure of %s was not announced", id)
	}
}
