package webhook

import (
	"slices"
	"time"
)

// DefaultAlertWindow is the sliding window in which refused deliveries are counted.
const DefaultAlertWindow = 10 * time.Minute

// WithAlert calls alert when after deliveries were refused within a sliding window, and again
// after each further after refusals. Verified deliveries in between do not reset the count. The
// window is [DefaultAlertWindow] unless [WithAlertWindow] sets it. refused is the total of
// alerts that follow one another within a window: after, 2*after, and so on. alert runs on the
// goroutine of the request and must not block.
func WithAlert(after int, alert func(refused int)) Option {
	return func(m *middleware) { m.refusals.after, m.alert = after, alert }
}

// WithAlertWindow sets the window of [WithAlert]. Zero and negative values keep
// [DefaultAlertWindow].
func WithAlertWindow(window time.Duration) Option {
	return func(m *middleware) {
		if window > 0 {
			m.refusals.window = window
		}
	}
}

// refusals counts refused deliveries in a sliding window. It stores at most after times.
type refusals struct {
	after  int // 0: no alerts
	window time.Duration

	at      []time.Time // refusals since the last alert and within the window, oldest first
	alerted time.Time   // time of the last alert
	total   int         // refusals in alerts that followed one another within a window
}

// add records a refusal and returns the total to alert with, or 0.
func (r *refusals) add(now time.Time) int {
	if r.after <= 0 {
		return 0
	}
	expired := slices.IndexFunc(r.at, func(at time.Time) bool { return now.Sub(at) <= r.window })
	if expired < 0 {
		expired = len(r.at)
	}
	r.at = append(slices.Delete(r.at, 0, expired), now)
	if len(r.at) < r.after {
		return 0
	}
	r.at = r.at[:0]
	if now.Sub(r.alerted) > r.window {
		r.total = 0
	}
	r.alerted = now
	r.total += r.after
	return r.total
}
