package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Pending is an event that was enqueued and may not have a result yet.
type Pending struct {
	// ID is the event's id.
	ID string

	typ       string
	body      []byte
	since     time.Time
	done      chan struct{}
	err       error // valid after done
	last      error // of the last try
	uncertain bool  // a try had no conclusive response
	ctx       context.Context
}

// Done is closed when the result of the event is known.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Err waits for Done. It returns nil if the event is on the server's disk, and otherwise the
// reason.
func (p *Pending) Err() error {
	<-p.done
	return p.err
}

// unsent returns the result of an event that is given up for a reason.
func (p *Pending) unsent(why error) error {
	if p.uncertain {
		return fmt.Errorf("event %s: %w: %w", p.ID, why, ErrUnknown)
	}
	return fmt.Errorf("event %s: %w", p.ID, why)
}

// queue holds events in order, within its limits. Events under way count until they have a
// result, as they are in memory too.
type queue struct {
	most, mostBytes int
	refuse          bool

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	waiting []*Pending
	held    int
	bytes   int
	closed  bool
}

func newQueue(most, mostBytes int, refuse bool) *queue {
	return &queue{most: most, mostBytes: mostBytes, refuse: refuse, changed: make(chan struct{})}
}

// change wakes all waiting goroutines. mu is held.
func (q *queue) change() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// put adds an event at the end, once there is room.
func (q *queue) put(ctx context.Context, p *Pending) error {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return ErrClosed
		}
		// An event larger than the limit passes alone; otherwise it would wait for ever.
		if q.held == 0 || q.held < q.most && q.bytes+len(p.body) <= q.mostBytes {
			q.held++
			q.bytes += len(p.body)
			q.waiting = append(q.waiting, p)
			q.change()
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		if q.refuse {
			return ErrQueueFull
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ErrQueueFull, context.Cause(ctx))
		}
	}
}

// take removes events from the front: at most most of them and, unless the first is larger, at
// most that many bytes. It waits for the first one; it returns none if ctx ends or once the
// queue is closed and empty.
func (q *queue) take(ctx context.Context, most, bytes int) []*Pending {
	for {
		q.mu.Lock()
		n, size := 0, 0
		for n < len(q.waiting) && n < most && (n == 0 || size+len(q.waiting[n].body) <= bytes) {
			size += len(q.waiting[n].body)
			n++
		}
		if n > 0 {
			batch := slices.Clone(q.waiting[:n])
			q.waiting = slices.Delete(q.waiting, 0, n)
			q.mu.Unlock()
			return batch
		}
		closed, changed := q.closed && q.held == 0, q.changed
		q.mu.Unlock()
		if closed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// back returns events to the front, to be sent again.
func (q *queue) back(again []*Pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.Insert(q.waiting, 0, again...)
	q.change()
}

// remove removes one event, unless it is under way or has a result.
func (q *queue) remove(p *Pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, p)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// forget frees the room of events.
func (q *queue) forget(all ...*Pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range all {
		q.held--
		q.bytes -= len(p.body)
	}
	q.change()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		q.change()
	}
}

// drain removes and returns all events.
func (q *queue) drain() []*Pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.waiting
	q.waiting = nil
	return left
}
