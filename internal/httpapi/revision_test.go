package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// An object that can be edited has an ETag, and an edit of an earlier state is refused and
// changes nothing.
func TestIfMatch(t *testing.T) {
	w := newWorld(t)
	operator := with(adminKey)
	user := w.must("POST", "/v1/users", `{"name":"bob","role":"member","password":"correct horse battery"}`, operator...).text("id")
	account := w.must("POST", "/v1/accounts", `{"name":"before"}`, operator...).text("id")
	w.must("POST", "/v1/event_types", `{"name":"invoice.paid"}`)
	e := "/v1/webhooks/" + w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"]}`).text("id")
	for _, tt := range []struct {
		name, path string
		header     []string
		edits      [][3]string // method, path after that of the object, body
	}{
		{"endpoint", e, nil, [][3]string{{"PATCH", "", `{"description":"x"}`}, {"POST", "", `{"description":"y"}`}, {"POST", "/disable", ""}, {"POST", "/enable", ""},
			{"POST", "/rotate_secret", `{"expires_in":3600}`}, {"POST", "/revoke_secret", `{}`}, {"DELETE", "", ""}}},
		{"event type", "/v1/event_types/invoice.paid", nil, [][3]string{{"PATCH", "", `{"description":"x"}`}, {"POST", "", `{"deprecated":true}`}, {"DELETE", "", ""}}},
		{"account", "/v1/accounts/" + account, operator, [][3]string{{"POST", "", `{"name":"after"}`}, {"POST", "", `{"rate_limit":7}`}}},
		{"user", "/v1/users/" + user, operator, [][3]string{{"POST", "", `{"role":"viewer"}`}, {"POST", "", `{"disabled":true}`}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			get := func() answer { return w.call("GET", tt.path, "", tt.header...) }
			for _, edit := range tt.edits {
				do := func(ifMatch string) answer {
					return w.call(edit[0], tt.path+edit[1], edit[2], append([]string{"If-Match", ifMatch}, tt.header...)...)
				}
				before := get()
				tag := before.header.Get("ETag")
				if len(tag) < 3 || !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
					t.Fatalf("ETag %q", tag)
				}
				for _, stale := range []string{`"zzz"`, `"zzz", "yyy"`, "W/" + tag, strings.Trim(tag, `"`), "x", ","} {
					a := do(stale)
					a.check(refusal{http.StatusPreconditionFailed, "invalid_request_error", "precondition_failed", "If-Match"})
					if after := get(); after.body != before.body || after.header.Get("ETag") != tag {
						t.Errorf("%s %s with If-Match %s: refused, and changed to %s", edit[0], edit[1], stale, after.body)
					}
				}
				done := do(`"zzz", ` + tag)
				if done.status != http.StatusOK {
					t.Fatalf("%s %s with its ETag: %d %s", edit[0], edit[1], done.status, done.body)
				}
				if edit[0] == "DELETE" {
					continue
				}
				if next := done.header.Get("ETag"); next == tag || next != get().header.Get("ETag") {
					t.Errorf("%s %s: after %s the ETag is %q, and then %q", edit[0], edit[1], tag, next, get().header.Get("ETag"))
				}
				if a := do(tag); a.status != http.StatusPreconditionFailed {
					t.Errorf("%s %s with the ETag of before: %d", edit[0], edit[1], a.status)
				}
				if a := do("*"); a.status != http.StatusOK && edit[1] != "/revoke_secret" { // there is no old secret left
					t.Errorf("%s %s with any ETag: %d %s", edit[0], edit[1], a.status, a.body)
				}
			}
		})
	}
	// Creation without an ETag works as before, and lists have none.
	if a := w.call("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"]}`, "If-Match", `"zzz"`); a.status != http.StatusOK || a.header.Get("ETag") == "" {
		t.Errorf("an endpoint is created: %d, ETag %q", a.status, a.header.Get("ETag"))
	}
	if a := w.call("GET", "/v1/webhooks", ""); a.header.Get("ETag") != "" {
		t.Error("a list has an ETag")
	}
	if a := w.call("GET", "/v1/event_types/payment.succeeded", ""); a.header.Get("ETag") != "" {
		t.Error("a built-in type has an ETag")
	}
}
