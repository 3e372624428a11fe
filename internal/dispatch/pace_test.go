//go:build !wasip1

package dispatch_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// slots simulates a receiver that processes n requests at a time, each for a while; the others
// wait.
func slots(n int, each func() time.Duration) func(context.Context, *sender.Request) delivery.Attempt {
	free := make(chan struct{}, n)
	return func(ctx context.Context, r *sender.Request) delivery.Attempt {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return delivery.Attempt{}
		}
		defer func() { <-free }()
		return after(each(), delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})(ctx, r)
	}
}

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// The engine learns an endpoint's concurrency: the endpoint receives about as much as it can
// process, and few additional requests wait there.
func TestPace_atATime(t *testing.T) {
	if underRace {
		t.Skip("thousands of attempts, one after the other: there is nothing for the race detector to find")
	}
	const unlimited = 100_000
	for _, tt := range []struct {
		name   string
		events int
		most   int // the endpoint's own setting
		slots  int
		each   func() time.Duration
		ideal  time.Duration // to finish everything at the best allowed concurrency
		within float64       // times ideal
		median time.Duration // of the durations of attempts
	}{
		{"slow, in parallel", 8000, 0, unlimited, always(200 * time.Millisecond), 8000 / 256 * 200 * time.Millisecond, 1.5, 200 * time.Millisecond},
		{"very slow, in parallel", 8000, 0, unlimited, always(5 * time.Second), 8000 / 256 * 5 * time.Second, 1.5, 5 * time.Second},
		{"quick, in parallel", 8000, 0, unlimited, always(5 * time.Millisecond), 8000 / 256 * 5 * time.Millisecond, 3, 5 * time.Millisecond},
		{"held to 10 by its setting", 2000, 10, unlimited, always(200 * time.Millisecond), 2000 / 10 * 200 * time.Millisecond, 1.2, 200 * time.Millisecond},
		{"one at a time", 1000, 0, 1, always(50 * time.Millisecond), 1000 * 50 * time.Millisecond, 1.05, 100 * time.Millisecond},
		{"eight at a time", 4000, 0, 8, always(100 * time.Millisecond), 4000 / 8 * 100 * time.Millisecond, 1.1, 200 * time.Millisecond},
		{"sixty at a time", 8000, 0, 60, always(100 * time.Millisecond), 8000 / 60 * 100 * time.Millisecond, 1.3, 200 * time.Millisecond},
		{"of uneven speed, in parallel", 8000, 0, unlimited, uneven(20*time.Millisecond, 400*time.Millisecond), 8000 / 256 * 210 * time.Millisecond, 2, 250 * time.Millisecond},
		{"of uneven speed, eight at a time", 4000, 0, 8, uneven(20*time.Millisecond, 400*time.Millisecond), 4000 / 8 * 210 * time.Millisecond, 1.2, 500 * time.Millisecond},
		{"suddenly ten times slower", 8000, 0, unlimited, slower(4000, 50*time.Millisecond, 500*time.Millisecond), 4000 / 256 * 550 * time.Millisecond, 2, 500 * time.Millisecond},
	} {
		if testing.Short() && tt.events > 4000 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.start()
				defer w.stop(time.Minute)
				var mu sync.Mutex
				var took []time.Duration
				answer := slots(tt.slots, tt.each)
				e := w.receiver("one", false, endpoint.Settings{Concurrency: tt.most}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
					began := time.Now()
					a := answer(ctx, r)
					mu.Lock()
					defer mu.Unlock()
					took = append(took, time.Since(began))
					return a
				})
				began := time.Now()
				w.send(e, tt.events)
				for w.engine.Stats().Attempts < int64(tt.events) {
					time.Sleep(tt.ideal / 100)
				}
				all := time.Since(began)
				slices.Sort(took)
				median := took[len(took)/2]
				t.Logf("took %s, ideally %s (%.2f); at most %d at a time; median attempt %s", all, tt.ideal, float64(all)/float64(tt.ideal), w.most[e.URL], median)
				if float64(all) > tt.within*float64(tt.ideal) {
					t.Errorf("took %s; %s would have done", all, tt.ideal)
				}
				if median > tt.median {
					t.Errorf("the median attempt took %s, want at most %s: they wait at the receiver", median, tt.median)
				}
			})
		})
	}
}

func uneven(least, most time.Duration) func() time.Duration {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(3, 4))
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return least + time.Duration(r.Int64N(int64(most-least)))
	}
}

// slower returns one duration for the first n requests and another from then on.
func slower(n int, first, then time.Duration) func() time.Duration {
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if n--; n >= 0 {
			return first
		}
		return then
	}
}

// An endpoint that responds that its rate is too high is limited to the rate that it accepts,
// and gets more again when it accepts more.
func TestPace_tooMany(t *testing.T) {
	if underRace || testing.Short() {
		t.Skip("thousands of attempts, one after the other: there is nothing for the race detector to find, and make test runs them")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop(time.Minute)
		var mu sync.Mutex
		refused, taken := 0, 0
		takes := rate.NewLimiter(100, 20)
		e := w.receiver("one", true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			a := after(5*time.Millisecond, delivery.Attempt{})(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if takes.Allow() {
				taken++
				a.Outcome, a.StatusCode = delivery.OutcomeSucceeded, 200
			} else {
				refused++
				a.Outcome, a.StatusCode = delivery.OutcomeThrottled, 429
			}
			return a
		})
		count := func() (int, int) {
			mu.Lock()
			defer mu.Unlock()
			return taken, refused
		}
		for range 4 { // the committer accepts this many at once
			w.send(e, 5000)
		}
		time.Sleep(5 * time.Second) // for learning
		was, wasRefused := count()
		time.Sleep(time.Minute)
		is, isRefused := count()
		t.Logf("in a minute at 100 a second: taken %d, refused %d", is-was, isRefused-wasRefused)
		if is-was < 60*80 || isRefused-wasRefused > (is-was)/20 {
			t.Errorf("in a minute at 100 a second: taken %d, refused %d", is-was, isRefused-wasRefused)
		}
		mu.Lock()
		takes.SetLimit(1000)
		mu.Unlock()
		time.Sleep(time.Minute)
		then, _ := count()
		if then-is < 60*150 {
			t.Errorf("in the minute after its limit was raised tenfold: %d", then-is)
		}
	})
}

// A few failures among many successes do not reduce the concurrency.
func TestPace_someFail(t *testing.T) {
	if underRace {
		t.Skip("thousands of attempts, one after the other: there is nothing for the race detector to find")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		defer w.stop(time.Minute)
		var mu sync.Mutex
		n := 0
		e := w.receiver("one", true, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			a := after(100*time.Millisecond, delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200})(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if n++; n%20 == 0 {
				a.Outcome, a.StatusCode = delivery.OutcomeServerError, 500
			}
			return a
		})
		w.send(e, 8000)
		const ideal = 8000 / 256 * 100 * time.Millisecond
		time.Sleep(2 * ideal)
		mu.Lock()
		defer mu.Unlock()
		if n < 8000 {
			t.Errorf("%d attempts in %s", n, 2*ideal)
		}
	})
}
