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
)

var (
	simSeeds = flag.Int("sim.seeds", 8, "how many worlds TestSimulation runs")
	simSeed  = flag.Uint64("sim.seed", 1, "the first one's seed")
)

// TestSimulation lets an adversary with a seed play against the engine for days:
// receivers that change their minds, a store that refuses transactions, restarts
// at any moment. Whatever happens, what was acknowledged is delivered or reported,
// nothing is attempted twice at a time or before it is due, and order is kept where
// it was promised.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	if underRace { // make test runs it both ways
		seeds = min(seeds, 2)
	}
	for i := range seeds {
		seed := *simSeed + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// flaky refuses transactions at random while it is told to.
type flaky struct {
	*countingStore
	refuse func() bool
	bad    func() bool
}

func (f *flaky) Commit(ctx context.Context, b *store.Batch) error {
	if f.refuse() {
		return errors.New("the disk has a bad day")
	}
	return f.countingStore.Commit(ctx, b)
}

// Ready fails at a bad time too: otherwise single settlements would look poisoned.
func (f *flaky) Ready(ctx context.Context) error {
	if f.bad() {
		return errors.New("the disk has a bad day")
	}
	return f.countingStore.Ready(ctx)
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t)
	w.random = rand.New(rand.NewPCG(seed, seed))
	var refusing atomic.Bool
	chance := func(p float64) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.random.Float64() < p
	}
	w.disturb = func(s *countingStore) commitStore {
		return &flaky{s, func() bool { return refusing.Load() && chance(0.5) }, refusing.Load}
	}
	w.config.Workers = 32
	w.config.Health.DisableAfter = 300 * 24 * time.Hour
	w.start()

	kinds := []endpoint.Settings{{}, {Ordering: endpoint.FIFO}, {Concurrency: 1}, {Rate: 5}, {Schedule: []time.Duration{time.Second, time.Minute}}}
	acknowledged := map[*endpoint.Endpoint][]string{}
	order := map[string][]string{}
	var all []*endpoint.Endpoint
	for i := range 6 {
		name := fmt.Sprint("e", i)
		answer := func(ctx context.Context, r *sender.Request) delivery.Attempt {
			w.mu.Lock()
			mood, pause := w.moods[name], time.Duration(w.random.Int64N(int64(2*time.Second)))
			w.mu.Unlock()
			switch mood {
			case 0:
				return hang(ctx, r)
			case 1:
				return after(pause, delivery.Attempt{Outcome: delivery.OutcomeServerError, StatusCode: 500})(ctx, r)
			case 2:
				if chance(0.5) {
					return no(ctx, r)
				}
			}
			a := after(pause, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})(ctx, r)
			if a.Succeeded() {
				w.mu.Lock()
				order[name] = append(order[name], r.EventID)
				w.mu.Unlock()
			}
			return a
		}
		all = append(all, w.receiver(name, i%2 == 0, kinds[i%len(kinds)], answer))
	}
	for range 40 {
		w.mu.Lock()
		for i := range all {
			if w.random.IntN(3) == 0 {
				w.moods[fmt.Sprint("e", i)] = w.random.IntN(8)
			}
		}
		e, n, pause := all[w.random.IntN(len(all))], 1+w.random.IntN(30), time.Duration(w.random.Int64N(int64(2*time.Hour)))
		w.mu.Unlock()
		refusing.Store(chance(0.3))
		for range n {
			if id, err := w.trySend(e); err == nil {
				acknowledged[e] = append(acknowledged[e], id)
			}
		}
		settle(pause)
		refusing.Store(false)
		settle(5 * time.Second) // a store that works again takes what was kept for it
		if chance(0.2) {
			w.stop(time.Duration(w.random.Int64N(int64(20 * time.Second))))
			w.start()
		}
	}
	w.mu.Lock()
	for i := range all {
		w.moods[fmt.Sprint("e", i)] = 7 // all is well in the end
	}
	w.mu.Unlock()
	settle(2 * days)

	for i, e := range all {
		states := w.states(e)
		total := states[delivery.Succeeded] + states[delivery.Failed]
		if states[delivery.Pending] > 0 || total != len(acknowledged[e]) {
			t.Errorf("%s: states %v of %d acknowledged", e.ID, states, len(acknowledged[e]))
		}
		reported := 0
		for d := range w.exhausted {
			if d.Endpoint == e.No {
				reported++
			}
		}
		if reported < states[delivery.Failed] {
			t.Errorf("%s: %d failed, %d reported", e.ID, states[delivery.Failed], reported)
		}
		if e.Settings.Ordering == endpoint.FIFO {
			last := event.Key(0)
			seen := map[string]bool{}
			for _, id := range order[fmt.Sprint("e", i)] {
				if seen[id] { // sent again after a restart: allowed
					continue
				}
				seen[id] = true
				key, _, _ := event.ParseID(event.PrefixEvent, id)
				if key < last {
					t.Errorf("%s: %s came late", e.ID, id)
				}
				last = max(last, key)
			}
		}
		if e.Settings.Concurrency == 1 && w.most[e.URL] > 1 {
			t.Errorf("%s: %d at a time", e.ID, w.most[e.URL])
		}
		for key, tries := range w.attempts {
			for j := 1; j < len(tries); j++ {
				if gap := tries[j].Sub(tries[j-1]); gap < time.Second && w.restarts == 0 {
					t.Errorf("%s: tried again after %s", key, gap)
				}
			}
		}
	}
	if len(w.twice) > 0 {
		t.Errorf("attempted twice at a time: %v", w.twice)
	}
	w.stop(time.Minute)
}
