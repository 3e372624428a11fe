package cluster

import (
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// A node is removed if its count of renewals has not changed for its lease while it was
// observed, and never because no node could look.
func TestWatch(t *testing.T) {
	const lease = 10 * time.Second
	start := time.Now()
	var w watch
	beats := map[int]int64{}
	look := func(after time.Duration, instance string, renew ...int) (dead []int, next time.Duration) {
		t.Helper()
		v := &store.Membership{Self: 9}
		for _, no := range renew {
			beats[no]++
		}
		v.Members = []store.Member{{No: 9, Lease: lease}, {No: 1, Instance: "a", Beats: beats[1], Lease: lease}}
		v.Joining = []store.Member{{No: 2, Instance: instance, Beats: beats[2], Lease: lease / 2}}
		all, next := w.look(v, start.Add(after), lease)
		for _, m := range all {
			dead = append(dead, m.No)
		}
		return dead, next
	}
	for _, step := range []struct {
		name  string
		after time.Duration
		renew []int
		as    string
		dead  int
		next  time.Duration
	}{
		{"first look", 0, nil, "b", 0, 5 * time.Second},
		{"both renewed", 2 * time.Second, []int{1, 2}, "b", 0, 5 * time.Second},
		{"1 renewed", 5 * time.Second, []int{1}, "b", 0, 2 * time.Second},
		{"2 is dead", 7 * time.Second, []int{1}, "b", 2, 10 * time.Second},
		{"another process has its number", 8 * time.Second, nil, "c", 0, 5 * time.Second},
		{"it renews, 1 does not", 12 * time.Second, []int{2}, "c", 0, 5 * time.Second},
		{"1 is not dead yet", 16900 * time.Millisecond, []int{2}, "c", 0, 100 * time.Millisecond},
		{"1 is dead", 17 * time.Second, []int{2}, "c", 1, 5 * time.Second},
		{"after a time without a look all begin anew", 30 * time.Second, nil, "c", 0, 5 * time.Second},
		{"within their leases", 34 * time.Second, nil, "c", 0, time.Second},
		{"2 is dead, 1 may be soon", 38 * time.Second, nil, "c", 2, 2 * time.Second},
	} {
		dead, next := look(step.after, step.as, step.renew...)
		got := 0
		if len(dead) > 0 {
			got = dead[0]
		}
		if got != step.dead || len(dead) > 1 || next != step.next {
			t.Errorf("%s: dead %v, next look after %s; want %d and %s", step.name, dead, next, step.dead, step.next)
		}
	}
}
