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
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// attemptsBut counts the attempts so far, at all endpoints but one.
func (w *world) attemptsBut(e *endpoint.Endpoint) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, tries := range w.attempts {
		if len(key) < len(e.URL) || key[:len(e.URL)] != e.URL {
			n += len(tries)
		}
	}
	return n
}

// Retries of endpoints that are down would take the processor from a responding one: they get a
// bounded rate while it has work, and an unlimited one otherwise.
func TestEngine_triesAreBoundedWhileOthersHaveWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down, tries = 200, 20
		w := newWorld(t)
		w.config.Tries = tries
		w.start()
		good := w.receiver("good", false, endpoint.Settings{}, yes)
		w.send(good, 1)
		settle(time.Second)
		every := make([]time.Duration, 8)
		for i := range every {
			every[i] = time.Second
		}
		for i := range down {
			w.send(w.receiver(fmt.Sprint("down", i), false, endpoint.Settings{Schedule: every}, no), 1)
		}
		settle(time.Millisecond)
		if n := w.attemptsBut(good); n != down {
			t.Fatalf("%d of %d new endpoints were attempted at once, want all", n, down)
		}
		const busy = 10 * time.Second
		for range busy / (100 * time.Millisecond) {
			began := time.Now()
			for _, id := range w.send(good, 3) {
				settle(0)
				if got := w.tries(good, id); len(got) != 1 || got[0].Sub(began) > time.Millisecond {
					t.Fatalf("%s was attempted at %v, sent at %s", id, got, began)
				}
			}
			settle(100 * time.Millisecond)
		}
		retries := w.attemptsBut(good) - down
		if most := tries*int(busy/time.Second) + tries; retries > most || retries < most/2 {
			t.Errorf("%d retries in %s, want about %d a second", retries, busy, tries)
		}
		settle(30 * time.Second) // the responding endpoint has nothing to do
		if n := w.attemptsBut(good); n != down*(1+len(every)) {
			t.Errorf("%d attempts in the end, want %d: all retries that there are", n, down*(1+len(every)))
		}
		w.stop(time.Minute)
	})
}

// The recovery of an endpoint is noticed at its next retry, however many others are down.
func TestEngine_triesGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down, tries = 100, 20
		w := newWorld(t)
		w.config.Tries = tries
		w.start()
		good := w.receiver("good", false, endpoint.Settings{}, yes)
		w.send(good, 1)
		settle(time.Second)
		soon := endpoint.Settings{Schedule: []time.Duration{time.Second, time.Second, time.Second, time.Second}}
		for i := range down {
			w.send(w.receiver(fmt.Sprint("down", i), false, soon, no), 1)
		}
		recovers := w.receiver("recovers", false, soon, no)
		w.send(recovers, 1)
		settle(time.Millisecond)
		w.mu.Lock()
		w.receivers[recovers.URL] = yes
		w.mu.Unlock()
		for range 8 * 10 { // a round takes five seconds: a hundred at twenty a second
			w.send(good, 1)
			settle(100 * time.Millisecond)
		}
		w.want(recovers, map[delivery.State]int{delivery.Succeeded: 1})
		w.stop(time.Minute)
	})
}

// An endpoint that fails now and then does not wait behind those that are down.
func TestEngine_triesAreNotForOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const down = 500
		w := newWorld(t)
		w.config.Tries = 1
		w.start()
		good := w.receiver("good", false, endpoint.Settings{}, yes)
		var calls atomic.Int64
		flaky := w.receiver("flaky", false, endpoint.Settings{}, func(ctx context.Context, r *sender.Request) delivery.Attempt {
			if calls.Add(1)%5 == 0 {
				return no(ctx, r)
			}
			return yes(ctx, r)
		})
		w.send(good, 1)
		w.send(flaky, 1)
		settle(time.Second)
		soon := endpoint.Settings{Schedule: []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second}}
		for i := range down {
			w.send(w.receiver(fmt.Sprint("down", i), false, soon, no), 1)
		}
		settle(2 * time.Second)
		for range 50 {
			w.send(good, 1)
			began := time.Now()
			id := w.send(flaky, 1)[0]
			settle(100 * time.Millisecond)
			if got := w.tries(flaky, id); len(got) == 0 || got[0].Sub(began) > 10*time.Millisecond {
				t.Fatalf("%s was attempted at %v, sent at %s", id, got, began)
			}
		}
		w.stop(time.Minute)
	})
}
