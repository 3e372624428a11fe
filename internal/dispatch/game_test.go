package dispatch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// game is the run of one seed: an adversary against the engine. rules_test.go contains the
// rules.
//
// The decisions of the driver, the clients, the store and the receivers use different random
// sources, so that one does not shift the others. Each of the adversary's actions takes a
// random number of nanoseconds, so two almost never happen at the same instant.
type game struct {
	*arena
	seed  uint64
	long  bool       // days instead of minutes
	dice  *rand.Rand // the driver's
	trace *trace

	moods   [lastLane + 1]atomic.Int32
	away    atomic.Bool // the store refuses
	deleted int64       // an endpoint
	rules
}

// The endpoints, by number.
const (
	plain    = 1
	ordered  = 2
	three    = 3  // attempts at a time
	limited  = 4  // to five a second
	hasty    = 5  // with its own schedule
	hurried  = 6  // ordered, with its own schedule
	once     = 7  // without a retry
	doomed   = 8  // deleted at some time
	healthy  = 9  // always responds at once
	choosy   = 10 // never accepts one event type, and always accepts the others while it is up
	lastLane = choosy
)

// The event types, and how an endpoint does not accept one: by a refusal, without a response,
// or by being unreachable.
const (
	refusedType = "type.refused"
	goodType    = "type.good"
	rareType    = "type.rare"
)

var refusals = []delivery.Attempt{
	{Outcome: delivery.OutcomeServerError, StatusCode: 500}, {Outcome: delivery.OutcomeServerError, StatusCode: 503},
	{Outcome: delivery.OutcomeRejected, StatusCode: 404}, {Outcome: delivery.OutcomeTimeout}, {Outcome: delivery.OutcomeConnection},
}

// typeOf returns the type of the event with that key: most are of the refused one.
func typeOf(k event.Key) string {
	switch rand.New(rand.NewPCG(uint64(k), 7)).IntN(10) {
	case 0:
		return rareType
	case 1, 2, 3:
		return goodType
	}
	return refusedType
}

// The states of a receiver.
const (
	fine int32 = iota
	failing
	hanging
	flickering
	busy
	picky
	gone
	partial // refuses one type
	moodCount
)

const (
	gameWorkers = 24
	gameQueue   = 64 << 10
	gameTimeout = 5 * time.Second // of every attempt
	largestBody = 8 << 10
)

func settingsOf(no int64) endpoint.Settings {
	own := []time.Duration{time.Second, time.Minute}
	s := map[int64]endpoint.Settings{
		ordered: {Ordering: endpoint.FIFO}, three: {Concurrency: 3}, limited: {Rate: 5}, hasty: {Schedule: own},
		hurried: {Ordering: endpoint.FIFO, Schedule: own}, once: {Schedule: []time.Duration{}},
	}[no]
	s.Timeout = gameTimeout
	return s
}

// play plays the game of a seed and returns its trace.
func play(t *testing.T, seed uint64, show bool) *trace {
	g := &game{arena: newArena(t), seed: seed, long: seed%500 == 0, dice: rand.New(rand.NewPCG(seed, 1)), trace: newTrace(show), rules: newRules()}
	g.arena.random = rand.New(rand.NewPCG(seed, 5))
	g.yield = func() { pass(time.Nanosecond) } // under fake time: until no other goroutine can run
	g.record, g.attempting, g.attempted = g.ledger, g.begins, g.ends
	g.config.Workers, g.config.QueueBytes = gameWorkers, gameQueue
	g.config.Health.DisableAfter = 300 * 24 * time.Hour
	g.config.Tries = 600 // independent of the number of processors
	moves := 3 + g.dice.IntN(7)
	if g.long {
		moves = 40
	} else {
		g.config.Live = delivery.Schedule{2 * time.Second, 20 * time.Second, 3 * time.Minute, 10 * time.Minute}
		g.config.Test = delivery.Schedule{time.Second, 15 * time.Second}
	}
	for no := int64(1); no <= lastLane; no++ {
		g.receiver(no, no%2 == 1, settingsOf(no), g.answerOf(no))
	}
	g.open()
	for range moves {
		g.move()
	}
	g.calmDown()
	g.judge()
	return g.trace
}

// open starts the engine on the data on disk.
func (g *game) open() {
	calls := rand.New(rand.NewPCG(g.seed, 2+uint64(g.life)<<8)) // used with the store's lock held
	g.store.Disturb(func(c memstore.Call) (t memstore.Trouble) {
		if g.away.Load() && c.Method != "AllHealth" {
			t.Err = errors.New("away")
		}
		t.Before = time.Duration(calls.Int64N(int64(100 * time.Microsecond)))
		t.After = time.Duration(calls.Int64N(int64(100 * time.Microsecond)))
		if calls.IntN(4) == 0 {
			t.Before = time.Duration(calls.Int64N(int64(100 * time.Millisecond)))
		}
		if calls.IntN(4) == 0 {
			t.After = time.Duration(calls.Int64N(int64(100 * time.Millisecond)))
		}
		g.trace.note("%s %d %v %v %v", c.Method, c.Endpoint, t.Before, t.After, t.Err)
		return t
	})
	g.trace.note("start")
	g.began()
	g.start()
}

// answerOf returns the behaviour of a receiver, by its current state and a number that depends
// on the request only.
func (g *game) answerOf(no int64) answer {
	return func(ctx context.Context, r *sender.Request) delivery.Attempt {
		key, _, _ := event.ParseID(event.PrefixEvent, r.EventID)
		dice := rand.New(rand.NewPCG(g.seed^uint64(key), uint64(no)<<32|uint64(r.Number)))
		pause := time.Duration(dice.Int64N(int64(time.Second)))
		a := delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
		mood := g.moods[no].Load()
		if no == choosy && mood == fine {
			mood = partial
		}
		switch mood {
		case partial:
			if typeOf(key) == refusedType {
				a = refusals[(g.seed+uint64(no))%uint64(len(refusals))]
			}
			if a.Outcome == delivery.OutcomeTimeout {
				return after(r.Timeout+pause/1e3, a)(ctx, r)
			}
		case failing:
			a = delivery.Attempt{Outcome: delivery.OutcomeServerError, StatusCode: 500}
		case hanging:
			return after(r.Timeout+pause/1e3, delivery.Attempt{Outcome: delivery.OutcomeTimeout})(ctx, r)
		case flickering:
			if dice.IntN(2) == 0 {
				a = delivery.Attempt{Outcome: delivery.OutcomeConnection}
			}
		case busy:
			a = delivery.Attempt{Outcome: delivery.OutcomeThrottled, StatusCode: 429, RetryAfter: 10 * time.Second}
		case picky:
			if dice.IntN(3) == 0 {
				a = delivery.Attempt{Outcome: delivery.OutcomeRejected, StatusCode: 400}
			}
		case gone:
			a = delivery.Attempt{Outcome: delivery.OutcomeGone, StatusCode: 410}
		}
		if no == healthy {
			pause /= 50
		}
		return after(pause, a)(ctx, r)
	}
}

// move performs one of the adversary's moves.
func (g *game) move() {
	g.toggleChoosy()
	for no := int64(1); no < healthy; no++ {
		if g.dice.IntN(4) == 0 {
			mood := g.dice.Int32N(moodCount)
			if mood == gone && g.dice.IntN(4) > 0 {
				mood = fine
			}
			g.moods[no].Store(mood)
		}
	}
	g.storeAway(g.dice.IntN(5) == 0)
	for c := range g.clients {
		g.ingest(c)
	}
	settle(time.Duration(g.dice.Int64N(int64(300 * time.Millisecond))))
	what := g.dice.IntN(13)
	g.trace.note("move %d", what)
	switch what {
	case 0:
		g.storeAway(false)
		g.stop(time.Duration(g.dice.Int64N(int64(20 * time.Second))))
		g.open()
	case 1, 2:
		g.crash(func(n int) int { return g.dice.IntN(n + 1) })
		g.wantAcknowledged()
		g.storeAway(false)
		g.open()
	case 3:
		g.requeue()
	case 4:
		no := plain + g.dice.Int64N(hurried)
		g.change(no, func(e *endpoint.Endpoint) { e.Status = endpoint.Disabled })
		g.engine.Wake(no)
	case 5:
		g.enable(plain + g.dice.Int64N(once))
	case 6:
		if g.deleted == 0 && g.dice.IntN(4) == 0 {
			g.deleted = doomed
			g.endpoints.Remove(doomed)
			g.engine.Wake(doomed)
		}
	case 7:
		g.expedite()
	}
	pauses := []time.Duration{10 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, 5 * time.Minute}
	if g.long {
		pauses[4] = 3 * time.Hour
	}
	settle(time.Duration(g.dice.Int64N(int64(pauses[g.dice.IntN(len(pauses))]))))
	g.wantOrder()
}

// toggleChoosy takes the choosy endpoint down, or brings it up again.
func (g *game) toggleChoosy() {
	if g.dice.IntN(3) > 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	mood := fine
	if g.moods[choosy].Load() == fine {
		mood = []int32{failing, hanging, busy}[g.dice.IntN(3)]
	}
	g.moods[choosy].Store(mood)
	g.upSince = time.Now()
}

func (g *game) storeAway(away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away.Swap(away) && !away {
		g.calmSince = time.Now()
	}
}

// ingest lets a client send some events, unless it still waits for its last response. Ordered
// endpoints have one client, so that the order is known.
func (g *game) ingest(c int) {
	g.mu.Lock()
	waits := g.clients[c]
	g.mu.Unlock()
	var to []int64
	for no := int64(1); no <= lastLane; no++ {
		e, fifo := g.endpoints.Get(no), no == ordered || no == hurried
		if e != nil && e.Status == endpoint.Enabled && g.dice.IntN(3) == 0 && (!fifo || c == 0) {
			to = append(to, no)
		}
	}
	n := g.dice.IntN(6) * (1 + 5*g.dice.IntN(6)/5)
	begin, size := time.Duration(g.dice.Int64N(int64(200*time.Millisecond))), g.dice.IntN(12)
	if waits || n == 0 {
		return
	}
	g.mu.Lock()
	g.clients[c] = true
	g.mu.Unlock()
	go func() {
		pass(begin)
		g.mu.Lock()
		life, commits := g.life, g.commits
		g.mu.Unlock()
		to = slices.DeleteFunc(to, func(no int64) bool { return g.endpoints.Get(no) == nil })
		all := make([]*store.Append, n)
		for i := range all {
			all[i] = g.letter(size, to)
		}
		errs := commits.AppendAll(context.Background(), all)
		g.answered(c, life, all, errs)
	}()
}

// letter returns an event whose body depends on its key only.
func (g *game) letter(size int, to []int64) *store.Append {
	a := g.event(0, to...)
	a.Event.Body, a.Event.Type = bodyOf(a.Event.Key, size), typeOf(a.Event.Key)
	g.mu.Lock()
	g.sizes[a.Event.Key] = size
	g.mu.Unlock()
	return a
}

// bodyOf returns the body of an event; size is the binary logarithm of its approximate length.
func bodyOf(k event.Key, size int) []byte {
	dice := rand.New(rand.NewPCG(uint64(k), 6))
	b := make([]byte, 1+dice.IntN(1<<size))
	for i := range b {
		b[i] = byte(uint64(k)>>(i%8*8)) + byte(i)
	}
	return b
}

// requeue simulates a user who retries a delivery in any state. Ordered endpoints are left out,
// because a manual retry is out of order.
func (g *game) requeue() {
	no := []int64{plain, three, limited, hasty, once}[g.dice.IntN(5)]
	g.mu.Lock()
	ids := g.acknowledged[no]
	g.mu.Unlock()
	for range min(len(ids), 1+g.dice.IntN(5)) {
		id := ids[g.dice.IntN(len(ids))]
		d, _, _ := g.store.Delivery(id)
		d.Requeue(time.Now())
		g.mu.Lock()
		g.requeued[id] = true
		g.mu.Unlock()
		_ = g.store.Requeue(context.Background(), d) // the user's request may fail too
	}
	g.engine.Wake(no)
}

// expedite simulates a user who retries one delivery and watches it.
func (g *game) expedite() {
	no := []int64{plain, ordered, three, limited, hasty, hurried, once, choosy}[g.dice.IntN(8)]
	g.mu.Lock()
	ids := g.acknowledged[no]
	g.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id := ids[g.dice.IntN(len(ids))]
	d, _, _ := g.store.Delivery(id)
	d.Requeue(time.Now())
	g.mu.Lock()
	g.requeued[id] = true
	g.mu.Unlock()
	if g.store.Requeue(context.Background(), d) != nil { // the user's request may fail too
		return
	}
	g.mu.Lock()
	g.asked[id] = time.Now()
	g.mu.Unlock()
	g.engine.Expedite(id)
}

func (g *game) enable(no int64) {
	if e := g.endpoints.Get(no); e == nil || e.Status == endpoint.Enabled {
		return
	}
	g.change(no, func(e *endpoint.Endpoint) { e.Status, e.EnabledSince = endpoint.Enabled, time.Now() })
	g.mu.Lock()
	delete(g.failed, no)
	g.mu.Unlock()
	g.engine.Forgive(no)
}

// calmDown lets everything work, until no delivery waits.
func (g *game) calmDown() {
	g.storeAway(false)
	g.mu.Lock()
	for no := range g.moods {
		g.moods[no].Store(fine)
	}
	g.upSince = time.Now()
	g.mu.Unlock()
	settle(time.Minute) // the last endpoints that respond with 410
	for no := int64(1); no <= lastLane; no++ {
		g.enable(no)
	}
	patience := 2 * time.Hour
	if g.long {
		patience = 2 * days
	}
	for passed := time.Duration(0); passed < patience && g.pending(); passed += patience / 16 {
		settle(patience / 16)
		g.wantOrder()
	}
	if g.choosyHasOnlyRefused() { // each of them is attempted by its schedule, behind a breaker
		for passed := time.Duration(0); passed < 40*days && g.store.States(choosy)[delivery.Pending] > 0; passed += 6 * time.Hour {
			settle(6 * time.Hour)
		}
	}
}

// choosyHasOnlyRefused reports whether only deliveries that their endpoint never accepts are
// waiting.
func (g *game) choosyHasOnlyRefused() bool {
	for no := int64(1); no < choosy; no++ {
		if g.store.States(no)[delivery.Pending] > 0 {
			return false
		}
	}
	only := true
	g.store.Ahead(delivery.ID{Endpoint: choosy}, func(id delivery.ID) bool {
		only = typeOf(id.Event) == refusedType
		return only
	})
	return only
}

func (g *game) pending() bool {
	for no := int64(1); no <= lastLane; no++ {
		if g.store.States(no)[delivery.Pending] > 0 {
			return true
		}
	}
	return false
}

// ledger wraps the committer and records settlements.
type ledger struct {
	g    *game
	life int
	next dispatch.Recorder
}

func (g *game) ledger(next dispatch.Recorder) dispatch.Recorder { return &ledger{g, g.life, next} }

// Settle implements dispatch.Recorder.
func (l *ledger) Settle(s store.Settlement, h *store.Health) {
	l.g.settles(l.life, &s, h)
	l.next.Settle(s, h)
}

var _ store.Hot = (*memstore.Store)(nil)
