package dispatch

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// streak is a lane's state of an event type whose last attempts failed. While the type is
// passed over (see lane.passes), its deliveries wait in the store, and probes of it are read
// from there one by one.
type streak struct {
	delivery.Streak
	typ   string      // "" stands for the types beyond maxStreaks
	probe event.Key   // the type's current probe; 0: none
	from  store.Place // no passed-over due delivery of the type precedes it
	turn  uint32      // lane.turn at its last probe
	waits bool        // deliveries of the type were passed over, or may be due
	far   bool        // the last search from there found none
}

// maxStreaks is the number of types that a lane distinguishes; the others share one streak.
const maxStreaks = 32

// streak returns the streak of a type, nil if there is none.
func (l *lane) streak(typ string) *streak {
	var others *streak
	for i := range l.streaks {
		switch s := &l.streaks[i]; s.typ {
		case typ:
			return s
		case "":
			others = s
		}
	}
	return others
}

// streakOf returns the streak of a type, and creates it if necessary: in place of one that
// holds nothing or, beyond maxStreaks, for all further types.
func (l *lane) streakOf(typ string) *streak {
	if s := l.streak(typ); s != nil {
		return s
	}
	if len(l.streaks) >= maxStreaks {
		for i := range l.streaks {
			if s := &l.streaks[i]; !l.breaker.Open() && !s.Holds() && s.probe == 0 && !s.waits {
				*s = streak{typ: typ}
				return s
			}
		}
		typ = ""
	}
	l.streaks = append(l.streaks, streak{typ: typ})
	return &l.streaks[len(l.streaks)-1]
}

// acknowledged ends the streak of a type.
func (l *lane) acknowledged(typ string) {
	var own *streak
	for i := range l.streaks {
		if s := &l.streaks[i]; s.typ == typ {
			own = s
		} else {
			s.OthersWork = true
		}
	}
	if own == nil {
		if own = l.streak(typ); own == nil {
			return
		}
	}
	if own.Holds() || own.waits {
		l.rewind()
	}
	*own = l.streaks[len(l.streaks)-1]
	if l.streaks = l.streaks[:len(l.streaks)-1]; len(l.streaks) == 0 {
		l.streaks = nil
	}
}

// showed updates the streaks after an attempt for an event of a type, and returns the remaining
// effect on the endpoint: none if only this type fails, or if it was a failed manual retry.
func (l *lane) showed(typ string, effect delivery.Effect, urgent bool, now time.Time) delivery.Effect {
	switch {
	case effect == delivery.Acknowledged:
		l.acknowledged(typ)
		return effect
	case effect == delivery.NoEffect || urgent && effect != delivery.EventRefused:
		return delivery.NoEffect
	case urgent:
		return effect
	}
	s := l.streakOf(typ)
	if s.Failed(now); s.Alone() && effect == delivery.EndpointDown {
		return delivery.NoEffect
	}
	return effect
}

// passes reports whether deliveries of some types are passed over: the lane is then read from
// its cursor.
func (l *lane) passes() bool {
	if l.breaker.Open() {
		return true
	}
	for i := range l.streaks {
		if l.streaks[i].Holds() {
			return true
		}
	}
	return false
}

// mayGo reports whether a due delivery may be sent now as far as its type is concerned. One of
// a type that is passed over may be sent as its probe, which it then becomes: while the breaker
// is open, if the type has not failed since the last acknowledgement; otherwise, if the type's
// pause is over.
func (l *lane) mayGo(o *delivery.Outgoing, now time.Time) bool {
	s, k := l.streak(o.Type), o.Delivery.ID.Event
	switch {
	case s != nil && s.probe == k:
		return true
	case l.breaker.Open():
		if s != nil {
			return false
		}
		s = l.streakOf(o.Type)
	case s == nil || !s.Holds():
		return true
	case s.probe != 0 || now.Before(s.NextAt):
		return false
	}
	s.probe, s.turn = k, l.nextTurn()
	return true
}

// mayWait records that deliveries of any type may be due after a place.
func (l *lane) mayWait(after store.Place) {
	for i := range l.streaks {
		if s := &l.streaks[i]; !s.waits {
			s.waits, s.far, s.from = true, false, after
		}
	}
}

// nextTurn counts a probe.
func (l *lane) nextTurn() uint32 {
	l.turn++
	return l.turn
}

// passOver records that a due delivery is left in the store, because its type is passed over.
func (l *lane) passOver(d *delivery.Delivery, typ string) {
	s := l.streak(typ)
	if s == nil {
		return
	}
	if at := store.PlaceOf(d); !s.waits || at.Before(s.from) {
		s.from = store.Place{Millis: at.Millis, Event: at.Event - 1}
	}
	s.waits = true
	l.passed++
}

// probeDue returns when the next held type with waiting deliveries may be probed, zero if there
// is none.
func (l *lane) probeDue() (at time.Time) {
	for i := range l.streaks {
		if s := &l.streaks[i]; s.Holds() && s.waits && s.probe == 0 && (at.IsZero() || s.NextAt.Before(at)) {
			at = s.NextAt
		}
	}
	return at
}

// passesSome reports whether deliveries were passed over.
func (l *lane) passesSome() bool {
	for i := range l.streaks {
		if l.streaks[i].waits {
			return true
		}
	}
	return false
}

// search describes a search for a probe in the store: among the newest deliveries, or among
// those of the least recently probed type.
type search struct {
	store.LaneScan
	newest          bool
	typed           bool   // it is for the deliveries of a streak
	typ             string // of that streak
	rewinds, passed uint32 // those of the lane when it began
}

// search returns the next search for a probe.
func (l *lane) search(newest bool, now time.Time) search {
	out := search{newest: newest, LaneScan: store.LaneScan{Endpoint: l.no, Limit: probeSize}, rewinds: l.rewinds, passed: l.passed}
	if newest {
		out.Until = now
		return out
	}
	var next *streak
	for i := range l.streaks {
		if s := &l.streaks[i]; s.waits && l.mayProbe(s, now) && (next == nil || s.turn < next.turn) {
			next = s
		}
	}
	if next == nil {
		out.Limit += len(l.held) // those come first
		return out
	}
	if next.far {
		out.Limit = pageSize
	}
	out.typed, out.typ, out.After = true, next.typ, next.from
	return out
}

// mayProbe reports whether a passed-over type may be probed now.
func (l *lane) mayProbe(s *streak, now time.Time) bool {
	return l.breaker.Open() || s.Holds() && s.probe == 0 && !now.Before(s.NextAt)
}

// pick chooses the probe from the read deliveries and records it; nil if there is none. The
// least recently probed type is preferred.
func (l *lane) pick(outgoing []delivery.Outgoing, now time.Time) *delivery.Outgoing {
	var best *delivery.Outgoing
	turn := l.turn
	for i := range outgoing {
		o := &outgoing[i]
		if l.holds(o.Delivery.ID.Event) {
			continue
		}
		if !due(&o.Delivery, now) {
			l.due(o.Delivery.Due)
			continue
		}
		switch s := l.streak(o.Type); {
		case s == nil:
			if l.breaker.Open() && (best == nil || turn > 0) {
				best, turn = o, 0
			}
		case l.mayProbe(s, now) && (best == nil || s.turn < turn):
			best, turn = o, s.turn
		}
	}
	if best != nil {
		s := l.streakOf(best.Type)
		s.probe, s.turn = best.Delivery.ID.Event, l.turn
	}
	return best
}

// searched records the result of a search for its type.
func (l *lane) searched(s *search, outgoing []delivery.Outgoing, full bool, found *delivery.Outgoing, now time.Time) {
	of := l.streak(s.typ)
	if !s.typed || of == nil {
		return
	}
	switch {
	case found != nil && l.streak(found.Type) == of:
		if of.far = false; l.rewinds == s.rewinds {
			of.from = store.PlaceOf(&found.Delivery)
		}
		return
	case l.rewinds != s.rewinds: // the search may have been too early
	case full && due(&outgoing[len(outgoing)-1].Delivery, now):
		of.from = store.PlaceOf(&outgoing[len(outgoing)-1].Delivery)
	case s.After == store.Place{} && l.passed == s.passed:
		of.waits = false
	default:
		of.from = store.Place{}
	}
	of.far, of.turn = true, l.turn // it is the other types' turn
	of.Pause(now)
}

// probeEnded records that a delivery is no longer a probe.
func (l *lane) probeEnded(k event.Key) {
	for i := range l.streaks {
		if l.streaks[i].probe == k {
			l.streaks[i].probe = 0
		}
	}
}

// rewind makes the lane be read from its beginning again: there may be deliveries before the
// cursor that may be sent now.
func (l *lane) rewind() {
	l.unread()
	l.cursor = store.Place{}
	if l.reading != nil {
		l.reading.floor = store.Place{}
	}
	l.rewinds++
	for i := range l.streaks {
		l.streaks[i].from = store.Place{}
	}
}

// missed records that a delivery with that rank in the store was not read.
func (l *lane) missed(rank time.Time) {
	l.more()
	if l.breaker.Open() {
		l.look = true
	}
	l.reached(rank)
}

// reached makes deliveries with that rank and later ones be read again.
func (l *lane) reached(rank time.Time) {
	before := store.PlaceBefore(rank)
	if before.Before(l.cursor) {
		l.cursor = before
	}
	if l.reading != nil && before.Before(l.reading.floor) {
		l.reading.floor = before
	}
	for i := range l.streaks {
		if s := &l.streaks[i]; before.Before(s.from) {
			s.from = before
		}
	}
	l.rewinds++
}
