package httpapi_test

import (
	"net/http"
	"testing"
)

// Operator keys create, list and revoke each other; the last one cannot be revoked.
func TestOperatorKeys(t *testing.T) {
	w := newWorld(t)
	made := w.must("POST", "/v1/operator_keys", `{"name":"on call"}`, with(adminKey)...)
	secret, id := made.text("secret"), made.text("id")
	if made.text("role") != "operator" || w.call("GET", "/v1/accounts", "", with(secret)...).status != http.StatusOK {
		t.Fatalf("%v", made)
	}
	listed := w.must("GET", "/v1/operator_keys", "", with(secret)...).list()
	if len(listed) != 2 || listed[0].text("id") != id {
		t.Errorf("%v", listed)
	}
	portal := w.must("POST", "/v1/portal_sessions", `{}`, append(with(secret), "Payment-Account", w.account.ID)...)
	w.must("DELETE", "/v1/operator_keys/"+id, "", with(adminKey)...)
	if a := w.call("GET", "/v1/accounts", "", with(secret)...); a.status != http.StatusUnauthorized {
		t.Errorf("a revoked key: %d", a.status)
	}
	for _, p := range w.must("GET", "/v1/portal_sessions", "", w.asOperator()...).list() {
		if p.text("id") == portal.text("id") {
			t.Error("a portal link outlives the operator key that made it")
		}
	}
	for _, k := range listed {
		if other := k.text("id"); other != id {
			w.call("DELETE", "/v1/operator_keys/"+other, "", with(adminKey)...).check(invalid("operator_key_last", "id"))
		}
	}
	w.call("DELETE", "/v1/operator_keys/"+w.must("GET", "/v1/api_keys", "").list()[0].text("id"), "", with(adminKey)...).check(missing("id"))
}

// A test key does not list the hints of live keys; a live key and the operator list both modes.
func TestKeys_testKeysListNoLiveKeys(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		header []string
		live   bool
	}{{with(testKey), false}, {with(liveKey), true}, {w.asOperator(), true}} {
		live, test := false, false
		for _, k := range w.must("GET", "/v1/api_keys", "", tt.header...).list() {
			live, test = live || k["livemode"] == true, test || k["livemode"] == false
		}
		if live != tt.live || !test {
			t.Errorf("%v: live keys %v, test keys %v", tt.header, live, test)
		}
	}
}
