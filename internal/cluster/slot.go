package cluster

import "github.com/posthaste-hq/posthaste/internal/store"

// slots is the number of groups in which endpoints are handed over. An attempt under way delays
// the hand-over of the endpoints in its slot.
const slots = 1024

// slotOf returns the slot of an endpoint.
func slotOf(endpoint int64) int { return int(mix(uint64(endpoint)) % slots) }

// slotSet is a set of slots in the form that nodes exchange: one bit each.
type slotSet []byte

// allBut returns all slots but those of some endpoints.
func allBut(endpoints []int64) slotSet {
	s := make(slotSet, slots/8)
	for i := range s {
		s[i] = 0xff
	}
	for _, no := range endpoints {
		slot := slotOf(no)
		s[slot/8] &^= 1 << (slot % 8)
	}
	return s
}

func (s slotSet) has(slot int) bool { return slot/8 < len(s) && s[slot/8]&(1<<(slot%8)) != 0 }

// released reports whether all members of a view have released a slot: none of them sends to an
// endpoint in it that another member owns by the view.
func released(v *store.Membership, slot int) bool {
	for _, m := range v.Members {
		if m.Acked < v.Generation && (m.Follows != v.Generation || !slotSet(m.Released).has(slot)) {
			return false
		}
	}
	return true
}
