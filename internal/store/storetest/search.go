package storetest

import (
	"fmt"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// keyed creates an event with an object and a customer as search keys.
func (b *bundle) keyed(space event.Space, typ, object, customer string, endpoints ...int64) *store.Append {
	a := b.compose(space, typ, endpoints...)
	a.Event.Body = event.NewBody(a.Event.ID, typ, a.Event.Created, fmt.Appendf(nil, `{"object":{"customer":"%s","id":"%s"}}`, customer, object))
	for _, k := range a.Event.SearchKeys([]string{event.ObjectID, "data.object.customer"}) {
		a.Search = append(a.Search, k.Sum(space).Hash())
	}
	return a
}

func searchOf(path, value string) store.Search {
	return store.Search{Path: path, Sum: event.SearchKey{Path: path, Value: value}.Sum(mine)}
}

// pagesOf reads all pages of a list of events in one direction.
func (b *bundle) pagesOf(f store.EventFilter, limit, scan int, upwards bool) (keys []event.Key) {
	b.Helper()
	p := store.Page[event.Key]{Limit: limit, Scan: scan}
	if first := event.Key(1); upwards {
		p.Before = &first
	}
	for {
		items, next, err := b.ListEvents(b.ctx, mine, f, p)
		b.ok(err)
		if upwards {
			slices.Reverse(items)
		}
		for _, e := range items {
			keys = append(keys, e.Key)
		}
		if next == nil {
			return keys
		}
		if upwards {
			p.Before = next
		} else {
			p.After = next
		}
	}
}

// deliveryPagesOf is pagesOf for deliveries.
func (b *bundle) deliveryPagesOf(f store.DeliveryFilter, limit int, upwards bool) (ids []delivery.ID) {
	b.Helper()
	p := store.Page[delivery.ID]{Limit: limit}
	if upwards {
		p.Before = &delivery.ID{}
	}
	for {
		items, next, err := b.ListDeliveries(b.ctx, mine, f, p)
		b.ok(err)
		if upwards {
			slices.Reverse(items)
		}
		for i := range items {
			ids = append(ids, items[i].ID)
		}
		if next == nil {
			return ids
		}
		if upwards {
			p.Before = next
		} else {
			p.After = next
		}
	}
}

// Events are found by a search key, in combination with all other filters, from both ends.
func testSearchKeys(b *bundle) {
	const customer = "data.object.customer"
	var all []*store.Append
	for i := range 3_000 {
		all = append(all, b.keyed(mine, "a.b", fmt.Sprintf("obj_%d", i), fmt.Sprintf("cus_%d", i%600), 7, 8))
	}
	other := b.keyed(theirs, "a.b", "obj_1", "cus_1", 7)
	same := b.keyed(mine, "a.c", "obj_x", "cus_x", 7) // has the hash of another value
	same.Search[0] = searchOf(customer, "cus_1").Sum.Hash()
	for some := range slices.Chunk(append(all, other, same), 300) {
		b.commit(some...)
	}
	want := []event.Key{all[1].Event.Key, all[601].Event.Key, all[1201].Event.Key, all[1801].Event.Key, all[2401].Event.Key}
	down := slices.Clone(want)
	slices.Reverse(down)
	for _, limit := range []int{1, 2, 5, 100} {
		for _, scan := range []int{0, 1} {
			f := store.EventFilter{Search: searchOf(customer, "cus_1")}
			b.equal(fmt.Sprintf("pages of %d", limit), b.pagesOf(f, limit, scan, false), down)
			b.equal(fmt.Sprintf("pages of %d, upwards", limit), b.pagesOf(f, limit, scan, true), want)
		}
		f := store.DeliveryFilter{Search: searchOf(customer, "cus_1")}
		var ids []delivery.ID
		for _, k := range want {
			ids = append(ids, delivery.ID{Event: k, Endpoint: 7}, delivery.ID{Event: k, Endpoint: 8})
		}
		b.equal(fmt.Sprintf("deliveries in pages of %d, upwards", limit), b.deliveryPagesOf(f, limit, true), ids)
		slices.Reverse(ids)
		b.equal(fmt.Sprintf("deliveries in pages of %d", limit), b.deliveryPagesOf(f, limit, false), ids)
	}
	b.attempt(&all[601].Deliveries[1], delivery.OutcomeTimeout)
	done, failed := all[1201].Deliveries[0], delivery.Failed
	done.State = delivery.Failed
	b.settle(done)
	for what, tt := range map[string]struct {
		f    store.EventFilter
		want []event.Key
	}{
		"by object":     {store.EventFilter{Search: searchOf(event.ObjectID, "obj_5")}, []event.Key{all[5].Event.Key}},
		"by no object":  {store.EventFilter{Search: searchOf(event.ObjectID, "obj_5000")}, nil},
		"of a type":     {store.EventFilter{Search: searchOf(customer, "cus_1"), Pattern: "a.b"}, down},
		"of no type":    {store.EventFilter{Search: searchOf(customer, "cus_1"), Pattern: "a.c"}, nil},
		"of some types": {store.EventFilter{Search: searchOf(customer, "cus_1"), Types: []string{"a.b", "a.d"}}, down},
		"from":          {store.EventFilter{Search: searchOf(customer, "cus_1"), From: want[3]}, down[:2]},
		"until":         {store.EventFilter{Search: searchOf(customer, "cus_1"), Until: want[1]}, want[:1]},
		"failed":        {store.EventFilter{Search: searchOf(customer, "cus_1"), State: &failed}, want[2:3]},
		"with text":     {store.EventFilter{Search: searchOf(customer, "cus_1"), Text: `"obj_1201"`}, want[2:3]},
	} {
		b.equal(what, b.pagesOf(tt.f, 10, 0, false), tt.want)
	}
	b.equal("failed deliveries", b.deliveryPagesOf(store.DeliveryFilter{Search: searchOf(customer, "cus_1"), State: &failed}, 10, false), []delivery.ID{done.ID})
	b.equal("deliveries of one endpoint and event", b.deliveryPagesOf(store.DeliveryFilter{Search: searchOf(customer, "cus_1"), Event: want[0], Endpoint: 8}, 10, false), []delivery.ID{all[1].Deliveries[1].ID})
	n, whole, err := b.CountDeliveries(b.ctx, mine, store.DeliveryFilter{Search: searchOf(customer, "cus_1")}, 100)
	b.ok(err)
	b.equal("count", []any{n, whole}, []any{10, true})

	// An erased event is no longer found, and neither is a purged one.
	b.eraseAll(all[1801].Event.ID, now())
	b.equal("after an erasure", b.pagesOf(store.EventFilter{Search: searchOf(customer, "cus_1")}, 10, 0, false), []event.Key{want[4], want[2], want[1], want[0]})
	for i := range all[:700] {
		for _, d := range all[i].Deliveries {
			d.State = delivery.Succeeded
			b.settle(d)
		}
	}
	for from := event.Key(0); ; {
		next, _, err := b.PurgeEvents(b.ctx, from, all[700].Event.Key, 100)
		b.ok(err)
		if from = next; next == 0 {
			break
		}
	}
	b.equal("after a purge", b.pagesOf(store.EventFilter{Search: searchOf(customer, "cus_1")}, 10, 0, false), []event.Key{want[4], want[2]})
}

// An event with a lower key than the stored ones is found too.
func testSearchKeysOutOfOrder(b *bundle) {
	var all []*store.Append
	for i := range 2_500 {
		all = append(all, b.keyed(mine, "a.b", fmt.Sprintf("obj_%d", i%10), "cus", 7))
	}
	var want []event.Key
	for i := 3; i < len(all); i += 10 {
		want = append(want, all[i].Event.Key)
	}
	for _, start := range []int{1_000, 0, 2_000, 1_500, 500} {
		b.commit(all[start : start+500]...)
	}
	f := store.EventFilter{Search: searchOf(event.ObjectID, "obj_3")}
	b.equal("upwards", b.pagesOf(f, 100, 0, true), want)
	for _, i := range []int{3, 1_003, 2_003} {
		b.eraseAll(all[i].Event.ID, now())
		want = slices.DeleteFunc(want, func(k event.Key) bool { return k == all[i].Event.Key })
	}
	b.equal("after an erasure", b.pagesOf(f, 100, 0, true), want)
	slices.Reverse(want)
	b.equal("downwards", b.pagesOf(f, 7, 0, false), want)
}
