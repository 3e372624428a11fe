package dispatch

import (
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
		trialFull := e.onTrial >= max(e.Workers/2, 1)
		e.turn++
		var l *lane
		switch {
		case e.suspects.len() > 0 && !trialFull && (e.healthy.len() == 0 || e.turn%4 == 0):
			l = e.suspects.pop()
		case e.healthy.len() > 0:
			l = e.healthy.pop()
		}
		if l != nil {
			l.queued = false
			return l
		}
		if e.idle >= maxIdle {
			return nil
		}
		e.idle++
		e.work.Wait()
		e.idle--
	}
}

// serve takes the lane's next delivery and attempts it, reading from the store
// first when memory has none. It is called and returns with e.mu held.
func (e *Engine) serve(l *lane) {
	ep := e.Endpoints.Get(l.no)
	if ep == nil || ep.Status != endpoint.Enabled {
		return
	}
	now := e.Now()
	if l.inflight >= l.concurrency(ep, e.Concurrency) || !e.throttled(l, ep, now).IsZero() {
		return
	}
	if l.ready.len() == 0 && e.hasWork(l, ep) {
		e.load(l, ep)
		now = e.Now()
	}
	if l.breaker.Open() && now.Before(l.breaker.ProbeAt) {
		return
	}
	job, ok := l.ready.pop()
	if !ok {
		return
	}
	e.bytes -= weight(&job)
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	l.inflight++
	e.enqueueRest(l, ep, now)
	e.mu.Unlock()
	e.attempt(l, ep, &job)
	e.mu.Lock()
	l.inflight--
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
	limit := l.loadSize() + len(l.held) // those held may come again
	e.mu.Unlock()
	jobs, err := e.Store.LoadLane(e.sending, l.no, limit, loadBytes)
	e.mu.Lock()
	l.loading = false
	if err != nil {
		if e.sending.Err() == nil {
			e.Log.Error("load lane", "endpoint", ep.ID, "err", err)
		}
		l.due(e.Now().Add(time.Second))
		return
	}
	now := e.Now()
	fifo := ep.Settings.Ordering == endpoint.FIFO
	expired := e.expired(l, ep, jobs, now)
	for _, j := range expired {
		l.held[j.Delivery.ID.Event] = struct{}{}
	}
	full := len(jobs) >= limit
	later := false
	for i := range jobs {
		j := &jobs[i]
		if _, ok := l.held[j.Delivery.ID.Event]; ok {
			continue
		}
		if j.Delivery.Due.After(now) {
			later = true
			if fifo {
				l.holdUntil, l.more = j.Delivery.Due, true
				break
			}
			l.due(j.Delivery.Due)
			continue
		}
		l.ready.push(*j)
		l.held[j.Delivery.ID.Event] = struct{}{}
		e.bytes += weight(j)
	}
	// The list ends early at the limit or at its bytes; only one that ended at
	// something not due yet, or that was short, says that there is no more.
	if !later && (full || bodies(jobs) > loadBytes) {
		l.more = true
	}
	if len(expired) > 0 {
		e.mu.Unlock()
		for i := range expired {
			d := expired[i].Delivery
			d.Expire(now)
			e.Recorder.Settle(store.Settlement{Delivery: d}, nil)
			e.Watcher.DeliveryExhausted(d, &expired[i])
		}
		e.mu.Lock()
	}
}

func bodies(jobs []store.Job) (n int) {
	for i := range jobs {
		n += len(jobs[i].Body)
	}
	return n
}

// expired picks the deliveries whose retry window ended while the breaker kept
// them waiting: they get no attempt of their own any more.
func (e *Engine) expired(l *lane, ep *endpoint.Endpoint, jobs []store.Job, now time.Time) (out []store.Job) {
	if !l.breaker.Open() {
		return nil
	}
	window := e.schedule(ep).Window()
	for _, j := range jobs {
		start := j.Delivery.Since
		if ep.EnabledSince.After(start) {
			start = ep.EnabledSince
		}
		if _, held := l.held[j.Delivery.ID.Event]; !held && now.Sub(start) > window {
			out = append(out, j)
		}
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

// attempt sends one delivery and records what came of it. It is called without e.mu.
func (e *Engine) attempt(l *lane, ep *endpoint.Endpoint, job *store.Job) {
	d := job.Delivery
	e.stats.inflight.Add(1)
	a := e.Sender.Send(e.sending, &sender.Request{
		EventID: job.EventID, Body: job.Body, URL: ep.URL, Secrets: ep.LiveSecrets(e.Now()),
		Timeout: ep.Settings.Timeout, Number: d.Attempts + 1,
	})
	e.stats.inflight.Add(-1)
	if a.Outcome == delivery.OutcomeNone { // the server stops; the delivery stays pending
		e.release(l, d.ID.Event)
		return
	}
	e.stats.attempts.Add(1)
	e.Watcher.Attempted(&a)
	now := e.Now()
	fifo := ep.Settings.Ordering == endpoint.FIFO
	d.Settle(&a, delivery.Policy{Schedule: e.schedule(ep), FIFO: fifo, Random: e.Random}, now)

	health, failing, dead := e.note(l, &d, &a, fifo, now)
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

func (e *Engine) release(l *lane, k event.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(l.held, k)
	l.more = true
}

// note updates the lane by what an attempt showed. It returns the health to
// store, nil when it is unchanged, whether the endpoint just began to fail for
// good, and whether it has for too long.
func (e *Engine) note(l *lane, d *delivery.Delivery, a *delivery.Attempt, fifo bool, now time.Time) (h *store.Health, failing, dead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.Succeeded() {
		l.succeeded()
		if l.breaker.Succeeded(now) {
			l.limit = firstLimit
			h = &store.Health{Endpoint: l.no, Breaker: l.breaker}
		}
		return h, false, false
	}
	e.stats.failures.Add(1)
	l.failed(a.Outcome)
	l.breaker.Failed(a.Started, now)
	if l.breaker.Open() && !l.breaker.Warned {
		l.breaker.Warned, failing = true, true
	}
	dead = l.breaker.FailingFor(now) >= e.DeadAfter
	if fifo && d.State == delivery.Pending {
		e.dropReady(l)
		l.holdUntil, l.more = d.Due, true
	}
	return &store.Health{Endpoint: l.no, Breaker: l.breaker}, failing, dead
}
