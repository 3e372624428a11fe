package httpapi_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
	"github.com/posthaste-hq/posthaste/internal/service"
)

func key(k string) []string { return []string{"Idempotency-Key", k} }

// Every POST can be repeated: the second time nothing happens and the first response is
// returned, whatever has changed since.
func TestIdempotency_replay(t *testing.T) {
	for _, c := range []struct {
		name, path, body string
		header           func(*world) []string
		between          func(w *world, e object)
	}{
		{name: "create endpoint", path: "/v1/webhooks", body: `{"url":"https://example.com/","enabled_events":["*"]}`},
		{name: "update endpoint", path: "/v1/webhooks/{endpoint}", body: `{"description":"a"}`, between: func(w *world, e object) {
			w.must("POST", "/v1/webhooks/"+e.text("id"), `{"description":"b"}`)
		}},
		{name: "disable endpoint", path: "/v1/webhooks/{endpoint}/disable", between: func(w *world, e object) {
			w.must("POST", "/v1/webhooks/"+e.text("id")+"/enable", "")
		}},
		{name: "test endpoint, disabled since", path: "/v1/webhooks/{endpoint}/test", between: disable},
		{name: "send event", path: "/v1/events", body: `{"type":"payment.succeeded","data":{"object":{}}}`, between: disable},
		{name: "resend event, endpoint disabled since", path: "/v1/events/{event}/resend", body: `{"endpoint":"{endpoint}"}`, between: disable},
		{name: "retry event", path: "/v1/events/{event}/retry", body: `webhook_endpoint={endpoint}`, header: func(*world) []string {
			return []string{"Content-Type", formType}
		}},
		{name: "retry delivery, endpoint disabled since", path: "/v1/deliveries/{delivery}/retry", between: disable},
		{name: "cancel delivery", path: "/v1/deliveries/{delivery}/cancel", between: func(w *world, _ object) { w.pass(time.Hour) }},
		{name: "create account", path: "/v1/accounts", body: `{"name":"New"}`, header: func(*world) []string { return with(adminKey) }},
		{name: "update account", path: "/v1/accounts/{account}", body: `{"name":"New"}`, header: func(*world) []string { return with(adminKey) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			e := w.register("payment.*")
			ev := w.send("payment.failed")
			fill := strings.NewReplacer("{endpoint}", e.text("id"), "{event}", ev.text("id"),
				"{delivery}", w.deliveryOf(ev.text("id")).text("id"), "{account}", w.account.ID)
			header := key("first try")
			if c.header != nil {
				header = append(header, c.header(w)...)
			}
			post := func() answer { return w.call("POST", fill.Replace(c.path), fill.Replace(c.body), header...) }
			first := post()
			if first.status != http.StatusOK || first.header.Get("Idempotent-Replayed") != "" {
				t.Fatalf("first: %d %s", first.status, first.body)
			}
			if c.between != nil {
				c.between(w, e)
			}
			before := w.everything()
			w.engine.told()
			again := post()
			if again.status != first.status || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("again: %d %s (replayed %q)\nfirst: %s", again.status, again.body, again.header.Get("Idempotent-Replayed"), first.body)
			}
			if again.header.Get("Request-Id") == first.header.Get("Request-Id") {
				t.Error("two requests have one Request-Id")
			}
			if w.everything() != before {
				t.Error("the repetition has changed something")
			}
			if woken, _ := w.engine.told(); len(woken) > 0 {
				t.Error("the repetition has woken the engine")
			}
		})
	}
}

// Every POST with an API key supports it: each route is called twice under one key, and once
// more with another request.
func TestIdempotency_everyRoute(t *testing.T) {
	w := newWorld(t)
	adaOf(w)
	w.register("payment.succeeded")
	known := entries()
	tried := 0
	for _, route := range httpapi.Routes() {
		path, post := strings.CutPrefix(route, "POST ")
		e := known[route]
		if !post || e.nowhere {
			continue
		}
		tried++
		header := map[right][]string{members: with(testKey), operators: with(adminKey), operatorsFor: w.asOperator()}[e.right]
		id := ""
		if e.made != nil {
			id = e.made(w)
		}
		fill := strings.NewReplacer("{id}", id).Replace
		call := func(query, body string) answer {
			return w.call("POST", fill(path+query), fill(body), slices.Concat(key(route), e.header, header)...)
		}
		first := call(e.query, e.body)
		before := w.everything()
		again := call(e.query, e.body)
		if first.status != http.StatusOK || again.status != first.status || again.header.Get("Idempotent-Replayed") != "true" || path != "/v1/api_keys" && path != "/v1/operator_keys" && again.body != first.body {
			t.Errorf("%s: %d, then %d (replayed: %q)\nfirst: %s\nagain: %s", route, first.status, again.status, again.header.Get("Idempotent-Replayed"), first.body, again.body)
		}
		if w.everything() != before {
			t.Errorf("%s: the repetition has changed something", route)
		}
		body, query := strings.Replace(e.body, "{", "{ ", 1), e.query
		if body == e.body {
			body = "{}"
		}
		if query != "" {
			body, query = e.body, query+"&" // the same parameters, but another request
		}
		if other := call(query, body); other.status != http.StatusUnprocessableEntity && path != "/v1/events/batch" { // whose events have their own receipts
			t.Errorf("%s: another request under the key is answered with %d %s", route, other.status, other.body)
		}
	}
	if tried < 30 {
		t.Errorf("tried %d routes", tried)
	}
}

func disable(w *world, e object) { w.must("POST", "/v1/webhooks/"+e.text("id")+"/disable", "") }

// API keys are stored as hashes only, also in stored responses.
func TestIdempotency_keepsNoAPIKey(t *testing.T) {
	w := newWorld(t)
	header := append(w.asOperator(), key("k")...)
	first := w.must("POST", "/v1/api_keys", `{"name":"CI"}`, header...)
	secret := first.text("secret")
	if !strings.HasPrefix(secret, "sk_test_") {
		t.Fatalf("no secret in %v", first)
	}
	again := w.call("POST", "/v1/api_keys", `{"name":"CI"}`, header...)
	if o := again.object(); o.text("id") != first.text("id") || o["secret"] != nil || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %s", again.body)
	}
	r, err := w.store.Receipt(context.Background(), event.SpaceOf(w.account.No, false), "k")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.Body), secret) {
		t.Error("the receipt holds the API key")
	}
}

func TestIdempotency_mismatch(t *testing.T) {
	w := newWorld(t)
	const body = `{"url":"https://example.com/","enabled_events":["*"]}`
	w.must("POST", "/v1/webhooks", body, key("k")...)
	want := refusal{http.StatusUnprocessableEntity, "idempotency_replay_mismatch", "idempotency_key_reused", ""}
	before := w.everything()
	w.call("POST", "/v1/webhooks", strings.Replace(body, "*", "a", 1), key("k")...).check(want)
	w.call("POST", "/v1/webhooks", body+" ", key("k")...).check(want)
	w.call("POST", "/v1/webhook_endpoints", body, key("k")...).check(want)
	w.call("POST", "/v1/events", `{"type":"a","data":{"object":{}}}`, key("k")...).check(want)
	if w.everything() != before {
		t.Error("something has changed")
	}
}

// Idempotency keys belong to one account and mode.
func TestIdempotency_spaces(t *testing.T) {
	w := newWorld(t)
	const body = `{"type":"a","data":{"object":{}}}`
	seen := map[string]bool{}
	for _, k := range []string{testKey, liveKey, otherKey} {
		a := w.call("POST", "/v1/events", body, append(with(k), key("k")...)...)
		if a.status != http.StatusOK || a.header.Get("Idempotent-Replayed") != "" || seen[a.object().text("id")] {
			t.Errorf("%s: %d %s", k, a.status, a.body)
		}
		seen[a.object().text("id")] = true
	}
}

// A refused request does not use its key.
func TestIdempotency_afterAnError(t *testing.T) {
	w := newWorld(t)
	w.call("POST", "/v1/webhooks", `{"url":"ftp://example.com/","enabled_events":["*"]}`, key("k")...).check(invalid("url_invalid", "url"))
	w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"]}`, key("k")...)
}

func TestIdempotency_expires(t *testing.T) {
	w := newWorld(t)
	const body = `{"type":"a","data":{"object":{}}}`
	first := w.must("POST", "/v1/events", body, key("k")...)
	w.pass(24*time.Hour - time.Second)
	if again := w.must("POST", "/v1/events", body, key("k")...); again.text("id") != first.text("id") {
		t.Error("forgotten within 24 hours")
	}
	w.pass(time.Second)
	if again := w.must("POST", "/v1/events", body, key("k")...); again.text("id") == first.text("id") {
		t.Error("still known after 24 hours")
	}
}

// The response is the same although retention has deleted the event.
func TestIdempotency_outlivesItsEvent(t *testing.T) {
	w := newWorld(t)
	w.service.Calls.EventsKept = time.Hour
	const body = `{"type":"a","data":{"object":{}}}`
	first := w.call("POST", "/v1/events", body, key("k")...)
	w.pass(2 * time.Hour)
	if err := w.service.Purge(t.Context(), service.Retention{Events: w.service.Calls.EventsKept}); err != nil {
		t.Fatal(err)
	}
	w.call("GET", "/v1/events/"+first.object().text("id"), "").check(missing("id"))
	if again := w.call("POST", "/v1/events", body, key("k")...); again.status != 200 || again.body != first.body {
		t.Errorf("%d %s, want %s", again.status, again.body, first.body)
	}
}

// While the first request is running, the second one is refused.
func TestIdempotency_conflict(t *testing.T) {
	w := newWorld(t)
	const body = `{"type":"a","data":{"object":{}}}`
	arrived, open := w.events.shut()
	type result struct {
		answer
		err error
	}
	first := make(chan result, 1)
	go func() {
		a, err := w.try("POST", "/v1/events", body, key("k")...)
		first <- result{a, err}
	}()
	<-arrived
	second := w.call("POST", "/v1/events", body, key("k")...)
	second.check(refusal{http.StatusConflict, "idempotency_conflict", "idempotency_key_in_use", ""})
	if second.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", second.header.Get("Retry-After"))
	}
	open()
	r := <-first
	if r.err != nil || r.status != http.StatusOK {
		t.Fatalf("first: %d %s %v", r.status, r.body, r.err)
	}
	if third := w.call("POST", "/v1/events", body, key("k")...); third.body != r.body || third.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("third: %d %s", third.status, third.body)
	}
}
