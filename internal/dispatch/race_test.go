package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/memstore"
)

// inArena runs a test against an arena under fake time.
func inArena(t *testing.T, test func(t *testing.T, w *arena)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newArena(t)
		test(t, w)
		w.store.Disturb(nil)
		w.stop(time.Minute)
		w.wantKept()
	})
}

// slow delays the results of one method of the store.
func slow(method string, t memstore.Trouble) func(memstore.Call) memstore.Trouble {
	return func(c memstore.Call) memstore.Trouble {
		if c.Method == method {
			return t
		}
		return memstore.Trouble{}
	}
}

// A worker's read may be older than a settlement during the read.
func TestEngine_readOvertakenBySettlement(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.receiver(1, false, endpoint.Settings{}, slowly(10*time.Millisecond))
		w.store.Disturb(slow("LoadLane", memstore.Trouble{After: 50 * time.Millisecond}))
		ids := w.backlog(300, 10, 1)
		w.start()
		settle(time.Minute)
		for _, id := range ids {
			if n := w.attempts(id); n != 1 {
				t.Fatalf("%s was attempted %d times", id, n)
			}
		}
	})
}

// A delivery can be read from the store before the engine receives its commit.
func TestEngine_readOvertakesCommitted(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		settle(time.Second)
		w.receiver(1, false, endpoint.Settings{}, slowly(time.Second))
		w.store.Disturb(slow("Commit", memstore.Trouble{After: 50 * time.Millisecond}))
		var id delivery.ID
		done := make(chan struct{})
		go func() { id = w.send(10, 1); close(done) }()
		settle(10 * time.Millisecond) // on disk, but not reported yet
		w.engine.Wake(1)
		<-done
		settle(10 * time.Second)
		if n := w.attempts(id); n != 1 {
			t.Errorf("attempted %d times", n)
		}
	})
}

// A manual retry while the engine still holds the delivery must not be lost.
func TestEngine_requeuedWhileHeld(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		w.receiver(1, false, endpoint.Settings{Schedule: []time.Duration{}}, no)
		w.store.Disturb(func(c memstore.Call) memstore.Trouble {
			if c.Method == "Commit" && len(c.Batch.Settlements) > 0 {
				return memstore.Trouble{After: 50 * time.Millisecond}
			}
			return memstore.Trouble{}
		})
		id := w.send(10, 1)
		settle(20 * time.Millisecond)
		d, _, _ := w.store.Delivery(id)
		if d.State != delivery.Failed {
			t.Fatalf("state %s, want the settlement on disk and the engine not told", d.State)
		}
		d.Requeue(time.Now())
		if err := w.store.Requeue(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		w.engine.Wake(1)
		settle(10 * time.Second)
		if n := w.attempts(id); n != 2 {
			t.Errorf("attempted %d times, want 2", n)
		}
	})
}

// One waiting worker cannot be called for two lanes.
func TestEngine_idleWorkerIsCalledOnce(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		w.receiver(1, false, endpoint.Settings{}, yes)
		w.receiver(2, false, endpoint.Settings{}, hang)
		w.receiver(3, false, endpoint.Settings{}, hang)
		w.send(10, 1) // leaves one waiting worker
		settle(time.Second)
		began := time.Now()
		id := w.send(10, 2, 3)
		settle(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		for id.Endpoint = 2; id.Endpoint <= 3; id.Endpoint++ {
			if tries := w.tries[id]; len(tries) == 0 || tries[0].at.Sub(began) > time.Second {
				t.Errorf("attempted at %v, sent at %s", tries, began)
			}
		}
	})
}

// A rate beyond the range of time.Duration must not stop the clock of all lanes.
func TestEngine_tiniestRate(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		w.receiver(1, false, endpoint.Settings{Rate: 1e-300}, yes)
		w.receiver(2, false, endpoint.Settings{}, yes)
		w.send(10, 1)
		w.send(10, 1)
		settle(time.Hour)
		w.send(10, 2)
		settle(time.Second)
		w.want(1, map[delivery.State]int{delivery.Succeeded: 1, delivery.Pending: 1})
		w.want(2, map[delivery.State]int{delivery.Succeeded: 1})
	})
}

// Changed settings and manual retries do not refill the token bucket.
func TestEngine_wakingKeepsTheRate(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		w.receiver(1, false, endpoint.Settings{Rate: 1}, yes)
		for range 100 {
			w.send(10, 1)
			w.engine.Wake(1)
		}
		settle(30 * time.Second)
		if n := w.store.States(1)[delivery.Succeeded]; n > 32 || n < 25 {
			t.Errorf("%d delivered in 30 s at one a second", n)
		}
	})
}

// When all waiting deliveries are too old, one must still serve as a probe.
func TestEngine_breakerProbesPastTheWindow(t *testing.T) {
	for _, tt := range []struct {
		name     string
		schedule []time.Duration
	}{{"no retries", []time.Duration{}}, {"short", []time.Duration{time.Second}}} {
		t.Run(tt.name, func(t *testing.T) {
			inArena(t, func(t *testing.T, w *arena) {
				w.start()
				w.store.Disturb(slow("Commit", memstore.Trouble{After: 5 * time.Millisecond})) // no event is in memory as new indefinitely
				var up atomic.Bool
				w.receiver(1, true, endpoint.Settings{Schedule: tt.schedule}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
					if up.Load() {
						return yes(ctx, r)
					}
					return no(ctx, r)
				})
				for range 100 { // one a minute, which is older than the window when it is probed with
					w.send(10, 1)
					settle(time.Minute)
				}
				up.Store(true)
				for range 10 {
					w.send(10, 1)
					settle(time.Minute)
				}
				if s := w.engine.Stats(); s.Open != 0 {
					t.Error("the breaker never closes")
				}
				id := w.send(10, 1)
				settle(time.Second)
				if d, _, _ := w.store.Delivery(id); d.State != delivery.Succeeded {
					t.Errorf("state %s long after recovery", d.State)
				}
			})
		})
	}
}

// A store that cannot be read must not let new events overtake older ones.
func TestEngine_fifoWhileTheStoreCannotBeRead(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.receiver(1, true, endpoint.Settings{Ordering: endpoint.FIFO}, yes)
		w.store.Disturb(slow("LoadLane", memstore.Trouble{Err: errors.New("no")}))
		w.backlog(5, 10, 1)
		w.start()
		settle(time.Second / 2)
		for range 5 {
			w.send(10, 1)
		}
		settle(10 * time.Second)
		w.store.Disturb(nil)
		settle(10 * time.Second)
		w.want(1, map[delivery.State]int{delivery.Succeeded: 10})
		if !slices.IsSorted(w.order[1]) {
			t.Errorf("came as %v", w.order[1])
		}
	})
}

// A user can retry the head of an ordered lane early.
func TestEngine_fifoHeadRetriedByHand(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		var up atomic.Bool
		w.receiver(1, true, endpoint.Settings{Ordering: endpoint.FIFO, Schedule: []time.Duration{time.Hour}},
			func(ctx context.Context, r *sender.Request) delivery.Attempt {
				if up.Load() {
					return yes(ctx, r)
				}
				return no(ctx, r)
			})
		id := w.send(10, 1)
		settle(time.Minute)
		up.Store(true)
		d, _, _ := w.store.Delivery(id)
		d.Requeue(time.Now())
		if err := w.store.Requeue(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		w.engine.Wake(1)
		settle(time.Second)
		w.want(1, map[delivery.State]int{delivery.Succeeded: 1})
	})
}

// An endpoint that a user enabled starts without failures, after a restart too.
func TestEngine_forgivenessSurvivesRestart(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		var up atomic.Bool
		w.receiver(1, true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if up.Load() {
				return yes(ctx, r)
			}
			return no(ctx, r)
		})
		for w.endpoints.Get(1).Status == endpoint.Enabled {
			w.send(10, 1)
			settle(time.Hour)
		}
		settle(time.Hour)
		up.Store(true)
		w.change(1, func(e *endpoint.Endpoint) { e.Status, e.EnabledSince = endpoint.Enabled, time.Now() })
		w.engine.Forgive(1)
		settle(days)
		w.stop(time.Minute)
		w.start()
		up.Store(false)
		clear(w.dead)
		w.send(10, 1)
		settle(time.Second)
		if len(w.dead) > 0 {
			t.Error("disabled by its first failure")
		}
	})
}

// Deliveries that are read repeatedly because they are held must not keep workers busy.
func TestEngine_largeBodiesUnderWay(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.receiver(1, false, endpoint.Settings{}, slowly(10*time.Second))
		w.store.Disturb(slow("LoadLane", memstore.Trouble{After: time.Millisecond}))
		w.backlog(400, 256<<10, 1)
		w.start()
		settle(10 * time.Minute)
		w.want(1, map[delivery.State]int{delivery.Succeeded: 400})
		if w.peak[1] < 32 {
			t.Errorf("only %d at a time", w.peak[1])
		}
		if n := w.store.Calls("LoadLane"); n > 1000 {
			t.Errorf("the store was read %d times for 400 deliveries", n)
		}
	})
}

// Many hanging lanes with large bodies stay within the memory for ready deliveries.
func TestEngine_manyLanesOfLargeBodies(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		const lanes, body = 200, 64 << 10
		w.config.QueueBytes = 4 << 20
		for no := int64(1); no <= lanes; no++ {
			w.receiver(no, false, endpoint.Settings{}, hang)
			w.backlog(20, body, no)
		}
		w.start()
		settle(time.Second)
		// One more per lane, so that all of them make progress.
		if n, bound := w.engine.Stats().Ready, 4<<20/body+lanes; n > bound {
			t.Errorf("%d ready in memory, want at most %d", n, bound)
		}
		if n := w.engine.Stats().InFlight; n < lanes {
			t.Errorf("%d attempts under way to %d endpoints", n, lanes)
		}
	})
}

// The backlog of one dead endpoint, or small backlogs of very many, use no memory.
func TestEngine_memoryWithManyWaiting(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		const lanes = 1000
		w.receiver(1, true, endpoint.Settings{}, no)
		w.backlog(200_000, 10, 1)
		for number := int64(2); number <= lanes; number++ {
			w.receiver(number, true, endpoint.Settings{}, no)
			w.backlog(20, 10, number)
		}
		w.start()
		for range 120 {
			settle(time.Second)
			// Before the breakers open each lane holds one small load, then nothing.
			if n := w.engine.Stats().Ready; n > lanes*8 {
				t.Fatalf("%d ready in memory for %d lanes", n, lanes)
			}
		}
		if s := w.engine.Stats(); s.Open != lanes || s.Ready != 0 || s.Attempts > lanes*40 {
			t.Errorf("two minutes later: %+v", s)
		}
	})
}

// Two failures a week apart, with nothing to send between them, do not disable the endpoint.
func TestEngine_quietEndpointStays(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		w.receiver(1, false, endpoint.Settings{Schedule: []time.Duration{}}, no)
		w.send(10, 1)
		settle(7 * 24 * time.Hour)
		w.send(10, 1)
		settle(time.Minute)
		if len(w.dead) > 0 {
			t.Errorf("disabled after two failures: %v", w.dead)
		}
	})
}

// Events that were matched before a deletion can arrive after the cancellation.
func TestEngine_deletedMeanwhile(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		settle(time.Second)
		w.receiver(1, false, endpoint.Settings{}, yes)
		late := w.event(10, 1)
		w.endpoints.Remove(1)
		w.store.Disturb(slow("CancelPending", memstore.Trouble{After: 100 * time.Millisecond}))
		w.engine.Wake(1)
		settle(10 * time.Millisecond) // cancelled, but the engine does not know it yet
		if err := w.commits.Append(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		w.want(1, map[delivery.State]int{delivery.Canceled: 1})
	})
}

// A single failure among successes halves the concurrency, and does not reset it.
func TestEngine_paceAfterOneFailure(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.start()
		var n atomic.Int64
		w.receiver(1, false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if n.Add(1) == 300 {
				return no(ctx, r)
			}
			return slowly(time.Second)(ctx, r)
		})
		w.backlog(299, 10, 1)
		w.engine.Wake(1)
		settle(time.Minute)
		w.send(10, 1) // fails once
		settle(time.Minute)
		w.backlog(200, 10, 1)
		w.engine.Wake(1)
		settle(time.Second / 2)
		if s := w.engine.Stats(); s.InFlight < 30 {
			t.Errorf("%d at a time after one failure", s.InFlight)
		}
	})
}

// stuck is a Recorder that accepts nothing until it is released.
type stuck struct{ free chan struct{} }

func (s stuck) Settle(store.Settlement, *store.Health) { <-s.free }

func TestEngine_stopsWhenNothingCanBeRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newArena(t)
		s := stuck{make(chan struct{})}
		w.config.Recorder = s
		w.start()
		w.receiver(1, false, endpoint.Settings{}, yes)
		w.send(10, 1)
		settle(time.Second)
		began := time.Now()
		w.stop(20 * time.Second)
		if took := time.Since(began); took > 22*time.Second {
			t.Errorf("took %s", took)
		}
		close(s.free)
	})
}

func TestEngine_stopsWhileTheStoreIsAway(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.receiver(1, false, endpoint.Settings{}, yes)
		w.backlog(10, 10, 1)
		w.endpoints.Remove(1)
		w.store.Disturb(func(c memstore.Call) memstore.Trouble {
			if c.Method == "Lanes" || c.Method == "CancelPending" {
				return memstore.Trouble{Err: errors.New("away")}
			}
			return memstore.Trouble{}
		})
		w.start()
		w.engine.Wake(1)
		settle(time.Minute)
		began := time.Now()
		w.stop(20 * time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("without attempts under way it took %s", took)
		}
	})
}

// A clock stepped back delays no event that was not attempted yet.
func TestEngine_newEventsAfterAStepBack(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		var skew atomic.Int64
		w.config.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
		w.receiver(1, false, endpoint.Settings{}, yes)
		w.start()
		settle(time.Second)
		skew.Store(int64(-time.Hour))
		w.backlog(100, 10, 1) // with keys an hour ahead, as keys never step back
		w.engine.Wake(1)
		settle(time.Minute)
		w.want(1, map[delivery.State]int{delivery.Succeeded: 100})
	})
}

var _ dispatch.Store = (*memstore.Store)(nil)
