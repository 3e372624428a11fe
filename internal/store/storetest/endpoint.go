package storetest

import (
	"errors"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func (b *bundle) allEndpoints() (ids []string) {
	b.Helper()
	b.ok(b.AllEndpoints(b.ctx, func(e *endpoint.Endpoint) error { ids = append(ids, e.ID); return nil }))
	return ids
}

func testEndpoints(b *bundle) {
	var all []endpoint.Endpoint // newest first
	var ids []string
	for range 5 {
		e := b.endpoint(mine)
		other := b.endpoint(theirs)
		if e.No == 0 || other.No == e.No {
			b.Fatalf("numbers %d and %d", e.No, other.No)
		}
		all = append([]endpoint.Endpoint{*e}, all...)
		ids = append(ids, e.ID, other.ID)
	}
	list := func(space event.Space) func(store.Page[int64]) ([]endpoint.Endpoint, bool, error) {
		return func(p store.Page[int64]) ([]endpoint.Endpoint, bool, error) { return b.ListEndpoints(b.ctx, space, p) }
	}
	cursor := func(e endpoint.Endpoint) int64 { return e.No }
	pages(b, "endpoints", all, cursor, list(mine))
	pages(b, "of nobody", nil, cursor, list(live))
	for _, want := range all {
		got, err := b.Endpoint(b.ctx, mine, want.ID)
		b.ok(err)
		b.equal("endpoint", got, want)
		for _, space := range []event.Space{live, theirs} {
			_, err = b.Endpoint(b.ctx, space, want.ID)
			b.code(err, fault.NotFound)
		}
	}
	b.equal("all", len(b.allEndpoints()), len(ids))
	stop, calls := errors.New("stop"), 0
	if err := b.AllEndpoints(b.ctx, func(*endpoint.Endpoint) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		b.Errorf("got %v after %d calls, want the callback's error after one", err, calls)
	}
}

func testEndpointSettings(b *bundle) {
	e := b.endpoint(mine)
	bystander := *b.endpoint(mine)
	full := *e
	full.URL, full.Events, full.Description = "https://example.org/\x00é?a=b", []string{"a.b", "c.*"}, "d\n\"'é"
	full.Metadata = map[string]string{"k": "v", "": "\x00"}
	full.Status, full.DisabledReason = endpoint.Disabled, endpoint.DisabledGone
	full.Settings = endpoint.Settings{Ordering: endpoint.FIFO, Timeout: 1500 * time.Millisecond, Concurrency: 3, Rate: 0.1, Schedule: []time.Duration{time.Minute, time.Nanosecond},
		Shapes: []endpoint.Shape{{Format: endpoint.Standard}, {Since: 1 << 60, Format: endpoint.Structured, Source: "/accounts/acct_1/live"}}, Filter: "data.object.note != \"é\\n\"",
		Validation: endpoint.Handshake}
	full.Consent = &endpoint.Consent{URL: "https://example.org/é", Origin: "pay.example", Since: time.UnixMilli(1700000000999).UTC(), Granted: time.UnixMilli(1700000001000).UTC(), Rate: 100, Asked: time.UnixMilli(1700000002000).UTC(), Asks: 2, Answer: "no"}
	full.Secrets = append(full.Secrets, endpoint.NewSecret("sec_1", time.UnixMilli(1700000000999).UTC()))
	full.Secrets[0].Expires = time.UnixMilli(1700086400000).UTC()
	full.Updated, full.EnabledSince = full.Updated.Add(time.Second), full.EnabledSince.Add(time.Minute)
	never, usual := full, full
	never.Settings.Schedule, usual.Settings.Schedule = []time.Duration{}, nil
	for _, want := range []endpoint.Endpoint{full, never, usual, *e} {
		b.ok(b.writeEndpoint(&want, store.Trail{}))
		got, err := b.Endpoint(b.ctx, mine, e.ID)
		b.ok(err)
		b.equal("endpoint", got, want)
		if (got.Settings.Schedule == nil) != (want.Settings.Schedule == nil) {
			b.Errorf(`"never retry" is not "as usual": schedule is %#v, want %#v`, got.Settings.Schedule, want.Settings.Schedule)
		}
	}
	got, err := b.Endpoint(b.ctx, mine, bystander.ID)
	b.ok(err)
	b.equal("another endpoint", got, bystander)

	// Earlier servers stored URLs unchanged.
	old := full
	old.URL, old.Auth = "https://BÜCHER.test/café?q={a}", endpoint.Authentication{Type: endpoint.AuthOAuth, TokenURL: "https://ID.test/|"}
	old.Consent = &endpoint.Consent{URL: old.URL, Origin: "pay.example", Granted: time.UnixMilli(1700000001000).UTC()}
	b.ok(b.writeEndpoint(&old, store.Trail{}))
	got, err = b.Endpoint(b.ctx, mine, e.ID)
	b.ok(err)
	want := "https://xn--bcher-kva.test/caf%C3%A9?q=%7Ba%7D"
	b.equal("URLs", []string{got.URL, got.Consent.URL, got.Auth.TokenURL}, []string{want, want, "https://id.test/%7C"})
	missing := full
	missing.No, missing.ID = 99, "we_99"
	b.code(b.writeEndpoint(&missing, store.Trail{}), fault.NotFound)
}

func testDeletedEndpoint(b *bundle) {
	e, kept := b.endpoint(mine), b.endpoint(mine)
	a := b.append(mine, "a.b", e.No, kept.No)
	id := a.Deliveries[0].ID
	b.ok(b.Commit(b.ctx, &store.Batch{Health: []store.Health{{Endpoint: e.No}, {Endpoint: kept.No}}}))
	b.ok(b.deleteEndpoint(e.No, now(), store.Trail{}))

	_, err := b.Endpoint(b.ctx, mine, e.ID)
	b.code(err, fault.NotFound)
	b.code(b.writeEndpoint(e, store.Trail{}), fault.NotFound)
	b.code(b.deleteEndpoint(e.No, now(), store.Trail{}), fault.NotFound)
	b.code(b.deleteEndpoint(99, now(), store.Trail{}), fault.NotFound)
	items, more, err := b.ListEndpoints(b.ctx, mine, store.Page[int64]{Limit: 1})
	b.ok(err)
	if len(items) != 1 || items[0].ID != kept.ID || more {
		b.Errorf("listed %+v, more %v", items, more)
	}
	b.equal("all", b.allEndpoints(), []string{kept.ID})
	health, err := b.AllHealth(b.ctx)
	b.ok(err)
	b.equal("health", health, []store.Health{{Endpoint: kept.No}})

	past, err := b.PastEndpoint(b.ctx, mine, e.ID)
	b.ok(err)
	if past.No != e.No || past.URL != e.URL || len(past.Secrets) != 0 {
		b.Errorf("the past endpoint is %+v", past)
	}
	for _, gone := range []struct {
		space event.Space
		id    string
	}{{theirs, e.ID}, {mine, "we_99"}} {
		_, err = b.PastEndpoint(b.ctx, gone.space, gone.id)
		b.code(err, fault.NotFound)
	}
	present, err := b.PastEndpoint(b.ctx, mine, kept.ID)
	b.ok(err)
	b.equal("an endpoint that is there", present, *kept)

	v, err := b.Delivery(b.ctx, mine, id)
	b.ok(err)
	b.equal("its delivery's endpoint", v.EndpointID, e.ID)
	views, _, err := b.ListDeliveries(b.ctx, mine, store.DeliveryFilter{Endpoint: e.No}, store.Page[delivery.ID]{Limit: 10})
	b.ok(err)
	if len(views) != 1 || views[0].EndpointID != e.ID {
		b.Errorf("deliveries of a deleted endpoint: %+v", views)
	}
	if next := b.endpoint(mine); next.No == e.No {
		b.Error("a number was given twice")
	}
}
