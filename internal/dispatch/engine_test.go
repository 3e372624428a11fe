//go:build !wasip1

package dispatch_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		test(t, w)
		w.stop(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.twice) > 0 {
			t.Errorf("attempted twice at a time: %v", w.twice)
		}
	})
}

func TestEngine_happyPath(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		settle(time.Second) // the store's lanes are known
		e := w.receiver("good", false, endpoint.Settings{}, yes)
		began := time.Now()
		ids := w.send(e, 500)
		settle(time.Second)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 500})
		for _, id := range ids {
			if tries := w.tries(e, id); len(tries) != 1 || tries[0].Sub(began) > 100*time.Millisecond {
				t.Fatalf("%s was attempted at %v", id, tries)
			}
		}
		if n := w.store.loads.Load(); n != 0 {
			t.Errorf("the store was read %d times; a new delivery is in memory", n)
		}
	})
}

func TestEngine_liveSchedule(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("down", true, endpoint.Settings{}, no)
		id := w.send(e, 1)[0]
		settle(4 * 24 * time.Hour)
		tries := w.tries(e, id)
		schedule := delivery.LiveSchedule()
		if len(tries) != len(schedule)+1 {
			t.Fatalf("%d attempts, want %d", len(tries), len(schedule)+1)
		}
		for i, d := range schedule {
			// The last gap can be longer by one probe interval: ten failures open the breaker.
			if gap := tries[i+1].Sub(tries[i]); gap < d || gap > d+time.Duration(float64(d)*delivery.Jitter)+time.Second {
				t.Errorf("retry %d came after %s, want %s and up to a fifth more", i+1, gap, d)
			}
		}
		w.want(e, map[delivery.State]int{delivery.Failed: 1})
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.exhausted) != 1 {
			t.Errorf("exhausted: %v", w.exhausted)
		}
		for d, n := range w.exhausted {
			if n != 1 {
				t.Errorf("%s reported %d times", d, n)
			}
		}
	})
}

func TestEngine_testScheduleRetriesFourTimes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("down", false, endpoint.Settings{}, no)
		id := w.send(e, 1)[0]
		settle(time.Hour)
		if n := len(w.tries(e, id)); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
	})
}

func TestEngine_ownSchedule(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("down", true, endpoint.Settings{Schedule: []time.Duration{time.Second}}, no)
		none := w.receiver("never", true, endpoint.Settings{Schedule: []time.Duration{}}, no)
		id, other := w.send(e, 1)[0], w.send(none, 1)[0]
		settle(time.Hour)
		if n, m := len(w.tries(e, id)), len(w.tries(none, other)); n != 2 || m != 1 {
			t.Errorf("%d and %d attempts, want 2 and 1", n, m)
		}
	})
}

func TestEngine_retryAfter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var n atomic.Int64
		e := w.receiver("busy", false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if n.Add(1) == 1 {
				return delivery.Attempt{Outcome: delivery.OutcomeThrottled, StatusCode: 429, RetryAfter: 3 * time.Minute}
			}
			return yes(ctx, r)
		})
		id := w.send(e, 1)[0]
		settle(10 * time.Minute)
		tries := w.tries(e, id)
		if len(tries) != 2 || tries[1].Sub(tries[0]) < 3*time.Minute || tries[1].Sub(tries[0]) > 3*time.Minute+time.Second {
			t.Errorf("attempts at %v", tries)
		}
	})
}

func TestEngine_goneStopsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("gone", false, endpoint.Settings{Concurrency: 1}, func(context.Context, *sender.Request) delivery.Attempt {
			return delivery.Attempt{Outcome: delivery.OutcomeGone, StatusCode: 410}
		})
		w.send(e, 10)
		settle(time.Hour)
		if w.dead[e.No] != endpoint.DisabledGone {
			t.Errorf("dead: %v", w.dead)
		}
		w.want(e, map[delivery.State]int{delivery.Failed: 1, delivery.Pending: 9})
	})
}

func TestEngine_hangingEndpointsDelayNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.Workers = 64 // far fewer than the hanging lanes
		w.start()
		good := w.receiver("good", false, endpoint.Settings{}, yes)
		w.send(good, 1) // its last attempt succeeded
		settle(time.Second)
		for i := range 100 {
			w.send(w.receiver(fmt.Sprint("hangs", i), false, endpoint.Settings{}, hang), 20)
		}
		settle(100 * time.Millisecond)
		began := time.Now()
		ids := w.send(good, 300)
		settle(time.Second)
		for _, id := range ids {
			if tries := w.tries(good, id); len(tries) != 1 || tries[0].Sub(began) > 50*time.Millisecond {
				t.Fatalf("%s was attempted at %v, sent at %s", id, tries, began)
			}
		}
		w.stop(time.Minute)
	})
}

// TestEngine_accountsTakeTurns gives one account very many endpoints, and lets another one send
// to an endpoint that has succeeded before, and to a new one: it gets a worker at once, whether
// the endpoints of the first respond slowly, hang or are retried manually.
func TestEngine_accountsTakeTurns(t *testing.T) {
	yesSlowly := after(9*time.Second, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
	for _, c := range []struct {
		name   string
		answer func(context.Context, *sender.Request) delivery.Attempt
		proven bool // the endpoints have succeeded before
		again  bool // their failed deliveries are resent
	}{
		{"slow", yesSlowly, true, false},
		{"slow at first", yesSlowly, false, false},
		{"hanging", hang, true, false},
		{"resent", hang, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.config.Workers = 64
				w.start()
				defer w.stop(time.Minute)
				var many []*endpoint.Endpoint
				answer := yes
				for i := range 100 {
					many = append(many, w.receiver(fmt.Sprint("many", i), false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt { return answer(ctx, r) }))
				}
				w.account = 2
				good, fresh := w.receiver("good", false, endpoint.Settings{}, yes), w.receiver("fresh", false, endpoint.Settings{}, yes)
				w.send(good, 1)
				if c.proven {
					for _, e := range many {
						w.send(e, 1)
					}
				}
				settle(time.Second)
				answer = c.answer
				for _, e := range many {
					ids := w.send(e, 20)
					if c.again {
						for _, id := range ids {
							k, _, _ := event.ParseID(event.PrefixEvent, id)
							w.engine.Expedite(delivery.ID{Event: k, Endpoint: e.No})
						}
					}
				}
				for range 20 {
					settle(time.Second)
					began := time.Now()
					for i, e := range []*endpoint.Endpoint{good, fresh, good} {
						id := w.send(e, 1)[0]
						if k, _, _ := event.ParseID(event.PrefixEvent, id); i == 2 {
							w.engine.Expedite(delivery.ID{Event: k, Endpoint: e.No})
						}
						settle(50 * time.Millisecond)
						if tries := w.tries(e, id); len(tries) != 1 {
							t.Fatalf("%s: %s was attempted at %v, sent at %s", e.ID, id, tries, began)
						}
					}
				}
			})
		})
	}
}

func TestEngine_breaker(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var up atomic.Bool
		e := w.receiver("down", true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if up.Load() {
				return yes(ctx, r)
			}
			return no(ctx, r)
		})
		ids := w.send(e, 1000)
		settle(6 * time.Hour)
		spent, untouched := 0, 0
		for _, id := range ids {
			n := len(w.tries(e, id))
			spent += n
			if n == 0 {
				untouched++
			}
		}
		// Ten to open it, those that were under way, then a probe at most every five minutes.
		if spent > 150 || untouched < 800 {
			t.Errorf("%d attempts in six hours, %d deliveries without one", spent, untouched)
		}
		if len(w.failing) != 1 {
			t.Errorf("%d notices about the failing endpoint, want 1", len(w.failing))
		}
		if s := w.engine.Stats(); s.Open != 1 || s.Ready > 10 {
			t.Errorf("stats %+v", s)
		}
		up.Store(true)
		settle(6 * time.Minute) // the next probe succeeds
		if got := w.states(e)[delivery.Succeeded]; got < 900 {
			t.Errorf("%d of 1000 delivered soon after recovery", got)
		}
		settle(24 * time.Hour) // those that were attempted have their own next time
		w.want(e, map[delivery.State]int{delivery.Succeeded: 1000})
	})
}

func TestEngine_deadAfterDays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("down", true, endpoint.Settings{}, no)
		for range 12 { // events keep arriving
			w.send(e, 20)
			settle(12 * time.Hour)
		}
		if w.dead[e.No] != endpoint.DisabledFailed {
			t.Errorf("dead: %v", w.dead)
		}
	})
}

func TestEngine_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var up atomic.Bool
		e := w.receiver("later", true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if up.Load() {
				return yes(ctx, r)
			}
			return no(ctx, r)
		})
		w.send(e, 300)
		settle(time.Minute)
		w.stop(time.Minute)

		w.start()
		settle(time.Second)
		if s := w.engine.Stats(); s.Open != 1 {
			t.Errorf("the breaker did not survive: %+v", s)
		}
		up.Store(true)
		settle(24 * time.Hour)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 300})
		w.stop(time.Minute)
	})
}

func TestEngine_fifo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		var order []string
		fails := 0
		e := w.receiver("ordered", true, endpoint.Settings{Ordering: endpoint.FIFO}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.random.IntN(4) == 0 {
				fails++
				return delivery.Attempt{Outcome: delivery.OutcomeServerError, StatusCode: 500}
			}
			order = append(order, r.EventID)
			return delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
		})
		var sent []string
		for i := range 40 {
			sent = append(sent, w.send(e, 1)...)
			if i%3 == 0 {
				settle(time.Duration(i) * time.Second)
			}
			if i == 20 { // in the middle of it all
				w.stop(time.Minute)
				w.start()
			}
		}
		settle(days)
		if fmt.Sprint(order) != fmt.Sprint(sent) {
			t.Errorf("came as %v\nsent as %v", order, sent)
		}
		if fails == 0 {
			t.Error("no attempt failed: the test proves nothing")
		}
		if w.most[e.URL] != 1 {
			t.Errorf("%d at a time", w.most[e.URL])
		}
		w.stop(time.Minute)
	})
}

func TestEngine_concurrency(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		slow := after(time.Second, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
		e := w.receiver("narrow", false, endpoint.Settings{Concurrency: 3}, slow)
		wide := w.receiver("wide", false, endpoint.Settings{}, slow)
		w.send(e, 60)
		w.send(wide, 1000)
		settle(time.Hour)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 60})
		w.want(wide, map[delivery.State]int{delivery.Succeeded: 1000})
		if n, m := w.most[e.URL], w.most[wide.URL]; n != 3 || m != 256 {
			t.Errorf("%d and %d at a time, want 3 and 256", n, m)
		}
	})
}

func TestEngine_rate(t *testing.T) {
	allowed := &endpoint.Consent{Granted: time.Now(), Rate: 600} // a minute
	for name, c := range map[string]struct {
		rate    float64
		consent *endpoint.Consent
	}{
		"set": {10, nil}, "allowed by the receiver": {1000, allowed}, "set below the receiver's limit": {10, &endpoint.Consent{Granted: time.Now(), Rate: 6000}},
	} {
		t.Run(name, func(t *testing.T) { testRate(t, c.rate, c.consent) })
	}
}

func testRate(t *testing.T, rate float64, consent *endpoint.Consent) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("slowly", false, endpoint.Settings{Rate: rate}, yes)
		if consent != nil {
			asked := *e
			asked.Settings.Validation, asked.Consent = endpoint.Handshake, consent
			w.endpoints.Put(&asked, endpoint.Process{})
		}
		began := time.Now()
		ids := w.send(e, 200)
		settle(time.Minute)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 200})
		perSecond := map[int64]int{}
		var last time.Duration
		for _, id := range ids {
			at := w.tries(e, id)[0].Sub(began)
			perSecond[int64(at/time.Second)]++
			last = max(last, at)
		}
		for s, n := range perSecond {
			if n > 20 { // the first second has a burst of ten besides
				t.Errorf("second %d: %d attempts", s, n)
			}
		}
		if last < 18*time.Second || last > 25*time.Second {
			t.Errorf("200 at 10 a second took %s", last)
		}
	})
}

func TestEngine_memoryIsBoundedByLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.config.QueueBytes = 1 << 20
		w.start()
		e := w.receiver("down", true, endpoint.Settings{}, hang)
		most := 0
		for range 20 {
			w.send(e, 1000)
			most = max(most, w.engine.Stats().Ready)
		}
		if bound := (1 << 20) / 256; most > bound {
			t.Errorf("%d ready in memory; %d fit its bytes", most, bound)
		}
		settle(10 * time.Minute)
		if s := w.engine.Stats(); s.Ready > 10 {
			t.Errorf("the breaker is open and still %d are in memory", s.Ready)
		}
		w.stop(time.Minute)
	})
}

func TestEngine_disabledWaitsDeletedCancels(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		off := w.receiver("off", false, endpoint.Settings{}, yes)
		deleted := w.receiver("deleted", false, endpoint.Settings{}, no)
		disabled := *off
		disabled.Status = endpoint.Disabled
		w.endpoints.Put(&disabled, endpoint.Process{})
		w.send(off, 50)
		w.send(deleted, 2500)
		settle(time.Second)
		w.want(off, map[delivery.State]int{delivery.Pending: 50})

		w.endpoints.Put(off, endpoint.Process{})
		w.engine.Forgive(off.No)
		if err := w.store.DeleteEndpoint(context.Background(), deleted.No, deleted.Revision, time.Now(), store.Trail{}); err != nil {
			t.Fatal(err)
		}
		w.endpoints.Remove(deleted.No)
		w.engine.Wake(deleted.No)
		settle(time.Second)
		w.want(off, map[delivery.State]int{delivery.Succeeded: 50})
		w.want(deleted, map[delivery.State]int{delivery.Canceled: 2500})
	})
}

// The state of a deleted endpoint is removed: otherwise one that failed would count as failing
// as long as the server runs.
func TestEngine_forgetsTheDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		slow := func(context.Context, *sender.Request) delivery.Attempt {
			time.Sleep(10 * time.Second)
			return no(context.Background(), nil)
		}
		good, bad, busy := w.receiver("good", false, endpoint.Settings{}, yes), w.receiver("bad", false, endpoint.Settings{}, no), w.receiver("busy", false, endpoint.Settings{}, slow)
		kept := w.receiver("kept", false, endpoint.Settings{}, no)
		for _, e := range []*endpoint.Endpoint{good, bad, busy, kept} {
			w.send(e, 20)
		}
		settle(time.Second)
		if s := w.engine.Stats(); s.Lanes != 4 || s.Failing != 2 {
			t.Fatalf("before: %+v", s)
		}
		for _, e := range []*endpoint.Endpoint{good, bad, busy} {
			if err := w.store.DeleteEndpoint(context.Background(), e.No, e.Revision, time.Now(), store.Trail{}); err != nil {
				t.Fatal(err)
			}
			w.endpoints.Remove(e.No)
			w.engine.Wake(e.No)
		}
		settle(time.Second)
		if s := w.engine.Stats(); s.Lanes != 2 || s.Failing != 1 || s.InFlight == 0 {
			t.Errorf("while one has attempts under way: %+v", s)
		}
		settle(2 * time.Minute)
		if s := w.engine.Stats(); s.Lanes != 1 || s.Failing != 1 {
			t.Errorf("after: %+v", s)
		}
	})
}

func TestEngine_requeued(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		e := w.receiver("good", false, endpoint.Settings{}, yes)
		id := w.send(e, 1)[0]
		settle(time.Second)
		items, _, err := w.store.ListDeliveries(context.Background(), e.Space, storeFilter(e), storePage())
		if err != nil || len(items) != 1 {
			t.Fatal(items, err)
		}
		d := items[0].Delivery
		d.Requeue(time.Now())
		if err := w.store.Requeue(context.Background(), []delivery.Delivery{d}, store.Trail{}); err != nil {
			t.Fatal(err)
		}
		w.engine.Wake(e.No)
		settle(time.Second)
		if n := len(w.tries(e, id)); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
		w.want(e, map[delivery.State]int{delivery.Succeeded: 1})
	})
}

func TestEngine_fifoHeadCancelled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := true
		e := w.receiver("ordered", true, endpoint.Settings{Ordering: endpoint.FIFO}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if first {
				first = false
				return no(ctx, r)
			}
			return yes(ctx, r)
		})
		for range 3 {
			w.send(e, 1)
		}
		settle(time.Second) // the head waits for its retry, the others for the head
		items, _, err := w.store.ListDeliveries(context.Background(), e.Space, storeFilter(e), storePage())
		if err != nil || len(items) != 3 {
			t.Fatal(items, err)
		}
		if _, err := w.store.CancelDelivery(context.Background(), e.Space, items[2].ID, time.Now(), func(*delivery.View) store.Trail { return store.Trail{} }); err != nil {
			t.Fatal(err)
		}
		w.engine.Wake(e.No)
		settle(time.Second)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 2, delivery.Canceled: 1})
		if n := len(w.attempts); n != 3 {
			t.Errorf("%d events were attempted, want 3", n)
		}
	})
}

// Recalled deliveries in memory are read from the store again, without erased ones; the result
// of a running read is discarded.
func TestEngine_recall(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		hold := make(chan struct{})
		e := w.receiver("slow", false, endpoint.Settings{Concurrency: 1}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			<-hold
			return yes(ctx, r)
		})
		ids := w.send(e, 6)
		settle(time.Second)
		var waiting []string
		for _, id := range ids {
			if len(w.tries(e, id)) == 0 {
				waiting = append(waiting, id)
			}
		}
		if ready := w.engine.Stats().Ready; ready != 5 || len(waiting) != 5 {
			t.Fatalf("%d deliveries are ready, %d of events were not attempted", ready, len(waiting))
		}
		ev, err := w.store.EraseEvent(context.Background(), e.Space, waiting[2], time.Now(), func(*event.Event) (store.Trail, error) { return store.Trail{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.store.EraseAttempts(context.Background(), ev.Key, 0, time.Now(), 10); err != nil {
			t.Fatal(err)
		}
		w.engine.Recall(e.No)
		close(hold)
		settle(time.Minute)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 5, delivery.Canceled: 1})
		if n := len(w.tries(e, waiting[2])); n != 0 {
			t.Errorf("the erased event was attempted %d times", n)
		}
	})
}

func TestEngine_stop(t *testing.T) {
	for _, tt := range []struct {
		name     string
		patience time.Duration
		want     map[delivery.State]int
	}{
		{"attempts under way finish", 10 * time.Second, map[delivery.State]int{delivery.Succeeded: 2, delivery.Pending: 3}},
		{"or are given back", time.Second, map[delivery.State]int{delivery.Pending: 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				e := w.receiver("slow", false, endpoint.Settings{}, after(5*time.Second, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}))
				w.send(e, 5) // two at a time, until one succeeds
				settle(time.Millisecond)
				began := time.Now()
				w.stop(tt.patience)
				if took := time.Since(began); took > tt.patience {
					t.Errorf("took %s", took)
				}
				w.reopen() // without an engine, so that reading changes nothing
				w.want(e, tt.want)
				if err := w.store.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A retry that waits when the clock is stepped back by days waits no longer than its delay,
// counted again from then: in memory, in the store, and behind an open breaker, ordered and
// unordered.
func TestEngine_stepsBackPutNothingOff(t *testing.T) {
	for name, settings := range map[string]endpoint.Settings{"unordered": {}, "fifo": {Ordering: endpoint.FIFO}} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					var skew atomic.Int64
					w.config.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())).Round(0) }
					w.config.Test = delivery.Schedule{time.Minute, time.Minute, time.Minute, time.Minute}
					w.start()
					var up atomic.Bool
					e := w.receiver("later", false, settings, func(ctx context.Context, r *sender.Request) delivery.Attempt {
						if up.Load() {
							return yes(ctx, r)
						}
						return no(ctx, r)
					})
					w.send(e, 30) // more than are read at once
					settle(time.Second)
					if restart {
						w.stop(time.Minute)
					}
					skew.Store(int64(-48 * time.Hour))
					up.Store(true)
					if restart {
						w.start()
					}
					settle(5 * time.Minute) // at most a minute until the step is detected
					w.want(e, map[delivery.State]int{delivery.Succeeded: 30})
					w.stop(time.Minute)
				})
			})
		}
	}
}

func TestEngine_clockSteps(t *testing.T) {
	for _, step := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var skew atomic.Int64
				w.config.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
				w.start()
				var up atomic.Bool
				e := w.receiver("later", false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
					if up.Load() {
						return yes(ctx, r)
					}
					return no(ctx, r)
				})
				w.send(e, 5)
				settle(time.Second)
				skew.Store(int64(step))
				up.Store(true)
				settle(3 * time.Hour)
				w.want(e, map[delivery.State]int{delivery.Succeeded: 5})
				w.stop(time.Minute)
			})
		})
	}
}

var _ dispatch.Sender = (*world)(nil)

// An event whose transformation fails causes no request, is retried, and becomes a dead letter;
// other events continue.
func TestEngine_transformationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		requests := 0
		e := w.receiver("transformed", false, endpoint.Settings{Shapes: []endpoint.Shape{{Format: endpoint.Standard, Transform: `{"object": data.object.missing}`}}},
			func(ctx context.Context, r *sender.Request) delivery.Attempt {
				requests++
				return yes(ctx, r)
			})
		w.send(e, 1)
		settle(days)
		w.want(e, map[delivery.State]int{delivery.Failed: 1})
		if requests != 0 {
			t.Errorf("%d requests were made", requests)
		}
		w.stop(time.Minute)
	})
}

// processor meters transformations in a test.
type processor struct {
	spent atomic.Bool
	cost  atomic.Int64
	asked atomic.Int64
}

func (p *processor) MayProcess(event.Space) bool {
	p.asked.Add(1)
	return !p.spent.Load()
}

func (p *processor) Charge(_ event.Space, cost time.Duration) { p.cost.Add(int64(cost)) }

// While an account has no processor time left, its transformations wait: no attempt is made or
// used up, and other endpoints continue.
func TestEngine_processorTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p := &processor{}
		p.spent.Store(true)
		w.config.Processor = p
		w.start()
		e := w.receiver("transformed", false, endpoint.Settings{Shapes: []endpoint.Shape{{Format: endpoint.Standard, Transform: `{"object": data.object}`}}},
			func(ctx context.Context, r *sender.Request) delivery.Attempt {
				if r.Number != 1 {
					t.Errorf("attempt %d comes first", r.Number)
				}
				return yes(ctx, r)
			})
		plain := w.receiver("plain", false, endpoint.Settings{}, yes)
		for range 3 {
			a := w.newEvent(e)
			a.Event.Body = event.NewBody(a.Event.ID, a.Event.Type, 1, []byte(`{"object":{"n":1}}`))
			if err := w.commits.Append(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		w.send(plain, 3)
		settle(time.Hour) // far longer than the schedule of retries
		w.want(e, map[delivery.State]int{delivery.Pending: 3})
		w.want(plain, map[delivery.State]int{delivery.Succeeded: 3})
		if n := p.asked.Load(); n < 100 || n > 3*3700 || p.cost.Load() != 0 {
			t.Errorf("asked %d times within an hour, charged %d", n, p.cost.Load())
		}
		p.spent.Store(false)
		settle(10 * time.Second)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 3})
		if p.cost.Load() == 0 {
			t.Error("no time was charged")
		}
		w.stop(time.Minute)
	})
}

// A shortage of the server, such as of file descriptors, uses up no attempts, opens no breaker
// and causes no busy loop.
func TestEngine_ownShortageCostsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var made atomic.Int64
		short := atomic.Bool{}
		short.Store(true)
		e := w.receiver("good", false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if short.Load() {
				made.Add(1)
				return delivery.Attempt{Outcome: delivery.OutcomeNone, Shortage: true}
			}
			if r.Number != 1 {
				t.Errorf("attempt %d comes first", r.Number)
			}
			return yes(ctx, r)
		})
		w.send(e, 20)
		settle(time.Hour) // far longer than the schedule of retries
		w.want(e, map[delivery.State]int{delivery.Pending: 20})
		if n := made.Load(); n < 100 || n > 20*3600 {
			t.Errorf("tried %d times within an hour", n)
		}
		short.Store(false)
		settle(10 * time.Second)
		w.want(e, map[delivery.State]int{delivery.Succeeded: 20})
	})
}
