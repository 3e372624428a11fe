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
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Store is what a Committer writes to.
type Store interface {
	Commit(ctx context.Context, b *store.Batch) error
	FanningOut(ctx context.Context, below event.Key) ([]event.Space, error)
	Ready(ctx context.Context) error
}

// Limits of what one transaction takes and of what may wait for it.
const (
	maxAppends     = 512
	maxSettlements = 2048
	sharedOutcomes = 256                  // settlements in one transaction while several accounts send events
	maxBytes       = 16 << 20             // of event bodies in one transaction, past its first
	queueSettled   = 16384                // more than that wait
	lingerFor      = 5 * time.Millisecond // settlements alone, until something else comes
	lingerCount    = 256                  // settlements that are worth a transaction of their own
	maxYields      = 8
	slowYield      = time.Millisecond
	slowBrings     = 8  // appends, for which a slow yield was not in vain
	hastyFor       = 64 // transactions without a yield after one that was
	firstPause     = 50 * time.Millisecond
	longestPause   = 2 * time.Second
	busyFrom       = 3                      // appends of the last transaction, from which on the next one waits for as many
	longestWait    = 20 * time.Millisecond  // for events to share a transaction on one of several nodes
	lateAfter      = 2 * time.Second        // a transaction takes that long only when something is wrong
	lenience       = 500 * time.Millisecond // past Timeout, in which the store may still report the outcome
)

// DefaultTimeout is that of [Committer.Timeout].
const DefaultTimeout = 10 * time.Second

// Committer gathers writes into transactions. Use [New]; its methods are safe
// for concurrent use.
type Committer struct {
	// Yield lets others run before a transaction is put together; see gather. It may be
	// changed before Start, by a simulation: whom runtime.Gosched lets run first is not
	// determined.
	Yield func()

	// Timeout limits a transaction. After it, the callers of the transaction are told that
	// the outcome is unknown, and queued callers that nothing was stored. It may be changed
	// before Start; [New] sets [DefaultTimeout].
	Timeout time.Duration

	// Nodes returns how many processes write to the store, each with its own transactions; nil:
	// only this one. It may be set before Start.
	Nodes func() int

	store Store
	log   *slog.Logger

	committed func(*store.Batch)
	done      chan struct{}
	cut       chan struct{} // closed when Stop waits no longer
	cutOnce   sync.Once

	last struct { // transaction; belongs to run
		events int
		took   time.Duration
		ended  time.Time
	}

	mu       sync.Mutex
	work     sync.Cond // something was queued, or the end has come
	room     sync.Cond // settlements were taken
	appends  queue
	fanOuts  fanOuts
	settled  []store.Settlement
	health   map[int64]store.Health
	ripe     bool // settlements have lingered long enough
	hasty    int  // transactions that are put together without a yield
	stopping bool
	broken   bool // the last transaction failed
	late     bool // the transaction under way has taken a while
	overdue  bool // it has taken longer than Timeout
	most     int  // settlements in one transaction: fewer after one that took too long
	stats    Stats
}

// Stats counts what was written since the start, and what waits to be.
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

// pending is an append with a waiting caller, maybe together with others.
type pending struct {
	*store.Append
	err  error // once done was told
	done *sync.WaitGroup
	told atomic.Bool
}

// answer reports the outcome of the append. Only the first answer counts.
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

// Start begins to write. committed is called after each transaction with what it
// wrote, one call at a time and in the order of the transactions, before the
// callers of Append are answered; it must not block and must not keep the batch.
func (c *Committer) Start(committed func(*store.Batch)) {
	c.committed = committed
	go c.run()
}

// Stop writes what is queued and returns when that is done, or with ctx's error:
// outcomes that are not written then are lost, so those deliveries are attempted
// again after the next start. Nothing may be queued after it was called.
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

// Append writes a and returns when it is on disk or refused (see
// [store.Append]). It returns fault.Unavailable when the store cannot accept it;
// nothing of it is kept then. It does not stop half-way when ctx ends.
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

// AppendAll writes all as Append writes one, in their order, and returns when the last
// is on disk or refused, with an error for each. They share transactions, but each is
// written or refused for itself.
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

// queue takes all or none. It goes by what the account has waiting already, so that the
// largest set has its turn too.
func (c *Committer) queue(all ...*pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping || c.overdue || !c.appends.push(all...) {
		return false
	}
	c.work.Signal()
	return true
}

// outcome is what a caller is told of err: whatever the cause, nothing was done and it
// can be tried again, unless the store says that it does not know.
func outcome(err error) error {
	if fault.Is(err, fault.Internal) {
		return &fault.Error{Code: fault.Unavailable, Reason: "not_stored", Message: "The server could not store the event.", RetryAfter: time.Second, Err: err}
	}
	return err
}

func overloaded() error {
	return &fault.Error{Code: fault.Unavailable, Reason: "overloaded", Message: "The server is overloaded. Retry later.", RetryAfter: time.Second}
}

// Settle queues the outcome of a delivery, and the endpoint's health when it
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

// watch limits the time of a transaction until ended is called: after Timeout it answers the
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

// Late reports whether a transaction is under way that takes long.
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
	var kept store.Batch // settlements that the store has not taken yet
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
			return // what is kept was never acknowledged as done; it is sent again after the next start
		}
	}
}

// rest waits and reports whether to go on.
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

// refuseQueued answers those that still wait when nothing is written any more.
func (c *Committer) refuseQueued() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.appends.all() {
		p.answer(overloaded())
	}
}

// take waits for work and returns the next batch, with the settlements kept from
// a failed one first. It reports false when there is nothing left and never will be.
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
	if !c.stopping { // else the next process goes on
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

// wait waits for more events on a busy node of several. Each node has a part of the events, so that
// its transactions would be smaller by that, and a transaction costs the database the same however
// few events it has. It waits for less than the last transaction took, so that latency at most
// doubles. A node is busy if it has had several events within that time.
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

// gather lets requests that are about to be queued catch this transaction. It
// yields the processor as long as that brings new ones: on an idle machine it
// returns at once, on a busy one the senders that the last transaction answered get
// their turn first. Where the processors are taken by what no event comes of, such as
// large bodies and filters, a yield takes long and is not repeated for a while.
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

// dropFirst removes the first n items and releases what they point to.
func dropFirst[T any](s []T, n int) []T {
	left := copy(s, s[n:])
	clear(s[left:])
	return s[:left]
}

// write commits one batch. When that fails, each part of it gets its own chance:
// events that cannot be written are refused, and settlements, which nobody can
// repeat, go to kept. Slices of deferred events wait until Resume finds them again. It
// returns an error when the store took nothing.
func (c *Committer) write(waiting []*pending, b *store.Batch, kept *store.Batch) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	err := c.store.Commit(ctx, b)
	if err == nil {
		c.finish(waiting, b)
		return nil
	}
	// To try again would find it done, or wait as long again.
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
	if c.store.Ready(ctx) != nil { // nothing can be written; the settlements are not at fault
		*kept = *outcomes
		return err
	}
	return errors.Join(refused, c.salvage(ctx, outcomes, kept))
}

// putBack queues outcomes again that are not known to be written. After a transaction that
// took too long, fewer are written at a time, until that succeeds.
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

// appendApart commits events of a batch that failed with cause, in ever smaller
// parts as long as the store works, so that one that it cannot take does not bring
// down the others. With tried, they were all of that batch. It returns an error
// when none could be written.
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

// salvage halves a batch of settlements and healths that a working store refuses
// until it finds those at fault, and gives them up: such deliveries are attempted
// again after the next start. On a disk that is nearly full the store may work and
// refuse them all the same; then none is at fault.
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

// finish tells of a batch that was written and answers those who wait for it.
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
