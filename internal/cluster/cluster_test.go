package cluster

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func view(nodes ...int) *store.Membership {
	v := &store.Membership{}
	for _, n := range nodes {
		v.Members = append(v.Members, store.Member{No: n})
	}
	return v
}

// A node that joins or leaves moves only its own endpoints, and all nodes have similar shares.
func TestOwner(t *testing.T) {
	const endpoints = 10000
	three, four := view(0, 1, 2), view(2, 0, 3, 1)
	counts := map[int]int{}
	for no := range int64(endpoints) {
		before, after := owner(three, no), owner(four, no)
		if after != before && after != 3 {
			t.Fatalf("endpoint %d moved from %d to %d when 3 came", no, before, after)
		}
		counts[after]++
	}
	for n := range 4 {
		if counts[n] < endpoints/5 || counts[n] > endpoints/3 {
			t.Errorf("of %d endpoints, node %d of 4 has %d", endpoints, n, counts[n])
		}
	}
	if who := owner(view(), 1); who != -1 {
		t.Errorf("without nodes, %d owns", who)
	}
}

// All notifications fit into complete messages within PostgreSQL's limit.
func TestMessages(t *testing.T) {
	for _, n := range []int{0, 1, 5000} {
		var deliveries, told []delivery.ID
		for i := range n {
			deliveries = append(deliveries, delivery.ID{Endpoint: int64(i) << 40, Event: event.Key(i % 3 << 50)})
		}
		for _, m := range messages(wordWork, deliveries) {
			rest, ok := strings.CutPrefix(m, wordWork+" ")
			if !ok || len(m) >= 8000 {
				t.Errorf("a message of %d bytes: %.20q", len(m), m)
			}
			told = append(told, parse(rest)...)
		}
		if !slices.Equal(told, deliveries) {
			t.Errorf("told of %d deliveries, not %d", len(told), n)
		}
	}
	if got := parse("zz ! 1.? 2"); len(got) != 3 {
		t.Errorf("read %v", got)
	}
}

// earliest returns the earliest possible time of the store.
func (c *clock) earliest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return c.store.Add(now.Sub(c.at) - c.uncertaintyAt(now))
}

// The clock's uncertainty is correct: the store's time is between its bounds.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ahead = 3 * time.Hour // the store's clock
		look := func(c *clock, there, back time.Duration) {
			began := time.Now()
			time.Sleep(there)
			now := time.Now().Add(ahead)
			time.Sleep(back)
			c.observe(began, time.Now(), now)
		}
		check := func(c *clock, uncertainty time.Duration) {
			t.Helper()
			now := time.Now().Add(ahead)
			if c.earliest().After(now) || c.latest().Before(now) {
				t.Errorf("it is between %s and %s; it is %s", c.earliest(), c.latest(), now)
			}
			if got := c.latest().Sub(c.earliest()); got > 2*uncertainty+50*time.Microsecond { // clocks drift meanwhile
				t.Errorf("in uncertainty by %s, at most %s is right", got/2, uncertainty)
			}
		}
		var c clock
		look(&c, 10*time.Millisecond, 0)
		check(&c, 5*time.Millisecond)
		look(&c, 0, 2*time.Millisecond) // better
		check(&c, time.Millisecond)
		look(&c, 100*time.Millisecond, 0) // worse: the better observation still applies
		check(&c, 1100*time.Microsecond)
		time.Sleep(time.Minute)
		look(&c, 100*time.Millisecond, 0) // the better observation is too old
		check(&c, 50*time.Millisecond)
	})
}
