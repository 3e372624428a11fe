package client

import (
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// Ids sort by their time, also among ids of the server.
func TestNewID_sortsByTime(t *testing.T) {
	var s sequence
	at := time.UnixMilli(1699564800000)
	made := []string{"evt_0cbpqtcfzzzzzzzzzzzz"} // a server's, of the millisecond before
	for range 3 * 1 << counterBits {             // more than the counter holds for one millisecond
		made = append(made, newID(s.next(at)))
	}
	made = append(made, newID(s.next(at.Add(-time.Hour)))) // the clock was set back
	made = append(made, newID(s.next(at.Add(time.Second))), "evt_0cbpqvbr000000000000")
	if !slices.IsSorted(made) {
		for i := range made[1:] {
			if made[i] >= made[i+1] {
				t.Fatalf("%s is before %s", made[i], made[i+1])
			}
		}
	}
	for _, id := range []string{made[1], NewID()} {
		if !regexp.MustCompile(`^evt_0[0-9a-hjkmnp-tv-z]{25}$`).MatchString(id) {
			t.Errorf("id %s", id)
		}
	}
}

func TestNewID_unique(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := ""
			for range 10_000 {
				id := NewID()
				if id <= last {
					t.Errorf("%s after %s", id, last)
				}
				last = id
				mu.Lock()
				if seen[id] {
					t.Errorf("%s twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if one, other := newID(1), newID(1); one == other {
		t.Error("ids have no random part")
	}
}
