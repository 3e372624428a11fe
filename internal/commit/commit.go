// Package commit owns the shared transactions: whatever was queued while the last
// one ran goes into the next. No timer delays an event, so a lone one waits for
// nothing, and under load one sync to disk carries hundreds. Outcomes, which
// nobody waits for, linger a few milliseconds to share a transaction with events.
//
// It must not know SQL, HTTP, or what becomes of the deliveries it writes.
package commit

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store is what a Committer writes to.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) error
	Ready(ctx context.Context) error
}

// Limits of what one transaction takes and of what may wait for it.
const (
	maxAppends     = 512
	maxSettlements = 2048
	maxBytes       = 16 << 20             // of event bodies in one transaction, past its first
	queueAppends   = 8192                 // more than that are turned away
	queueSettled   = 16384                // more than that wait
	lingerFor      = 5 * time.Millisecond // settlements alone, until something else comes
	lingerCount    = 256                  // settlements that are worth a transaction of their own
	maxYields      = 8
	firstPause     = 50 * time.Millisecond
	longestPause   = 2 * time.Second
)

// Committer gathers writes into transactions. Use [New]; its methods are safe
// for concurrent use.
type Committer struct {
	store Store
	log   *slog.Logger

	committed func(*store.Batch)
	done      chan struct{}
	results   sync.Pool // of chan error, for those who wait

	mu       sync.Mutex
	work     sync.Cond // something was queued, or the end has come
	room     sync.Cond // settlements were taken
	appends  []*pending
	settled  []store.Settlement
	health   map[int64]store.Health
	ripe     bool // settlements have lingered long enough
	stopping bool
	broken   bool // the last transaction failed
	stats    Stats
}

// Stats counts what was written since the start.
type Stats struct{ Transactions, Events, Settlements int64 }

// Stats returns the counts.
func (c *Committer) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

type pending struct {
	*store.Append
	result chan error
}

// New returns a Committer that writes to st once it is started.
func New(st Store, log *slog.Logger) *Committer {
	c := &Committer{store: st, log: log, done: make(chan struct{}), health: map[int64]store.Health{}}
	c.work.L, c.room.L = &c.mu, &c.mu
	c.results.New = func() any { return make(chan error, 1) }
	return c
}

// Start begins to write. committed is called after each transaction with what it
// wrote, one call at a time and in the order of the transactions, before the
// callers of Append are answered; it must not block and must not keep the batch.
func (c *Committer) Start(committed func(*store.Batch)) {
	c.committed = committed
	go c.run()
}

// Stop writes what is queued and returns when that is done, or with ctx's error.
// Nothing may be queued after it was called.
func (c *Committer) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	c.work.Broadcast()
	c.room.Broadcast()
	c.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Append writes a and returns when it is on disk or refused (see
// [store.Append]). It returns fault.Unavailable when the store cannot accept it;
// nothing of it is kept then. It does not stop half-way when ctx ends.
func (c *Committer) Append(ctx context.Context, a *store.Append) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pending{Append: a, result: c.results.Get().(chan error)}
	c.mu.Lock()
	if c.stopping || len(c.appends) >= queueAppends {
		c.mu.Unlock()
		return &fault.Error{Code: fault.Unavailable, Reason: "overloaded", Message: "The server cannot accept more at the moment.", RetryAfter: time.Second}
	}
	c.appends = append(c.appends, p)
	c.work.Signal()
	c.mu.Unlock()
	err := <-p.result
	c.results.Put(p.result)
	return err
}

// Settle queues what became of a delivery, and the endpoint's health when it
// changed (nil when not). It waits only while too much is queued already. What
// the store does not take is tried again until it does.
func (c *Committer) Settle(s store.Settlement, h *store.Health) {
	c.mu.Lock()
	for len(c.settled) >= queueSettled && !c.stopping {
		c.room.Wait()
	}
	c.settled = append(c.settled, s)
	if h != nil {
		c.health[h.Endpoint] = *h
	}
	switch len(c.settled) {
	case 1:
		time.AfterFunc(lingerFor, c.ripen)
	case lingerCount:
		c.work.Signal()
	}
	c.mu.Unlock()
}

func (c *Committer) ripen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ripe = true
	c.work.Signal()
}

// Healthy reports whether the last transaction succeeded.
func (c *Committer) Healthy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.broken
}

func (c *Committer) run() {
	defer close(c.done)
	var kept store.Batch // settlements that the store has not taken yet
	pause := time.Duration(0)
	for {
		waiting, batch, more := c.take(&kept)
		if !more {
			return
		}
		err := c.write(waiting, batch, &kept)
		c.mu.Lock()
		c.broken = err != nil
		last := c.stopping
		c.mu.Unlock()
		if err == nil {
			pause = 0
			continue
		}
		c.log.Error("commit failed", "err", err, "events", len(waiting), "settlements", len(kept.Settlements))
		if last {
			return // what is kept was never acknowledged as done; it is sent again after the next start
		}
		pause = min(max(pause*2, firstPause), longestPause)
		time.Sleep(pause)
	}
}

// take waits for work and returns the next batch, with the settlements kept from
// a failed one first. It reports false when there is nothing left and never will be.
func (c *Committer) take(kept *store.Batch) ([]*pending, *store.Batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.appends) == 0 && len(kept.Settlements) == 0 && !c.stopping &&
		len(c.settled) < lingerCount && (len(c.settled) == 0 || !c.ripe) {
		c.work.Wait()
	}
	c.gather()
	n, size := 0, 0
	for n < min(len(c.appends), maxAppends) && size <= maxBytes {
		size += len(c.appends[n].Event.Body)
		n++
	}
	waiting := make([]*pending, n)
	copy(waiting, c.appends)
	c.appends = dropFirst(c.appends, n)
	b := &store.Batch{Appends: make([]*store.Append, n), Settlements: kept.Settlements, Health: kept.Health}
	for i, p := range waiting {
		b.Appends[i] = p.Append
	}
	*kept = store.Batch{}

	s := min(len(c.settled), max(maxSettlements-len(b.Settlements), 0))
	b.Settlements = append(b.Settlements, c.settled[:s]...)
	c.settled = dropFirst(c.settled, s)
	c.ripe = len(c.settled) > 0
	for no, h := range c.health {
		b.Health = append(b.Health, h)
		delete(c.health, no)
	}
	c.room.Broadcast()
	return waiting, b, len(b.Appends)+len(b.Settlements)+len(b.Health) > 0
}

// gather lets requests that are about to be queued catch this transaction. It
// yields the processor as long as that brings new ones: on an idle machine it
// returns at once, on a busy one the senders that the last transaction answered get
// their turn first.
func (c *Committer) gather() {
	for range maxYields {
		n := len(c.appends)
		if n == 0 {
			return
		}
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		if len(c.appends) == n {
			return
		}
	}
}

// dropFirst removes the first n items and lets go of what they point to.
func dropFirst[T any](s []T, n int) []T {
	left := copy(s, s[n:])
	clear(s[left:])
	return s[:left]
}

// write commits one batch. When that fails the events are refused, and the
// settlements, which nobody can repeat, go to kept.
func (c *Committer) write(waiting []*pending, b *store.Batch, kept *store.Batch) error {
	ctx := context.Background()
	err := c.store.Commit(ctx, b)
	if err == nil {
		c.finish(waiting, b, nil)
		return nil
	}
	if len(b.Appends) > 0 && len(b.Settlements)+len(b.Health) > 0 {
		// One of the two may be fine without the other.
		alone := &store.Batch{Appends: b.Appends}
		appendErr := c.store.Commit(ctx, alone)
		c.finish(waiting, alone, appendErr)
		waiting, err = nil, errors.Join(err, appendErr)
		b = &store.Batch{Settlements: b.Settlements, Health: b.Health}
	}
	for _, p := range waiting {
		p.result <- err
	}
	if len(b.Appends) > 0 {
		return err
	}
	if c.store.Ready(ctx) != nil { // nothing can be written; the settlements are not at fault
		*kept = *b
		return err
	}
	return c.salvage(ctx, b, kept)
}

// salvage halves a batch of settlements that a working store refuses until it
// finds the ones at fault, and gives those up: they are attempted again after the
// next start.
func (c *Committer) salvage(ctx context.Context, b, kept *store.Batch) error {
	err := c.store.Commit(ctx, b)
	switch {
	case err == nil:
		c.finish(nil, b, nil)
		return nil
	case c.store.Ready(ctx) != nil:
		kept.Settlements = append(kept.Settlements, b.Settlements...)
		kept.Health = append(kept.Health, b.Health...)
		return err
	case len(b.Settlements) <= 1:
		for _, s := range b.Settlements {
			c.log.Error("settlement given up", "delivery", s.Delivery.ID.String(), "err", err)
		}
		c.committed(&store.Batch{Settlements: b.Settlements})
		return nil
	}
	half := len(b.Settlements) / 2
	first := c.salvage(ctx, &store.Batch{Settlements: b.Settlements[:half], Health: b.Health}, kept)
	return errors.Join(first, c.salvage(ctx, &store.Batch{Settlements: b.Settlements[half:]}, kept))
}

func (c *Committer) finish(waiting []*pending, b *store.Batch, err error) {
	if err == nil {
		c.mu.Lock()
		c.stats.Transactions++
		c.stats.Events += int64(len(b.Appends))
		c.stats.Settlements += int64(len(b.Settlements))
		c.mu.Unlock()
		c.committed(b)
	}
	for _, p := range waiting {
		p.result <- err
	}
}
