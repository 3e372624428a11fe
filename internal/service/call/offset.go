package call

import (
	"slices"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// offsets detects steps of the wall clock while the process runs. Data that appears old only
// because the clock was stepped forward is not deleted before a day has really passed:
// otherwise a repeated request could be executed twice.
type offsets struct {
	mu    sync.Mutex
	began time.Time     // with a monotonic reading
	now   time.Duration // the difference between the wall clock and the time elapsed since began
	past  []offset
}

// offset is a difference that applied until a time after the beginning.
type offset struct{ by, until time.Duration }

// leastStep is the smallest step that is detected. Smaller ones are detected when their sum
// reaches it.
const leastStep = time.Second

// spare returns how much too old data of at most [store.ReceiptLife] can appear now.
func (o *offsets) spare(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.began.IsZero() {
		o.began = now
	}
	return o.at(now.Round(0).Sub(o.began.Round(0)), now.Sub(o.began))
}

// at is spare for the time elapsed by the wall clock and by the monotonic clock since the
// beginning.
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

// Past returns the time by which retention decides.
func (s *Calls) Past() time.Time {
	now := s.clock()
	return now.Add(-s.offsets.spare(now))
}
