// Package delivery owns the life of the delivery of one event to one endpoint: the state
// machine, the retry schedule, and the effect of an attempt's outcome on both.
//
// It is pure: no I/O, and the caller passes the clock and random numbers. It must not know SQL,
// HTTP or lanes.
package delivery

import (
	"cmp"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// State is the state of a delivery. Values are stored; never renumber.
type State uint8

// The states. Pending is the only one with attempts; a user can set every other state back to
// it.
const (
	Pending   State = 0 // waits for its next attempt
	Succeeded State = 1 // acknowledged with a 2xx
	Failed    State = 2 // no retries left, or the endpoint responded with 410: a dead letter
	Canceled  State = 3 // its endpoint was deleted, or a user canceled it
)

var stateNames = [...]string{"pending", "succeeded", "failed", "canceled"}

// String returns the state's name in the API.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// ParseState returns the state with the given name.
func ParseState(name string) (State, bool) {
	for i, n := range stateNames {
		if n == name {
			return State(i), true
		}
	}
	return 0, false
}

// ID identifies a delivery: there is at most one per event and endpoint.
type ID struct {
	Event    event.Key
	Endpoint int64 // store number
}

// Compare orders deliveries by event, and those of an event by endpoint.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Event, o.Event), cmp.Compare(id.Endpoint, o.Endpoint))
}

// String returns the public identifier.
func (id ID) String() string {
	return event.FormatID(event.PrefixDelivery, id.Event, uint32(id.Endpoint))
}

// ParseID parses a public identifier.
func ParseID(s string) (ID, bool) {
	k, n, ok := event.ParseID(event.PrefixDelivery, s)
	return ID{Event: k, Endpoint: int64(n)}, ok
}

// AttemptID returns the public identifier of attempt number n of the delivery.
func (id ID) AttemptID(n int) string {
	return event.FormatID(event.PrefixAttempt, id.Event, uint32(id.Endpoint)) + fourDigits(n)
}

func fourDigits(n int) string {
	n = min(n, 9999)
	return string([]byte{'0' + byte(n/1000), '0' + byte(n/100%10), '0' + byte(n/10%10), '0' + byte(n%10)})
}

// Delivery is the delivery of one event to one endpoint.
type Delivery struct {
	ID    ID
	Space event.Space
	State State

	// Attempts counts all attempts. Budget counts those since the delivery was last made pending
	// by a user; the schedule applies to it.
	Attempts int
	Budget   int

	// Due is when the next attempt of a pending delivery may start. For a delivery that was given
	// up because of its age, it is since when its endpoint had acknowledged nothing, zero if
	// unknown. For others it has no meaning.
	Due time.Time
	// Rank orders the pending deliveries of one endpoint, lowest first: Due or, with FIFO, the
	// time of acceptance, which a retry does not change.
	Rank time.Time
	// Since is when the delivery last became pending: its age counts from then.
	Since time.Time

	LastOutcome Outcome
	LastStatus  int       // status code of the last attempt; 0 without a response
	Settled     time.Time // when it left Pending; zero while pending
}

// View is a delivery with the names of its event and endpoint.
type View struct {
	Delivery
	EventID    string
	Type       string
	EndpointID string
	Erased     time.Time // when the event's payload was erased, zero while it is stored
}

// Outgoing is a pending delivery with the data to send it.
type Outgoing struct {
	Delivery Delivery
	EventID  string
	Type     string
	Body     []byte
	Trace    event.Trace
	Headers  event.Headers

	// Version is that of the settings when the delivery was read: it was accepted under this or an
	// earlier one. 0 if no other process changes settings.
	Version int64
}

// StatusOrNil returns the status code of the last attempt, or nil without a response, which the
// API shows as null.
func (d *Delivery) StatusOrNil() *int {
	if d.LastStatus == 0 {
		return nil
	}
	return &d.LastStatus
}

// New returns the pending delivery of an event that was just accepted.
func New(id ID, space event.Space) Delivery {
	now := id.Event.Time()
	return Delivery{ID: id, Space: space, Due: now, Rank: now, Since: now}
}

// Requeue makes a delivery pending at now with a new retry schedule, after a manual retry or
// resend.
func (d *Delivery) Requeue(now time.Time) {
	d.State, d.Budget, d.Settled = Pending, 0, time.Time{}
	d.Due, d.Rank, d.Since = now, now, now
}

// Cancel settles a pending delivery that is no longer needed.
func (d *Delivery) Cancel(now time.Time) {
	d.State, d.Settled = Canceled, now
}

// Expire gives up a pending delivery that has exceeded the maximum age. unreachableSince is
// since when its endpoint has acknowledged nothing, zero if it has.
func (d *Delivery) Expire(now, unreachableSince time.Time) {
	d.State, d.Settled, d.LastOutcome, d.Due = Failed, now, OutcomeExpired, unreachableSince
}

// GivenUp explains why a delivery with remaining retries failed; empty if it did not.
func (d *Delivery) GivenUp() string {
	if d.State != Failed || d.LastOutcome != OutcomeExpired {
		return ""
	}
	text := "Given up after " + inWords(d.Settled.Sub(d.Since)) + "; "
	if d.Due.IsZero() {
		return text + "it waited for its turn."
	}
	return text + "the endpoint has been unreachable since " + d.Due.UTC().Format(time.RFC3339) + "."
}

// inWords formats a duration in the largest unit of which it has at least two.
func inWords(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "hours"}, {time.Minute, "minutes"}} {
		if d >= 2*u.unit {
			return strconv.FormatInt(int64(d/u.unit), 10) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + " seconds"
}

// Policy contains the rules for the next attempt of a delivery.
type Policy struct {
	Schedule Schedule
	FIFO     bool           // keep the rank on a retry
	Random   func() float64 // in [0, 1); the jitter of retries
}

// Settle applies the outcome of an attempt that ended at now: the delivery has succeeded, waits
// for its next attempt, or has failed for good.
func (d *Delivery) Settle(a *Attempt, p Policy, now time.Time) {
	d.Attempts++
	d.Budget++
	d.LastOutcome, d.LastStatus = a.Outcome, a.StatusCode
	switch {
	case a.Succeeded():
		d.State, d.Settled = Succeeded, now
		return
	case a.Outcome == OutcomeGone:
		d.State, d.Settled = Failed, now
		return
	}
	delay, ok := p.Schedule.Delay(d.Budget, p.Random)
	if !ok {
		d.State, d.Settled = Failed, now
		return
	}
	d.Due = now.Add(max(delay, a.RetryAfter))
	if !p.FIFO {
		d.Rank = d.Due
	}
}

// Redate corrects the due time of a pending delivery if that is later than any rule allows, and
// reports whether it did: the time was set before a clock was stepped back, or while the clock
// was ahead.
func (d *Delivery) Redate(p Policy, now time.Time) bool {
	delay, ok := p.Schedule.Delay(d.Budget, p.Random)
	if !ok { // the schedule has been shortened since
		return false
	}
	longest := p.Schedule[d.Budget-1]
	longest += time.Duration(float64(longest) * Jitter)
	if d.LastOutcome == OutcomeThrottled { // the receiver's Retry-After is not known any more
		delay, longest = max(delay, MaxRetryAfter), max(longest, MaxRetryAfter)
	}
	if d.Due.Sub(now) <= longest {
		return false
	}
	d.Due = now.Add(delay)
	if !p.FIFO {
		d.Rank = d.Due
	}
	return true
}
