package commit

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	fanOutSlice = 64  // deliveries of deferred events in one transaction
	soleSlice   = 256 // the same while no other account sends events
	// fanOutTurn is the number of transactions with events after which one includes a slice.
	fanOutTurn = 4
	lookEvery  = time.Second
	// abandoned is the age from which any node writes deferred events: the node that accepted them
	// is slow, or has stopped.
	abandoned = 5 * time.Second
)

// fanOuts contains the spaces with deferred events, in the order of their turns. The zero value
// is empty.
type fanOuts struct {
	spaces []event.Space
	passed int // transactions with events since the last slice
}

func (q *fanOuts) add(space event.Space) {
	if !slices.Contains(q.spaces, space) {
		q.spaces = append(q.spaces, space)
	}
}

// take removes the slices of the next transaction, which has this many events: new events have
// precedence, but not always.
func (q *fanOuts) take(events int, shared bool) []*store.FanOut {
	if len(q.spaces) == 0 {
		return nil
	}
	if q.passed++; events > 0 && q.passed < fanOutTurn {
		return nil
	}
	q.passed = 0
	space := q.spaces[0]
	q.spaces = dropFirst(q.spaces, 1)
	limit := soleSlice
	if shared {
		limit = fanOutSlice
	}
	return []*store.FanOut{{Space: space, Limit: limit}}
}

// written processes a committed transaction. A space whose slice another node writes is left to
// that node.
func (q *fanOuts) written(b *store.Batch) {
	for _, f := range b.FanOuts {
		if f.More {
			q.add(f.Space)
		}
	}
	for _, a := range b.Appends {
		if a.Deferred && !a.Refused() {
			q.add(a.Event.Space)
		}
	}
}

// FanOut reports that a space has deferred events that were not written by Append.
func (c *Committer) FanOut(space event.Space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fanOuts.add(space)
	c.work.Signal()
}

// Resume searches for deferred events until ctx ends: first for all events of an earlier
// process, then for abandoned ones. now is the clock of the keys.
func (c *Committer) Resume(ctx context.Context, now func() time.Time) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for below := event.Key(math.MaxInt64); ; {
		spaces, err := c.store.FanningOut(ctx, below)
		switch {
		case err == nil:
			below = event.KeyAt(now().Add(-abandoned))
			for _, space := range spaces {
				c.FanOut(space)
			}
		case ctx.Err() == nil:
			c.log.Error("look for deferred events", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
