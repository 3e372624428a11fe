package delivery

import "time"

// Breaker is an endpoint's circuit breaker with the state of its health. Closed, it lets all
// deliveries pass. After [BreakerThreshold] consecutive attempts that show the endpoint to be
// down (see [EndpointDown]) it opens: one delivery at a time probes the endpoint, at a growing
// interval, and the others wait without using up attempts. The first acknowledgement closes it
// and resets it. A response that refuses one event (see [EventRefused]) closes it too, but
// keeps the interval, so that an endpoint that alternates between both is not sent all
// deliveries again every few seconds.
//
// The zero value is a closed breaker of an endpoint without known failures. The engine stores
// it with every change that matters, so that it survives a restart.
type Breaker struct {
	Failures     int           `json:"failures,omitempty"`       // consecutive attempts without an acknowledgement
	Down         int           `json:"down,omitempty"`           // those of them that count towards opening
	FailingSince time.Time     `json:"failing_since,omitzero"`   // start of the first of Failures; zero while healthy
	LastSuccess  time.Time     `json:"last_success,omitzero"`    // exact only while failing
	ProbeAt      time.Time     `json:"probe_at,omitzero"`        // when the next probe may start; zero while closed
	Interval     time.Duration `json:"probe_interval,omitempty"` // between probes, the last one used while closed; 0 after an acknowledgement
	Warned       bool          `json:"warned,omitempty"`         // the account was notified that the endpoint is failing
}

// The breaker's constants.
const (
	BreakerThreshold     = 10
	breakerFirstInterval = 2 * time.Second
	breakerMaxInterval   = 5 * time.Minute
)

// Open reports whether only probes may be sent.
func (b *Breaker) Open() bool { return !b.ProbeAt.IsZero() }

// Succeeded records an acknowledged attempt. It reports whether the endpoint was failing
// before, so that b must be stored.
func (b *Breaker) Succeeded(now time.Time) (recovered bool) {
	if b.Failures == 0 && b.FailingSince.IsZero() {
		return false
	}
	*b = Breaker{LastSuccess: now}
	return true
}

// Failed records a failed attempt that started at the given time and ended at now, with its
// effect. Only a probe, which an open breaker let pass at the probe time, postpones the next
// one: attempts that were in flight when the breaker opened, or that were sent beside the
// probes, do not.
func (b *Breaker) Failed(e Effect, probe bool, started, now time.Time) {
	b.Failures++
	if b.FailingSince.IsZero() {
		b.FailingSince = started
	}
	switch e {
	case EventRefused:
		b.Down, b.ProbeAt = 0, time.Time{}
	case EndpointDown:
		b.Down++
	}
	if opens := b.Down >= BreakerThreshold && !b.Open(); opens || b.Open() && probe {
		b.Interval = max(breakerFirstInterval, min(b.Interval*2, breakerMaxInterval))
		b.ProbeAt = now.Add(b.Interval)
	}
}

// FailingFor returns for how long the endpoint has acknowledged nothing although deliveries
// were attempted; 0 while healthy.
func (b *Breaker) FailingFor(now time.Time) time.Duration {
	if b.FailingSince.IsZero() {
		return 0
	}
	return now.Sub(b.FailingSince)
}

// Health contains the rules by which an endpoint is failing and is disabled.
type Health struct {
	FailingAfter         time.Duration // without an acknowledgement; 0: only the number of failures decides
	DisableAfter         time.Duration // without an acknowledgement
	DisableAfterFailures int           // consecutive failures; 0: never
}

// DefaultDisableAfter is the default time without an acknowledgement after which an endpoint is
// disabled.
const DefaultDisableAfter = 5 * 24 * time.Hour

// fewFailures is a number of consecutive failures that proves nothing, over any time: without
// deliveries between them, the endpoint's state is unknown.
const fewFailures = 3

// Judge returns, after a failed attempt that ended at now, whether to warn the account, which
// happens once, and whether to disable the endpoint.
func (h *Health) Judge(b *Breaker, now time.Time) (warn, disable bool) {
	age, many := b.FailingFor(now), b.Failures >= BreakerThreshold
	warn = !b.Warned && (many || h.FailingAfter > 0 && b.Failures >= fewFailures && age >= h.FailingAfter)
	disable = many && age >= h.DisableAfter || h.DisableAfterFailures > 0 && b.Failures >= h.DisableAfterFailures
	return warn, disable
}
