package dispatch

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// streak is what a lane knows of an event type whose last attempts failed. While the
// type is passed over (see lane.passes), its deliveries wait in the store, and probes
// of it are read from there one by one.
type streak struct {
	delivery.Streak
	typ   string      // "" stands for the types past maxStreaks
	probe event.Key   // the delivery that is the type's probe now; 0: none
	from  store.Place // no delivery of the type that was passed over and is due comes before
	turn  uint32      // lane.turn when it was probed last
	waits bool        // deliveries of the type were passed over, or may be due
	far   bool        // the last search from there did not find any
}

// maxStreaks is how many types a lane tells apart; the others share one streak.
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

// streakOf returns the streak of a type, making it when needed: instead of one that
// holds nothing, or for all further types, once there are maxStreaks.
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

// showed updates the streaks by an attempt at an event of a type, and returns what is
// left of its effect for the endpoint: nothing if only this type fails, or if a person
// asked for an attempt that failed.
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

// passes reports whether deliveries of some types are passed over: the lane is read
// from its cursor on.
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

// mayGo reports whether a delivery that is due may be sent now as far as its type is
// concerned. One of a type that is passed over may go as its probe, and is that from
// then on: while the breaker is open, if the type has not failed since the last
// acknowledgement; else, if the type's pause is over.
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

// mayWait notes that deliveries of any type may be due after a place.
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

// passOver notes that a delivery that is due is left in the store, because its type is
// passed over.
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

// probeDue returns when the next type that is held and has deliveries waiting may be
// probed, zero if none has.
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

// search is a look for a probe in the store: among the newest deliveries, or among those
// of the type that was probed least lately.
type search struct {
	store.LaneScan
	newest          bool
	typed           bool   // it is for a streak's deliveries
	typ             string // of that streak
	rewinds, passed uint32 // those of the lane when it began
}

// search returns where to look for a probe.
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

// mayProbe reports whether a type may be probed now that is passed over.
func (l *lane) mayProbe(s *streak, now time.Time) bool {
	return l.breaker.Open() || s.Holds() && s.probe == 0 && !now.Before(s.NextAt)
}

// pick chooses the probe from what was read, and notes that it is that; nil if there is
// none. The type that was probed least lately goes first.
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

// searched notes what a search has found of the type that it was for.
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
	case l.rewinds != s.rewinds: // perhaps it looked too early
	case full && due(&outgoing[len(outgoing)-1].Delivery, now):
		of.from = store.PlaceOf(&outgoing[len(outgoing)-1].Delivery)
	case s.After == store.Place{} && l.passed == s.passed:
		of.waits = false
	default:
		of.from = store.Place{}
	}
	of.far, of.turn = true, l.turn // the other types have their turn
	of.Pause(now)
}

// probeEnded notes that a delivery is no longer a probe.
func (l *lane) probeEnded(k event.Key) {
	for i := range l.streaks {
		if l.streaks[i].probe == k {
			l.streaks[i].probe = 0
		}
	}
}

// rewind makes the lane be read from its beginning again: what the cursor is past may
// have deliveries that may be sent now.
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

// missed notes that a delivery of that rank, in the store, was not seen.
func (l *lane) missed(rank time.Time) {
	l.more()
	if l.breaker.Open() {
		l.look = true
	}
	l.reached(rank)
}

// reached makes deliveries of that rank and later ones be read again.
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
