package dispatch

import (
	"context"
	"crypto/sha256"
	"math"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// worker serves one lane after the other: it takes one delivery from the lane
// whose turn it is, makes the attempt, and goes to the back of the queue.
func (e *Engine) worker() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.called = false
	for {
		l, rush := e.next()
		if l == nil {
			e.running--
			return
		}
		trial := !rush && l.suspect
		switch {
		case rush:
			e.rushing++
		case trial:
			e.onTrial++
		}
		e.call()
		if rush {
			e.serveUrgent(l)
			e.rushing--
		} else {
			e.serve(l)
		}
		if trial {
			e.onTrial--
		}
		e.plan(l, e.Now())
	}
}

// next waits for a lane that wants a worker; rush says that it is for an urgent
// delivery. It returns nil when the worker is not needed any more. At most half of the
// workers serve lanes whose last attempt did not succeed, so that endpoints that hang
// never take the place of those that answer.
func (e *Engine) next() (l *lane, rush bool) {
	for {
		if e.stopping {
			return nil, false
		}
		if e.urgent.len() > 0 && !e.rushFull() {
			l := e.urgent.pop()
			l.rushing = false
			return l, true
		}
		e.turn++
		l, trial := e.pick()
		if l != nil {
			now := e.Now()
			if !trial {
				e.servedAt = now
			} else if now.Sub(e.servedAt) < quiet {
				e.tries.credit--
			}
			l.queued, l.news = false, false
			return l, false
		}
		if e.idle >= maxIdle {
			return nil, false
		}
		e.idle++
		e.work.Wait() // whoever calls takes it off the idle ones
		e.called = false
	}
}

// pick takes the lane whose turn it is from its queue; suspect says that it is one of
// those that may be down.
func (e *Engine) pick() (l *lane, suspect bool) {
	room := !e.trialFull()
	switch {
	case room && e.suspects.len() > 0 && e.turn%4 == 0 && e.mayTry():
		return e.suspects.pop(), true
	case room && e.fresh.len() > 0 && (e.healthy.len() == 0 || e.turn%2 == 0):
		return e.fresh.pop(), false
	case e.healthy.len() > 0:
		return e.healthy.pop(), false
	case room && e.suspects.len() > 0 && e.mayTry():
		return e.suspects.pop(), true
	}
	return nil, false
}

// serve takes the lane's next delivery and attempts it, reading from the store
// first when memory has none. It is called and returns with e.mu held.
func (e *Engine) serve(l *lane) {
	ep, next := e.admit(l)
	switch next {
	case stepRead:
		e.load(l, ep)
	case stepProbe:
		e.loadProbe(l, ep)
	}
	if next != stepSend { // much can have changed meanwhile
		if ep, next = e.admit(l); next != stepSend {
			return
		}
	}
	now := e.Now()
	for {
		job, ok := l.ready.pop()
		if !ok {
			return
		}
		e.bytes -= weight(&job)
		if e.tooOld(ep, &job, now) {
			e.giveUp(l, []store.Job{job}, now)
			return
		}
		if ordered(ep) || l.mayGo(&job, now) {
			e.start(l, ep, &job, sent{probe: l.breaker.Open() && !now.Before(l.breaker.ProbeAt)}, now)
			return
		}
		l.letGo(job.Delivery.ID.Event)
		l.passOver(&job.Delivery, job.Type)
	}
}

// sent is what there is to know of an attempt besides its outcome.
type sent struct {
	round  uint32 // see pace
	probe  bool   // an open breaker let it through at its time
	urgent bool
}

// start attempts a delivery and lets another worker take the lane's next one meanwhile.
// It is called and returns with e.mu held, and lets go of it for the attempt.
func (e *Engine) start(l *lane, ep *endpoint.Endpoint, job *store.Job, s sent, now time.Time) {
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	probing := l.breaker.Open() && !s.urgent
	if probing {
		l.probing++
	}
	l.inflight++
	s.round = l.pace.began(l.inflight, most(ep, e.Concurrency))
	if l.ready.len() > 0 || l.more || l.waiting() || l.urgent.len() > 0 {
		e.plan(l, now)
	}
	e.mu.Unlock()
	e.attempt(l, ep, job, s)
	e.mu.Lock()
	l.inflight--
	if probing {
		l.probing--
	}
}

// admit returns the lane's endpoint and what a worker would do with the lane now.
func (e *Engine) admit(l *lane) (*endpoint.Endpoint, step) {
	ep, now := e.Endpoints.Get(l.no), e.Now()
	if e.stopping || ep == nil || !ep.Sends() {
		return nil, stepWait
	}
	next, _ := e.decide(l, ep, now)
	return ep, next
}

// load reads the lane's next deliveries from the store. It is called and returns
// with e.mu held, and lets go of it to read.
func (e *Engine) load(l *lane, ep *endpoint.Endpoint) {
	passes := l.passes() && !ordered(ep)
	l.floor = &store.Place{Millis: math.MaxInt64}
	r := store.LaneScan{Endpoint: l.no, After: l.cursor, Limit: pageSize}
	if passes {
		l.look = false
	} else {
		l.cursor = store.Place{}
		r.Limit = l.loadSize() + len(l.held) // those may come again
	}
	looked := l.more
	l.more = false
	jobs, full, err := e.scanStore(l, r)
	now := e.Now()
	if err != nil {
		// Nothing new may pass what waits there.
		l.holdUntil = now.Add(time.Second)
		l.rewind()
	}
	end, dated := e.take(l, ep, jobs, full, now)
	if l.floor.Before(end) { // what was read past may have changed
		end = *l.floor
		l.more, l.look = true, l.breaker.Open()
	}
	l.floor = nil
	if passes {
		l.cursor = end
	}
	if passes && l.breaker.Open() {
		l.more = l.more || looked // what is passed over is there to be probed with
	}
	e.settled(l)
	e.redate(dated)
}

// loadProbe reads a delivery to probe the endpoint with, or a type that is held, and
// takes it into the lane's memory. Probes go round the types, and alternate between the
// newest deliveries and those that have waited longest. It is called and returns with
// e.mu held, and lets go of it to read.
func (e *Engine) loadProbe(l *lane, ep *endpoint.Endpoint) {
	l.turn++
	for _, newest := range []bool{l.turn%2 == 0, l.turn%2 == 1} {
		search := l.search(newest, e.Now())
		jobs, full, err := e.scanStore(l, search.LaneScan)
		now := e.Now()
		if err != nil {
			l.holdUntil = now.Add(time.Second)
			l.rewind()
		}
		if l.breaker.Open() && (l.inflight > 0 || now.Before(l.breaker.ProbeAt)) { // it has opened meanwhile
			e.settled(l)
			return
		}
		j := l.pick(jobs, now)
		if err == nil {
			l.searched(&search, jobs, full, j, now)
		}
		if j != nil {
			e.push(l, j)
		}
		e.settled(l)
		if j != nil || err != nil || e.stopping {
			return
		}
	}
	if l.breaker.Open() { // all that is due is held; find out when something else will be
		l.more, l.cursor = false, store.Place{}
		e.load(l, ep)
	}
}

// scanStore reads a part of the lane and reports whether there may be more of it. It is
// called and returns with e.mu held, and lets go of it to read; then the caller must
// call settled.
func (e *Engine) scanStore(l *lane, r store.LaneScan) (jobs []store.Job, full bool, err error) {
	room := min(loadBytes, e.QueueBytes-e.bytes)
	if room <= 0 { // one at a time, so that every lane gets on
		r.Limit, room = 1+len(l.held), 0
	}
	r.MaxBytes = room + min(l.heldBytes, rereads)
	e.bytes += room
	e.loads++
	l.loading = true
	e.mu.Unlock()
	if r.After == (store.Place{}) && r.Until.IsZero() {
		jobs, err = e.Store.LoadLane(e.sending, r.Endpoint, r.Limit, r.MaxBytes)
	} else {
		jobs, err = e.Store.ScanLane(e.sending, r)
	}
	e.mu.Lock()
	if e.loads--; e.loads == maxLoads-1 {
		e.call()
	}
	e.bytes -= room
	l.loading = false
	if err != nil && e.sending.Err() == nil {
		e.Log.Error("load lane", "endpoint_no", l.no, "err", err)
	}
	return jobs, len(jobs) >= r.Limit || bodies(jobs) > r.MaxBytes, err
}

// settled lets go of what was settled on disk while the store was read.
func (e *Engine) settled(l *lane) {
	for _, k := range l.settled {
		l.letGo(k)
	}
	l.settled = l.settled[:0]
}

// redate writes deliveries that got a new date. It is called and returns with e.mu held.
func (e *Engine) redate(dated []delivery.Delivery) {
	if len(dated) == 0 {
		return
	}
	e.mu.Unlock()
	for _, d := range dated {
		e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
	}
	e.mu.Lock()
}

// take puts what was read and may be sent into the lane's memory. The list is in order
// of rank; full says that the store may have more than that. It returns the place up to
// which all is held or passed over, and the deliveries that got a new date because a
// clock was stepped back; they are held until that is on disk.
func (e *Engine) take(l *lane, ep *endpoint.Endpoint, jobs []store.Job, full bool, now time.Time) (end store.Place, dated []delivery.Delivery) {
	fresh, fifo, size := false, ordered(ep), l.loadSize()
	passes := l.passes() && !fifo
	end = l.cursor
	for i := range jobs {
		j := &jobs[i]
		if _, ok := l.held[j.Delivery.ID.Event]; ok {
			end = store.PlaceOf(&j.Delivery)
			continue
		}
		if !due(&j.Delivery, now) {
			redated := j.Delivery.Redate(e.policy(ep), now)
			if redated {
				l.hold(j)
				dated = append(dated, j.Delivery)
			}
			if fifo { // it holds back what follows
				if l.ready.len() == 0 {
					l.holdUntil = j.Delivery.Due
				}
				l.more = true
				return end, dated
			}
			if !redated { // else it is known to be due when the store shows it
				l.due(j.Delivery.Due)
			}
			end = store.PlaceOf(&j.Delivery)
			continue
		}
		if passes && !l.mayGo(j, now) {
			l.passOver(&j.Delivery, j.Type)
			end = store.PlaceOf(&j.Delivery)
			continue
		}
		if fresh && e.bytes+weight(j) > e.QueueBytes || passes && l.ready.len() >= size { // it waits where it is
			l.probeEnded(j.Delivery.ID.Event)
			l.more, l.look = true, l.breaker.Open()
			return end, dated
		}
		e.push(l, j)
		end = store.PlaceOf(&j.Delivery)
		fresh = true
	}
	switch {
	case !full || len(jobs) == 0:
	case len(dated) > 0: // what follows is dated too far ahead as well
		l.more, l.behind, l.look = true, false, l.breaker.Open()
	case due(&jobs[len(jobs)-1].Delivery, now):
		l.more, l.behind, l.look = true, !fresh && !passes, l.breaker.Open()
	default: // nothing that follows is due before
		l.due(later(jobs[len(jobs)-1].Delivery.Rank, now.Add(time.Second)))
	}
	return end, dated
}

// due reports whether a delivery may be attempted. One that was not tried yet
// always may: if its time has not come, a clock was stepped back.
func due(d *delivery.Delivery, now time.Time) bool {
	return d.Budget == 0 || !d.Due.After(now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func bodies(jobs []store.Job) (n int) {
	for i := range jobs {
		n += len(jobs[i].Body)
	}
	return n
}

func (e *Engine) schedule(ep *endpoint.Endpoint) delivery.Schedule {
	switch {
	case ep.Settings.Schedule != nil:
		return ep.Settings.Schedule
	case ep.Live():
		return e.Live
	}
	return e.Test
}

func (e *Engine) policy(ep *endpoint.Endpoint) delivery.Policy {
	return delivery.Policy{Schedule: e.schedule(ep), FIFO: ep.Settings.Ordering == endpoint.FIFO, Random: e.Random}
}

// attempt sends one delivery and records what came of it. It is called without e.mu.
func (e *Engine) attempt(l *lane, ep *endpoint.Endpoint, job *store.Job, s sent) {
	d := job.Delivery
	e.stats.inflight.Add(1)
	ctx, done := e.allowed()
	a := e.try(ctx, ep, job)
	done()
	e.stats.inflight.Add(-1)
	if a.Outcome == delivery.OutcomeNone { // the server stops, has lost its lease or lacks something; the delivery stays pending
		e.release(l, &d, a.Shortage)
		return
	}
	e.stats.attempts.Add(1)
	e.Watcher.Attempted(ep, &a)
	now := e.Now()
	d.Settle(&a, e.policy(ep), now)

	health, failing, dead := e.note(l, ep, job, &d, &a, s, now)
	e.Recorder.Settle(store.Settlement{Delivery: d, Attempt: &a}, health)

	if failing {
		e.Watcher.EndpointFailing(l.no, health.Breaker.FailingSince)
	}
	if d.State == delivery.Failed {
		e.Watcher.DeliveryExhausted(d, job)
	}
	switch {
	case a.Outcome == delivery.OutcomeGone:
		e.Watcher.EndpointDead(l.no, endpoint.DisabledGone)
	case dead:
		e.Watcher.EndpointDead(l.no, endpoint.DisabledFailed)
	}
}

// try makes the next attempt at a delivery. One whose payload cannot be made fails
// without a request: it is tried again, and ends where people look for what failed.
func (e *Engine) try(ctx context.Context, ep *endpoint.Endpoint, job *store.Job) delivery.Attempt {
	now := e.Now()
	p, err := ep.Payload(job.Delivery.ID.Event, job.EventID, job.Type, job.Body)
	if err != nil {
		return delivery.Attempt{Number: job.Delivery.Attempts + 1, Started: now, Outcome: delivery.OutcomeMisconfigured,
			Error: "nothing was sent, because the endpoint's transformation cannot be made of this event: " + err.Error()}
	}
	a := e.Sender.Send(ctx, request(ep, job, &p, now))
	if p.Made { // else the event's own body is the proof of what was sent
		sum := sha256.Sum256(p.Body)
		a.BodySum = sum[:]
	}
	return a
}

// request returns the request of the next attempt at a delivery.
func request(ep *endpoint.Endpoint, job *store.Job, p *endpoint.Payload, now time.Time) *sender.Request {
	r := &sender.Request{
		EventID: job.EventID, Trace: job.Trace, Body: p.Body, ContentType: p.ContentType, Attributes: p.Attributes, URL: ep.URL, Secrets: ep.LiveSecrets(now),
		Timeout: ep.Settings.Timeout, Number: job.Delivery.Attempts + 1, Header: ep.Headers,
		EndpointID: ep.ID, Origin: ep.Origin(),
		Trusted: ep.Space.Account() == 0, // no account's: the operator's own
	}
	if ep.Auth.Type != endpoint.AuthNone {
		r.Auth = &ep.Auth
	}
	if ep.TLS != (endpoint.TLS{}) {
		r.TLS = &ep.TLS
	}
	return r
}

func (e *Engine) release(l *lane, d *delivery.Delivery, shortage bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.letGo(d.ID.Event)
	l.missed(d.Rank)
	if shortage { // what the server lacks is not there at once
		l.holdUntil = e.Now().Add(shortagePause)
		e.Log.Warn("attempt not made for want of file descriptors", "endpoint", l.no)
	}
}

// shortagePause is how long a lane waits when the server itself lacked what an attempt needs.
const shortagePause = time.Second

// note updates the lane by what an attempt showed. It returns the health to
// store, nil when it is unchanged, whether the endpoint just began to fail for
// good, and whether it has for too long.
func (e *Engine) note(l *lane, ep *endpoint.Endpoint, job *store.Job, d *delivery.Delivery, a *delivery.Attempt, s sent, now time.Time) (h *store.Health, failing, dead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	effect := delivery.EffectOf(a.Outcome)
	if !ep.Listener() { // whoever listens tries things out, and sees each result
		effect = l.showed(job.Type, effect, s.urgent, now)
	}
	if effect != delivery.NoEffect || a.Outcome == delivery.OutcomeGone {
		l.pace.ended(s.round, a, most(ep, e.Concurrency), now)
		l.proven = a.Succeeded() || l.proven && effect == delivery.EventRefused // which is an answer, and a quick one
	}
	wasOpen := l.breaker.Open()
	if a.Succeeded() {
		if l.breaker.Succeeded(now) || l.unsaved {
			l.unsaved = false
			h = &store.Health{Endpoint: l.no, Breaker: l.breaker}
		}
		e.breakerMoved(l, ep, wasOpen)
		return h, false, false
	}
	e.stats.failures.Add(1)
	if !ep.Listener() {
		l.breaker.Failed(effect, s.probe, a.Started, now)
		if failing, dead = e.Health.Judge(&l.breaker, now); failing {
			l.breaker.Warned = true
		}
	}
	e.breakerMoved(l, ep, wasOpen)
	if ordered(ep) && d.State == delivery.Pending {
		e.dropReady(l)
		l.more = true
		if !s.urgent { // else it need not be the head
			l.holdUntil = d.Due
		}
	}
	return &store.Health{Endpoint: l.no, Breaker: l.breaker}, failing, dead
}

// breakerMoved makes the lane follow its breaker, if that has just opened or closed.
func (e *Engine) breakerMoved(l *lane, ep *endpoint.Endpoint, wasOpen bool) {
	switch open := l.breaker.Open(); {
	case open && (!wasOpen || !l.looked): // or it was open when this node began
		if l.looked = true; ordered(ep) {
			return
		}
		if l.look = true; !wasOpen {
			e.dropReady(l)
		}
	case !open && wasOpen:
		l.looked = false
		l.pace.restart()
		l.rewind()
	}
}
