package httpapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// deferred stores an event for an endpoint like an event with very many endpoints: its
// deliveries are to be written later, and are not written yet.
func (w *world) deferred(endpointID string) *store.Append {
	w.t.Helper()
	ctx := context.Background()
	space := event.SpaceOf(w.account.No, false)
	ep, err := w.store.Endpoint(ctx, space, endpointID)
	if err != nil {
		w.t.Fatal(err)
	}
	e := event.Event{Key: event.KeyAt(w.now()), Nonce: 7, Space: space, Type: "payment.succeeded", Created: w.now().Unix()}
	e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
	e.Body = event.NewBody(e.ID, e.Type, e.Created, []byte(`{"object":{}}`))
	a := &store.Append{Event: e, Deferred: true, Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: e.Key, Endpoint: ep.No}, space)}}
	if err := w.store.Commit(ctx, &store.Batch{Appends: []*store.Append{a}}); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// An event that matches very many endpoints is acknowledged before its deliveries are written,
// shows the number of missing ones, and finally has all of them.
func TestEvents_manyEndpoints(t *testing.T) {
	w := newWorld(t)
	const endpoints = store.InlineDeliveries + 22
	for range endpoints {
		w.register("payment.*")
	}
	few := w.send("refund.created").text("id")
	if e := w.must("GET", "/v1/events/"+few, ""); e["deliveries_to_create"] != nil {
		t.Errorf("an event without deliveries: %v", e)
	}
	id := w.send("payment.succeeded").text("id")
	path := "/v1/events/" + id
	for deadline := time.Now().Add(time.Minute); ; {
		e := w.must("GET", path, "")
		if e["deliveries_to_create"] == nil {
			break
		}
		if n := e["deliveries_to_create"].(float64); n < 1 || n > endpoints {
			t.Fatalf("deliveries to create: %v", n)
		}
		if time.Now().After(deadline) {
			t.Fatalf("not fanned out: %v", e)
		}
	}
	seen, after := map[string]bool{}, ""
	for more := true; more; {
		page := w.must("GET", path+"/deliveries?limit=100"+after, "")
		for _, d := range page.list() {
			seen[d.text("endpoint")] = true
			after = "&starting_after=" + d.text("id")
		}
		more = page["has_more"] == true
	}
	if len(seen) != endpoints {
		t.Errorf("%d endpoints have a delivery, want %d", len(seen), endpoints)
	}
}

// A job for missed events does not treat an event as missed whose deliveries are still being
// written.
func TestRecover_waitsForFanOut(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	w.pass(time.Second)
	a := w.deferred(e.text("id"))
	w.pass(time.Second)
	if got := w.must("GET", "/v1/events/"+a.Event.ID, ""); got["deliveries_to_create"] != 1.0 {
		t.Errorf("deferred event: %v", got)
	}
	made := w.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", fmt.Sprintf(`{"since":%d,"include_missed":true}`, start.Unix()))
	w.pass(time.Minute)
	look := func() { made = w.must("GET", "/v1/jobs/"+made.text("id"), "") }
	deadline := time.Now().Add(time.Minute)
	for { // until the job has reached the event
		r, err := w.store.Job(t.Context(), a.Event.Space, made.text("id"))
		if err != nil {
			t.Fatal(err)
		}
		if r.State != job.Running || time.Now().After(deadline) {
			t.Fatalf("the job did not wait: %+v", r)
		}
		if r.Cursor.Event == a.Event.Key-1 {
			break
		}
		look()
	}
	f := &store.FanOut{Space: a.Event.Space, Limit: 10}
	if err := w.store.Commit(t.Context(), &store.Batch{FanOuts: []*store.FanOut{f}}); err != nil {
		t.Fatal(err)
	}
	for look(); made.text("status") == "running" && time.Now().Before(deadline); {
		look()
	}
	if made.text("status") != "succeeded" || made["requeued"] != 0.0 || made["scanned"] != 1.0 {
		t.Errorf("ended: %v", made)
	}
}
