package cluster

import (
	"sync"
	"time"
)

// clock tells the time of the store's machine, and how sure that is. It goes by this
// machine's monotonic clock, so that changes of the wall clock do not move it.
type clock struct {
	mu    sync.Mutex
	at    time.Time // of this machine
	store time.Time // was it then, give or take
	doubt time.Duration
}

const (
	drift  = 10000            // clocks differ by a ten-thousandth in speed at most
	oldest = 10 * time.Second // an observation that is of use, so that a new primary's clock is followed
)

// observe takes what the store's clock showed between two times.
func (c *clock) observe(began, ended, store time.Time) {
	doubt := ended.Sub(began) / 2
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() && ended.Sub(c.at) < oldest && doubt > c.doubtAt(ended) {
		return
	}
	c.at, c.store, c.doubt = began.Add(doubt), store, doubt
}

func (c *clock) doubtAt(t time.Time) time.Duration { return c.doubt + t.Sub(c.at)/drift }

func (c *clock) latest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return c.store.Add(now.Sub(c.at) + c.doubtAt(now))
}
