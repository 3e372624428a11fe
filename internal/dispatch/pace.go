package dispatch

import (
	"math"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// pace finds out how much an endpoint takes, by trying: how many attempts at a time,
// and, if it says that there are too many, how many a second.
//
// Attempts come in rounds, in each of which the same number may be under way. While a
// round with twice as many gets more done than the one before, the number doubles;
// when attempts only take longer, they queue up at the receiver, and the number goes
// back. From then on, a round at half the number now and then tells whether it has
// become too many or more would do. Rounds are compared with their neighbours
// only, so a receiver that is slow, or becomes so, is not mistaken for a crowded one.
type pace struct {
	other time.Duration // what an attempt took at half the limit, or at the limit while halved; 0: not known
	took  time.Duration // sum of the durations of attempts that ended in this round
	flow  *flow         // nil while nothing has succeeded

	limit        int32  // attempts at a time
	round        uint32 // counts them; attempts that began in an earlier one do not count
	answers, bad int32  // attempts that ended in this round; bad: those that show an overloaded endpoint
	rest         int32  // rounds until the next try
	phase        phase
	full         bool // the limit was reached: more might have been done
}

// flow is how many attempts a second an endpoint takes, if it says that there are too
// many.
type flow struct {
	rate           float64   // attempts a second; 0: as many as there are
	raise          float64   // by which part of it it grows next
	cutAt, raiseAt time.Time // of rate
	done           int       // successes since
	since          time.Time
	recent         float64 // successes a second, lately
}

type phase uint8

const (
	climbing phase = iota // doubling from round to round
	steady
	halved // for one round, to compare
)

const (
	firstLimit = 2                     // attempts at a time before anything is known of the endpoint
	quick      = 25 * time.Millisecond // a queue that is no longer does no harm …
	quickLimit = 64                    // … up to this many attempts at a time
	restRounds = 16                    // from one try to the next
	restAfter  = 2                     // a bad round
	leastRound = 4                     // attempts
	badShare   = 4                     // one bad answer of so many halves the limit
	rateWindow = time.Second           // to count successes over
	rateCut    = 0.8                   // of what was taken lately, when it is too much
	rateRaise  = 0.05                  // of it, after the first second without a complaint …
	rateHaste  = 1.5                   // … and so many times that after each further one …
	rateLeap   = 0.5                   // … up to that
	rateForget = 10 * time.Minute      // without a complaint
)

func newPace() pace { return pace{limit: firstLimit} }

// restart forgets what is known of how many attempts at a time are taken.
func (p *pace) restart() {
	p.limit, p.phase, p.other = firstLimit, climbing, 0
	p.next()
}

// began notes that an attempt starts, with which so many are under way, and returns
// the round that it belongs to.
func (p *pace) began(inflight, most int) uint32 {
	if inflight >= p.atATime(most) {
		p.full = true
	}
	return p.round
}

// atATime returns the concurrency of the endpoint, of at most most attempts.
func (p *pace) atATime(most int) int { return min(int(p.limit), most) }

// ended notes how an attempt of a round went.
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
	case delivery.OutcomeSucceeded, delivery.OutcomeRejected: // a no is an answer too
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

// judge draws the conclusion from a round in which the limit was reached and an
// attempt took so long.
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

// queued reports whether twice the attempts at a time, each taking so long instead of
// that long, got less than a third more done.
func queued(twice, once time.Duration) bool { return twice*2 >= once*3 }

// rate is how many attempts a second the endpoint is held to; 0 is as many as there are.
func (p *pace) rate() float64 {
	if p.flow == nil {
		return 0
	}
	return p.flow.rate
}

// count keeps the rate: attempts a second that an endpoint is held to once it said that
// there were too many.
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
		if f.rate > 0 && now.Sub(f.cutAt) < rateWindow && !now.Before(f.cutAt) { // of those under way when it was cut
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
