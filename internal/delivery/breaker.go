package delivery

import "time"

// Breaker is an endpoint's circuit breaker and the memory of its health. Closed,
// it lets all deliveries through. After [BreakerThreshold] failures in a row it
// opens: one delivery at a time probes the endpoint, at a growing interval, and
// the others wait without spending attempts. The first success closes it.
//
// The zero value is a closed breaker of an endpoint that nothing is known of. The
// engine stores it with every change that matters, so that it survives a restart.
type Breaker struct {
	Failures     int           `json:"failures,omitempty"`       // in a row
	FailingSince time.Time     `json:"failing_since,omitzero"`   // start of the first of them; zero while healthy
	LastSuccess  time.Time     `json:"last_success,omitzero"`    // only kept exact while failing
	ProbeAt      time.Time     `json:"probe_at,omitzero"`        // when the next probe may start; zero while closed
	Interval     time.Duration `json:"probe_interval,omitempty"` // between probes; 0 while closed
	Warned       bool          `json:"warned,omitempty"`         // the account was told that the endpoint is failing
}

// The breaker's constants.
const (
	BreakerThreshold     = 10
	breakerFirstInterval = 2 * time.Second
	breakerMaxInterval   = 5 * time.Minute
)

// Open reports whether only probes may be sent.
func (b *Breaker) Open() bool { return b.Interval > 0 }

// Succeeded notes an acknowledged attempt.
// It reports whether anything was wrong before, and so whether to store b.
func (b *Breaker) Succeeded(now time.Time) (recovered bool) {
	if b.Failures == 0 && b.FailingSince.IsZero() {
		return false
	}
	*b = Breaker{LastSuccess: now}
	return true
}

// Failed notes a failed attempt that started at the given time and ended at now.
func (b *Breaker) Failed(started, now time.Time) {
	b.Failures++
	if b.FailingSince.IsZero() {
		b.FailingSince = started
	}
	if b.Failures < BreakerThreshold {
		return
	}
	// Attempts that were under way when the breaker opened fail one after the
	// other, hanging ones long after; only a probe, which started once its time had
	// come, grows the interval.
	if b.Interval == 0 {
		b.Interval = breakerFirstInterval
	} else if !started.Before(b.ProbeAt) {
		b.Interval = min(b.Interval*2, breakerMaxInterval)
	}
	b.ProbeAt = now.Add(b.Interval)
}

// FailingFor returns for how long the endpoint has acknowledged nothing although
// it was tried; 0 while healthy.
func (b *Breaker) FailingFor(now time.Time) time.Duration {
	if b.FailingSince.IsZero() {
		return 0
	}
	return now.Sub(b.FailingSince)
}

// Health is when an endpoint counts as failing and when it is given up.
type Health struct {
	FailingAfter         time.Duration // it acknowledged nothing for so long; 0: only an open breaker tells
	DisableAfter         time.Duration // it acknowledged nothing for so long
	DisableAfterFailures int           // it failed so often in a row; 0: however often
}

// DefaultDisableAfter is after how long without an acknowledgement an endpoint is
// given up by default.
const DefaultDisableAfter = 5 * 24 * time.Hour

// fewFailures is how many failures in a row prove nothing, however long apart: with
// nothing to send between them, nobody knows.
const fewFailures = 3

// Judge says, after a failed attempt that ended at now, whether the account must
// be warned, which it is once, and whether the endpoint is to be disabled.
func (h *Health) Judge(b *Breaker, now time.Time) (warn, disable bool) {
	age := b.FailingFor(now)
	warn = !b.Warned && (b.Open() || h.FailingAfter > 0 && b.Failures >= fewFailures && age >= h.FailingAfter)
	disable = b.Open() && age >= h.DisableAfter || h.DisableAfterFailures > 0 && b.Failures >= h.DisableAfterFailures
	return warn, disable
}
