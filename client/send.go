package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Send sends an event and returns its id once it is on the server's disk, together with a
// delivery for each endpoint that subscribes to it. Events that are sent at the same time share
// requests.
//
// If ctx ends first, the event is in no further request. A request under way may still be
// accepted; then the error is [ErrUnknown]. The id is returned with every error, so that the
// event can be sent again.
func (c *Client) Send(ctx context.Context, e Event) (id string, err error) {
	p, err := c.enqueue(ctx, ctx, e)
	if err != nil {
		return p.ID, err
	}
	select {
	case <-p.done:
		return p.ID, p.err
	case <-ctx.Done():
	}
	if c.queue.remove(p) {
		c.settle(p, p.unsent(context.Cause(ctx)))
		c.queue.forget(p)
	}
	select {
	case <-p.done:
		return p.ID, p.err
	default: // its request is under way
		return p.ID, fmt.Errorf("event %s: %w: %w", p.ID, context.Cause(ctx), ErrUnknown)
	}
}

// Enqueue puts an event into the queue and returns. ctx limits only the wait for room in the
// queue. If the process crashes, the events in the queue are lost: package outbox keeps them in
// your database.
func (c *Client) Enqueue(ctx context.Context, e Event) (*Pending, error) {
	p, err := c.enqueue(ctx, context.Background(), e)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// enqueue puts an event into the queue; it is sent only while the context named while has not
// ended.
func (c *Client) enqueue(ctx, while context.Context, e Event) (p *Pending, err error) {
	p = &Pending{typ: e.Type, since: time.Now(), done: make(chan struct{}), ctx: while}
	if p.ID, p.body, err = encode(e); err != nil {
		return p, err
	}
	if err := ctx.Err(); err != nil {
		return p, p.unsent(context.Cause(ctx))
	}
	if err := c.queue.put(ctx, p); err != nil {
		return p, p.unsent(err)
	}
	return p, nil
}

// work sends the events of the queue. All that arrive while a request is under way are in the
// next one: a single event is sent without delay, and many share requests.
func (c *Client) work() {
	tries := 0
	for {
		batch := c.queue.take(c.ctx, c.opts.Batch, int(c.batchBytes.Load()))
		if batch == nil {
			return
		}
		again, why := c.attempt(c.ctx, c.drop(batch, func(p *Pending) error { return context.Cause(p.ctx) }), c.settle)
		if len(again) < len(batch) {
			tries = 0
		}
		pause := c.pause(tries, why)
		tries++
		again = c.drop(again, func(p *Pending) error {
			if c.opts.RetryFor > 0 && time.Since(p.since)+pause >= c.opts.RetryFor {
				return p.last
			}
			return nil
		})
		c.queue.forget(without(batch, again)...)
		c.queue.back(again)
		if len(again) > 0 && !wait(c.ctx, pause) {
			return
		}
	}
}

// drop gives up the events for which reason returns an error, and returns the others.
func (c *Client) drop(batch []*Pending, reason func(*Pending) error) (others []*Pending) {
	for _, p := range batch {
		if why := reason(p); why != nil {
			c.settle(p, p.unsent(why))
		} else {
			others = append(others, p)
		}
	}
	return others
}

// without returns those of all that are not among the rest, which is in the same order.
func without(all, rest []*Pending) (out []*Pending) {
	for _, p := range all {
		if len(rest) > 0 && rest[0] == p {
			rest = rest[1:]
		} else {
			out = append(out, p)
		}
	}
	return out
}

// attempt sends a batch once, reports the results, and returns the events to be retried and an
// error of theirs.
func (c *Client) attempt(ctx context.Context, batch []*Pending, settle func(*Pending, error)) (again []*Pending, why error) {
	if len(batch) == 0 {
		return nil, nil
	}
	bodies := make([][]byte, len(batch))
	for i, p := range batch {
		bodies[i] = p.body
	}
	for i, err := range c.post(ctx, bodies) {
		switch p := batch[i]; {
		case err == nil:
			settle(p, nil)
		case temporary(err):
			p.uncertain, p.last = p.uncertain || !undone(err), err
			again, why = append(again, p), longer(why, err)
		default:
			settle(p, p.unsent(err))
		}
	}
	return again, why
}

// longer returns the error that requires the longer pause.
func longer(a, b error) error {
	var x, y *Error
	if errors.As(a, &x) && (!errors.As(b, &y) || x.RetryAfter > y.RetryAfter) {
		return a
	}
	return b
}

// settle reports the result of an event that is still in the queue.
func (c *Client) settle(p *Pending, err error) {
	p.err = err
	close(p.done)
	if c.opts.OnResult != nil {
		c.opts.OnResult(Result{ID: p.ID, Type: p.typ, Err: err})
	}
}

// SendAll sends events in as few requests as possible, in order, and returns the result of
// each. It does not use the queue. Temporary errors are retried until ctx ends, or until the
// next try would be after ctx's deadline or [Options.RetryFor].
func (c *Client) SendAll(ctx context.Context, events []Event) []Result {
	out := make([]Result, len(events))
	at := make(map[*Pending]int, len(events))
	var left []*Pending
	for i, e := range events {
		p := &Pending{typ: e.Type, since: time.Now()}
		p.ID, p.body, out[i].Err = encode(e)
		out[i].ID, out[i].Type = p.ID, e.Type
		if out[i].Err == nil {
			left, at[p] = append(left, p), i
		}
	}
	settle := func(p *Pending, err error) { out[at[p]].Err = err }
	began := time.Now()
	for tries := 0; len(left) > 0; tries++ {
		var why error
		var again []*Pending
		for batch := range c.batches(left) {
			rest, err := c.attempt(ctx, batch, settle)
			if again = append(again, rest...); err != nil {
				why = longer(why, err)
			}
		}
		if len(again) < len(left) {
			tries = 0
		}
		left = again
		pause := c.pause(tries, why)
		if c.opts.RetryFor > 0 && time.Since(began)+pause >= c.opts.RetryFor || len(left) > 0 && !wait(ctx, pause) {
			break
		}
	}
	for _, p := range left {
		settle(p, p.unsent(p.last))
	}
	return out
}

// batches splits events into requests within the limits.
func (c *Client) batches(all []*Pending) iter.Seq[[]*Pending] {
	return func(yield func([]*Pending) bool) {
		for len(all) > 0 {
			n, size := 0, 0
			for n < len(all) && n < c.opts.Batch && (n == 0 || size+len(all[n].body) <= int(c.batchBytes.Load())) {
				size += len(all[n].body)
				n++
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}
