package cluster

import (
	"sync"
	"time"
)

// clock returns the time of the store's machine, with an uncertainty. It uses this machine's
// monotonic clock, so that changes of the wall clock do not affect it.
type clock struct {
	mu          sync.Mutex
	at          time.Time // of this machine
	store       time.Time // the store's time then, within the uncertainty
	uncertainty time.Duration
}

const (
	drift  = 10000            // the speed of clocks differs by at most a ten-thousandth
	oldest = 10 * time.Second // maximum age of an observation, so that the clock of a new primary is followed
)

// observe records the time of the store's clock, read between two times.
func (c *clock) observe(began, ended, store time.Time) {
	uncertainty := ended.Sub(began) / 2
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && ended.Sub(c.at) < oldest && uncertainty > c.uncertaintyAt(ended) {
		return
	}
	c.at, c.store, c.uncertainty = began.Add(uncertainty), store, uncertainty
}

func (c *clock) uncertaintyAt(t time.Time) time.Duration { return c.uncertainty + t.Sub(c.at)/drift }

func (c *clock) latest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return c.store.Add(now.Sub(c.at) + c.uncertaintyAt(now))
}
