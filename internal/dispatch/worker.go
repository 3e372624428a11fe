package dispatch

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
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
		l := e.next()
		if l == nil {
			e.running--
			return
		}
		trial := l.suspect
		if trial {
			e.onTrial++
		}
		e.call()
		e.serve(l)
		if trial {
			e.onTrial--
		}
		e.plan(l, e.Now())
	}
}

// next waits for a lane that wants a worker. It returns nil when the worker is not
// needed any more. At most half of the workers serve lanes whose last attempt did
// not succeed, so that endpoints that hang never take the place of those that
// answer.
func (e *Engine) next() *lane {
	for {
		if e.stopping {
			return nil
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
			return l
		}
		if e.idle >= maxIdle {
			return nil
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
	ep := e.admit(l)
	if ep == nil {
		return
	}
	if l.ready.len() == 0 && e.hasWork(l, ep) {
		e.load(l, ep)
		// Much can have changed meanwhile.
		if ep = e.admit(l); ep == nil {
			return
		}
	}
	now := e.Now()
	job, ok := l.ready.pop()
	if !ok {
		return
	}
	e.bytes -= weight(&job)
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	l.inflight++
	round := l.pace.began(l.inflight, most(ep, e.Concurrency))
	e.enqueueRest(l, ep, now)
	e.mu.Unlock()
	e.attempt(l, ep, &job, round)
	e.mu.Lock()
	l.inflight--
}

// admit returns the lane's endpoint if an attempt may start now, else nil.
func (e *Engine) admit(l *lane) *endpoint.Endpoint {
	ep, now := e.Endpoints.Get(l.no), e.Now()
	switch {
	case e.stopping, ep == nil, !ep.Sends(),
		l.breaker.Open() && now.Before(l.breaker.ProbeAt),
		l.inflight >= l.concurrency(ep, e.Concurrency),
		!e.throttled(l, ep, now).IsZero():
		return nil
	}
	return ep
}

// enqueueRest lets another worker take the lane's next delivery meanwhile.
func (e *Engine) enqueueRest(l *lane, ep *endpoint.Endpoint, now time.Time) {
	if l.ready.len() > 0 || l.more {
		e.plan(l, now)
	}
}

// load reads the lane's next deliveries from the store. It is called and returns
// with e.mu held, and lets go of it to read.
func (e *Engine) load(l *lane, ep *endpoint.Endpoint) {
	l.loading, l.more = true, false
	limit, room := l.loadSize(), min(loadBytes, e.QueueBytes-e.bytes)
	if room <= 0 { // one at a time, so that every lane gets on
		limit, room = 1, 0
	}
	limit += len(l.held) // those may come again
	size := room + min(l.heldBytes, rereads)
	e.bytes += room
	e.loads++
	e.mu.Unlock()
	jobs, err := e.Store.LoadLane(e.sending, l.no, limit, size)
	e.mu.Lock()
	if e.loads--; e.loads == maxLoads-1 {
		e.call()
	}
	e.bytes -= room
	l.loading = false
	now := e.Now()
	if err != nil {
		if e.sending.Err() == nil {
			e.Log.Error("load lane", "endpoint", ep.ID, "err", err)
		}
		// Nothing new may pass what waits there.
		l.holdUntil, l.more = now.Add(time.Second), true
	}
	early := len(jobs) >= limit || bodies(jobs) > size
	expired := e.expired(l, ep, jobs, early, now)
	dated := e.take(l, ep, jobs, early, len(expired) > 0, now)
	for _, k := range l.settled {
		l.letGo(k)
	}
	l.settled = l.settled[:0]
	if len(expired)+len(dated) == 0 {
		return
	}
	e.mu.Unlock()
	for _, d := range dated {
		e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
	}
	for i := range expired {
		d := expired[i].Delivery
		d.Expire(now)
		e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
		e.Watcher.DeliveryExhausted(d, &expired[i])
	}
	e.mu.Lock()
}

// take puts what was read and is due into the lane's memory. The list is in order
// of rank; early says that the store may have more than that, fresh that it
// brought something on already. It returns the deliveries that got a new date because a
// clock was stepped back; they are held until that is on disk.
func (e *Engine) take(l *lane, ep *endpoint.Endpoint, jobs []store.Job, early, fresh bool, now time.Time) (dated []delivery.Delivery) {
	pushed, fifo := false, ep.Settings.Ordering == endpoint.FIFO
	for i := range jobs {
		j := &jobs[i]
		if _, ok := l.held[j.Delivery.ID.Event]; ok {
			continue
		}
		if pushed && e.bytes+weight(j) > e.QueueBytes { // it waits where it is
			l.more = true
			return dated
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
				return dated
			}
			if !redated { // else it is known to be due when the store shows it
				l.due(j.Delivery.Due)
			}
			continue
		}
		e.push(l, j)
		fresh, pushed = true, true
	}
	switch {
	case !early || len(jobs) == 0:
	case len(dated) > 0: // what follows is dated too far ahead as well
		l.more, l.behind = true, false
	case due(&jobs[len(jobs)-1].Delivery, now):
		l.more, l.behind = true, !fresh
	default: // nothing that follows is due before
		l.due(later(jobs[len(jobs)-1].Delivery.Rank, now.Add(time.Second)))
	}
	return dated
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

// expired picks and holds the deliveries whose retry window ended while the
// breaker kept them waiting: they get no attempt of their own any more. If that is
// all there is, the newest is left to probe with; without a probe the breaker
// would never close.
func (e *Engine) expired(l *lane, ep *endpoint.Endpoint, jobs []store.Job, early bool, now time.Time) (out []store.Job) {
	if !l.breaker.Open() {
		return nil
	}
	window, alive := e.schedule(ep).Window(), early
	for _, j := range jobs {
		if _, held := l.held[j.Delivery.ID.Event]; held {
			continue
		}
		if now.Sub(later(j.Delivery.Since, ep.EnabledSince)) > window {
			out = append(out, j)
		} else {
			alive = true
		}
	}
	if !alive && len(out) > 0 {
		out = out[:len(out)-1]
	}
	for i := range out {
		l.hold(&out[i])
	}
	return out
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
func (e *Engine) attempt(l *lane, ep *endpoint.Endpoint, job *store.Job, round uint32) {
	d := job.Delivery
	e.stats.inflight.Add(1)
	ctx, done := e.allowed()
	a := e.try(ctx, ep, job)
	done()
	e.stats.inflight.Add(-1)
	if a.Outcome == delivery.OutcomeNone { // the server stops or has lost its lease; the delivery stays pending
		e.release(l, d.ID.Event)
		return
	}
	e.stats.attempts.Add(1)
	e.Watcher.Attempted(ep, &a)
	now := e.Now()
	d.Settle(&a, e.policy(ep), now)

	health, failing, dead := e.note(l, ep, &d, &a, round, now)
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
	return e.Sender.Send(ctx, request(ep, job, &p, now))
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

func (e *Engine) release(l *lane, k event.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.letGo(k)
	l.more = true
}

// note updates the lane by what an attempt showed. It returns the health to
// store, nil when it is unchanged, whether the endpoint just began to fail for
// good, and whether it has for too long.
func (e *Engine) note(l *lane, ep *endpoint.Endpoint, d *delivery.Delivery, a *delivery.Attempt, round uint32, now time.Time) (h *store.Health, failing, dead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.pace.ended(round, a, most(ep, e.Concurrency), now)
	l.proven = a.Succeeded() || l.proven && a.Outcome == delivery.OutcomeRejected // which is an answer, and a quick one
	if a.Succeeded() {
		if l.breaker.Open() {
			l.pace.restart()
		}
		if l.breaker.Succeeded(now) || l.unsaved {
			l.unsaved = false
			h = &store.Health{Endpoint: l.no, Breaker: l.breaker}
		}
		return h, false, false
	}
	e.stats.failures.Add(1)
	if !ep.Listener() { // whoever listens tries things out, and sees each result
		l.breaker.Failed(a.Started, now)
		if failing, dead = e.Health.Judge(&l.breaker, now); failing {
			l.breaker.Warned = true
		}
	}
	if ep.Settings.Ordering == endpoint.FIFO && d.State == delivery.Pending {
		e.dropReady(l)
		l.holdUntil, l.more = d.Due, true
	}
	return &store.Health{Endpoint: l.no, Breaker: l.breaker}, failing, dead
}
