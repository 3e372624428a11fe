package dispatch

import (
	"math"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// pace learns an endpoint's concurrency and, if it responds that there are too many requests,
// its rate.
//
// Attempts are divided into rounds with the same limit of concurrent attempts. While a round
// with twice the limit has more throughput than the preceding one, the limit doubles; if
// attempts only take longer, they queue at the receiver, and the limit is halved again. From
// then on, an occasional round at half the limit shows whether the limit has become too high or
// more would be better. Rounds are compared with their neighbours only, so that a receiver that
// is slow, or becomes so, is not mistaken for an overloaded one.
type pace struct {
	other time.Duration // duration of an attempt at half the limit, or at the limit while halved; 0: unknown
	took  time.Duration // total duration of the attempts that ended in this round
	flow  *flow         // nil while no attempt has succeeded

	limit        int32  // concurrent attempts
	round        uint32 // number of the round; attempts of an earlier one do not count
	answers, bad int32  // attempts that ended in this round; bad: those that indicate an overloaded endpoint
	rest         int32  // rounds until the next test
	phase        phase
	full         bool // the limit was reached: a higher one might increase the throughput
}

// flow is the rate of an endpoint that responds that there are too many requests.
type flow struct {
	rate           float64   // attempts per second; 0: unlimited
	raise          float64   // fraction by which the rate is raised next
	cutAt, raiseAt time.Time // of rate
	done           int       // successes in the current window
	since          time.Time
	recent         float64 // recent successes per second
}

type phase uint8

const (
	climbing phase = iota // doubling from round to round
	steady
	halved // for one round, to compare
)

const (
	firstLimit = 2                     // concurrent attempts before anything is known of the endpoint
	quick      = 25 * time.Millisecond // a queue of at most this duration does no harm …
	quickLimit = 64                    // … up to this many concurrent attempts
	restRounds = 16                    // from one test to the next
	restAfter  = 2                     // a bad round
	leastRound = 4                     // attempts
	badShare   = 4                     // one bad response in this many halves the limit
	rateWindow = time.Second           // for counting successes
	rateCut    = 0.8                   // of the recent rate, after a 429 or 503
	rateRaise  = 0.05                  // of the rate, after the first second without such a response …
	rateHaste  = 1.5                   // … and this factor after each further second …
	rateLeap   = 0.5                   // … up to this
	rateForget = 10 * time.Minute      // without such a response
)

func newPace() pace { return pace{limit: firstLimit} }

// restart resets the learned concurrency.
func (p *pace) restart() {
	p.limit, p.phase, p.other = firstLimit, climbing, 0
	p.next()
}

// began records the start of an attempt, with the number of attempts then under way, and
// returns its round.
func (p *pace) began(inflight, most int) uint32 {
	if inflight >= p.atATime(most) {
		p.full = true
	}
	return p.round
}

// atATime returns the concurrency of the endpoint, of at most most attempts.
func (p *pace) atATime(most int) int { return min(int(p.limit), most) }

// ended records the result of an attempt of a round.
func (p *pace) ended(round uint32, a *delivery.Attempt, most int, now time.Time) {
	if p.flow == nil && (a.Succeeded() || a.Outcome == delivery.OutcomeThrottled) {
		p.flow = new(flow)
	}
	if p.flow != nil {
		p.flow.count(a, now)
	}
	if round != p.round {
		return
	}
	switch a.Outcome {
	case delivery.OutcomeSucceeded, delivery.OutcomeRejected: // a refusal is a response too
		p.took += a.Duration
	default:
		p.bad++
	}
	p.answers++
	if int(p.answers) < max(p.atATime(most), leastRound) {
		return
	}
	switch good := p.answers - p.bad; {
	case p.bad*badShare >= p.answers:
		p.limit = int32(max(p.atATime(most)/2, 1))
		p.hold(restAfter)
	case p.full:
		p.judge(p.took/time.Duration(good), most)
	}
	p.next()
}

// next starts a round.
func (p *pace) next() {
	p.round++
	p.answers, p.bad, p.took, p.full = 0, 0, 0, false
}

func (p *pace) hold(rest int32) { p.phase, p.rest, p.other = steady, rest, 0 }

// judge evaluates a round in which the limit was reached, with the average duration of its
// attempts.
func (p *pace) judge(took time.Duration, allowed int) {
	most := int32(min(allowed, math.MaxInt32))
	p.limit = min(p.limit, most)
	harmless := took <= quick && p.limit <= quickLimit
	switch p.phase {
	case climbing:
		crowded := p.other > 0 && queued(took, p.other)
		switch {
		case crowded && !harmless:
			p.limit = max(p.limit/2, 1)
			p.hold(restRounds)
		case p.limit >= most, crowded && p.limit*2 > quickLimit:
			p.hold(restRounds)
		default:
			p.other = took
			p.limit = min(p.limit*2, most)
		}
	case steady:
		p.rest--
		switch {
		case harmless && p.limit < min(quickLimit, most):
			p.phase, p.other = climbing, 0
		case p.rest > 0:
		case p.limit > 1:
			p.phase, p.other = halved, took
			p.limit /= 2
		case most > 1:
			p.phase, p.other = climbing, took
			p.limit = 2
		}
	case halved:
		whole := p.other
		p.limit = min(p.limit*2, most)
		switch {
		case queued(whole, took) && whole > quick:
			p.limit = max(p.limit*3/4, 1)
			p.hold(restRounds)
		case whole*5 < took*6 && p.limit < most:
			p.phase, p.other = climbing, took
		default:
			p.hold(restRounds)
		}
	}
}

// queued reports whether twice the concurrency, at these durations of an attempt, increased the
// throughput by less than a third.
func queued(twice, once time.Duration) bool { return twice*2 >= once*3 }

// rate returns the learned rate in attempts per second; 0 is unlimited.
func (p *pace) rate() float64 {
	if p.flow == nil {
		return 0
	}
	return p.flow.rate
}

// count updates the rate after an attempt.
func (f *flow) count(a *delivery.Attempt, now time.Time) {
	if f.since.IsZero() || now.Before(f.since) {
		f.since, f.done = now, 0
	}
	if a.Outcome == delivery.OutcomeSucceeded {
		f.done++
	}
	over := now.Sub(f.since)
	if over >= rateWindow {
		f.recent = float64(f.done) / over.Seconds()
		f.since, f.done = now, 0
	}
	switch {
	case a.Outcome == delivery.OutcomeThrottled:
		if f.rate > 0 && now.Sub(f.cutAt) < rateWindow && !now.Before(f.cutAt) { // one of those under way when the rate was cut
			return
		}
		taken := f.recent
		if taken == 0 {
			taken = float64(f.done) / max(over, rateWindow/10).Seconds()
		}
		if f.rate > 0 {
			taken = min(taken, f.rate)
		}
		f.rate = max(taken*rateCut, 1)
		f.cutAt, f.raiseAt, f.raise = now, now, rateRaise
	case f.rate == 0:
	case now.Sub(f.cutAt) >= rateForget || now.Before(f.cutAt):
		f.rate = 0
	case now.Sub(f.raiseAt) >= rateWindow:
		f.rate *= 1 + f.raise
		f.raiseAt, f.raise = now, min(f.raise*rateHaste, rateLeap)
	}
}
