// Package commit owns the shared transactions: writes that are queued during a transaction are
// part of the next one. No timer delays an event, so a single one does not wait, and under load
// one sync to disk covers hundreds. Outcomes, for which no caller waits, are delayed by a few
// milliseconds to share a transaction with events.
//
// It must not know SQL, HTTP, or the further processing of the deliveries it writes.
package commit

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store is the store that a Committer writes to.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) error
	FanningOut(ctx context.Context, below event.Key) ([]event.Space, error)
	Ready(ctx context.Context) error
}

// Limits of one transaction and of the queue.
const (
	maxAppends     = 512
	maxSettlements = 2048
	sharedOutcomes = 256                  // settlements in one transaction while several accounts send events
	maxBytes       = 16 << 20             // of event bodies in one transaction, after the first body
	queueSettled   = 16384                // settlements in the queue; Settle waits beyond
	lingerFor      = 5 * time.Millisecond // maximum delay of settlements without events
	lingerCount    = 256                  // settlements that are worth a separate transaction
	maxYields      = 8
	slowYield      = time.Millisecond
	slowBrings     = 8  // appends after which a slow yield was worthwhile
	hastyFor       = 64 // transactions without a yield after a slow one that was not
	firstPause     = 50 * time.Millisecond
	longestPause   = 2 * time.Second
	busyFrom       = 3                      // appends of the last transaction from which on the next one waits for more
	longestWait    = 20 * time.Millisecond  // for events to share a transaction on one of several nodes
	lateAfter      = 2 * time.Second        // duration of a transaction that indicates a problem
	lenience       = 500 * time.Millisecond // after Timeout, in which the store may still report the outcome
)

// DefaultTimeout is the default of [Committer.Timeout].
const DefaultTimeout = 10 * time.Second

// Committer collects writes into transactions. Use [New]; its methods are safe for concurrent
// use.
type Committer struct {
	// Yield lets other goroutines run before a transaction is composed; see gather. A simulation
	// may replace it before Start, because the order in which runtime.Gosched lets goroutines run
	// is not determined.
	Yield func()

	// Timeout bounds a transaction. After it, the callers of the transaction receive the error
	// that the outcome is unknown, and queued callers the error that nothing was stored. It may be
	// changed before Start; [New] sets [DefaultTimeout].
	Timeout time.Duration

	// Nodes returns the number of processes that write to the store, each with its own
	// transactions; nil: only this one. It may be set before Start.
	Nodes func() int

	store Store
	log   *slog.Logger

	committed func(*store.Batch)
	done      chan struct{}
	cut       chan struct{} // closed when Stop stops waiting
	cutOnce   sync.Once

	last struct { // transaction; used only by run
		events int
		took   time.Duration
		ended  time.Time
	}

	mu       sync.Mutex
	work     sync.Cond // something was queued, or the committer is stopping
	room     sync.Cond // settlements were removed from the queue
	appends  queue
	fanOuts  fanOuts
	settled  []store.Settlement
	health   map[int64]store.Health
	ripe     bool // settlements have been delayed long enough
	hasty    int  // remaining transactions without a yield
	stopping bool
	broken   bool // the last transaction failed
	late     bool // the running transaction is slow
	overdue  bool // the running transaction has exceeded Timeout
	most     int  // settlements in one transaction: fewer after one that exceeded Timeout
	stats    Stats
}

// Stats counts the writes since the start, and the queue.
type Stats struct {
	Transactions, Events, Settlements int64

	QueuedEvents, QueuedSettlements int
}

// Stats returns the counts.
func (c *Committer) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.QueuedEvents, s.QueuedSettlements = c.appends.size, len(c.settled)
	return s
}

// pending is an append with a waiting caller, possibly one of several of a call.
type pending struct {
	*store.Append
	err  error // set before done
	done *sync.WaitGroup
	told atomic.Bool
}

// answer reports the outcome of the append. Only the first call has an effect.
func (p *pending) answer(err error) {
	if p.told.CompareAndSwap(false, true) {
		p.err = err
		p.done.Done()
	}
}

// New returns a Committer that writes to st once it is started.
func New(st Store, log *slog.Logger) *Committer {
	c := &Committer{Yield: runtime.Gosched, Timeout: DefaultTimeout, store: st, log: log, done: make(chan struct{}), cut: make(chan struct{}), health: map[int64]store.Health{}, most: maxSettlements}
	c.work.L, c.room.L = &c.mu, &c.mu
	return c
}

// Start begins to write. committed is called with each written transaction, one call at a time
// and in the order of the transactions, before the calls of Append return; it must not block
// and must not keep the batch.
func (c *Committer) Start(committed func(*store.Batch)) {
	c.committed = committed
	go c.run()
}

// Stop writes the queue and returns when that is done, or with ctx's error: outcomes that are
// not written then are lost, so those deliveries are attempted again after the next start.
// Nothing may be queued after Stop was called.
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
		c.cutOnce.Do(func() { close(c.cut) })
		return ctx.Err()
	}
}

// Append writes a and returns when it is on disk or refused (see [store.Append]). It returns
// fault.Unavailable if the store cannot accept it, and nothing is stored then. It is not
// interrupted when ctx ends.
func (c *Committer) Append(ctx context.Context, a *store.Append) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var done sync.WaitGroup
	p := &pending{Append: a, done: &done}
	done.Add(1)
	if !c.queue(p) {
		return overloaded()
	}
	done.Wait()
	return outcome(p.err)
}

// AppendAll writes all events like Append, in their order, and returns when the last one is on
// disk or refused, with an error for each. They share transactions, but each is written or
// refused separately.
func (c *Committer) AppendAll(ctx context.Context, all []*store.Append) []error {
	errs := make([]error, len(all))
	waiting := make([]pending, len(all))
	queued := make([]*pending, len(all))
	var done sync.WaitGroup
	for i, a := range all {
		waiting[i] = pending{Append: a, done: &done}
		queued[i] = &waiting[i]
	}
	err := ctx.Err()
	done.Add(len(all))
	if err == nil && !c.queue(queued...) {
		err = overloaded()
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	done.Wait()
	for i := range waiting {
		errs[i] = outcome(waiting[i].err)
	}
	return errs
}

// queue queues all appends or none. It decides by the account's queue before them, so that the
// largest set is accepted too.
func (c *Committer) queue(all ...*pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping || c.overdue || !c.appends.push(all...) {
		return false
	}
	c.work.Signal()
	return true
}

// outcome returns the error for a caller: nothing was done and it can retry, unless the store
// reports that the outcome is unknown.
func outcome(err error) error {
	if fault.Is(err, fault.Internal) {
		return &fault.Error{Code: fault.Unavailable, Reason: "not_stored", Message: "The server could not store the event.", RetryAfter: time.Second, Err: err}
	}
	return err
}

func overloaded() error {
	return &fault.Error{Code: fault.Unavailable, Reason: "overloaded", Message: "The server is overloaded. Retry later.", RetryAfter: time.Second}
}

// Settle queues the outcome of a delivery, and the endpoint's health if it changed (otherwise
// nil). It waits only while too much is queued. Outcomes that the store does not accept are
// retried until it does.
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

// watch bounds the time of a transaction until ended is called: after Timeout it answers the
// callers of the transaction and refuses queued ones.
func (c *Committer) watch(waiting []*pending) (ended func()) {
	late := time.AfterFunc(min(lateAfter, c.Timeout), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late = true
	})
	over := time.AfterFunc(c.Timeout+lenience, func() {
		c.mu.Lock()
		if !c.late { // it has ended
			c.mu.Unlock()
			return
		}
		c.overdue = true
		behind := c.appends.all()
		c.mu.Unlock()
		c.log.Error("commit takes too long", "timeout", c.Timeout, "events", len(waiting), "refused", len(behind))
		for _, p := range waiting {
			p.answer(fault.Unknown("the event", nil))
		}
		for _, p := range behind {
			p.answer(overloaded())
		}
	})
	return func() {
		late.Stop()
		over.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late, c.overdue = false, false
	}
}

// Late reports whether a slow transaction is running.
func (c *Committer) Late() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}

// Healthy reports whether the last transaction succeeded.
func (c *Committer) Healthy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.broken
}

func (c *Committer) run() {
	defer close(c.done)
	defer c.refuseQueued()
	var kept store.Batch // settlements that the store has not accepted yet
	pause := time.Duration(0)
	for {
		waiting, batch, more := c.take(&kept)
		if !more {
			return
		}
		watched := c.watch(waiting)
		began := time.Now()
		err := c.write(waiting, batch, &kept)
		c.last.events, c.last.took, c.last.ended = len(waiting), time.Since(began), time.Now()
		watched()
		c.mu.Lock()
		c.broken = err != nil
		c.mu.Unlock()
		if err == nil {
			pause = 0
			continue
		}
		c.log.Error("commit failed", "err", err, "events", len(waiting), "settlements", len(kept.Settlements))
		pause = min(max(pause*2, firstPause), longestPause)
		if !c.rest(pause) {
			return // these outcomes were never reported as stored; the deliveries are attempted again after the next start
		}
	}
}

// rest waits and reports whether to continue.
func (c *Committer) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.cut:
		return false
	}
}

// refuseQueued refuses the queued calls when nothing is written any more.
func (c *Committer) refuseQueued() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.appends.all() {
		p.answer(overloaded())
	}
}

// take waits for work and returns the next batch, beginning with the settlements of a failed
// one. It reports false when nothing is left after Stop.
func (c *Committer) take(kept *store.Batch) ([]*pending, *store.Batch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.appends.size == 0 && len(c.fanOuts.spaces) == 0 && len(kept.Settlements) == 0 && !c.stopping &&
		len(c.settled) < lingerCount && (len(c.settled) == 0 || !c.ripe) {
		c.work.Wait()
	}
	c.wait()
	c.gather()
	waiting := c.appends.take()
	b := &store.Batch{Appends: make([]*store.Append, len(waiting)), Settlements: kept.Settlements, Health: kept.Health}
	for i, p := range waiting {
		b.Appends[i] = p.Append
	}
	if !c.stopping { // otherwise the next process continues
		b.FanOuts = c.fanOuts.take(len(waiting), c.appends.isShared())
	}
	*kept = store.Batch{}

	most := c.most
	if c.appends.isShared() {
		most = min(most, sharedOutcomes)
	}
	s := min(len(c.settled), max(most-len(b.Settlements), 0))
	b.Settlements = append(b.Settlements, c.settled[:s]...)
	c.settled = dropFirst(c.settled, s)
	c.ripe = len(c.settled) > 0
	for no, h := range c.health {
		b.Health = append(b.Health, h)
		delete(c.health, no)
	}
	c.room.Broadcast()
	return waiting, b, len(b.Appends)+len(b.FanOuts)+len(b.Settlements)+len(b.Health) > 0
}

// wait waits for more events on a busy node of several. Each node receives a part of the events, so
// its transactions would be smaller, and a transaction costs the database the same for any number
// of events. It waits for less than the duration of the last transaction, so that latency at most
// doubles. A node is busy if it has received several events within that time.
func (c *Committer) wait() {
	if c.Nodes == nil || c.stopping || c.appends.size == 0 || c.last.events < busyFrom || time.Since(c.last.ended) > c.last.took {
		return
	}
	nodes := c.Nodes()
	longest := min(c.last.took, longestWait) / time.Duration(max(nodes, 1)) * time.Duration(nodes-1)
	if longest <= 0 {
		return
	}
	over := false
	t := time.AfterFunc(longest, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		over = true
		c.work.Signal()
	})
	defer t.Stop()
	for !over && !c.stopping && c.appends.size < c.last.events*nodes {
		c.work.Wait()
	}
}

// gather lets requests that are about to be queued join this transaction. It yields the
// processor as long as that brings new ones: on an idle machine it returns at once, on a busy
// one the senders that the last transaction answered run first. If the processors are busy with
// work that produces no events, such as large bodies and filters, a yield takes long and is not
// repeated for a while.
func (c *Committer) gather() {
	if c.hasty > 0 {
		c.hasty--
		return
	}
	for range maxYields {
		n := c.appends.size
		if n == 0 {
			return
		}
		c.mu.Unlock()
		began := time.Now()
		c.Yield()
		took := time.Since(began)
		c.mu.Lock()
		if took > slowYield && c.appends.size < n+slowBrings {
			c.hasty = hastyFor
			return
		}
		if c.appends.size == n {
			return
		}
	}
}

// dropFirst removes the first n items and releases the memory that they refer to.
func dropFirst[T any](s []T, n int) []T {
	left := copy(s, s[n:])
	clear(s[left:])
	return s[:left]
}

// write commits one batch. If that fails, each part of it is tried separately: events that
// cannot be written are refused, and settlements, which no caller can repeat, go to kept.
// Slices of deferred events wait until Resume finds them again. It returns an error if the
// store accepted nothing.
func (c *Committer) write(waiting []*pending, b *store.Batch, kept *store.Batch) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	err := c.store.Commit(ctx, b)
	if err == nil {
		c.finish(waiting, b)
		return nil
	}
	// A retry would find it already written, or wait as long again.
	if late := errors.Is(err, store.ErrLate) || ctx.Err() != nil; late || fault.Is(err, fault.Unsure) {
		for _, p := range waiting {
			p.answer(err)
		}
		c.putBack(b, late)
		return err
	}
	outcomes := &store.Batch{Settlements: b.Settlements, Health: b.Health}
	others := len(outcomes.Settlements) + len(outcomes.Health)
	alone := others+len(b.FanOuts) == 0
	var refused error
	if len(waiting) > 0 {
		refused = c.appendApart(ctx, waiting, err, alone)
	}
	if others == 0 {
		if len(waiting) == 0 {
			return err
		}
		return refused
	}
	if c.store.Ready(ctx) != nil { // the store cannot write at all, so the settlements are not the cause
		*kept = *outcomes
		return err
	}
	return errors.Join(refused, c.salvage(ctx, outcomes, kept))
}

// putBack queues outcomes again whose commit is unknown. After a transaction that exceeded
// Timeout, fewer are written at a time, until one succeeds.
func (c *Committer) putBack(b *store.Batch, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if late {
		c.most = max(min(c.most, len(b.Settlements))/2, 1)
	}
	c.settled = append(slices.Clip(b.Settlements), c.settled...)
	for _, h := range b.Health {
		if _, newer := c.health[h.Endpoint]; !newer {
			c.health[h.Endpoint] = h
		}
	}
	c.ripe = true
}

// appendApart commits the events of a batch that failed with cause, in ever smaller parts as
// long as the store works, so that one that it cannot store does not affect the others. With
// tried, they were the whole batch. It returns an error if none could be written.
func (c *Committer) appendApart(ctx context.Context, waiting []*pending, cause error, tried bool) error {
	if !tried {
		b := &store.Batch{Appends: make([]*store.Append, len(waiting))}
		for i, p := range waiting {
			b.Appends[i] = p.Append
		}
		if cause = c.store.Commit(ctx, b); cause == nil {
			c.finish(waiting, b)
			return nil
		}
	}
	if len(waiting) == 1 || errors.Is(cause, store.ErrLate) || c.store.Ready(ctx) != nil {
		for _, p := range waiting {
			p.answer(cause)
		}
		return cause
	}
	half := len(waiting) / 2
	first := c.appendApart(ctx, waiting[:half], nil, false)
	second := c.appendApart(ctx, waiting[half:], nil, false)
	if first == nil || second == nil {
		return nil
	}
	return first
}

// salvage halves a batch of settlements and healths that a working store refuses until it finds
// the invalid ones, and gives them up: such deliveries are attempted again after the next
// start. On a nearly full disk the store may work and refuse them nevertheless; then none is
// invalid.
func (c *Committer) salvage(ctx context.Context, b, kept *store.Batch) error {
	err := c.store.Commit(ctx, b)
	s, h := len(b.Settlements), len(b.Health)
	var one, other store.Batch
	switch {
	case err == nil:
		c.finish(nil, b)
		return nil
	case errors.Is(err, store.ErrMedium), c.store.Ready(ctx) != nil:
		kept.Settlements = append(kept.Settlements, b.Settlements...)
		kept.Health = append(kept.Health, b.Health...)
		return err
	case s > 0 && h > 0:
		one.Settlements, other.Health = b.Settlements, b.Health
	case s > 1:
		one.Settlements, other.Settlements = b.Settlements[:s/2], b.Settlements[s/2:]
	case h > 1:
		one.Health, other.Health = b.Health[:h/2], b.Health[h/2:]
	case h == 1:
		c.log.Error("endpoint health not recorded", "endpoint_no", b.Health[0].Endpoint, "err", err)
		return nil
	default:
		c.log.Error("outcome of an attempt not recorded", "delivery", b.Settlements[0].Delivery.ID.String(), "err", err)
		c.committed(b)
		return nil
	}
	return errors.Join(c.salvage(ctx, &one, kept), c.salvage(ctx, &other, kept))
}

// finish reports a written batch and answers its callers.
func (c *Committer) finish(waiting []*pending, b *store.Batch) {
	written := int64(0)
	for _, a := range b.Appends {
		if !a.Refused() {
			written++
		}
	}
	c.mu.Lock()
	c.most = min(c.most*2, maxSettlements)
	c.stats.Transactions++
	c.stats.Events += written
	c.stats.Settlements += int64(len(b.Settlements))
	c.fanOuts.written(b)
	c.mu.Unlock()
	c.committed(b)
	for _, p := range waiting {
		p.answer(nil)
	}
}
