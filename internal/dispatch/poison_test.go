package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

func notFound(context.Context, *sender.Request) delivery.Attempt {
	return delivery.Attempt{Outcome: delivery.OutcomeRejected, StatusCode: 404}
}

func refused(context.Context, *sender.Request) delivery.Attempt {
	return delivery.Attempt{Outcome: delivery.OutcomeConnection}
}

// repeat returns a list of n times typ.
func repeat(typ string, n int) []string { return slices.Repeat([]string{typ}, n) }

// wantAll checks how many of the deliveries are in a state, each after this many attempts.
func (w *arena) wantAll(ids []delivery.ID, state delivery.State, attempts int) {
	w.t.Helper()
	for _, id := range ids {
		if d, _, _ := w.store.Delivery(id); d.State != state || w.attempts(id) != attempts || d.Attempts != attempts {
			w.t.Fatalf("%s is %s after %d attempts, %d noted (%s); want %s after %d", id, d.State, w.attempts(id), d.Attempts, d.LastOutcome, state, attempts)
		}
	}
}

// An endpoint that does not accept one event type receives all others at once, and the refused
// ones are attempted as often as their schedule allows.
func TestEngine_poison(t *testing.T) {
	settings := endpoint.Settings{Timeout: 2 * time.Second}
	for name, bad := range map[string]answer{"500": no, "404": notFound, "connection": refused, "timeout": hang} {
		t.Run(name, func(t *testing.T) {
			inArena(t, func(t *testing.T, w *arena) {
				w.receiver(1, false, settings, w.byType(map[string]answer{"po.bad": bad}))
				w.start()
				settle(time.Second)
				poison := w.sendOf(1, repeat("po.bad", 15)...)
				settle(3 * time.Second)
				good := w.sendOf(1, repeat("po.good", 5)...)
				settle(20 * time.Second)
				w.wantAll(good, delivery.Succeeded, 1)
				settle(20 * time.Minute)
				w.wantAll(poison, delivery.Failed, 5)
			})
		})
	}
}

// Deliveries in the store behind very many refused ones are found, whether these were sent
// before the engine started or not.
func TestEngine_poisonBacklog(t *testing.T) {
	for name, bad := range map[string]answer{"500": no, "404": notFound, "connection": refused} {
		t.Run(name, func(t *testing.T) {
			inArena(t, func(t *testing.T, w *arena) {
				w.start()
				settle(time.Second)
				w.receiver(1, true, endpoint.Settings{}, w.byType(map[string]answer{"po.bad": bad}))
				types := append(repeat("po.bad", 10000), "po.good")
				types = append(append(types, repeat("po.bad", 10000)...), "po.good", "po.other", "po.bad")
				ids := w.sendOf(1, types...)
				settle(30 * time.Second)
				for i, id := range ids {
					if d, _, _ := w.store.Delivery(id); types[i] != "po.bad" && d.State != delivery.Succeeded {
						t.Errorf("%s, number %d, is %s after %d attempts", types[i], i, d.State, d.Attempts)
					}
				}
				before := w.tried()
				settle(time.Hour)
				if n := w.tried() - before; n > 1000 {
					t.Errorf("%d more refused ones were attempted in an hour", n)
				}
			})
		})
	}
}

// An endpoint that refuses everything receives few attempts, for any backlog, and receives all
// of it when it works.
func TestEngine_refusesEverything(t *testing.T) {
	for name, bad := range map[string]answer{"500": no, "404": notFound, "connection": refused} {
		for _, types := range []int{1, 3, 40} {
			if types > 3 && (underRace || testing.Short()) { // make test also runs it without the race detector
				continue
			}
			t.Run(fmt.Sprint(name, ", types ", types), func(t *testing.T) {
				inArena(t, func(t *testing.T, w *arena) {
					down := true
					w.receiver(1, true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
						w.mu.Lock()
						defer w.mu.Unlock()
						if down {
							return bad(ctx, r)
						}
						return yes(ctx, r)
					})
					w.start()
					settle(time.Second)
					var all []string
					for i := range 5000 {
						all = append(all, fmt.Sprint("type.", i%types))
					}
					ids := w.sendOf(1, all...)
					settle(time.Hour)
					n := 0
					for _, id := range ids {
						n += w.attempts(id)
					}
					most := 100 + types // with an open breaker
					if name == "404" {
						most = (types + 1) * 900 // each type has its own pause
					}
					if n > most {
						t.Errorf("%d attempts in an hour, want at most %d", n, most)
					}
					w.mu.Lock()
					down = false
					w.mu.Unlock()
					settle(6 * time.Minute)
					if got := w.store.States(1)[delivery.Succeeded]; got < 5000-n {
						t.Errorf("%d of 5000 delivered after it recovered, %d were attempted before", got, n)
					}
					settle(days)
					w.want(1, map[delivery.State]int{delivery.Succeeded: 5000})
				})
			})
		}
	}
}

// Events of a type that an endpoint accepts are not slowed down by refused events of the same
// type: these do not count for the endpoint, and a type is not held while some of its events
// are acknowledged.
func TestEngine_refusesSomeOfAType(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		calls := 0
		w.receiver(1, false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			w.mu.Lock()
			defer w.mu.Unlock()
			if calls++; calls%9 > 0 {
				return notFound(ctx, r)
			}
			return yes(ctx, r)
		})
		w.start()
		settle(time.Second)
		w.sendOf(1, repeat("a.b", 900)...)
		settle(2 * time.Second)
		if n := w.tried(); n != 900 {
			t.Errorf("%d of 900 attempted at once", n)
		}
	})
}

// With strict order, a refused event is attempted as often as its schedule allows, and the
// following ones wait; none of them expires.
func TestEngine_poisonOrdered(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		settings := endpoint.Settings{Ordering: endpoint.FIFO, Schedule: []time.Duration{time.Second, time.Second, time.Second}}
		w.receiver(1, false, settings, w.byType(map[string]answer{"po.bad": no}))
		w.start()
		settle(time.Second)
		poison, good := w.sendOf(1, repeat("po.bad", 5)...), w.sendOf(1, repeat("po.good", 5)...)
		settle(3 * time.Hour)
		w.wantAll(poison, delivery.Failed, 4)
		w.wantAll(good, delivery.Succeeded, 1)
	})
}

// The attempts of a schedule of seconds are all made, even if a breaker holds the deliveries
// back for longer.
func TestEngine_shortSchedule(t *testing.T) {
	for name, bad := range map[string]answer{"500": no, "timeout": hang} {
		t.Run(name, func(t *testing.T) {
			inArena(t, func(t *testing.T, w *arena) {
				w.config.Health.DisableAfter = 30 * 24 * time.Hour
				w.receiver(1, false, endpoint.Settings{Timeout: time.Second, Schedule: []time.Duration{time.Second, time.Second, time.Second}}, bad)
				w.start()
				settle(time.Second)
				ids := w.sendOf(1, repeat("a.b", 30)...)
				settle(10 * time.Minute)
				if got := w.store.States(1)[delivery.Failed]; got > 0 {
					for _, id := range ids {
						if d, _, _ := w.store.Delivery(id); d.State == delivery.Failed && d.Attempts < 4 {
							t.Errorf("%s failed after %d attempts: %s", id, d.Attempts, d.LastOutcome)
						}
					}
				}
				settle(2 * days)
				w.wantAll(ids, delivery.Failed, 4)
			})
		})
	}
}

// A manual retry is sent at once, through an open breaker and before all others, and does not
// postpone the breaker's probes.
func TestEngine_expedite(t *testing.T) {
	soon := slices.Repeat([]time.Duration{time.Second}, 20)
	for name, settings := range map[string]endpoint.Settings{"unordered": {}, "one at a time": {Concurrency: 1}, "fifo": {Ordering: endpoint.FIFO, Schedule: soon}} {
		t.Run(name, func(t *testing.T) {
			inArena(t, func(t *testing.T, w *arena) {
				w.receiver(1, true, settings, refused)
				w.start()
				settle(time.Second)
				ids := w.sendOf(1, repeat("a.b", 1000)...)
				settle(time.Hour)
				before := w.engine.Breaker(1)
				if !before.Open() || w.attempts(ids[900]) != 0 {
					t.Fatalf("%+v, %d attempts", before, w.attempts(ids[900]))
				}
				for range 3 {
					d, _, _ := w.store.Delivery(ids[900])
					d.Requeue(time.Now())
					if err := w.store.Requeue(context.Background(), d); err != nil {
						t.Fatal(err)
					}
					w.engine.Expedite(ids[900])
					settle(100 * time.Millisecond)
				}
				if n := w.attempts(ids[900]); n != 3 {
					t.Errorf("%d manual attempts, want 3", n)
				}
				if after := w.engine.Breaker(1); !after.ProbeAt.Equal(before.ProbeAt) || after.Interval != before.Interval || after.Down != before.Down {
					t.Errorf("the breaker was %+v and is %+v", before, after)
				}
				w.answers[1] = yes
				w.engine.Expedite(ids[901]) // it succeeds, and closes the breaker
				settle(time.Minute)
				if n := w.store.States(1)[delivery.Succeeded]; n < 900 && settings.Ordering != endpoint.FIFO {
					t.Errorf("%d of 1000 delivered", n)
				}
			})
		})
	}
}

// A manual retry is sent while hanging endpoints use all the workers that they may.
func TestEngine_expediteBusy(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.config.Workers, w.config.Tries = 8, 1
		w.start()
		settle(time.Second)
		for no := int64(1); no <= 50; no++ {
			w.receiver(no, false, endpoint.Settings{}, hang)
			w.sendOf(no, repeat("a.b", 20)...)
		}
		w.receiver(51, false, endpoint.Settings{}, refused)
		id := w.sendOf(51, "a.b")[0]
		settle(10 * time.Minute)
		began, n := time.Now(), w.attempts(id)
		d, _, _ := w.store.Delivery(id)
		d.Requeue(began)
		if err := w.store.Requeue(context.Background(), d); err != nil {
			t.Fatal(err)
		}
		w.engine.Expedite(id)
		settle(time.Second)
		if w.attempts(id) != n+1 {
			t.Errorf("not attempted within a second")
		}
	})
}

// With a maximum age, a delivery that waits behind a breaker for longer is given up, with that
// reason; one whose endpoint was disabled meanwhile is not.
func TestEngine_maxAge(t *testing.T) {
	inArena(t, func(t *testing.T, w *arena) {
		w.config.MaxAge, w.config.Health.DisableAfter = 2*time.Hour, 30*24*time.Hour
		w.receiver(1, true, endpoint.Settings{}, refused)
		w.receiver(2, true, endpoint.Settings{}, yes)
		w.start()
		settle(time.Second)
		began := time.Now()
		ids := w.sendOf(1, repeat("a.b", 1500)...)
		w.change(2, func(e *endpoint.Endpoint) { e.Status = endpoint.Disabled })
		kept := w.sendOf(2, repeat("a.b", 5)...)
		settle(time.Hour)
		young := w.sendOf(1, repeat("a.b", 5)...)
		settle(time.Hour + 5*time.Minute)
		untried := 0
		for _, id := range ids {
			d, _, _ := w.store.Delivery(id)
			if w.attempts(id) == 0 {
				untried++
				want := "Given up after 2 hours; the endpoint has been unreachable since " + began.UTC().Format(time.RFC3339) + "."
				if d.State != delivery.Failed || d.GivenUp() != want || w.exhausted[id] != 1 {
					t.Fatalf("%s is %s, %q, reported %d times; want %q", id, d.State, d.GivenUp(), w.exhausted[id], want)
				}
			}
		}
		if untried < 1000 {
			t.Errorf("%d were never attempted: the test proves little", untried)
		}
		for _, id := range young {
			if d, _, _ := w.store.Delivery(id); d.State != delivery.Pending {
				t.Errorf("%s is %s after an hour", id, d.State)
			}
		}
		w.change(2, func(e *endpoint.Endpoint) { e.Status, e.EnabledSince = endpoint.Enabled, time.Now() })
		w.engine.Forgive(2)
		settle(time.Minute)
		w.wantAll(kept, delivery.Succeeded, 1)
	})
}
