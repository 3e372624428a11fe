package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/job"
)

// names checks that a response is a 400 that names the parameter.
func (a answer) names(param string) {
	a.t.Helper()
	e, _ := a.object()["error"].(map[string]any)
	if a.status != 400 || e["param"] != param {
		a.t.Errorf("got %d %s, want a 400 that names %s", a.status, a.body, param)
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	admin := with(adminKey)
	create := func(name, role, password string) answer {
		return w.call("POST", "/v1/users", fmt.Sprintf(`{"name":%q,"role":%q,"password":%q}`, name, role, password), admin...)
	}
	const password = "correct horse battery"
	ada := create("Ada", "admin", password)
	if ada.status != 200 || strings.Contains(ada.body, password) || strings.Contains(ada.body, "$2") {
		t.Fatalf("created: %d %s", ada.status, ada.body)
	}
	id := w.must("GET", "/v1/users", "", admin...)["data"].([]any)[0].(map[string]any)["id"].(string)
	for _, tt := range []struct{ name, role, password, param string }{
		{"ada", "viewer", password, "name"}, {"", "viewer", password, "name"}, {"a b", "viewer", password, "name"}, {strings.Repeat("a", 65), "viewer", password, "name"},
		{"bob", "owner", password, "role"}, {"bob", "", password, "role"}, {"bob", "viewer", "short", "password"}, {"bob", "viewer", strings.Repeat("p", 73), "password"},
	} {
		create(tt.name, tt.role, tt.password).names(tt.param)
	}
	change := func(body string) answer { return w.call("POST", "/v1/users/"+id, body, admin...) }
	change(`{}`).names("role")
	change(`{"role":"viewer"}`).names("role") // the last admin
	change(`{"disabled":true}`).names("role")
	if bob := create("bob", "admin", password); bob.status != 200 {
		t.Fatal(bob.body)
	}
	if a := change(`{"role":"viewer","disabled":true}`); a.status != 200 || !strings.Contains(a.body, `"role":"viewer","disabled":true`) {
		t.Errorf("changed: %s", a.body)
	}
	w.call("POST", "/v1/users/usr_none", `{"role":"viewer"}`, admin...).check(missing("id"))
	w.call("GET", "/v1/users", "").check(refusal{403, "authorization_error", "operator_key_required", ""})
	w.call("POST", "/v1/users", `{"name":"eve","role":"admin","password":"`+password+`"}`).check(refusal{403, "authorization_error", "operator_key_required", ""})
}

func TestPortalSessions(t *testing.T) {
	w := newWorld(t)
	a := w.must("POST", "/v1/portal_sessions", `{"expires_in":900,"read_only":true,"allowed_origins":["https://app.example.com"],
		"brand":{"name":"Example Pay","color":"#1a73e8","logo":"https://app.example.com/logo.png"}}`)
	if url := a.text("url"); !strings.HasPrefix(url, "https://pay.example/portal/pst_") || a["expires_at"].(float64)-a["created"].(float64) != 900 {
		t.Errorf("got %v", a)
	}
	for body, param := range map[string]string{
		`{"expires_in":59}`: "expires_in", `{"expires_in":0}`: "expires_in", `{"expires_in":86401}`: "expires_in",
		`{"allowed_origins":["*"]}`: "allowed_origins[0]", `{"allowed_origins":["https://a.example/path"]}`: "allowed_origins[0]",
		`{"allowed_origins":["https://a.example; script-src *"]}`: "allowed_origins[0]", `{"allowed_origins":["javascript:x"]}`: "allowed_origins[0]",
		`{"brand":{"color":"red"}}`: "brand[color]", `{"brand":{"logo":"javascript:x"}}`: "brand[logo]", `{"brand":{"name":"` + strings.Repeat("n", 61) + `"}}`: "brand[name]",
		`{"account":"acct_1"}`: "account",
	} {
		w.call("POST", "/v1/portal_sessions", body).names(param)
	}
	w.call("POST", "/v1/portal_sessions", `{}`, with(adminKey)...).names("Payment-Account")
}

// A bulk retry makes the selected failed deliveries pending again.
func TestBulkRetry(t *testing.T) {
	w := newWorld(t)
	e := w.register("*")
	w.register("payment.failed")
	var failed []string
	for _, typ := range []string{"payment.succeeded", "payment.failed", "refund.created"} {
		ev := w.send(typ)
		for _, d := range w.must("GET", "/v1/events/"+ev.text("id")+"/deliveries", "")["data"].([]any) {
			id := d.(map[string]any)["id"].(string)
			w.attempted(id, delivery.Attempt{Started: start, Outcome: delivery.OutcomeGone, StatusCode: 410})
			failed = append(failed, id)
		}
	}
	if len(failed) != 4 {
		t.Fatalf("%d deliveries failed", len(failed))
	}
	w.call("POST", "/v1/deliveries/retry", `{"endpoint":"we_none"}`).names("endpoint")
	w.call("POST", "/v1/deliveries/retry", `{"type":"*.x"}`).names("type")
	w.call("POST", "/v1/deliveries/retry", `{"since":-1}`).names("since")
	run := func(body string, want int) {
		t.Helper()
		made := w.must("POST", "/v1/deliveries/retry", body)
		for deadline := time.Now().Add(30 * time.Second); made.text("status") == "running" && time.Now().Before(deadline); {
			made = w.must("GET", "/v1/jobs/"+made.text("id"), "")
		}
		if made.text("status") != string(job.Succeeded) || made["requeued"] != float64(want) || made["total"] != float64(want) || made["scanned"] != float64(want) {
			t.Errorf("%s: %v, want %d deliveries", body, made, want)
		}
	}
	run(fmt.Sprintf(`{"endpoint":%q,"type":"payment.*"}`, e.text("id")), 2)
	run(`{"until":1}`, 0)
	// A selection that is empty by omission is refused; a dry run counts it.
	for _, body := range []string{``, `{}`, `{"all":false}`, `{"endpoint":null,"since":null,"until":null}`, `{"all":true,"type":"payment.*"}`} {
		w.call("POST", "/v1/deliveries/retry", body).names("all")
	}
	for body, want := range map[string]float64{`{"dry_run":true}`: 2, `{"dry_run":true,"all":true}`: 2, `{"dry_run":true,"until":1}`: 0} {
		if plan := w.must("POST", "/v1/deliveries/retry", body); plan.text("object") != "job.dry_run" || plan["total"] != want || plan["id"] != nil {
			t.Errorf("%s: %v, want %v deliveries", body, plan, want)
		}
	}
	run(`{"all":true,"dry_run":false}`, 2) // the rest
	for _, id := range failed {
		if d := w.must("GET", "/v1/deliveries/"+id, ""); d.text("status") != "pending" {
			t.Errorf("delivery %s is %s", id, d.text("status"))
		}
	}
}
