package delivery

import "time"

// Effect is the effect of an attempt on the endpoint's [Breaker] and on the [Streak] of the
// event's type. docs/delivery.md has the table.
type Effect uint8

// The effects.
const (
	// NoEffect: the attempt affects no later attempts.
	NoEffect Effect = iota
	// Acknowledged: the endpoint works.
	Acknowledged
	// EventUnsendable: no request could be made for this event.
	EventUnsendable
	// EventRefused: the endpoint works and does not accept this event.
	EventRefused
	// EndpointDown: the endpoint cannot be reached or does not work, unless other types are
	// acknowledged while only this one fails ([Streak.Alone]).
	EndpointDown
)

// EffectOf returns the effect of an attempt with the given outcome.
func EffectOf(o Outcome) Effect {
	switch o {
	case OutcomeSucceeded:
		return Acknowledged
	case OutcomeRejected:
		return EventRefused
	case OutcomeMisconfigured:
		return EventUnsendable
	case OutcomeNone, OutcomeGone, OutcomeExpired:
		return NoEffect
	}
	return EndpointDown
}

// Streak counts the consecutive failed attempts of one event type at one endpoint. From
// [StreakThreshold] on it holds the type: one of its deliveries at a time is attempted, after a
// pause that grows with each failure, and the others wait without using up attempts. An
// acknowledgement of the type ends the streak.
type Streak struct {
	Failures   int32
	OthersWork bool      // another type was acknowledged during the streak
	NextAt     time.Time // when the next attempt may start, while the type is held
}

// The constants of a streak.
const (
	StreakThreshold = 10
	streakPause     = 10 * time.Millisecond // per failure
	streakMaxPause  = time.Minute
)

// Failed records a failed attempt that ended at now.
func (s *Streak) Failed(now time.Time) {
	s.Failures++
	s.Pause(now)
}

// Pause postpones the next attempt of a held type.
func (s *Streak) Pause(now time.Time) {
	s.NextAt = now.Add(min(time.Duration(s.Failures)*streakPause, streakMaxPause))
}

// Holds reports whether the type is held.
func (s *Streak) Holds() bool { return s.Failures >= StreakThreshold }

// Alone reports whether the endpoint works and only this type fails, so that its failures no
// longer count for the endpoint.
func (s *Streak) Alone() bool { return s.Holds() && s.OthersWork }
