package httpapi_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Attempts are shown as they were recorded, including hostile responses.
func TestAttempts(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	d := w.deliveryOf(w.send("payment.succeeded").text("id"))
	id := d.text("id")
	w.attempted(id, delivery.Attempt{
		Started: start, Duration: 1_234_567 * time.Nanosecond, Outcome: delivery.OutcomeServerError, StatusCode: 500, RemoteAddr: "203.0.113.7:443",
		Timing:        delivery.Timing{DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, Answer: 500 * time.Microsecond},
		RequestHeader: "\x02\nAuthorization: (hidden)\n\x03", URL: "https://example.com/hook", Peer: delivery.Peer{Version: "TLS 1.3", Subject: "a.example", Issuer: "CA", SHA256: "00ff"},
		Refused:        []delivery.Refusal{{StatusCode: 401, RequestHeader: "\x04", ResponseHeader: "A: b\n", ResponseBody: []byte("no\xff")}},
		ResponseHeader: "Content-Type: text/html\nX-Odd: a: b\xff\n", ResponseBody: []byte("<b>\xff\"&\x00</b>"),
	})
	w.attempted(id, delivery.Attempt{
		Started: start.Add(5 * time.Second), Duration: 15 * time.Second, Outcome: delivery.OutcomeTimeout, Error: "no answer\xff within 15s",
	})
	got := w.call("GET", "/v1/deliveries/"+id, "").body
	want := fmt.Sprintf(`{"id":%q,"object":"delivery","event":%q,"event_type":"payment.succeeded","endpoint":%q,"status":"pending","attempts":2,`+
		`"next_attempt_at":1699564850,"last_outcome":"timeout","last_status_code":null,"created":1699564800,"settled_at":null,"livemode":false,"failure_message":null}`,
		id, d.text("event"), e.text("id"))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	attempts := func(query string) answer { return w.call("GET", "/v1/deliveries/"+id+"/attempts"+query, "") }
	att := "att" + strings.TrimPrefix(id, "dlv")
	body := fmt.Sprintf(`{"id":"%s","type":"payment.succeeded","created":1699564800,"data":{"object":{"id":"pay_1"}}}`, d.text("event"))
	first := fmt.Sprintf(`{"id":"%s0001","object":"attempt","delivery":%q,"number":1,"status":"failed","outcome":"server_error","response_status_code":500,`+
		`"duration_ms":1.234,"timing_ms":{"dns":1,"connect":2,"tls":3,"first_byte":0.5},"error":null,"remote_address":"203.0.113.7:443",`+
		`"tls":{"version":"TLS 1.3","peer_subject":"a.example","peer_issuer":"CA","peer_sha256":"00ff"},"request_method":"POST","request_url":"https://example.com/hook",`+
		`"request_headers":[{"name":"Content-Type","value":"application/json"},{"name":"Authorization","value":"(hidden)"},{"name":"Webhook-Id","value":%q}],`+
		`"request_body":%q,"request_body_sha256":"%x","request_body_error":null,`+
		`"response_headers":[{"name":"Content-Type","value":"text/html"},{"name":"X-Odd","value":"a: b�"}],"response_body":"<b>�\"&\u0000</b>",`+
		`"refused_requests":[{"request_headers":[{"name":"Webhook-Timestamp","value":"1699564800"}],"response_status_code":401,"response_headers":[{"name":"A","value":"b"}],"response_body":"no�"}],"created":1699564800}`,
		att, id, d.text("event"), body, sha256.Sum256([]byte(body)))
	second := fmt.Sprintf(`{"id":"%s0002","object":"attempt","delivery":%q,"number":2,"status":"failed","outcome":"timeout","response_status_code":null,`+
		`"duration_ms":15000,"timing_ms":{"dns":0,"connect":0,"tls":0,"first_byte":0},"error":"no answer� within 15s","remote_address":null,"tls":null,"request_method":null,"request_url":null,"request_headers":[],`+
		`"request_body":null,"request_body_sha256":null,"request_body_error":null,"response_headers":[],"response_body":"","refused_requests":[],"created":1699564805}`, att, id)
	list := func(more bool, items ...string) string {
		next := ""
		if more {
			next = `,"next_cursor":"` + att + `0002"`
		}
		return fmt.Sprintf(`{"object":"list","url":"/v1/deliveries/%s/attempts","data":[%s],"has_more":%v%s}`, id, strings.Join(items, ","), more, next)
	}
	for query, want := range map[string]string{
		"":         list(false, second, first),
		"?limit=1": list(true, second),
		"?limit=1&starting_after=" + att + "0002": list(false, first),
		"?ending_before=" + att + "0001":          list(false, second),
		"?outcome=timeout":                        list(false, second),
		"?outcome=server":                         list(false, first),
		"?outcome=server_error":                   list(false, first),
		"?outcome=dns":                            list(false),
	} {
		if got := attempts(query).body; got != want {
			t.Errorf("%q\ngot  %s\nwant %s", query, got, want)
		}
	}
	for _, key := range []string{otherKey, liveKey} {
		w.call("GET", "/v1/deliveries/"+id+"/attempts", "", with(key)...).check(missing("id"))
	}

	w.attempted(id, delivery.Attempt{Started: start.Add(time.Minute), Outcome: delivery.OutcomeSucceeded, StatusCode: 204})
	if d := w.must("GET", "/v1/deliveries/"+id, ""); d.text("status") != "succeeded" || d["next_attempt_at"] != nil || d["settled_at"] != 1699564860.0 {
		t.Errorf("after a success: %v", d)
	}
	if a := w.must("GET", "/v1/deliveries/"+id+"/attempts?limit=1", "").list()[0]; a.text("status") != "succeeded" || a["response_status_code"] != 204.0 {
		t.Errorf("the success: %v", a)
	}
}

// The engine is notified of users' changes, and of nothing else.
func TestActions_wakeTheEngine(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	d := w.deliveryOf(w.send("payment.succeeded").text("id"))
	hook, dlv, ev := "/v1/webhooks/"+e.text("id"), "/v1/deliveries/"+d.text("id"), "/v1/events/"+d.text("event")
	for _, c := range []struct {
		method, path, body string
		woken, forgiven    bool
	}{
		{"GET", hook, "", false, false},
		{"POST", dlv + "/cancel", "", true, false},
		{"POST", dlv + "/retry", "", true, false},
		{"POST", ev + "/resend", "", true, false},
		{"POST", ev + "/retry", `{"webhook_endpoint":"` + e.text("id") + `"}`, true, false},
		{"PATCH", hook, `{"rate_limit":1}`, true, false},
		{"POST", hook + "/disable", "", true, false},
		{"POST", hook + "/enable", "", false, true},
		{"POST", hook, `{"status":"disabled"}`, true, false},
		{"POST", hook, `{"disabled":false}`, false, true},
		{"DELETE", hook, "", true, false},
	} {
		w.engine.told()
		w.must(c.method, c.path, c.body)
		woken, forgiven := w.engine.told()
		if (len(woken) == 1) != c.woken || (len(forgiven) == 1) != c.forgiven || len(woken)+len(forgiven) > 1 {
			t.Errorf("%s %s: woken %v, forgiven %v", c.method, c.path, woken, forgiven)
		}
	}
	w.call("POST", dlv+"/retry", "").check(invalid("endpoint_deleted", "id"))
	if d := w.must("GET", dlv, ""); d.text("endpoint") != e.text("id") {
		t.Errorf("a delivery has forgotten its deleted endpoint: %v", d)
	}
}

// Events are delivered to the endpoints subscribed at that time, and to no other space.
func TestEvents_matching(t *testing.T) {
	w := newWorld(t)
	exact, prefix, all := w.register("a.b"), w.register("a.*"), w.register("*")
	w.register("a.c")
	disable(w, w.register("a.b"))
	w.register("*", with(liveKey)...)
	w.register("*", with(otherKey)...)
	var got []string
	for _, d := range w.must("GET", "/v1/events/"+w.send("a.b").text("id")+"/deliveries", "").list() {
		got = append(got, d.text("endpoint"))
	}
	want := []string{all.text("id"), prefix.text("id"), exact.text("id")}
	if !slices.Equal(got, want) {
		t.Errorf("sent to %v, want %v", got, want)
	}
	if list := w.must("GET", "/v1/events/"+w.send("b", with(liveKey)...).text("id")+"/deliveries", "", with(liveKey)...).list(); len(list) != 1 || list[0]["livemode"] != true {
		t.Errorf("live: %v", list)
	}
}

// The same event sent twice is stored once.
func TestEvents_sameAgain(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	const body = `{"id":"evt_1234567890abcdef","type":"a","data":{"object":{"b":1,"a":[1.0]}}}`
	first := w.call("POST", "/v1/events", body)
	before := w.everything()
	w.pass(time.Hour)
	again := w.call("POST", "/v1/events", strings.ReplaceAll(body, "1.0", "1"))
	if first.status != http.StatusOK || again.body != first.body {
		t.Errorf("%d %s, want %s", again.status, again.body, first.body)
	}
	if w.everything() != before {
		t.Error("the event was stored twice")
	}
	// In another space the id is free.
	w.must("POST", "/v1/events", strings.Replace(body, `"a",`, `"b",`, 1), with(liveKey)...)
}

// Without a Content-Type the first character determines the encoding, and JSON with a form's
// type is what curl -d sends.
func TestBody_encodings(t *testing.T) {
	w := newWorld(t)
	const jsonBody, formBody = ` {"type":"a.b","data":{"object":{"k":"v w"}}}`, "type=a.b&data[object][k]=v+w"
	for _, c := range []struct{ name, contentType, body string }{
		{"JSON", "application/json", jsonBody},
		{"JSON with a charset", "Application/JSON; charset=utf-8", jsonBody},
		{"JSON without a type", "", jsonBody},
		{"JSON as a form", formType, jsonBody},
		{"form", formType, formBody},
		{"form with a charset", formType + ";charset=UTF-8", formBody},
		{"form without a type", "", formBody},
		{"form, escaped brackets", formType, "type=a%2Eb&data%5Bobject%5D%5Bk%5D=v%20w"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := w.must("POST", "/v1/events", c.body, "Content-Type", c.contentType)
			if e.text("type") != "a.b" || e.in("data").in("object").text("k") != "v w" {
				t.Errorf("%v", e)
			}
		})
	}
}

// Secrets are in the response to creation only.
func TestSecrets_shownOnce(t *testing.T) {
	w := newWorld(t)
	e := w.register("a.b")
	k := w.must("POST", "/v1/api_keys", `{}`, w.asOperator()...)
	secrets := []string{e.text("secret"), k.text("secret"), testKey, adminKey}
	hook := "/v1/webhooks/" + e.text("id")
	for _, c := range []struct {
		method, path, body string
		header             []string
	}{
		{"GET", hook, "", nil},
		{"GET", "/v1/webhooks", "", nil},
		{"GET", "/v1/webhook_endpoints", "", nil},
		{"POST", hook, `{"description":"x"}`, nil},
		{"PATCH", hook, `{}`, nil},
		{"POST", hook + "/disable", "", nil},
		{"POST", hook + "/enable", "", nil},
		{"POST", hook + "/test", "", nil},
		{"GET", "/v1/api_keys", "", nil},
		{"GET", "/v1/account", "", nil},
		{"GET", "/v1/account", "", w.asOperator()},
		{"GET", "/v1/events", "", nil},
		{"GET", "/v1/deliveries", "", nil},
		{"DELETE", "/v1/api_keys/" + k.text("id"), "", w.asOperator()},
		{"DELETE", hook, "", nil},
	} {
		a := w.call(c.method, c.path, c.body, c.header...)
		if a.status != http.StatusOK {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		if strings.Contains(a.body, `"secret"`) {
			t.Errorf("%s %s has a secret", c.method, c.path)
		}
		for _, s := range secrets {
			if strings.Contains(a.body, s) {
				t.Errorf("%s %s shows a secret", c.method, c.path)
			}
		}
	}
	for _, s := range secrets {
		if s == "" || strings.Contains(w.log.String(), s) {
			t.Error("the log shows a secret")
		}
	}
}

// Deliveries are found by the outcome of their last attempt, by each of its names.
func TestDeliveries_byOutcome(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	ids := map[delivery.Outcome]string{}
	for _, o := range delivery.Outcomes() {
		ids[o] = w.deliveryOf(w.send("payment.succeeded").text("id")).text("id")
		if o != delivery.OutcomeNone {
			w.attempted(ids[o], delivery.Attempt{Started: start, Outcome: o, StatusCode: 200})
		}
	}
	for _, o := range delivery.Outcomes() {
		for _, name := range []string{o.String(), o.Short()} {
			if name == "" {
				continue
			}
			if list := w.must("GET", "/v1/deliveries?outcome="+name, "").list(); len(list) != 1 || list[0].text("id") != ids[o] {
				t.Errorf("%s: %v", name, list)
			}
		}
	}
	for _, path := range []string{"/v1/deliveries", "/v1/deliveries/" + ids[delivery.OutcomeGone] + "/attempts"} {
		a := w.call("GET", path+"?outcome=hung", "")
		a.check(invalid("parameter_invalid", "outcome"))
		for _, o := range delivery.Outcomes() {
			if name := o.String(); !strings.Contains(a.body, name) || !strings.Contains(a.body, o.Short()) {
				t.Errorf("the error does not name %s: %s", name, a.body)
			}
		}
	}
	w.call("GET", "/v1/deliveries?outcome=", "").check(invalid("parameter_invalid", "outcome"))
}

// The sent request is shown in the format that the endpoint had then, independent of later
// changes, or with the reason why it cannot be shown.
func TestAttempts_showSentRequests(t *testing.T) {
	w := newWorld(t)
	const plain = "The sent bytes"
	for _, tt := range []struct{ name, shape string }{
		{"as it is", `"payload_format":"standard"`},
		{"thin", `"payload_format":"thin"`},
		{"a CloudEvent", `"payload_format":"cloudevents_structured"`},
		{"a CloudEvent in headers", `"payload_format":"cloudevents_binary"`},
		{"transformed", `"transform":"{\"object\": {\"no\": data.object.id}}"`},
		{"transformed and thin", `"payload_format":"thin","transform":"{\"object\": {\"id\": data.object.id}}"`},
	} {
		e := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":["payment.succeeded"],`+tt.shape+`}`).text("id")
		ev := w.send("payment.succeeded")
		d := w.deliveryOf(ev.text("id")).text("id")
		preview := w.must("POST", "/v1/webhooks/preview", `{"event":"`+ev.text("id")+`",`+tt.shape+`}`)
		body := preview.text("body")
		sum := sha256.Sum256([]byte(body))
		sent := delivery.Attempt{Started: start, Outcome: delivery.OutcomeServerError, StatusCode: 500, URL: "https://example.com/hook", RequestHeader: "\x02", BodySum: sum[:]}
		if tt.name == "as it is" {
			sent.BodySum = nil
		}
		w.attempted(d, sent)
		shown := func(when string) {
			t.Helper()
			a := w.must("GET", "/v1/deliveries/"+d+"/attempts", "").list()
			if got := a[len(a)-1]; got.text("request_body") != body || got.text("request_body_sha256") != fmt.Sprintf("%x", sum) || got["request_body_error"] != nil {
				t.Errorf("%s, %s: %v\nwant %s", tt.name, when, got, body)
			}
		}
		shown("at once")
		w.pass(time.Hour)
		w.must("PATCH", "/v1/webhooks/"+e, `{"payload_format":"standard","transform":"{\"object\": {\"other\": 1}}","url":"https://example.com/elsewhere"}`)
		shown("after the endpoint changed")

		lost := sha256.Sum256([]byte("made by another version"))
		w.attempted(d, delivery.Attempt{Started: start, Outcome: delivery.OutcomeServerError, StatusCode: 500, URL: "https://example.com/hook", RequestHeader: "\x02", BodySum: lost[:]})
		w.attempted(d, delivery.Attempt{Started: start, Outcome: delivery.OutcomeServerError, StatusCode: 500, RequestHeader: "A: b"}) // from an earlier version
		a := w.must("GET", "/v1/deliveries/"+d+"/attempts", "").list()
		if a[1]["request_body"] != nil || a[1].text("request_body_sha256") != fmt.Sprintf("%x", lost) || !strings.Contains(a[1].text("request_body_error"), "can no longer be reproduced") {
			t.Errorf("%s: a body that cannot be rendered is shown as %v", tt.name, a[1])
		}
		if a[0]["request_body"] != nil || !strings.Contains(a[0].text("request_body_error"), plain) {
			t.Errorf("%s: missing evidence is shown as %v", tt.name, a[0])
		}
		w.must("DELETE", "/v1/webhooks/"+e, "")
		shown("after the endpoint was deleted")
	}
}

// A delivery that ran out of retries without a response has no status code, in the notice as in
// the API.
func TestExhausted_hasNoStatusCode(t *testing.T) {
	w := newWorld(t)
	hook := w.register("payment.*")
	w.register("message.attempt.exhausted")
	ctx := context.Background()
	for status, want := range map[int]any{0: nil, 503: 503.0} {
		e := w.send("payment.succeeded")
		list := w.must("GET", "/v1/deliveries?endpoint="+hook.text("id"), "").list()
		id, ok := delivery.ParseID(list[0].text("id"))
		if !ok {
			t.Fatal(list[0])
		}
		v, err := w.store.Delivery(ctx, event.SpaceOf(w.account.No, false), id)
		if err != nil {
			t.Fatal(err)
		}
		v.State, v.LastOutcome, v.LastStatus = delivery.Failed, delivery.OutcomeTimeout, status
		a := &delivery.Attempt{Outcome: delivery.OutcomeTimeout, StatusCode: status}
		if status == 0 {
			a.Error = "no response within 10s"
		}
		w.service.Watcher().DeliveryExhausted(&dispatch.Failure{Endpoint: w.service.Endpoints.Get(v.ID.Endpoint), Delivery: v.Delivery, Attempt: a,
			Outgoing: &delivery.Outgoing{Delivery: v.Delivery, EventID: e.text("id"), Type: v.Type}})
		notices := w.must("GET", "/v1/events?type=message.attempt.exhausted", "").list()
		if len(notices) == 0 {
			t.Fatal("the notice is missing")
		}
		notice := object(notices[0].in("data")).in("object")
		if got, there := notice["last_status_code"]; !there || got != want {
			t.Errorf("after status %d the notice has %v", status, notice)
		}
		if got, want := notice["last_error"], map[int]any{0: "no response within 10s", 503: nil}[status]; got != want {
			t.Errorf("after status %d the notice has %v", status, notice)
		}
	}
}

// Notices about a failing or disabled endpoint name the attempt that caused them. A response
// from the endpoint's previous URL disables nothing.
func TestNotices_haveTheirCause(t *testing.T) {
	w := newWorld(t)
	hook := w.register("payment.*")
	w.register("webhook_endpoint.failing")
	w.register("webhook_endpoint.disabled")
	e := w.send("payment.succeeded")
	id := w.deliveryOf(e.text("id")).text("id")
	did, _ := delivery.ParseID(id)
	before := w.service.Endpoints.Get(did.Endpoint)
	failure := func(status int, why string) *dispatch.Failure {
		d := delivery.Delivery{ID: did, LastOutcome: delivery.OutcomeGone, LastStatus: status}
		return &dispatch.Failure{Endpoint: before, Delivery: d, Attempt: &delivery.Attempt{Error: why},
			Outgoing: &delivery.Outgoing{Delivery: d, EventID: e.text("id"), Type: "payment.succeeded"}}
	}
	cause := func(typ string, want ...any) {
		t.Helper()
		list := w.must("GET", "/v1/events?type="+typ, "").list()
		if len(list) != 1 {
			t.Fatalf("%d events of type %s", len(list), typ)
		}
		got := object(list[0].in("data")).in("object")
		for i := 0; i < len(want); i += 2 {
			if v, there := got[want[i].(string)]; !there || v != want[i+1] {
				t.Errorf("%s has %v as %s, want %v", typ, v, want[i], want[i+1])
			}
		}
	}
	watcher := w.service.Watcher()
	watcher.EndpointFailing(failure(0, "connection refused"), start)
	cause("webhook_endpoint.failing", "event", e.text("id"), "event_type", "payment.succeeded", "delivery", id,
		"last_status_code", nil, "last_error", "connection refused", "failing_since", float64(start.Unix()))

	w.must("PATCH", "/v1/webhooks/"+hook.text("id"), `{"url":"https://new.example/hook"}`)
	watcher.EndpointDead(failure(410, ""), endpoint.DisabledGone)
	if got := w.must("GET", "/v1/webhooks/"+hook.text("id"), "").text("status"); got != "enabled" {
		t.Errorf("after a response from the old URL: %s", got)
	}
	before = w.service.Endpoints.Get(did.Endpoint)
	watcher.EndpointDead(failure(410, ""), endpoint.DisabledGone)
	if got := w.must("GET", "/v1/webhooks/"+hook.text("id"), "").text("status"); got != "disabled" {
		t.Errorf("after a response from its URL: %s", got)
	}
	cause("webhook_endpoint.disabled", "event", e.text("id"), "delivery", id, "last_status_code", 410.0, "last_outcome", "gone", "disabled_reason", "gone")
}
