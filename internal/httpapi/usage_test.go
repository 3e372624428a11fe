package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/go-json-experiment/json"
)

// The operator can list an account's usage of each limit, by mode for limits that apply to each
// mode.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"rate_limit":100,"limits":{"endpoints":3,"tails":1}}`, with(adminKey)...)
	for range 2 {
		w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["a.b"]}`)
	}
	w.must("POST", "/v1/event_types", `{"name":"a.b"}`)
	w.must("POST", "/v1/portal_sessions", `{}`)
	var u struct {
		Data []struct {
			Name, Scope string
			Livemode    *bool
			Used, Limit *int
		}
	}
	body := w.call("GET", "/v1/accounts/"+w.account.ID+"/usage", "", with(adminKey)...).body
	if err := json.Unmarshal([]byte(body), &u, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	text := func(n *int) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	got := map[string]string{}
	for _, use := range u.Data {
		name := use.Name
		if use.Livemode != nil {
			name += map[bool]string{true: " live", false: " test"}[*use.Livemode]
		}
		got[name] = text(use.Used) + " of " + text(use.Limit) + " " + use.Scope
	}
	for name, want := range map[string]string{
		"rate_limit": "4 of 100 node", "endpoints test": "2 of 3 server", "endpoints live": "0 of 3 server", "event_types test": "1 of 1000 server", "portal_sessions test": "1 of 10000 server",
		"portal_sessions live": "0 of 10000 server", "listeners test": "0 of 50 server", "jobs": "0 of 100 server", "tails": "0 of 1 node", "batch_deliveries": "- of 20000 server", "processor_time": "0 of 500 node",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	if got["body_bytes"] == "" || got["api_keys"] == "" {
		t.Errorf("got %v", got)
	}
	w.call("GET", "/v1/accounts/"+w.account.ID+"/usage", "").check(refusal{http.StatusForbidden, "authorization_error", "operator_key_required", ""})
	w.call("GET", "/v1/accounts/acct"+noID+"/usage", "", with(adminKey)...).check(missing("id"))
}
