package memstore

import (
	"maps"
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// disk outlives a crash. It holds the data twice: with every write that took effect,
// as readers see it, and with those alone that a sync has covered. A sync covers
// whatever took effect before.
type disk struct {
	mu       sync.Mutex
	seen     *data
	safe     *data
	unsynced []*write // that seen has and safe has not, in order
	coming   []*write // that were asked for and have not taken effect
}

// write is a change on its way to the disk. The same change is made to seen and,
// later, to safe.
type write struct {
	change func(*data)
}

func newDisk() *disk { return &disk{seen: newData(), safe: newData()} }

func newData() *data {
	return &data{events: map[event.Key]event.Event{}, deliveries: map[delivery.ID]delivery.Delivery{},
		waiting: map[int64][]place{}, health: map[int64]delivery.Breaker{}, attempts: map[delivery.ID]int{}}
}

func (d *data) clone() *data {
	c := &data{events: maps.Clone(d.events), deliveries: maps.Clone(d.deliveries),
		waiting: make(map[int64][]place, len(d.waiting)), health: maps.Clone(d.health), attempts: maps.Clone(d.attempts)}
	for no, lane := range d.waiting {
		c.waiting[no] = slices.Clone(lane)
	}
	return c
}

func (d *disk) look(look func(*data)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	look(d.seen)
}

// announce notes a write that is under way: a crash may find it done.
func (d *disk) announce(change func(*data)) *write {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &write{change}
	d.coming = append(d.coming, w)
	return w
}

// withdraw forgets a write that does not take effect. A nil one never did.
func (d *disk) withdraw(w *write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.coming = without(d.coming, w)
}

func (d *disk) apply(w *write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.coming = without(d.coming, w)
	w.change(d.seen)
	d.unsynced = append(d.unsynced, w)
}

// sync makes everything safe that took effect up to w.
func (d *disk) sync(w *write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep(slices.Index(d.unsynced, w) + 1)
}

// keep makes the first n unsynced writes safe.
func (d *disk) keep(n int) {
	for _, w := range d.unsynced[:n] {
		w.change(d.safe)
	}
	d.unsynced = slices.Delete(d.unsynced, 0, n)
}

func (d *disk) crash(landed func(int) int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsynced = append(d.unsynced, d.coming...)
	d.coming = nil
	if landed != nil {
		d.keep(landed(len(d.unsynced)))
	}
	d.unsynced = nil
	d.seen = d.safe.clone()
}

func without(all []*write, w *write) []*write {
	return slices.DeleteFunc(all, func(o *write) bool { return o == w })
}
