//go:build !wasip1

package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// others simulates the other nodes.
type others struct {
	w     *world
	told  []delivery.Outgoing
	loads int // looked-up deliveries
}

func (o *others) Elsewhere(outgoing []delivery.Outgoing) { o.told = append(o.told, outgoing...) }
func (o *others) Sending() context.Context               { return context.Background() }
func (o *others) Expedite([]delivery.ID)                 {}

func (o *others) Load(ctx context.Context, ids []delivery.ID) ([]delivery.Outgoing, error) {
	o.loads += len(ids)
	return o.w.store.Load(ctx, ids)
}

// accept stores an event like another node, and returns its announcement.
func (o *others) accept(e *endpoint.Endpoint) delivery.Outgoing {
	o.w.t.Helper()
	a := o.w.newEvent(e)
	if err := o.w.store.Commit(context.Background(), &store.Batch{Appends: []*store.Append{a}}); err != nil {
		o.w.t.Fatal(err)
	}
	return delivery.Outgoing{Delivery: a.Deliveries[0], EventID: a.Event.ID, Type: a.Event.Type, Body: a.Event.Body, Version: 1}
}

// Forwarded deliveries are sent once, without a read of the store: a late message of a delivery
// that this node or the previous owner has already sent causes no attempt.
func TestForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := &others{w: w}
		w.config.Cluster = o
		w.start()
		defer w.stop(time.Minute)
		e := w.receiver("a", false, endpoint.Settings{}, func(context.Context, *sender.Request) delivery.Attempt {
			return delivery.Attempt{Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
		})
		sent := func() (n int) {
			time.Sleep(time.Second)
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, all := range w.attempts {
				n += len(all)
			}
			return n
		}
		check := func(what string, attempts, loads, reads int) {
			t.Helper()
			if n := sent(); n != attempts || o.loads != loads || int(w.store.loads.Load()) != reads {
				t.Errorf("%s: %d attempts, %d looked up, %d reads of lanes; want %d, %d, %d", what, n, o.loads, w.store.loads.Load(), attempts, loads, reads)
			}
		}
		sent()
		reads := int(w.store.loads.Load())
		w.engine.Forwarded([]delivery.Outgoing{o.accept(e), o.accept(e)})
		check("two are forwarded", 2, 0, reads)

		late := o.accept(e)
		w.engine.Wake(e.No) // another event causes the lane to be read
		reads++
		check("read before the message came", 3, 0, reads)
		w.engine.Forwarded([]delivery.Outgoing{late})
		check("then the message comes", 3, 1, reads)
		w.engine.Forwarded([]delivery.Outgoing{o.accept(e)})
		check("a newer one is not looked up", 4, 1, reads)

		before := o.accept(e) // which the endpoint's former owner sends
		d := before.Delivery
		d.State, d.Attempts, d.Settled = delivery.Succeeded, 1, time.Now()
		if err := w.store.Commit(context.Background(), &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &delivery.Attempt{Number: 1, Started: time.Now()}}}}); err != nil {
			t.Fatal(err)
		}
		w.engine.VerifyUpTo(before.Delivery.ID.Event)
		w.engine.Forwarded([]delivery.Outgoing{before})
		check("sent by the former owner", 4, 2, reads)
		pending := o.accept(e)
		w.engine.VerifyUpTo(pending.Delivery.ID.Event)
		w.engine.Forwarded([]delivery.Outgoing{pending})
		check("not sent by the former owner", 5, 3, reads)

		w.endpoints.Put(w.endpoints.Get(e.No).Endpoint, endpoint.Process{Remote: true})
		misdirected := o.accept(e)
		if got := w.engine.Forwarded([]delivery.Outgoing{misdirected}); !slices.Equal(got, []delivery.ID{misdirected.Delivery.ID}) {
			t.Errorf("misdirected are %v", got)
		}
		check("it is another node's", 5, 3, reads)
	})
}

// The engine announces deliveries of other nodes with their events, unless the owner must read them.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := &others{w: w}
		w.config.Cluster = o
		w.start()
		defer w.stop(time.Minute)
		for _, c := range []struct {
			name    string
			set     endpoint.Settings
			version int64
			whole   bool
		}{
			{"plain", endpoint.Settings{}, 1, true},
			{"ordered", endpoint.Settings{Ordering: endpoint.FIFO}, 1, false},
			{"unchecked", endpoint.Settings{}, 0, false},
		} {
			e := *w.receiver(c.name, false, c.set, nil)
			w.endpoints.Put(&e, endpoint.Process{Remote: true})
			a := w.newEvent(&e)
			a.Version = c.version
			if err := w.commits.Append(context.Background(), a); err != nil {
				t.Fatal(err)
			}
			if len(o.told) != 1 || o.told[0].Delivery.ID != a.Deliveries[0].ID || (o.told[0].Body != nil) != c.whole || o.told[0].Version != 0 != c.whole {
				t.Errorf("%s: told %+v", c.name, o.told)
			}
			o.told = nil
		}
	})
}
