// Package memstore is a store in memory for tests of the layers above a store: the methods that
// dispatch and commit need, with the guarantees of [store.Store], and an adversary that may
// delay and refuse every call. A crash loses unsynced writes: a write that was not acknowledged
// may exist afterwards or not; one that was acknowledged does. No program links it.
package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Trouble is the adversary's effect on one call.
type Trouble struct {
	Before time.Duration // until the call takes effect, or reads the data that it returns
	Err    error         // instead of taking effect
	After  time.Duration // until the call returns
}

// Call is a call as the adversary sees it.
type Call struct {
	Method   string       // "Commit", "LoadLane" and so on
	Batch    *store.Batch // of a Commit
	Endpoint int64        // of a LoadLane or CancelPending
}

// Store is one opening of the data; see [Store.Crash]. It is safe for concurrent use.
type Store struct {
	disk *disk

	mu      sync.Mutex
	trouble func(Call) Trouble
	crashed bool
	calls   map[string]int
}

// data is the contents of a store.
type data struct {
	events     map[event.Key]event.Event
	deliveries map[delivery.ID]delivery.Delivery
	waiting    map[int64][]place // by endpoint, in order
	health     map[int64]delivery.Breaker
	attempts   map[delivery.ID]int
}

// place is the position of a pending delivery in its lane.
type place struct {
	rank int64 // Unix milliseconds
	key  event.Key
}

func (p place) compare(q place) int {
	switch {
	case p.rank < q.rank || p.rank == q.rank && p.key < q.key:
		return -1
	case p == q:
		return 0
	}
	return 1
}

// New returns an empty store without an adversary.
func New() *Store { return open(newDisk()) }

func open(d *disk) *Store { return &Store{disk: d, calls: map[string]int{}} }

// Disturb sets the adversary for the following calls; nil removes it.
func (s *Store) Disturb(trouble func(Call) Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
}

// Crash cuts s off: none of its calls takes effect any more, and none is acknowledged. It
// returns the data opened again, without an adversary. Of the unacknowledged writes, the first
// ones exist: landed returns their number for the given total; nil keeps none.
func (s *Store) Crash(landed func(unheard int) int) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashed = true
	s.disk.crash(landed)
	return open(s.disk)
}

// Calls returns the number of calls of a method of s.
func (s *Store) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

var errCrashed = errors.New("the store was crashed")

// read reads the data, with the adversary's effect.
func (s *Store) read(ctx context.Context, c Call, look func(*data)) error {
	t := s.meet(c)
	if err := wait(ctx, t.Before); err != nil {
		return err
	}
	s.mu.Lock()
	if s.crashed {
		t.Err = errCrashed
	}
	if t.Err == nil {
		s.disk.look(look)
	}
	s.mu.Unlock()
	return s.answer(ctx, c, t)
}

// write makes a change, with the adversary's effect.
func (s *Store) write(ctx context.Context, c Call, change func(*data)) error {
	t := s.meet(c)
	var w *write
	s.mu.Lock()
	if s.crashed {
		t.Err = errCrashed
	}
	if t.Err == nil {
		w = s.disk.announce(change)
	}
	s.mu.Unlock()
	if err := wait(ctx, t.Before); err != nil {
		s.disk.withdraw(w)
		return err
	}
	s.mu.Lock()
	if s.crashed {
		t.Err = errCrashed
	}
	if t.Err == nil {
		s.disk.apply(w)
	}
	s.mu.Unlock()
	err := s.answer(ctx, c, t)
	if w == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed {
		return errCrashed
	}
	s.disk.sync(w)
	return err
}

// meet returns the adversary's effect on a call.
func (s *Store) meet(c Call) (t Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[c.Method]++
	if s.trouble != nil {
		t = s.trouble(c)
	}
	return t
}

// answer returns from c.
func (s *Store) answer(ctx context.Context, c Call, t Trouble) error {
	// A write that took effect is acknowledged, even to a caller that no longer waits.
	if err := wait(context.WithoutCancel(ctx), t.After); err != nil {
		return err
	}
	if t.Err != nil {
		return fmt.Errorf("%s: %w", c.Method, t.Err)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Commit implements [store.Hot]. It supports neither receipts nor ids of senders.
func (s *Store) Commit(ctx context.Context, b *store.Batch) error {
	return s.write(ctx, Call{Method: "Commit", Batch: b}, func(d *data) {
		for _, a := range b.Appends {
			d.events[a.Event.Key] = a.Event
			for _, dl := range a.Deliveries {
				d.put(dl)
			}
		}
		for _, st := range b.Settlements {
			id := st.Delivery.ID
			if st.Attempt != nil {
				d.attempts[id]++
			}
			if old := d.deliveries[id]; old.State == delivery.Pending {
				next := st.Delivery
				next.Since = old.Since
				d.put(next)
			}
		}
		for _, h := range b.Health {
			d.health[h.Endpoint] = h.Breaker
		}
	})
}

// put writes a delivery and keeps the order of its lane.
func (d *data) put(dl delivery.Delivery) {
	if old, ok := d.deliveries[dl.ID]; ok && old.State == delivery.Pending {
		lane := d.waiting[dl.ID.Endpoint]
		i, found := slices.BinarySearchFunc(lane, placeOf(&old), place.compare)
		switch {
		case !found:
			panic("memstore: a pending delivery is in no lane")
		case i == 0:
			d.waiting[dl.ID.Endpoint] = lane[1:]
		default:
			d.waiting[dl.ID.Endpoint] = slices.Delete(lane, i, i+1)
		}
	}
	for _, t := range []*time.Time{&dl.Due, &dl.Rank, &dl.Since, &dl.Settled} {
		if !t.IsZero() {
			*t = time.UnixMilli(t.UnixMilli()) // as databases store it
		}
	}
	d.deliveries[dl.ID] = dl
	if dl.State == delivery.Pending {
		lane := d.waiting[dl.ID.Endpoint]
		i, _ := slices.BinarySearchFunc(lane, placeOf(&dl), place.compare)
		d.waiting[dl.ID.Endpoint] = slices.Insert(lane, i, placeOf(&dl))
	}
}

func placeOf(d *delivery.Delivery) place { return place{d.Rank.UnixMilli(), d.ID.Event} }

// LoadLane implements [store.Hot].
func (s *Store) LoadLane(ctx context.Context, r store.LaneScan) (outgoing []delivery.Outgoing, err error) {
	err = s.read(ctx, Call{Method: "LoadLane", Endpoint: r.Endpoint}, func(d *data) {
		lane := d.waiting[r.Endpoint] // in order
		if r.Until.IsZero() {
			after := place{r.After.Millis, r.After.Event}
			lane = lane[sort.Search(len(lane), func(i int) bool { return lane[i].compare(after) > 0 }):]
		} else {
			lane = slices.Clone(lane[:sort.Search(len(lane), func(i int) bool { return lane[i].rank > r.Until.UnixMilli() })])
			slices.Reverse(lane)
		}
		size := 0
		for _, p := range lane {
			if len(outgoing) >= r.Limit || size > r.MaxBytes {
				return
			}
			o := d.outgoing(delivery.ID{Event: p.key, Endpoint: r.Endpoint})
			outgoing = append(outgoing, o)
			size += len(o.Body)
		}
	})
	return outgoing, err
}

// Load implements [store.Hot].
func (s *Store) Load(ctx context.Context, deliveries []delivery.ID) (outgoing []delivery.Outgoing, err error) {
	err = s.read(ctx, Call{Method: "Load"}, func(d *data) {
		for _, id := range deliveries {
			if dl, ok := d.deliveries[id]; ok && dl.State == delivery.Pending {
				outgoing = append(outgoing, d.outgoing(id))
			}
		}
	})
	return outgoing, err
}

// outgoing returns a delivery with the data to send it.
func (d *data) outgoing(id delivery.ID) delivery.Outgoing {
	e := d.events[id.Event]
	return delivery.Outgoing{Delivery: d.deliveries[id], EventID: e.ID, Type: e.Type, Body: slices.Clone(e.Body)}
}

// FanningOut implements [store.Hot]. No event is deferred.
func (s *Store) FanningOut(context.Context, event.Key) ([]event.Space, error) { return nil, nil }

// Lanes implements [store.Hot].
func (s *Store) Lanes(ctx context.Context, after int64, limit int) (lanes []store.Lane, err error) {
	err = s.read(ctx, Call{Method: "Lanes"}, func(d *data) {
		for _, no := range slices.Sorted(maps.Keys(d.waiting)) {
			if l := d.waiting[no]; no > after && len(l) > 0 && len(lanes) < limit {
				lanes = append(lanes, store.Lane{Endpoint: no, Rank: time.UnixMilli(l[0].rank)})
			}
		}
	})
	return lanes, err
}

// CancelPending implements [store.Hot].
func (s *Store) CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (n int, err error) {
	err = s.write(ctx, Call{Method: "CancelPending", Endpoint: endpoint}, func(d *data) {
		for n = 0; n < limit && len(d.waiting[endpoint]) > 0; n++ {
			dl := d.deliveries[delivery.ID{Event: d.waiting[endpoint][0].key, Endpoint: endpoint}]
			dl.Cancel(now)
			d.put(dl)
		}
	})
	return n, err
}

// AllHealth implements [store.Endpoints].
func (s *Store) AllHealth(ctx context.Context) (all []store.Health, err error) {
	err = s.read(ctx, Call{Method: "AllHealth"}, func(d *data) {
		for no, b := range d.health {
			all = append(all, store.Health{Endpoint: no, Breaker: b})
		}
	})
	return all, err
}

// Requeue implements [store.History], without receipts.
func (s *Store) Requeue(ctx context.Context, ds ...delivery.Delivery) error {
	return s.write(ctx, Call{Method: "Requeue"}, func(d *data) {
		for _, dl := range ds {
			d.put(dl)
		}
	})
}

// Ready implements [store.Upkeep].
func (s *Store) Ready(ctx context.Context) error {
	return s.read(ctx, Call{Method: "Ready"}, func(*data) {})
}

// Delivery returns a delivery as readers see it, and the number of its recorded attempts.
func (s *Store) Delivery(id delivery.ID) (d delivery.Delivery, attempts int, ok bool) {
	s.disk.look(func(all *data) {
		d, ok = all.deliveries[id]
		attempts = all.attempts[id]
	})
	return d, attempts, ok
}

// Ahead calls visit with the pending deliveries of an endpoint that precede one of them, in
// order, until it returns false.
func (s *Store) Ahead(id delivery.ID, visit func(delivery.ID) bool) {
	s.disk.look(func(all *data) {
		for _, p := range all.waiting[id.Endpoint] {
			if p.key == id.Event || !visit(delivery.ID{Event: p.key, Endpoint: id.Endpoint}) {
				return
			}
		}
	})
}

// States counts the deliveries of an endpoint by state.
func (s *Store) States(endpoint int64) map[delivery.State]int {
	states := map[delivery.State]int{}
	s.disk.look(func(all *data) {
		for id, d := range all.deliveries {
			if id.Endpoint == endpoint {
				states[d.State]++
			}
		}
	})
	return states
}
