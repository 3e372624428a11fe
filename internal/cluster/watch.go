package cluster

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// watch records since when the other nodes have not renewed their leases, by this machine's
// monotonic clock. Clocks of other machines, and steps of any clock, have no effect.
type watch struct {
	seen map[int]sighting // by number
	last time.Time        // of the last look
}

// sighting is a node's count of renewals, and since when it is unchanged.
type sighting struct {
	instance string
	beats    int64
	since    time.Time
}

// look processes a view at a time. It returns the nodes whose leases have ended, and after
// which time to look again because another lease may end. A lease has ended if sufficiently
// frequent looks have shown the same count for its length: while this node could not look, the
// store may have been unavailable, so that no node could renew.
func (w *watch) look(v *store.Membership, now time.Time, lease time.Duration) (dead []store.Member, next time.Duration) {
	blind := w.last.IsZero() || now.Sub(w.last) > lease/2
	w.last = now
	seen := make(map[int]sighting, len(v.Members)+len(v.Joining))
	next = lease
	for _, all := range [][]store.Member{v.Members, v.Joining} {
		for _, m := range all {
			if m.No == v.Self {
				continue
			}
			s, known := w.seen[m.No]
			if !known || blind || s.instance != m.Instance || s.beats != m.Beats {
				s = sighting{m.Instance, m.Beats, now}
			}
			seen[m.No] = s
			if left := m.Lease - now.Sub(s.since); left <= 0 {
				dead = append(dead, m)
			} else {
				next = min(next, left)
			}
		}
	}
	w.seen = seen
	return dead, next
}
