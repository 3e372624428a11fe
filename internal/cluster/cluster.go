// rendezvous hashing which endpoints it sends to, and hands them over when nodes come
// and go, so that no two nodes ever send to the same endpoint.
//
// Endpoints change hands slot by slot: each belongs to one of 1,024. A node that notices a new
// generation of members stops sending to the endpoints that it does not own by it. It releases a
// slot when its attempts to them have ended and are recorded, and acknowledges the generation
// when it has released all. The new owner of an endpoint begins when all members have released its
// slot. A node that died releases nothing, but is no longer a member once the others have removed
// it, and what it writes after that is refused by the store.
//
// The package must not know SQL, HTTP or payloads.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Service is notified of changes (service.Service).
type Service interface {
	Reassign()
	Adopted() []int64
	CatchUp(ctx context.Context) error
	Reach(ctx context.Context, version int64) error
}

// Engine sends deliveries (dispatch.Engine).
type Engine interface {
	Arrived(deliveries []delivery.ID)
	Forwarded(outgoing []delivery.Outgoing) (misdirected []delivery.ID)
	VerifyUpTo(before event.Key)
	Urgent(deliveries []delivery.ID)
	Releasing() (endpoints []int64)
	Adopt(endpoints []int64, health []store.Health)
	Rescan()
}

// Cluster is this node among the others. Use [Join], then Run.
type Cluster struct {
	nodes store.Nodes
	lease time.Duration
	log   *slog.Logger
	self  int

	service Service
	engine  Engine

	mu      sync.RWMutex
	views   []store.Membership // since the last one that was settled, oldest first
	settled bool               // the last view, and all have acknowledged it
	from    [slots]int         // index of the first view that applies to a slot: the latest by which all have released it
	watch   watch              // used by the goroutine that keeps the lease
	unread  []int64            // endpoints to take over whose health could not be read yet; used by the same goroutine
	taken   int                // endpoints taken over since the last settled view; used by the same goroutine
	until   time.Time          // end of this node's right to send
	ending  *time.Timer        // fires at that time
	sending context.Context
	cut     context.CancelFunc // ends sending; nil: it has ended

	adopted     int // endpoints taken over so far, its own after a suspension among them
	suspensions int // times that sending was suspended because the lease was not renewed

	clock clock

	stopHolding func() // stops the renewal before Run takes over

	awayMu  sync.Mutex
	away    []delivery.ID               // of other nodes, which may not know of them
	urgent  []delivery.ID               // manual retries
	forward map[int][]delivery.Outgoing // new deliveries by the number of the owner
	hasWay  chan struct{}
	poke    chan struct{} // read the members now
}

// DefaultLease is the default time after which a lost node's endpoints are taken over.
const DefaultLease = 10 * time.Second

const (
	beats        = 5  // renewals per lease
	margin       = 10 // unused part of a lease, because clocks differ in speed
	unsettled    = 50 // part of a lease between reads of the members while not all of them use the same view
	changesEvery = 500 * time.Millisecond
	rescanEvery  = 10 * time.Second
	rescanDeaf   = time.Second // without notifications
	releaseEvery = 10 * time.Millisecond

	longestRelease = 100 * time.Millisecond // until slots without attempts under way are released
	hearAgain      = time.Second
	firstLooks     = 5
	maxMessage     = 7000 // bytes; PostgreSQL's limit is 8000
	maxForward     = 2048 // deliveries queued for one owner; it reads the others from the store
)

// Messages between nodes.
const (
	wordMembers  = "members"
	wordWork     = "work"
	wordForward  = "deliver"  // new deliveries with their events, for the owner
	wordUrgent   = "urgent"   // manual retries
	wordSettings = "settings" // the settings have changed, with their version; the store sends it
)

// Join makes this process a node and keeps its lease. It owns no endpoint before Run. The
// caller must Leave.
func Join(ctx context.Context, nodes store.Nodes, lease time.Duration, log *slog.Logger) (*Cluster, error) {
	v, err := nodes.Join(ctx, lease)
	if err != nil {
		return nil, err
	}
	log.Info("joined the cluster", "node", v.Self, "nodes", len(v.Members)+len(v.Joining))
	c := &Cluster{nodes: nodes, lease: lease, log: log, self: v.Self, views: []store.Membership{{Self: v.Self}},
		forward: map[int][]delivery.Outgoing{}, hasWay: make(chan struct{}, 1), poke: make(chan struct{}, 1)}
	c.ending = time.AfterFunc(lease, c.expire)
	c.ending.Stop()
	c.sending, c.cut = context.WithCancel(context.Background())
	c.cut()
	c.cut = nil
	for range firstLooks { // before the first key is generated from the clock
		if err := c.readClock(ctx); err != nil {
			return nil, errors.Join(err, nodes.Leave(ctx))
		}
	}
	c.hold()
	return c, nil
}

// hold keeps the lease until Run does: a node that reads a lot before it serves must not be
// removed.
func (c *Cluster) hold() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, c.lease/beats) {
			v, err := c.nodes.Beat(ctx, store.Part{}, c.lease)
			if err == nil {
				c.watch.look(&v, time.Now(), c.lease)
			} else if ctx.Err() == nil {
				c.log.Warn("renew the lease", "err", err)
			}
		}
	}()
	c.stopHolding = func() {
		cancel()
		<-done
	}
}

// readClock compares the store's clock with this machine's.
func (c *Cluster) readClock(ctx context.Context) error {
	began := time.Now()
	now, err := c.nodes.Clock(ctx)
	if err == nil {
		c.clock.observe(began, time.Now(), now)
	}
	return err
}

// Self is this node's number: 0 to 255, unique among the live ones.
func (c *Cluster) Self() int { return c.self }

// Owns reports whether this node owns an endpoint. Endpoint 0 stands for work that one node
// does for all.
func (c *Cluster) Owns(endpoint int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.cut == nil {
		return false
	}
	for i := c.from[slotOf(endpoint)]; i < len(c.views); i++ {
		if owner(&c.views[i], endpoint) != c.self {
			return false
		}
	}
	return true
}

// Owner returns the number of the node that owns an endpoint, among some nodes; -1 is none.
func Owner(nodes []int, endpoint int64) int {
	v := store.Membership{}
	for _, no := range nodes {
		v.Members = append(v.Members, store.Member{No: no})
	}
	return owner(&v, endpoint)
}

// owner returns the owner of an endpoint: the node with the highest hash of both, so that a
// node that joins or leaves moves only its own endpoints. -1 is none.
func owner(v *store.Membership, endpoint int64) int {
	best, who := uint64(0), -1
	for _, m := range v.Members {
		if h := mix(uint64(m.No)<<48 ^ uint64(endpoint)); who < 0 || h > best {
			best, who = h, m.No
		}
	}
	return who
}

// mix spreads the bits of a number (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Elsewhere queues notifications of deliveries to endpoints of other nodes. A delivery with its
// body is forwarded to the owner, which then sends it without reading the store. It does not block.
func (c *Cluster) Elsewhere(outgoing []delivery.Outgoing) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	last := len(c.views) - 1
	c.awayMu.Lock()
	for i := range outgoing {
		id, to := outgoing[i].Delivery.ID, -1
		if outgoing[i].Body != nil && c.from[slotOf(id.Endpoint)] == last {
			to = owner(&c.views[last], id.Endpoint)
		}
		if to < 0 || len(c.forward[to]) >= maxForward {
			c.away = append(c.away, id)
		} else {
			c.forward[to] = append(c.forward[to], outgoing[i])
		}
	}
	c.awayMu.Unlock()
	signal(c.hasWay)
}

// Expedite queues notifications of other nodes' deliveries that a user has retried. It does not
// block.
func (c *Cluster) Expedite(deliveries []delivery.ID) {
	c.awayMu.Lock()
	c.urgent = append(c.urgent, deliveries...)
	c.awayMu.Unlock()
	signal(c.hasWay)
}

// Load returns the pending ones of some deliveries, once this node has the settings that they
// were accepted under.
func (c *Cluster) Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error) {
	outgoing, err := c.nodes.Load(ctx, deliveries)
	if err != nil || len(outgoing) == 0 {
		return outgoing, err
	}
	if err := c.service.Reach(ctx, outgoing[0].Version); err != nil { // one query read all of them
		return nil, err
	}
	return outgoing, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run is a member until ctx ends. It returns [store.ErrFenced] if the others have removed this
// node: the process must end then, because other nodes own the deliveries in its memory.
func (c *Cluster) Run(ctx context.Context, s Service, e Engine) error {
	c.stopHolding()
	c.service, c.engine = s, e
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.hear(ctx) })
	wg.Go(func() { c.notify(ctx) })
	wg.Go(func() { c.refresh(ctx) })
	return c.keep(ctx)
}

// keep keeps the lease and follows the changes of the members.
func (c *Cluster) keep(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	defer c.stopSending()
	part, entered, told, resumed, started := store.Part{}, false, false, false, time.Now()
	for {
		beat, cancel := context.WithTimeout(ctx, c.lease/2)
		began := time.Now()
		v, err := c.nodes.Beat(beat, part, c.lease)
		cancel()
		switch {
		case errors.Is(err, store.ErrFenced):
			return err
		case ctx.Err() != nil:
			return nil
		case err != nil:
			c.log.Warn("renew the lease", "err", err)
			tick.Reset(c.lease / beats)
		default:
			resumed = c.renew(began) || resumed
			if told { // the other nodes can read it now
				told = false
				c.notifyMembers(ctx)
			}
			dead, after := c.watch.look(&v, time.Now(), c.lease)
			// Nodes that start at once enter one after the other: endpoints wait for one change of the
			// members at a time.
			if !entered && (v.Settled() || time.Since(started) > c.lease) {
				entered = c.enter(ctx)
				if entered {
					continue
				}
			}
			if c.remove(ctx, dead) {
				continue
			}
			tick.Reset(c.pace(&v, after))
			next, err := c.follow(ctx, v, resumed)
			if err != nil {
				c.log.Warn("take over endpoints", "err", err)
				break
			}
			resumed = false
			if next.Acked != part.Acked || next.Follows != part.Follows || !bytes.Equal(next.Released, part.Released) {
				part, told = next, true // at once, so that the others need not wait
				continue
			}
		}
		select {
		case <-tick.C:
		case <-c.poke:
		case <-ctx.Done():
			return nil
		}
	}
}

// enter makes this node a member, which can own endpoints.
func (c *Cluster) enter(ctx context.Context) bool {
	if err := c.nodes.Enter(ctx); err != nil {
		if ctx.Err() == nil {
			c.log.Warn("enter the cluster", "err", err)
		}
		return false
	}
	c.notifyMembers(ctx)
	return true
}

// remove removes nodes that have not renewed their leases, and reports whether it has removed
// any.
func (c *Cluster) remove(ctx context.Context, dead []store.Member) (any bool) {
	for _, m := range dead {
		ctx, cancel := context.WithTimeout(ctx, c.lease/beats)
		removed, err := c.nodes.Remove(ctx, m)
		cancel()
		switch {
		case removed:
			c.log.Warn("removed a node that did not renew its lease", "node", m.No)
			any = true
		case err != nil && ctx.Err() == nil:
			c.log.Warn("remove a node that did not renew its lease", "node", m.No, "err", err)
		}
	}
	if any {
		c.notifyMembers(ctx)
	}
	return any
}

func toAll(text string) store.Message { return store.Message{To: store.AllNodes, Text: text} }

// notifyMembers notifies the other nodes to read the members.
func (c *Cluster) notifyMembers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.lease/beats)
	defer cancel()
	if err := c.nodes.Tell(ctx, toAll(wordMembers)); err != nil && ctx.Err() == nil {
		c.log.Warn("announce the members", "err", err)
	}
}

// pace returns when to renew the lease next: earlier while other nodes are waited for, and when
// another lease may end.
func (c *Cluster) pace(v *store.Membership, ends time.Duration) time.Duration {
	next := min(c.lease/beats, ends)
	if !v.Settled() {
		next = min(next, c.lease/unsettled)
	}
	return max(next, c.lease/unsettled)
}

// renew lets this node send until the end of the lease that was requested at a time.
func (c *Cluster) renew(began time.Time) (resumed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = began.Add(c.lease - c.lease/margin)
	c.ending.Reset(time.Until(c.until))
	if resumed = c.cut == nil; resumed {
		c.sending, c.cut = context.WithCancel(context.Background())
	}
	return resumed
}

// expire cancels attempts, because the lease may have ended and other nodes may send the same
// deliveries.
func (c *Cluster) expire() {
	if c.stopSending() {
		c.mu.Lock()
		c.suspensions++
		c.mu.Unlock()
		c.log.Warn("the lease was not renewed in time; sending is suspended")
		c.service.Reassign()
	}
}

// stopSending cancels attempts, and reports whether this node was sending.
func (c *Cluster) stopSending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending.Stop()
	if c.cut == nil {
		return false
	}
	c.cut()
	c.cut = nil
	return true
}

// Sending returns a context that ends with the lease. It has ended if the node must not send,
// even if a process that was suspended for a while has not noticed yet.
func (c *Cluster) Sending() context.Context {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if time.Now().After(c.until) {
		return ended
	}
	return c.sending
}

var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// follow processes a view of the members and returns this node's part in it.
func (c *Cluster) follow(ctx context.Context, v store.Membership, resumed bool) (part store.Part, err error) {
	c.mu.Lock()
	isNew := v.Generation != c.views[len(c.views)-1].Generation
	if isNew {
		c.views, c.settled = append(c.views, v), false
	}
	gained := c.gained(&v)
	settles := !c.settled && v.Settled()
	c.mu.Unlock()
	if isNew {
		c.log.Info("members changed", "generation", v.Generation, "nodes", numbers(v))
		c.service.Reassign()
	}
	if len(gained) > 0 || settles || resumed || len(c.unread) > 0 {
		if err := c.takeOver(ctx, v, gained, settles); err != nil {
			return part, err
		}
	}
	if c.Stats().Settled {
		return store.Part{Acked: v.Generation, Follows: v.Generation}, nil
	}
	// Attempts under way end before the endpoints are handed over. Most end at once.
	busy := c.engine.Releasing()
	for deadline := time.Now().Add(min(c.lease/unsettled, longestRelease)); len(busy) > 0 && time.Now().Before(deadline) && pause(ctx, releaseEvery); {
		busy = c.engine.Releasing()
	}
	if len(busy) == 0 {
		return store.Part{Acked: v.Generation, Follows: v.Generation}, nil
	}
	return store.Part{Follows: v.Generation, Released: allBut(busy)}, nil
}

// gained returns the slots that all members have released by a view, and that are new to this
// node. The caller holds c.mu.
func (c *Cluster) gained(v *store.Membership) (gained []int) {
	last := len(c.views) - 1
	if c.settled {
		return nil
	}
	for slot := range slots {
		if c.from[slot] < last && released(v, slot) {
			gained = append(gained, slot)
		}
	}
	return gained
}

// takeOver begins to send to this node's endpoints by a view, in slots that all have released or,
// if it is settled, in all slots.
func (c *Cluster) takeOver(ctx context.Context, v store.Membership, gained []int, settles bool) error {
	// The previous owners sent events up to this key: a late message of one must not cause a second
	// attempt.
	last, err := c.nodes.LastKey(ctx)
	if err != nil {
		return err
	}
	c.engine.VerifyUpTo(last)
	c.mu.Lock()
	for _, slot := range gained {
		c.from[slot] = len(c.views) - 1
	}
	if settles {
		c.views, c.settled, c.from = []store.Membership{v}, true, [slots]int{}
	}
	c.mu.Unlock()
	c.service.Reassign()
	c.unread = append(c.unread, c.service.Adopted()...)
	health, err := c.nodes.HealthOf(ctx, c.unread)
	if err != nil {
		return err
	}
	adopted := c.unread
	c.unread = nil
	c.mu.Lock()
	c.adopted += len(adopted)
	c.mu.Unlock()
	c.engine.Adopt(adopted, health)
	if c.taken += len(adopted); c.Stats().Settled {
		c.log.Info("endpoints assigned", "generation", v.Generation, "adopted", c.taken)
		c.taken = 0
	}
	return nil
}

func numbers(v store.Membership) string {
	all := make([]string, len(v.Members))
	for i, m := range v.Members {
		all[i] = strconv.Itoa(m.No)
	}
	return strings.Join(all, ",")
}

func pause(ctx context.Context, d time.Duration) (goOn bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hear handles the messages of the other nodes, and periodically searches the store for work
// without a message.
func (c *Cluster) hear(ctx context.Context) {
	every := rescanEvery
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			err := c.nodes.Hear(ctx, func(message string) { c.handle(ctx, message) })
			if err == nil || ctx.Err() != nil {
				return
			}
			c.log.Warn("receive notifications of other nodes", "err", err)
			if !pause(ctx, hearAgain) {
				return
			}
		}
	}()
	defer func() { <-heard }()
	for {
		select {
		case <-heard:
			if ctx.Err() == nil && every == rescanEvery {
				c.log.Info("notifications of other nodes do not pass a pooler; the store is polled instead", "every", rescanDeaf)
				every = rescanDeaf
			}
			if !pause(ctx, every) {
				return
			}
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
		c.engine.Rescan()
	}
}

// handle handles a message. That of a change precedes those of the events that were accepted
// after it, and is handled before them.
func (c *Cluster) handle(ctx context.Context, message string) {
	word, rest, _ := strings.Cut(message, " ")
	switch word {
	case wordSettings:
		version, err := strconv.ParseInt(rest, 10, 64)
		if err == nil {
			err = c.service.Reach(ctx, version)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("take over changes of other nodes", "err", err)
		}
	case wordMembers:
		signal(c.poke)
	case wordWork:
		c.engine.Arrived(parse(rest))
	case wordUrgent:
		c.engine.Urgent(parse(rest))
	case wordForward:
		c.receive(ctx, rest)
	}
}

// receive passes forwarded deliveries to the engine after this node has the settings under which
// they were accepted. Deliveries to endpoints that have another owner by now are announced to all nodes.
func (c *Cluster) receive(ctx context.Context, text string) {
	outgoing, err := decodeOutgoing(text)
	if err != nil {
		c.log.Warn("decode forwarded deliveries", "err", err)
		return
	}
	version, ids := int64(0), make([]delivery.ID, len(outgoing))
	for i := range outgoing {
		version, ids[i] = max(version, outgoing[i].Version), outgoing[i].Delivery.ID
	}
	if err := c.service.Reach(ctx, version); err != nil {
		c.engine.Arrived(ids) // the engine reads them when the store is available
		return
	}
	if misdirected := c.engine.Forwarded(outgoing); len(misdirected) > 0 {
		c.awayMu.Lock()
		c.away = append(c.away, misdirected...)
		c.awayMu.Unlock()
		signal(c.hasWay)
	}
}

// notify notifies the other nodes of work for their endpoints; notifications that are queued
// during a call are sent by the next.
func (c *Cluster) notify(ctx context.Context) {
	for {
		select {
		case <-c.hasWay:
		case <-ctx.Done():
			return
		}
		if err := c.nodes.Tell(ctx, c.toTell()...); err != nil && ctx.Err() == nil {
			c.log.Warn("announce work", "err", err) // the other nodes will find the work in the store
		}
	}
}

// toTell returns the queued notifications as messages.
func (c *Cluster) toTell() (all []store.Message) {
	c.awayMu.Lock()
	away, urgent, forward := c.away, c.urgent, c.forward
	c.away, c.urgent, c.forward = nil, nil, map[int][]delivery.Outgoing{}
	c.awayMu.Unlock()
	for no, outgoing := range forward {
		texts, large := encodeOutgoing(outgoing)
		for _, text := range texts {
			all = append(all, store.Message{To: no, Text: wordForward + " " + text})
		}
		away = append(away, large...)
	}
	for _, text := range append(messages(wordUrgent, urgent), messages(wordWork, away)...) {
		all = append(all, store.Message{To: store.AllNodes, Text: text})
	}
	return all
}

// messages encodes deliveries into messages of a kind: endpoint.event, or the endpoint only, in
// base 36.
func messages(word string, deliveries []delivery.ID) (all []string) {
	var b []byte
	for _, id := range deliveries {
		if len(b) > maxMessage {
			all = append(all, string(b))
			b = b[:0]
		}
		if len(b) == 0 {
			b = append(b, word...)
		}
		b = strconv.AppendInt(append(b, ' '), id.Endpoint, 36)
		if id.Event != 0 {
			b = strconv.AppendInt(append(b, '.'), int64(id.Event), 36)
		}
	}
	if len(b) > 0 {
		all = append(all, string(b))
	}
	return all
}

// parse decodes the text of messages, and skips invalid parts.
func parse(text string) (all []delivery.ID) {
	for word := range strings.FieldsSeq(text) {
		endpoint, key, _ := strings.Cut(word, ".")
		no, err := strconv.ParseInt(endpoint, 36, 64)
		if err != nil {
			continue
		}
		k, _ := strconv.ParseInt(key, 36, 64) // none: 0
		all = append(all, delivery.ID{Event: event.Key(k), Endpoint: no})
	}
	return all
}

// refresh reads the changes of other nodes that were not notified.
func (c *Cluster) refresh(ctx context.Context) {
	for {
		err := c.readClock(ctx)
		if err == nil {
			err = c.service.CatchUp(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("take over changes of other nodes", "err", err)
		}
		if !pause(ctx, changesEvery) {
			return
		}
	}
}

// Now returns the latest possible time of the store's clock, from which all nodes' keys are
// generated.
func (c *Cluster) Now() time.Time { return c.clock.latest() }

// Alone runs fn while no other starting node does.
func (c *Cluster) Alone(ctx context.Context, fn func(context.Context) error) error {
	return c.nodes.Alone(ctx, fn)
}

// Leave ends the membership, after everything is written: the others take over at once.
func (c *Cluster) Leave(ctx context.Context) error {
	c.stopHolding()
	return errors.Join(c.nodes.Leave(ctx), c.nodes.Tell(ctx, toAll(wordMembers)))
}

// Nodes returns the numbers of the known members.
func (c *Cluster) Nodes() []int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []int
	for _, m := range c.views[len(c.views)-1].Members {
		all = append(all, m.No)
	}
	slices.Sort(all)
	return all
}

// Stats describes this node's current part.
type Stats struct {
	Nodes       int   // known members
	Generation  int64 // of the members
	Sending     bool  // it holds its lease
	LeaseLeft   time.Duration
	Settled     bool // all nodes use the same members
	Adopted     int  // endpoints taken over since the start, its own after a suspension among them
	Suspensions int  // times that the lease was not renewed in time
}

// Stats returns what this node's part is.
func (c *Cluster) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	last := &c.views[len(c.views)-1]
	return Stats{Nodes: len(last.Members), Generation: last.Generation, Sending: c.cut != nil, LeaseLeft: max(time.Until(c.until), 0),
		Settled: c.settled, Adopted: c.adopted, Suspensions: c.suspensions}
}
