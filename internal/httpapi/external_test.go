package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// An account has the operator's own id, by which it can be named wherever accounts are.
func TestExternalIDs_accounts(t *testing.T) {
	w := newWorld(t)
	admin := with(adminKey)
	put := func(id, body string) answer { return w.call("PUT", "/v1/accounts/"+id, body, admin...) }
	made := put("customer-7", `{"name":"Acme","metadata":{"plan":"pro","seats":"7"}}`).object()
	if made.text("external_id") != "customer-7" || made.text("name") != "Acme" || made.in("metadata").text("plan") != "pro" {
		t.Fatalf("made: %v", made)
	}
	before := w.everything()
	same := put("customer-7", `{"name":"Acme","metadata":{"plan":"pro"},"external_id":"customer-7"}`)
	if got := same.object(); got.text("id") != made.text("id") || w.everything() != before {
		t.Errorf("put again: %v", got)
	}
	changed := put("customer-7", `{"metadata":{"plan":"free","seats":""},"rate_limit":60}`).object()
	if changed.text("id") != made.text("id") || changed.text("name") != "Acme" || changed["rate_limit"] != 60.0 || changed.in("metadata").text("plan") != "free" || len(changed.in("metadata")) != 1 {
		t.Errorf("changed: %v", changed)
	}

	for _, id := range []string{made.text("id"), "customer-7"} {
		if got := w.must("GET", "/v1/accounts/"+id, "", admin...); got.text("id") != made.text("id") {
			t.Errorf("named %s: %v", id, got)
		}
		acting := append(with(adminKey), "Payment-Account", id)
		if got := w.must("GET", "/v1/account", "", acting...).in("account"); got.text("external_id") != "customer-7" {
			t.Errorf("acting for %s: %v", id, got)
		}
		w.must("POST", "/v1/events", `{"type":"a.b","data":{"object":{}}}`, acting...)
		w.must("POST", "/v1/api_keys", `{"name":"`+id+`"}`, acting...)
		w.must("POST", "/v1/portal_sessions", `{}`, acting...)
		w.must("GET", "/v1/accounts/"+id+"/usage", "", admin...)
		w.must("POST", "/v1/accounts/"+id, `{"name":"Acme"}`, admin...)
		w.must("GET", "/v1/accounts?limit=1&starting_after="+id, "", admin...)
	}

	invalid := func(code string) refusal { return refusal{400, "invalid_request_error", code, "external_id"} }
	other := w.must("POST", "/v1/accounts", `{"name":"Other"}`, admin...).text("id")
	w.call("POST", "/v1/accounts/"+other, `{"external_id":"customer-7"}`, admin...).check(invalid("external_id_taken"))
	w.call("POST", "/v1/accounts", `{"external_id":"customer-7"}`, admin...).check(invalid("external_id_taken"))
	w.must("POST", "/v1/accounts/"+other, `{"external_id":"customer-8"}`, admin...)
	w.call("POST", "/v1/accounts/"+other, `{"external_id":"customer-9"}`, admin...).check(invalid("parameter_invalid"))
	for _, id := range []string{"acct_mine", "a%20b", "%3F", strings.Repeat("x", 129), "..."} {
		put(id, `{}`).check(invalid("parameter_invalid"))
	}
	put("customer-10", `{"external_id":"customer-11"}`).check(invalid("parameter_invalid"))
	put("customer-10", `{"metadata":{"`+strings.Repeat("k", 41)+`":"v"}}`).check(refusal{400, "invalid_request_error", "parameter_invalid", "metadata"})
	w.call("PUT", "/v1/accounts/customer-10", `{}`).check(refusal{403, "authorization_error", "operator_key_required", ""})
	w.call("GET", "/v1/accounts/customer-10", "", admin...).check(refusal{404, "not_found_error", "resource_missing", "id"})
}

// An endpoint has the account's own id, in each mode.
func TestExternalIDs_endpoints(t *testing.T) {
	w := newWorld(t)
	const body = `{"url":"https://example.com/hook","enabled_events":["a.*"],"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}`
	made := w.must("PUT", "/v1/webhooks/billing.prod", body)
	if made.text("external_id") != "billing.prod" || made.text("secret") != "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" {
		t.Fatalf("made: %v", made)
	}
	before := w.everything()
	if got := w.must("PUT", "/v1/webhooks/billing.prod", body); got.text("id") != made.text("id") || got["secret"] != nil || w.everything() != before {
		t.Errorf("put again: %v", got)
	}
	if got := w.must("PUT", "/v1/webhooks/billing.prod", `{"description":"d"}`); got.text("description") != "d" || got.text("url") != "https://example.com/hook" {
		t.Errorf("changed: %v", got)
	}
	w.must("GET", "/v1/webhooks/billing.prod", "")
	w.must("PATCH", "/v1/webhooks/billing.prod", `{"description":"e"}`)
	sent := w.must("POST", "/v1/events", `{"type":"a.b","data":{"object":{}}}`)
	if got := w.must("GET", "/v1/deliveries?endpoint=billing.prod", "").list(); len(got) != 1 {
		t.Errorf("its deliveries: %v", got)
	}
	w.must("POST", "/v1/events/"+sent.text("id")+"/resend", `{"endpoint":"billing.prod"}`)
	w.must("POST", "/v1/webhooks/billing.prod/test", `{}`)
	w.must("POST", "/v1/webhooks/billing.prod/reveal_secret", "")
	w.must("POST", "/v1/webhooks/billing.prod/rotate_secret", `{"expires_in":0}`)
	w.must("GET", "/v1/webhooks?starting_after=billing.prod", "")
	w.must("POST", "/v1/webhooks/billing.prod/disable", "")

	w.call("PUT", "/v1/webhooks/billing.prod", body).check(refusal{400, "invalid_request_error", "parameter_invalid", "secret"}) // which was rotated
	w.call("PUT", "/v1/webhooks/new", `{"enabled_events":["*"]}`).check(refusal{400, "invalid_request_error", "parameter_missing", "url"})
	w.call("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":["*"],"external_id":"billing.prod"}`).
		check(refusal{400, "invalid_request_error", "external_id_taken", "external_id"})
	for _, id := range []string{"we_mine", "%2e%2e%2e", "a%2Fb"} {
		w.call("PUT", "/v1/webhooks/"+id, body).check(refusal{400, "invalid_request_error", "parameter_invalid", "external_id"})
	}
	if live := w.must("PUT", "/v1/webhooks/billing.prod", body, with(liveKey)...); live.text("id") == made.text("id") {
		t.Error("test and live mode share an endpoint")
	}
	w.call("GET", "/v1/webhooks/billing.prod", "", with(otherKey)...).check(refusal{404, "not_found_error", "resource_missing", "id"})
	w.must("PATCH", "/v1/webhooks/billing.prod", `{"external_id":"renamed"}`)
	w.call("GET", "/v1/webhooks/billing.prod", "").check(refusal{404, "not_found_error", "resource_missing", "id"})
	w.must("DELETE", "/v1/webhooks/renamed", "")
	if again := w.must("PUT", "/v1/webhooks/renamed", body); again.text("id") == made.text("id") || again.text("secret") == "" {
		t.Errorf("after its deletion: %v", again)
	}
}

// However many put an object at the same time, one results, and each is answered with it.
func TestExternalIDs_atOnce(t *testing.T) {
	w := newWorld(t)
	const callers = 24
	var mu sync.Mutex
	accounts, endpoints, secrets := map[string]int{}, map[string]int{}, 0
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			a, err := w.try("PUT", "/v1/accounts/customer-7", fmt.Sprintf(`{"metadata":{"caller":"%d"}}`, i), with(adminKey)...)
			e, errEndpoint := w.try("PUT", "/v1/webhooks/billing", fmt.Sprintf(`{"url":"https://example.com/hook","enabled_events":["*"],"metadata":{"caller_%d":"x"}}`, i))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || errEndpoint != nil || a.status != http.StatusOK || e.status != http.StatusOK {
				t.Errorf("%v %d %s; %v %d %s", err, a.status, a.body, errEndpoint, e.status, e.body)
				return
			}
			accounts[a.object().text("id")]++
			endpoints[e.object().text("id")]++
			if e.object()["secret"] != nil {
				secrets++
			}
		})
	}
	all.Wait()
	if len(accounts) != 1 || len(endpoints) != 1 || secrets != 1 {
		t.Errorf("accounts %v, endpoints %v, %d creations", accounts, endpoints, secrets)
	}
	if got := w.must("GET", "/v1/webhooks/billing", "").in("metadata"); len(got) != callers {
		t.Errorf("%d of %d edits are kept: %v", len(got), callers, got)
	}
}
