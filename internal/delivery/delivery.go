// Package delivery owns the life of one event on its way to one endpoint: the
// state machine, the retry schedule, and how the outcome of an attempt changes
// either.
//
// It is pure: no I/O, no clock and no random source of its own. It must not know
// SQL, HTTP or lanes.
package delivery

import (
	"cmp"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// State is where a delivery stands. Values are stored; never renumber.
type State uint8

// The states. Pending is the only one that leads to attempts; a person can bring
// any other back to it.
const (
	Pending   State = 0 // waits for its next attempt
	Succeeded State = 1 // acknowledged with a 2xx
	Failed    State = 2 // out of attempts, or the endpoint is gone: a dead letter
	Canceled  State = 3 // its endpoint was deleted, or a person canceled it
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

// ID identifies a delivery: there is at most one of an event to an endpoint.
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

// ParseID returns the ID that s is the public identifier of.
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

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID    ID
	Space event.Space
	State State

	// Attempts counts all attempts ever made. Budget counts those made since the
	// delivery last became pending by a person's hand; it is what the schedule
	// runs against.
	Attempts int
	Budget   int

	// Due is when the next attempt of a pending delivery may start. Of one that was given
	// up for its age it is since when its endpoint had acknowledged nothing, zero if that
	// is not known; else it means nothing.
	Due time.Time
	// Rank orders the pending deliveries of one endpoint, lowest first: Due, or
	// under FIFO the time of acceptance, which a retry does not change.
	Rank time.Time
	// Since is when the delivery last became pending: its age counts from here.
	Since time.Time

	LastOutcome Outcome
	LastStatus  int       // status code of the last attempt; 0 when none came
	Settled     time.Time // when it left Pending; zero while pending
}

// View is a delivery with the names of what it joins.
type View struct {
	Delivery
	EventID    string
	Type       string
	EndpointID string
	Erased     time.Time // when the event's payload was erased, zero while it is stored
}

// Outgoing is a pending delivery with what is needed to send it.
type Outgoing struct {
	Delivery Delivery
	EventID  string
	Type     string
	Body     []byte
	Trace    event.Trace

	// Version is that of the settings when the delivery was read: it was accepted under no
	// later one. 0 where no other process changes settings.
	Version int64
}

// StatusOrNil returns the status code of the last attempt, nil when none came: zero is no
// status, and is null wherever the code is told.
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

// Requeue brings a delivery back to pending at now with a fresh retry schedule,
// as a person asked for by "retry" or "resend".
func (d *Delivery) Requeue(now time.Time) {
	d.State, d.Budget, d.Settled = Pending, 0, time.Time{}
	d.Due, d.Rank, d.Since = now, now, now
}

// Cancel settles a pending delivery that is no longer needed.
func (d *Delivery) Cancel(now time.Time) {
	d.State, d.Settled = Canceled, now
}

// Expire gives up a pending delivery that is older than the operator lets one become.
// Its endpoint has acknowledged nothing since a time, zero if it has.
func (d *Delivery) Expire(now, unreachableSince time.Time) {
	d.State, d.Settled, d.LastOutcome, d.Due = Failed, now, OutcomeExpired, unreachableSince
}

// GivenUp says in words why a delivery failed that has attempts left; empty if that is
// not so.
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

// inWords writes a duration in the largest unit of which it has two.
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

// Policy is what decides between another attempt and giving up.
type Policy struct {
	Schedule Schedule
	FIFO     bool           // keep the rank on a retry
	Random   func() float64 // in [0, 1); spreads retries
}

// Settle applies the outcome of an attempt that ended at now: the delivery has
// succeeded, waits for its next attempt, or has failed for good.
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

// Redate gives a pending delivery that waits for longer than anything can have made it
// wait a new time, and reports whether it did: its time was set before a clock was
// stepped back, or while the clock was ahead.
func (d *Delivery) Redate(p Policy, now time.Time) bool {
	delay, ok := p.Schedule.Delay(d.Budget, p.Random)
	if !ok { // the schedule has been shortened since
		return false
	}
	longest := p.Schedule[d.Budget-1]
	longest += time.Duration(float64(longest) * Jitter)
	if d.LastOutcome == OutcomeThrottled { // how long it asked for is not known any more
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
