package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

func secretsOf(o object) (ids []string) {
	list, _ := o["secrets"].([]any)
	for _, s := range list {
		ids = append(ids, object(s.(map[string]any)).text("id"))
	}
	return ids
}

// actions returns the audit log's actions on an object, oldest first.
func (w *world) actions(target string, header ...string) (all []string) {
	w.t.Helper()
	for _, e := range w.must("GET", "/v1/audit_log?limit=100&target="+target, "", header...).list() {
		all = append([]string{e.text("action")}, all...)
		if e.text("actor") == "" || e.text("request") == "" && e.text("actor") != "system" {
			w.t.Errorf("unexpected entry %v", e)
		}
	}
	return all
}

func TestSecrets(t *testing.T) {
	w := newWorld(t)
	e := w.register("*")
	path := "/v1/webhooks/" + e.text("id")
	first := e.text("secret")
	if plain := w.call("GET", path, ""); strings.Contains(plain.body, "whsec_") {
		t.Errorf("a plain GET shows a secret: %s", plain.body)
	}
	rotated := w.must("POST", path+"/rotate_secret", `{"expires_in":3600}`)
	second := rotated.text("secret")
	if second == first || !strings.HasPrefix(second, "whsec_") || len(secretsOf(rotated)) != 2 {
		t.Errorf("rotated: %v", rotated)
	}
	list, _ := rotated["secrets"].([]any)
	if newest, oldest := object(list[0].(map[string]any)), object(list[1].(map[string]any)); newest["expires_at"] != nil ||
		oldest["expires_at"] != float64(start.Add(time.Hour).Unix()) || newest["secret"] != nil {
		t.Errorf("newest %v, oldest %v", newest, oldest)
	}
	revealed := w.must("POST", path+"/reveal_secret", "")
	list, _ = revealed["secrets"].([]any)
	if revealed.text("secret") != second || object(list[0].(map[string]any)).text("secret") != second || object(list[1].(map[string]any)).text("secret") != first {
		t.Errorf("revealed: %v", revealed)
	}
	old := secretsOf(rotated)[1]
	w.call("POST", path+"/revoke_secret", `{"secret_id":"`+secretsOf(rotated)[0]+`"}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "secret_newest", "secret_id"})
	w.call("POST", path+"/revoke_secret", `{"secret_id":"sec_x"}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "resource_missing", "secret_id"})
	if left := w.must("POST", path+"/revoke_secret", `{"secret_id":"`+old+`"}`); len(secretsOf(left)) != 1 || left["secret"] != nil {
		t.Errorf("after revoking: %v", left)
	}
	// Expired secrets are not shown.
	w.must("POST", path+"/rotate_secret", `{"expires_in":3600}`)
	w.pass(time.Hour)
	if left := w.must("GET", path, ""); len(secretsOf(left)) != 1 {
		t.Errorf("after they expired: %v", left["secrets"])
	}
	for _, tt := range []struct {
		body string
		want refusal
	}{
		{`{}`, refusal{http.StatusBadRequest, "invalid_request_error", "parameter_missing", "expires_in"}},
		{`{"expires_in":60}`, refusal{http.StatusBadRequest, "invalid_request_error", "parameter_invalid", "expires_in"}},
		{`{"expires_in":0,"secret":"whsec_short"}`, refusal{http.StatusBadRequest, "invalid_request_error", "secret_invalid", "secret"}},
		{`{"expires_in":0,"x":1}`, refusal{http.StatusBadRequest, "invalid_request_error", "parameter_unknown", "x"}},
	} {
		w.call("POST", path+"/rotate_secret", tt.body).check(tt.want)
	}
	for range 4 {
		w.must("POST", path+"/rotate_secret", `{"expires_in":86400}`)
	}
	w.call("POST", path+"/rotate_secret", `{"expires_in":86400}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "secrets_limit", "expires_in"})
	if now := w.must("POST", path+"/rotate_secret", `{"expires_in":0}`); len(secretsOf(now)) != 1 {
		t.Errorf("rotated too early: %v", now["secrets"])
	}
	want := []string{"webhook_endpoint.created", "webhook_endpoint.secret_rotated", "webhook_endpoint.secret_revealed", "webhook_endpoint.secret_revoked", "webhook_endpoint.secret_rotated",
		"webhook_endpoint.secret_rotated", "webhook_endpoint.secret_rotated", "webhook_endpoint.secret_rotated", "webhook_endpoint.secret_rotated", "webhook_endpoint.secret_rotated"}
	if got := w.actions(e.text("id")); !slices.Equal(got, want) {
		t.Errorf("audit log: %v", got)
	}
	if log := w.call("GET", "/v1/audit_log?limit=100", ""); strings.Contains(log.body, "whsec_") {
		t.Error("the audit log holds a secret")
	}
	if text := w.log.String(); strings.Contains(text, first) || strings.Contains(text, second) {
		t.Error("the log holds a secret")
	}
}

func TestSecrets_ownAndEd25519(t *testing.T) {
	w := newWorld(t)
	own := "whsec_" + strings.Repeat("b3du", 8)
	e := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["a"],"secret":"`+own+`","signature_schemes":["v1","v1a"]}`)
	if e.text("secret") != own || !strings.HasPrefix(e.text("public_key"), "whpk_") {
		t.Errorf("got %v", e)
	}
	path := "/v1/webhooks/" + e.text("id")
	w.call("POST", path, `{"secret":"`+own+`"}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "parameter_unknown", "secret"})
	if got := w.must("GET", path, ""); got.text("public_key") != e.text("public_key") {
		t.Error("the public key changed by itself")
	}
	next := w.must("POST", path+"/rotate_secret", `{"expires_in":3600}`)
	if next.text("public_key") == e.text("public_key") || !strings.HasPrefix(next.text("public_key"), "whpk_") {
		t.Errorf("a rotation leaves the public key %s", next.text("public_key"))
	}
	off := w.must("POST", path, `{"signature_schemes":["v1"]}`)
	if off["public_key"] != nil {
		t.Errorf("switched off: %v", off["public_key"])
	}
	for _, bad := range []string{`["v1a"]`, `[]`, `["v1","v2"]`, `["v1","v1"]`, `"v1"`, `["v1","v1a","v1a"]`} {
		w.call("POST", path, `{"signature_schemes":`+bad+`}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "parameter_invalid", "signature_schemes"})
	}
	for _, o := range []object{e, next, off} {
		if strings.Contains(fmt.Sprint(o), "whsk_") {
			t.Error("a private key is shown")
		}
	}
}

func TestAuthentication_isNeverShown(t *testing.T) {
	w := newWorld(t)
	body := `{"url":"https://example.com/","enabled_events":["a"],"headers":{"x-api-key":"sesame-1"},
		"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://id.example.com/token","client_id":"shop","client_secret":"sesame-2","scope":"a b"}}`
	created := w.call("POST", "/v1/webhooks", body, key("k")...)
	path := "/v1/webhooks/" + created.object().text("id")
	for _, a := range []answer{created, w.call("POST", "/v1/webhooks", body, key("k")...), w.call("GET", path, ""), w.call("GET", "/v1/webhooks", ""),
		w.call("POST", path, `{"description":"x"}`), w.call("POST", path+"/reveal_secret", ""), w.call("GET", "/v1/audit_log", "")} {
		if a.status != http.StatusOK || strings.Contains(a.body, "sesame") {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if strings.Contains(w.log.String(), "sesame") {
		t.Error("the log holds a credential")
	}
	o := w.must("GET", path, "")
	if auth := o.in("authentication"); auth.text("client_id") != "shop" || auth.text("scope") != "a b" || auth.text("type") != "oauth2" {
		t.Errorf("authentication: %v", auth)
	}
	if h := o.in("headers"); len(h) != 1 || h["X-Api-Key"] != "********" {
		t.Errorf("headers: %v", h)
	}
	stored := func() (secret, header string) {
		e, err := w.store.Endpoint(context.Background(), event.SpaceOf(w.account.No, false), o.text("id"))
		if err != nil {
			t.Fatal(err)
		}
		return e.Auth.ClientSecret, e.Headers["X-Api-Key"]
	}
	// An edit keeps omitted values, as long as the target is the same.
	w.must("POST", path, `{"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://id.example.com/token","client_id":"shop","scope":"c"},"headers":{"X-Other":"y"}}`)
	if secret, header := stored(); secret != "sesame-2" || header != "sesame-1" {
		t.Errorf("after an edit: %q, %q", secret, header)
	}
	w.call("POST", path, `{"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://evil.example.com/","client_id":"shop"}}`).
		check(refusal{http.StatusBadRequest, "invalid_request_error", "credential_required", "authentication[client_secret]"})
	w.must("POST", path, `{"headers":{"x-api-key":""},"authentication":null}`)
	if o := w.must("GET", path, ""); len(o.in("headers")) != 1 || o["authentication"] != nil {
		t.Errorf("after removal: %v", o)
	}
	for body, want := range map[string]refusal{
		`{"authentication":"basic"}`:                                   {400, "invalid_request_error", "parameter_invalid", "authentication"},
		`{"authentication":{"type":"basic","user":"u"}}`:               {400, "invalid_request_error", "parameter_unknown", "authentication[user]"},
		`{"authentication":{"type":"basic","username":1}}`:             {400, "invalid_request_error", "parameter_invalid", "authentication[username]"},
		`{"authentication":{"type":"basic","username":"u"}}`:           {400, "invalid_request_error", "parameter_missing", "authentication[password]"},
		`{"headers":{"Host":"x"}}`:                                     {400, "invalid_request_error", "header_reserved", "headers[Host]"},
		`{"client_certificate":{"certificate":"x","private_key":"y"}}`: {400, "invalid_request_error", "certificate_invalid", "client_certificate"},
		`{"ca_certificates":"x"}`:                                      {400, "invalid_request_error", "certificate_invalid", "ca_certificates"},
		`{"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://127.0.0.1/","client_id":"a","client_secret":"b"}}`: {400, "invalid_request_error", "url_target_forbidden", "authentication[token_url]"},
	} {
		w.call("POST", path, body).check(want)
	}
	// Forms have the same parameters.
	w.must("POST", path, "authentication[type]=basic&authentication[username]=u&authentication[password]=p&headers[X-Form]=1", "Content-Type", "application/x-www-form-urlencoded")
	if o := w.must("GET", path, ""); o.in("authentication").text("username") != "u" || o.in("headers")["X-Form"] == nil {
		t.Errorf("by form: %v", o)
	}
}

// Changes of an endpoint are announced to all subscribed endpoints, in the transaction of the
// change.
func TestAnnouncements(t *testing.T) {
	w := newWorld(t)
	listener := w.register("webhook_endpoint.*")
	other := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":["payment.*"]}`)
	path := "/v1/webhooks/" + other.text("id")
	w.must("POST", path+"/disable", "")
	w.must("POST", path+"/enable", "")
	w.must("POST", path+"/rotate_secret", `{"expires_in":0}`)
	w.must("POST", "/v1/webhooks/"+listener.text("id")+"/rotate_secret", `{"expires_in":0}`)
	w.must("POST", path, `{"description":"nothing that is announced"}`)
	var got []string
	for _, e := range w.must("GET", "/v1/events", "").list() {
		o := e.in("data").in("object")
		got = append([]string{e.text("type") + " " + o.text("id")}, got...)
		if len(w.must("GET", "/v1/events/"+e.text("id")+"/deliveries", "").list()) != 1 {
			t.Errorf("%s has no delivery", e.text("type"))
		}
	}
	want := []string{"webhook_endpoint.disabled " + other.text("id"), "webhook_endpoint.enabled " + other.text("id"),
		"webhook_endpoint.secret_rotated " + other.text("id"), "webhook_endpoint.secret_rotated " + listener.text("id")}
	if !slices.Equal(got, want) {
		t.Errorf("announced %v\nwant %v", got, want)
	}
	if woken, _ := w.engine.told(); len(woken) < len(want) {
		t.Errorf("the engine was woken for %v", woken)
	}
	// Accounts' own events cannot use these types.
	w.call("POST", "/v1/events", `{"type":"webhook_endpoint.secret_rotated","data":{"object":{}}}`).
		check(refusal{http.StatusBadRequest, "invalid_request_error", "event_type_reserved", "type"})
}

func TestRecover_job(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	path := "/v1/webhooks/" + e.text("id")
	fail := func(id string) {
		for range 5 {
			w.attempted(id, delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeServerError, StatusCode: 500})
		}
	}
	var failed []string
	for range 3 {
		id := w.deliveryOf(w.send("payment.failed").text("id")).text("id")
		fail(id)
		failed = append(failed, id)
	}
	succeeded := w.deliveryOf(w.send("payment.failed").text("id")).text("id")
	w.attempted(succeeded, delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
	pending := w.deliveryOf(w.send("payment.failed").text("id")).text("id")
	w.must("POST", path+"/disable", "")
	missed := w.send("payment.succeeded").text("id")
	unwanted := w.send("refund.created").text("id")
	w.must("POST", path+"/enable", "")
	since := w.now().Unix()
	w.pass(time.Minute)
	late := w.deliveryOf(w.send("payment.failed").text("id")).text("id")

	for body, want := range map[string]refusal{
		`{}`:                   {400, "invalid_request_error", "parameter_missing", "since"},
		`{"since":-1}`:         {400, "invalid_request_error", "parameter_invalid", "since"},
		`{"since":"x"}`:        {400, "invalid_request_error", "parameter_invalid", "since"},
		`{"since":1899564800}`: {400, "invalid_request_error", "parameter_invalid", "since"},
	} {
		w.call("POST", path+"/recover", body).check(want)
	}
	job := w.must("POST", path+"/recover", fmt.Sprintf(`{"since":%d}`, since))
	if job.text("status") != "running" || job["total"] != 8.0 {
		t.Errorf("started: %v", job)
	}
	w.call("POST", path+"/recover", fmt.Sprintf(`{"since":%d}`, since)).check(refusal{400, "invalid_request_error", "recovery_running", "id"})
	for _, body := range []string{`{"all":true}`, `{"endpoint":"` + e.text("id") + `"}`} { // all endpoints, and the same one
		w.call("POST", "/v1/deliveries/retry", body).check(refusal{400, "invalid_request_error", "recovery_running", "endpoint"})
	}
	w.call("GET", "/v1/jobs/"+job.text("id"), "", with(otherKey)...).check(refusal{404, "not_found_error", "resource_missing", "id"})
	w.pass(time.Minute) // until all events being accepted are stored
	deadline := time.Now().Add(30 * time.Second)
	for job.text("status") == "running" && time.Now().Before(deadline) {
		job = w.must("GET", "/v1/jobs/"+job.text("id"), "")
	}
	if job.text("status") != "succeeded" || job["scanned"] != 8.0 || job["requeued"] != 4.0 || job["finished"] == nil {
		t.Errorf("ended: %v", job)
	}
	for _, id := range failed {
		if d := w.must("GET", "/v1/deliveries/"+id, ""); d.text("status") != "pending" || d["attempts"] != 5.0 {
			t.Errorf("failed delivery: %v", d)
		}
	}
	// An ended job blocks no other one, as soon as it is shown as ended.
	for range 3 {
		retry := w.must("POST", "/v1/deliveries/retry", `{"since":1899564800}`)
		for deadline := time.Now().Add(30 * time.Second); retry.text("status") == "running" && time.Now().Before(deadline); {
			retry = w.must("GET", "/v1/jobs/"+retry.text("id"), "")
		}
	}
	if d := w.deliveryOf(missed); d.text("status") != "pending" || d["attempts"] != 0.0 {
		t.Errorf("missed event: %v", d)
	}
	if list := w.must("GET", "/v1/events/"+unwanted+"/deliveries", "").list(); len(list) != 0 {
		t.Errorf("an event that it does not want: %v", list)
	}
	for id, want := range map[string]string{succeeded: "succeeded", pending: "pending", late: "pending"} {
		if d := w.must("GET", "/v1/deliveries/"+id, ""); d.text("status") != want {
			t.Errorf("%s delivery became %v", want, d)
		}
	}
	if again := w.must("POST", "/v1/jobs/"+job.text("id")+"/cancel", ""); again.text("status") != "succeeded" {
		t.Errorf("an ended job was cancelled: %v", again)
	}
	if got := w.actions(e.text("id")); !slices.Contains(got, "recovery.started") {
		t.Errorf("audit log: %v", got)
	}
	// Without missed events, and canceled.
	next := w.must("POST", path+"/recover", `{"since":0,"include_missed":false}`)
	if c := w.must("POST", "/v1/jobs/"+next.text("id")+"/cancel", ""); c.text("status") != "canceled" || c["finished"] == nil {
		t.Errorf("cancelled: %v", c)
	}
	if list := w.must("GET", "/v1/jobs?endpoint="+e.text("id"), "").list(); len(list) != 2 || list[0].text("id") != next.text("id") {
		t.Errorf("jobs: %v", list)
	}
}

// A batch counts as its number of events: all or none are admitted.
func TestRateLimit_batches(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"rate_limit":60}`, with(adminKey)...)
	batch := func(n int) answer {
		return w.call("POST", "/v1/events/batch", `{"events":[`+strings.TrimSuffix(strings.Repeat(`{"type":"a.b","data":{"object":{}}},`, n), ",")+`]}`)
	}
	for i, left := range []string{"50", "40", "30"} {
		if a := batch(10); a.status != http.StatusOK || a.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("batch %d: %d, %s left, want %s", i+1, a.status, a.header.Get("X-RateLimit-Remaining"), left)
		}
	}
	a := batch(40)
	a.check(refusal{http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded", "rate_limit"})
	if a.header.Get("Retry-After") != "10" || a.header.Get("X-RateLimit-Remaining") != "29" {
		t.Errorf("retry after %s, %s left", a.header.Get("Retry-After"), a.header.Get("X-RateLimit-Remaining"))
	}
	if n := len(w.must("GET", "/v1/events?limit=100", "").list()); n != 30 {
		t.Errorf("%d events are stored, want 30", n)
	}
	w.pass(time.Minute)
	batch(61).check(refusal{http.StatusBadRequest, "invalid_request_error", "parameter_invalid", "events"})
	w.pass(time.Minute)
	if a := batch(60); a.status != http.StatusOK || a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("a minute's worth: %d, %s left", a.status, a.header.Get("X-RateLimit-Remaining"))
	}
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"rate_limit":60}`, with(adminKey)...)
	var a answer
	for i := range 60 {
		if a = w.call("GET", "/v1/events", ""); a.status != http.StatusOK {
			t.Fatalf("request %d: %d", i, a.status)
		}
		if got, want := a.header.Get("X-RateLimit-Remaining"), fmt.Sprint(59-i); got != want {
			t.Fatalf("request %d: %s remaining, want %s", i, got, want)
		}
	}
	if got, want := a.header.Get("X-RateLimit-Reset"), fmt.Sprint(start.Add(time.Minute).Unix()); got != want || a.header.Get("X-RateLimit-Limit") != "60" {
		t.Errorf("reset at %s, want %s; limit %s", got, want, a.header.Get("X-RateLimit-Limit"))
	}
	a = w.call("GET", "/v1/events", "")
	a.check(refusal{http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded", "rate_limit"})
	if a.header.Get("Retry-After") != "1" || a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("header %v", a.header)
	}
	w.call("GET", "/v1/events", "", with(liveKey)...).check(refusal{http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded", "rate_limit"}) // both modes together
	if other := w.call("GET", "/v1/events", "", with(otherKey)...); other.status != http.StatusOK || other.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("another account: %d, %v", other.status, other.header)
	}
	w.must("GET", "/v1/events", "", w.asOperator()...)
	w.pass(2 * time.Second)
	w.must("GET", "/v1/events", "")
	w.must("GET", "/v1/events", "")
	if a := w.call("GET", "/v1/events", ""); a.status != http.StatusTooManyRequests {
		t.Errorf("two seconds bring two requests, not three: %d", a.status)
	}
	for _, bad := range []string{"-1", "1000001", "1.5", `"x"`} {
		w.call("POST", "/v1/accounts/"+w.account.ID, `{"rate_limit":`+bad+`}`, with(adminKey)...).check(refusal{400, "invalid_request_error", "parameter_invalid", "rate_limit"})
	}
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"rate_limit":null}`, with(adminKey)...)
	if a := w.call("GET", "/v1/events", ""); a.status != http.StatusOK || a.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("with the server's default: %d, %v", a.status, a.header)
	}
}

func TestMasterKey_operatorsOnly(t *testing.T) {
	w := newWorld(t)
	w.call("POST", "/v1/master_key/rotate", "").check(refusal{http.StatusForbidden, "authorization_error", "operator_key_required", ""})
	w.must("POST", "/v1/master_key/rotate", "", with(adminKey)...)
	if log := w.must("GET", "/v1/audit_log?action=master_key.rotated", "", with(adminKey)...).list(); len(log) != 1 {
		t.Errorf("audit log: %v", log)
	}
}

// The server's notices are sent to subscriptions that name them, and "*" does not include them.
// A preview shows the same.
func TestAnnouncements_subscriptions(t *testing.T) {
	w := newWorld(t)
	names := map[string]string{} // subscriptions by the endpoint's id
	for _, c := range []string{`"*"`, `"webhook_endpoint.*"`, `"webhook_endpoint.disabled"`, `"*","webhook_endpoint.*"`, `"message.*"`, `"payment.*"`} {
		e := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":[`+c+`]}`)
		names[e.text("id")] = c
	}
	other := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/other","enabled_events":["order.placed"]}`)
	w.must("POST", "/v1/webhooks/"+other.text("id")+"/disable", "")
	w.send("message.created")
	want := map[string][]string{
		"webhook_endpoint.disabled": {`"*","webhook_endpoint.*"`, `"webhook_endpoint.*"`, `"webhook_endpoint.disabled"`},
		"message.created":           {`"*"`, `"*","webhook_endpoint.*"`, `"message.*"`},
	}
	for _, e := range w.must("GET", "/v1/events", "").list() {
		var got []string
		for _, id := range w.receivers(e.text("id")) {
			got = append(got, names[id])
		}
		slices.Sort(got)
		if !slices.Equal(got, want[e.text("type")]) {
			t.Errorf("%s goes to %q, want %q", e.text("type"), got, want[e.text("type")])
		}
		for _, subscription := range names {
			preview := w.must("POST", "/v1/webhooks/preview", `{"event":"`+e.text("id")+`","enabled_events":[`+subscription+`]}`)
			if preview["matched"] != slices.Contains(want[e.text("type")], subscription) {
				t.Errorf("the preview for %s of %s: matched %v", subscription, e.text("type"), preview["matched"])
			}
		}
		delete(want, e.text("type"))
	}
	if len(want) > 0 {
		t.Errorf("not announced: %v", want)
	}
}

// Refused keys are recorded in totals: for any number of them, from any number of addresses,
// there are few entries.
func TestAudit_refusedKeys(t *testing.T) {
	w := newWorld(t)
	for range 40 {
		w.call("GET", "/v1/events", "", with("sk_test_unknownunknown1234")...)
	}
	w.call("GET", "/v1/events", "", with(goneKey)...)
	w.call("GET", "/v1/events", "", "Authorization", "") // a request without a key is not a guess
	if err := w.service.Auth.WriteRefusals(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	find := func(header []string) []object {
		return w.must("GET", "/v1/audit_log?action=api_key.refused", "", header...).list()
	}
	server, mine := find(with(adminKey)), find(with(testKey))
	if len(server) != 1 || server[0].in("detail").text("count") != "40" || server[0].text("remote_addr") != "127.0.0.1" || server[0].text("actor") != "system" {
		t.Errorf("unknown keys: %v", server)
	}
	if len(mine) != 1 || mine[0].in("detail").text("count") != "1" || !strings.HasPrefix(mine[0].text("target"), "key_") {
		t.Errorf("the revoked key: %v", mine)
	}
	for i := range 3000 {
		w.service.Auth.NoteRefused("sk_test_unknownunknown1234", fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), &fault.Error{Code: fault.Unauthenticated})
	}
	for range 4 { // a minute apart, like the upkeep
		w.pass(time.Minute)
		if err := w.service.Auth.WriteRefusals(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(find(with(adminKey))); n != 1 {
		t.Errorf("%d entries within five minutes", n)
	}
	w.pass(time.Minute)
	if err := w.service.Auth.WriteRefusals(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	server = find(with(adminKey))
	sum := 0
	for _, e := range server {
		n, err := strconv.Atoi(e.in("detail").text("count"))
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if len(server) > 1+6 || sum != 40+3000 {
		t.Errorf("%d entries of %d refusals", len(server), sum)
	}
}

// An edit records the values before and after, except secrets.
func TestAudit_oldAndNewValues(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	w.must("PATCH", "/v1/webhooks/"+e.text("id"), `{"url":"https://other.example/a?token=sesame","description":"b","enabled_events":["refund.*"],"headers":{"X-Api-Key":"sesame"},"timeout":7}`)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"name":"Acme Inc","rate_limit":50}`, with(adminKey)...)
	w.must("POST", "/v1/event_types", `{"name":"a.b"}`)
	w.must("POST", "/v1/event_types/a.b", `{"description":"x","deprecated":true}`)
	id := adaOf(w)
	w.must("POST", "/v1/users", `{"name":"other","role":"admin","password":"sesame sesame sesame"}`, with(adminKey)...) // an admin must remain
	w.must("POST", "/v1/users/"+id, `{"role":"viewer","password":"sesame sesame sesame","disabled":true}`, append(with(adminKey), "Idempotency-Key", "k")...)
	want := map[string]map[string]string{
		"webhook_endpoint.updated": {"old_url": "https://example.com/hook", "new_url": "https://other.example/a", "old_description": "", "new_description": "b",
			"old_enabled_events": "payment.*", "new_enabled_events": "refund.*", "old_timeout": "0s", "new_timeout": "7s"},
		"account.updated":    {"old_name": "Acme", "new_name": "Acme Inc", "old_rate_limit": "default", "new_rate_limit": "50"},
		"event_type.updated": {"old_description": "", "new_description": "x", "old_deprecated": "false", "new_deprecated": "true"},
		"user.updated":       {"old_role": "admin", "new_role": "viewer", "old_disabled": "false", "new_disabled": "true", "password": "changed"},
	}
	for _, header := range [][]string{with(testKey), with(adminKey)} {
		a := w.call("GET", "/v1/audit_log?limit=100", "", header...)
		if strings.Contains(a.body, "sesame") {
			t.Errorf("the audit log holds a secret: %s", a.body)
		}
		for _, entry := range a.object().list() {
			for name, value := range want[entry.text("action")] {
				if got := entry.in("detail").text(name); got != value {
					t.Errorf("%s: %s is %q, want %q", entry.text("action"), name, got, value)
				}
			}
			delete(want, entry.text("action"))
		}
	}
	if len(want) > 0 {
		t.Errorf("not on record: %v", want)
	}
	if got := w.must("GET", "/v1/audit_log/verify", "", with(adminKey)...); got["ok"] != true {
		t.Errorf("the log does not verify: %v", got)
	}
}
