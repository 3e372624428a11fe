package call

import (
	"slices"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// offsets notices steps of the wall clock while the process runs, so that what a clock
// stepped forward makes look old is not forgotten before a day has really passed: a
// repeated request would be done twice.
type offsets struct {
	mu    sync.Mutex
	began time.Time     // with a monotonic reading
	now   time.Duration // by which the wall clock is ahead of the time that passed since
	past  []offset
}

// offset is by how much it was ahead until some time after the beginning.
type offset struct{ by, until time.Duration }

// leastStep is a step that is noticed. Smaller ones are noticed when they sum up to it.
const leastStep = time.Second

// spare returns by how much older than it is something can look at now that is no
// older than [store.ReceiptLife].
func (o *offsets) spare(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.began.IsZero() {
		o.began = now
	}
	return o.at(now.Round(0).Sub(o.began.Round(0)), now.Sub(o.began))
}

// at is spare by how far wall clock and monotonic clock went since the beginning.
func (o *offsets) at(wall, passed time.Duration) (spare time.Duration) {
	if by := wall - passed; (by - o.now).Abs() >= leastStep {
		o.past = append(o.past, offset{o.now, passed})
		o.now = by
	}
	o.past = slices.DeleteFunc(o.past, func(p offset) bool { return passed-p.until >= store.ReceiptLife })
	for _, p := range o.past {
		spare = max(spare, o.now-p.by)
	}
	return spare
}

// Past is the time that something is forgotten by.
func (s *Calls) Past() time.Time {
	now := s.clock()
	return now.Add(-s.offsets.spare(now))
}
