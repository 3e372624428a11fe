package dispatch_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

var (
	adversarySeeds = flag.Int("adversary.seeds", 50, "how many games TestAdversary plays")
	adversarySeed  = flag.Uint64("adversary.seed", 1, "the first one's seed")
)

// TestAdversary plays against the engine on a store whose every call can be slow,
// late with its answer, or refused. Beyond what TestSimulation does, the process
// is killed, people disable, enable, delete and retry, and memory, rates and
// rest are watched. A failing seed is played again with -adversary.seed and
// -adversary.seeds 1; all decisions come from it, though the scheduler's do not.
func TestAdversary(t *testing.T) {
	seeds := *adversarySeeds
	if testing.Short() || underRace {
		seeds = min(seeds, 10)
	}
	for i := range seeds {
		seed := *adversarySeed + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &game{arena: newArena(t), dice: rand.New(rand.NewPCG(seed, 1)), seed: seed, acknowledged: map[int64][]delivery.ID{}}
				g.play()
			})
		})
	}
}

// game is one seed's play. The store's, the receivers' and the driver's
// decisions come from different dice, so that one does not shift the others.
type game struct {
	*arena
	seed         uint64
	dice         *rand.Rand // the driver's
	moods        [9]atomic.Int32
	away         atomic.Bool // the store refuses
	acknowledged map[int64][]delivery.ID
	refused      []delivery.ID
	deleted      int64
	began        time.Time // of the engine's life
}

// The moods of a receiver.
const (
	fine int32 = iota
	failing
	hanging
	flickering
	busy
	picky
	gone
	moodCount
)

const arenaQueue = 64 << 10

func (g *game) play() {
	kinds := []endpoint.Settings{
		{}, {Ordering: endpoint.FIFO}, {Concurrency: 3}, {Rate: 5}, {Schedule: []time.Duration{time.Second, time.Minute}},
		{Ordering: endpoint.FIFO, Schedule: []time.Duration{time.Second, time.Minute}}, {Schedule: []time.Duration{}}, {}, // 7 is deleted some time
	}
	g.config.Workers, g.config.QueueBytes = 24, arenaQueue
	g.config.Health.DisableAfter = 300 * 24 * time.Hour
	for i, k := range kinds {
		g.receiver(int64(i+1), i%2 == 0, k, g.answerOf(int64(i+1)))
	}
	g.open()
	for range 40 {
		g.move()
	}
	g.calmDown()
	g.judge()
}

func (g *game) open() {
	calls := rand.New(rand.NewPCG(g.seed, 2)) // used with the store's lock held
	g.store.Disturb(func(c memstore.Call) (t memstore.Trouble) {
		if g.away.Load() && c.Method != "AllHealth" {
			t.Err = errors.New("away")
		}
		if calls.IntN(4) == 0 {
			t.Before = time.Duration(calls.Int64N(int64(100 * time.Millisecond)))
		}
		if calls.IntN(4) == 0 {
			t.After = time.Duration(calls.Int64N(int64(100 * time.Millisecond)))
		}
		return t
	})
	g.began = time.Now()
	g.start()
}

// answerOf returns what a receiver does, by its mood at the time and by a number
// that depends on the request alone.
func (g *game) answerOf(no int64) answer {
	return func(ctx context.Context, r *sender.Request) delivery.Attempt {
		key, _, _ := event.ParseID(event.PrefixEvent, r.EventID)
		id := delivery.ID{Event: key, Endpoint: no}
		g.check(id)
		dice := rand.New(rand.NewPCG(g.seed^uint64(key), uint64(no)<<32|uint64(r.Number)))
		pause := time.Duration(dice.Int64N(int64(time.Second)))
		a := delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
		switch g.moods[no].Load() {
		case failing:
			a = delivery.Attempt{Outcome: delivery.OutcomeServerError, StatusCode: 500}
		case hanging:
			return hang(ctx, r)
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
		return after(pause, a)(ctx, r)
	}
}

// check holds the start of an attempt against what is on disk.
func (g *game) check(id delivery.ID) {
	d, _, ok := g.store.Delivery(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !ok:
		g.fault("%s was attempted before it was on disk", id)
	case d.State == delivery.Succeeded || d.State == delivery.Failed:
		g.fault("%s was attempted although it is %s", id, d.State)
	case d.State == delivery.Pending && d.Budget > 0 && d.Due.After(time.Now()):
		g.fault("%s was attempted %s before it was due", id, time.Until(d.Due))
	}
}

func (g *game) move() {
	for no := range int64(8) {
		if g.dice.IntN(4) == 0 {
			mood := g.dice.Int32N(moodCount)
			if mood == gone && g.dice.IntN(4) > 0 {
				mood = fine
			}
			g.moods[no+1].Store(mood)
		}
	}
	g.away.Store(g.dice.IntN(5) == 0)
	g.ingest()
	switch g.dice.IntN(12) {
	case 0:
		g.away.Store(false)
		g.stop(time.Duration(g.dice.Int64N(int64(20 * time.Second))))
		g.paced()
		g.open()
	case 1:
		g.crash()
		g.paced()
		g.away.Store(false)
		g.open()
	case 2:
		g.requeue()
	case 3:
		no := 1 + g.dice.Int64N(6)
		g.change(no, func(e *endpoint.Endpoint) { e.Status = endpoint.Disabled })
		g.engine.Wake(no)
	case 4:
		g.enable(1 + g.dice.Int64N(7))
	case 5:
		if g.deleted == 0 && g.dice.IntN(4) == 0 {
			g.deleted = 8
			g.endpoints.Remove(8)
			g.engine.Wake(8)
		}
	}
	pauses := []time.Duration{10 * time.Millisecond, time.Second, 30 * time.Second, 10 * time.Minute, 3 * time.Hour}
	settle(time.Duration(g.dice.Int64N(int64(pauses[g.dice.IntN(len(pauses))]))))
	if n, bound := g.engine.Stats().Ready, arenaQueue/256+8; n > bound {
		g.t.Errorf("%d ready in memory, want at most %d", n, bound)
	}
}

func (g *game) ingest() {
	var to []int64
	for no := int64(1); no <= 8; no++ {
		if e := g.endpoints.Get(no); e != nil && e.Status == endpoint.Enabled && g.dice.IntN(3) == 0 {
			to = append(to, no)
		}
	}
	for range g.dice.IntN(40) * (1 + 3*g.dice.IntN(2)) {
		a := g.event(10, to...)
		err := g.commits.Append(context.Background(), a)
		for _, d := range a.Deliveries {
			if err == nil {
				g.acknowledged[d.ID.Endpoint] = append(g.acknowledged[d.ID.Endpoint], d.ID)
			} else {
				g.refused = append(g.refused, d.ID)
			}
		}
		if err != nil { // a client that is turned away comes back later
			return
		}
	}
}

// requeue is a person who retries what was settled, or was not. Ordered
// endpoints are left out: a retry by hand is out of order by its nature.
func (g *game) requeue() {
	no := []int64{1, 3, 4, 5, 7}[g.dice.IntN(5)]
	ids := g.acknowledged[no]
	for range min(len(ids), 1+g.dice.IntN(5)) {
		d, _, _ := g.store.Delivery(ids[g.dice.IntN(len(ids))])
		d.Requeue(time.Now())
		_ = g.store.Requeue(context.Background(), d) // a person can be turned away too
	}
	g.engine.Wake(no)
}

func (g *game) enable(no int64) {
	if e := g.endpoints.Get(no); e == nil || e.Status == endpoint.Enabled {
		return
	}
	g.change(no, func(e *endpoint.Endpoint) { e.Status, e.EnabledSince = endpoint.Enabled, time.Now() })
	g.engine.Forgive(no)
}

// paced checks the rate of endpoint 4 in the life of the engine that just ended.
func (g *game) paced() {
	g.mu.Lock()
	defer g.mu.Unlock()
	perSecond := map[int64]int{}
	for id, tries := range g.tries {
		for _, t := range tries {
			if id.Endpoint == 4 && !t.at.Before(g.began) {
				perSecond[int64(t.at.Sub(g.began)/time.Second)]++
			}
		}
	}
	for s, n := range perSecond {
		if n > 11 { // a burst of five, five more, and one on the edge
			g.fault("second %d: %d attempts at 5 a second", s, n)
		}
	}
}

func (g *game) calmDown() {
	g.away.Store(false)
	for no := range int64(8) {
		g.moods[no+1].Store(fine)
	}
	settle(time.Minute) // the last who say that they are gone
	for no := range int64(8) {
		g.enable(no + 1)
	}
	settle(2 * days)
	g.paced()
}

func (g *game) judge() {
	before := g.store.Calls("LoadLane")
	settle(24 * time.Hour)
	if s, n := g.engine.Stats(), g.store.Calls("LoadLane")-before; s.Ready+s.InFlight+n > 0 {
		g.t.Errorf("no rest: %+v, %d reads", s, n)
	}
	g.store.Disturb(nil)
	g.stop(time.Minute)
	for no, ids := range g.acknowledged {
		for _, id := range ids {
			g.judgeDelivery(no, id)
		}
	}
	for _, id := range g.refused {
		if _, _, ok := g.store.Delivery(id); ok {
			g.t.Errorf("%s was refused and is on disk", id)
		}
	}
	for no, limit := range map[int64]int{2: 1, 6: 1, 3: 3} {
		if g.peak[no] > limit {
			g.t.Errorf("endpoint %d: %d at a time, want %d", no, g.peak[no], limit)
		}
	}
	for _, no := range []int64{2, 6} {
		last, seen := event.Key(0), map[event.Key]bool{}
		for _, key := range g.order[no] {
			if !seen[key] && key < last { // one that was seen was sent again after a restart
				g.t.Errorf("endpoint %d: %d came late", no, key)
			}
			seen[key], last = true, max(last, key)
		}
	}
	g.wantKept()
}

func (g *game) judgeDelivery(no int64, id delivery.ID) {
	d, recorded, ok := g.store.Delivery(id)
	switch {
	case !ok:
		g.t.Errorf("%s was acknowledged and is not on disk", id)
	case d.State == delivery.Pending, d.State == delivery.Canceled && no != g.deleted:
		g.t.Errorf("endpoint %d: %s is %s in the end, after %d attempts, due %s", no, id, d.State, d.Attempts, d.Due)
	case d.State == delivery.Succeeded && (len(g.tries[id]) == 0 || recorded == 0):
		g.t.Errorf("%s is said to have succeeded without an attempt", id)
	case d.State == delivery.Failed && g.exhausted[id] == 0:
		g.t.Errorf("%s failed and nobody was told", id)
	}
}

var _ store.Hot = (*memstore.Store)(nil)
