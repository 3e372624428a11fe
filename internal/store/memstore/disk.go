package memstore

import (
	"maps"
	"slices"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// disk survives a crash. It contains the data twice: with every write that took effect, as
// readers see it, and with only the synced writes. A sync covers every write that took effect
// before.
type disk struct {
	mu       sync.Mutex
	seen     *data
	safe     *data
	unsynced []*write // that are in seen but not in safe, in order
	coming   []*write // that were requested and have not taken effect
}

// write is a change that is being written. The same change is made to seen and, later, to safe.
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

// announce records a write that is under way: after a crash it may exist.
func (d *disk) announce(change func(*data)) *write {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &write{change}
	d.coming = append(d.coming, w)
	return w
}

// withdraw removes a write that does not take effect. A nil one is ignored.
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

// sync makes everything durable that took effect up to w.
func (d *disk) sync(w *write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep(slices.Index(d.unsynced, w) + 1)
}

// keep makes the first n unsynced writes durable.
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
