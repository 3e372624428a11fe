package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// refusal is the expected content of an error response.
type refusal struct {
	status           int
	typ, code, param string
}

func (a answer) check(want refusal) {
	a.t.Helper()
	e := a.object().in("error")
	got := refusal{a.status, e.text("type"), e.text("code"), e.text("param")}
	if got != want {
		a.t.Errorf("got  %+v\nwant %+v\nbody %s", got, want, a.body)
	}
	if m := e.text("message"); m == "" || len(m) > 1100 {
		a.t.Errorf("message of %d bytes", len(m))
	}
	if _, has := e["param"]; has && want.param == "" {
		a.t.Error("param is there, want none")
	}
	if id := a.header.Get("Request-Id"); !strings.HasPrefix(id, "req_") {
		a.t.Errorf("Request-Id %q", id)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/json" {
		a.t.Errorf("Content-Type %q", ct)
	}
}

func invalid(code, param string) refusal {
	return refusal{http.StatusBadRequest, "invalid_request_error", code, param}
}

func missing(param string) refusal {
	return refusal{http.StatusNotFound, "not_found_error", "resource_missing", param}
}

const (
	formType = "application/x-www-form-urlencoded"
	noID     = "_0000000000000000000a"
)

// Every error has its code, names its parameter, and changes nothing.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	live := w.register("a.b", with(liveKey)...)
	on, off := w.register("payment.*"), w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["x"],"disabled":true}`)
	ev := w.send("payment.succeeded")
	d := w.deliveryOf(ev.text("id"))
	w.must("POST", "/v1/events", `{"id":"evt_takentakentaken0","type":"a","data":{"object":{}}}`)
	onPath, evPath, dPath := "/v1/webhooks/"+on.text("id"), "/v1/events/"+ev.text("id"), "/v1/deliveries/"+d.text("id")

	good := `"url":"https://example.com/","enabled_events":["*"]`
	long := strings.Repeat("x", 3000)
	form := []string{"Content-Type", formType}
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		want                     refusal
	}{
		// The body.
		{"bad JSON", "POST", "/v1/webhooks", `{"url":`, nil, invalid("json_invalid", "")},
		{"JSON of another kind", "POST", "/v1/webhooks", `["url"]`, nil, invalid("json_invalid", "")},
		{"null", "POST", "/v1/webhooks", `null`, nil, invalid("json_invalid", "")},
		{"text after the JSON", "POST", "/v1/webhooks", `{` + good + `} {}`, nil, invalid("json_invalid", "")},
		{"not UTF-8", "POST", "/v1/webhooks", "{" + good + ",\"description\":\"\xff\"}", nil, invalid("json_invalid", "")},
		{"a number beyond all", "POST", "/v1/webhooks", `{` + good + `,"timeout":1e999}`, nil, invalid("json_invalid", "")},
		{"key twice", "POST", "/v1/webhooks", `{` + good + `,"url":"https://example.org/"}`, nil, invalid("duplicate_key", "url")},
		{"inner key twice", "POST", "/v1/webhooks", `{` + good + `,"metadata":{"a":"1","a":"2"}}`, nil, invalid("duplicate_key", "metadata[a]")},
		{"another content type", "POST", "/v1/webhooks", `<url/>`, []string{"Content-Type", "text/xml"}, invalid("content_type_unsupported", "Content-Type")},
		{"multipart", "POST", "/v1/events", `x`, []string{"Content-Type", "multipart/form-data; boundary=x"}, invalid("content_type_unsupported", "Content-Type")},
		{"nonsense as content type", "POST", "/v1/events", `x`, []string{"Content-Type", ";;"}, invalid("content_type_unsupported", "Content-Type")},
		{"too large", "POST", "/v1/webhooks", `{"description":"` + strings.Repeat("x", 1<<20) + `"}`, nil,
			refusal{http.StatusRequestEntityTooLarge, "invalid_request_error", "request_too_large", ""}},
		{"compressed", "POST", "/v1/webhooks", `{` + good + `}`, []string{"Content-Encoding", "gzip"},
			refusal{http.StatusUnsupportedMediaType, "invalid_request_error", "content_encoding_unsupported", "Content-Encoding"}},
		{"compressed, among others", "POST", "/v1/events", `{}`, []string{"Content-Encoding", "identity, br"},
			refusal{http.StatusUnsupportedMediaType, "invalid_request_error", "content_encoding_unsupported", "Content-Encoding"}},
		{"no parameters", "POST", "/v1/webhooks", "", []string{"Content-Encoding", "identity"}, invalid("parameter_missing", "url")},

		// Forms.
		{"form: bad escape", "POST", "/v1/webhooks", "url=%zz", form, invalid("form_invalid", "")},
		{"form: not UTF-8", "POST", "/v1/webhooks", "url=%ff", form, invalid("form_invalid", "")},
		{"form: open bracket", "POST", "/v1/webhooks", "metadata[a=1", form, invalid("form_invalid", "metadata[a")},
		{"form: no name", "POST", "/v1/webhooks", "=1", form, invalid("form_invalid", "")},
		{"form: twice", "POST", "/v1/webhooks", "url=a&url=b", form, invalid("form_invalid", "url")},
		{"form: value and group", "POST", "/v1/webhooks", "metadata=a&metadata[a]=b", form, invalid("form_invalid", "metadata[a]")},
		{"form: too deep", "POST", "/v1/webhooks", "a" + strings.Repeat("[a]", 20) + "=1", form, invalid("form_invalid", "a"+strings.Repeat("[a]", 20))},
		{"form: too many", "POST", "/v1/webhooks", strings.Repeat("a=1&", 1001), form, invalid("form_invalid", "")},
		{"form: gap in a list", "POST", "/v1/webhooks", "url=https://example.com/&enabled_events[0]=a&enabled_events[2]=b", form, invalid("parameter_invalid", "enabled_events")},
		{"form: number of Go's", "POST", "/v1/webhooks", "url=https://example.com/&enabled_events[0]=a&timeout=0x10", form, invalid("parameter_invalid", "timeout")},
		{"form: unknown", "POST", "/v1/webhooks", "url=https://example.com/&enabled_events[0]=a&application=ca_1", form, invalid("parameter_unknown", "application")},
		{"form: connected accounts", "POST", "/v1/webhooks", "url=https://example.com/&enabled_events[0]=a&connect=true", form, invalid("parameter_invalid", "connect")},
		{"connected accounts", "POST", "/v1/webhooks", `{` + good + `,"connect":true}`, nil, invalid("parameter_invalid", "connect")},
		{"version too long", "POST", "/v1/webhooks", `{` + good + `,"api_version":"` + long + `"}`, nil, invalid("parameter_invalid", "api_version")},
		{"type and types", "GET", "/v1/events?type=a&types[]=b", "", nil, invalid("parameter_invalid", "types")},
		{"types empty", "GET", "/v1/events?types=", "", nil, invalid("parameter_invalid", "types")},
		{"types too many", "GET", "/v1/events?" + strings.Repeat("types[]=a&", 21), "", nil, invalid("parameter_invalid", "types")},
		{"types with a prefix", "GET", "/v1/events?types[]=a&types[]=b.*", "", nil, invalid("event_type_invalid", "types[1]")},
		{"delivery_success a word", "GET", "/v1/events?delivery_success=yes", "", nil, invalid("parameter_invalid", "delivery_success")},
		{"form: event time", "POST", "/v1/events", "type=a&data[object][a]=b&created=now", form, invalid("parameter_invalid", "created")},

		// Endpoints.
		{"unknown parameter", "POST", "/v1/webhooks", `{` + good + `,"colour":"red"}`, nil, invalid("parameter_unknown", "colour")},
		{"unknown long parameter", "POST", "/v1/webhooks", `{` + good + `,"` + long + `":1}`, nil, invalid("parameter_unknown", long[:200]+"…")},
		{"no URL", "POST", "/v1/webhooks", `{"enabled_events":["*"]}`, nil, invalid("parameter_missing", "url")},
		{"URL null", "POST", "/v1/webhooks", `{"url":null,"enabled_events":["*"]}`, nil, invalid("parameter_missing", "url")},
		{"URL a number", "POST", "/v1/webhooks", `{"url":1,"enabled_events":["*"]}`, nil, invalid("parameter_invalid", "url")},
		{"URL relative", "POST", "/v1/webhooks", `{"url":"/hook","enabled_events":["*"]}`, nil, invalid("url_invalid", "url")},
		{"URL of another scheme", "POST", "/v1/webhooks", `{"url":"ftp://example.com","enabled_events":["*"]}`, nil, invalid("url_invalid", "url")},
		{"URL with a password", "POST", "/v1/webhooks", `{"url":"https://a:b@example.com","enabled_events":["*"]}`, nil, invalid("url_invalid", "url")},
		{"URL with a fragment", "POST", "/v1/webhooks", `{"url":"https://example.com/#a","enabled_events":["*"]}`, nil, invalid("url_invalid", "url")},
		{"URL too long", "POST", "/v1/webhooks", `{"url":"https://example.com/` + long + `","enabled_events":["*"]}`, nil, invalid("url_invalid", "url")},
		{"URL plain in live mode", "POST", "/v1/webhooks", `{"url":"http://example.com/","enabled_events":["*"]}`, with(liveKey), invalid("url_invalid", "url")},
		{"URL inward", "POST", "/v1/webhooks", `{"url":"https://169.254.169.254/","enabled_events":["*"]}`, nil, invalid("url_target_forbidden", "url")},
		{"URL of this machine", "POST", "/v1/webhooks", `{"url":"http://localhost:1/","enabled_events":["*"]}`, nil, invalid("url_target_forbidden", "url")},
		{"no events", "POST", "/v1/webhooks", `{"url":"https://example.com/"}`, nil, invalid("parameter_missing", "enabled_events")},
		{"events empty", "POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":[]}`, nil, invalid("parameter_missing", "enabled_events")},
		{"events a string", "POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":"*"}`, nil, invalid("parameter_invalid", "enabled_events")},
		{"event a number", "POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["a",1]}`, nil, invalid("parameter_invalid", "enabled_events[1]")},
		{"event not a name", "POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["a","b c"]}`, nil, invalid("event_type_invalid", "enabled_events[1]")},
		{"description too long", "POST", "/v1/webhooks", `{` + good + `,"description":"` + long + `"}`, nil, invalid("parameter_invalid", "description")},
		{"metadata a list", "POST", "/v1/webhooks", `{` + good + `,"metadata":["a"]}`, nil, invalid("parameter_invalid", "metadata")},
		{"metadata nested", "POST", "/v1/webhooks", `{` + good + `,"metadata":{"x":{"y":"z"}}}`, nil, invalid("parameter_invalid", "metadata[x]")},
		{"metadata too long", "POST", "/v1/webhooks", `{` + good + `,"metadata":{"x":"` + long + `"}}`, nil, invalid("parameter_invalid", "metadata[x]")},
		{"disabled a string", "POST", "/v1/webhooks", `{` + good + `,"disabled":"true"}`, nil, invalid("parameter_invalid", "disabled")},
		{"status unknown", "POST", "/v1/webhooks", `{` + good + `,"status":"paused"}`, nil, invalid("parameter_invalid", "status")},
		{"status against disabled", "POST", "/v1/webhooks", `{` + good + `,"status":"enabled","disabled":true}`, nil, invalid("parameter_invalid", "disabled")},
		{"ordering unknown", "POST", "/v1/webhooks", `{` + good + `,"ordering":"lifo"}`, nil, invalid("parameter_invalid", "ordering")},
		{"timeout a string", "POST", "/v1/webhooks", `{` + good + `,"timeout":"15"}`, nil, invalid("parameter_invalid", "timeout")},
		{"timeout a fraction", "POST", "/v1/webhooks", `{` + good + `,"timeout":1.5}`, nil, invalid("parameter_invalid", "timeout")},
		{"timeout too long", "POST", "/v1/webhooks", `{` + good + `,"timeout":61}`, nil, invalid("parameter_invalid", "timeout")},
		{"timeout beyond all", "POST", "/v1/webhooks", `{` + good + `,"timeout":1e300}`, nil, invalid("parameter_invalid", "timeout")},
		{"timeout negative", "POST", "/v1/webhooks", `{` + good + `,"timeout":-9007199254740992}`, nil, invalid("parameter_invalid", "timeout")},
		{"concurrency too high", "POST", "/v1/webhooks", `{` + good + `,"max_concurrency":1001}`, nil, invalid("parameter_invalid", "max_concurrency")},
		{"rate negative", "POST", "/v1/webhooks", `{` + good + `,"rate_limit":-1}`, nil, invalid("parameter_invalid", "rate_limit")},
		{"schedule a number", "POST", "/v1/webhooks", `{` + good + `,"retry_schedule":5}`, nil, invalid("parameter_invalid", "retry_schedule")},
		{"schedule with 0", "POST", "/v1/webhooks", `{` + good + `,"retry_schedule":[5,0]}`, nil, invalid("parameter_invalid", "retry_schedule[1]")},
		{"schedule with a fraction", "POST", "/v1/webhooks", `{` + good + `,"retry_schedule":[1.5]}`, nil, invalid("parameter_invalid", "retry_schedule[0]")},
		{"update: unknown", "PATCH", onPath, `{"secret":"whsec_mine"}`, nil, invalid("parameter_unknown", "secret")},
		{"update: no events left", "POST", onPath, `{"enabled_events":[]}`, nil, invalid("parameter_missing", "enabled_events")},
		{"update: not there", "POST", "/v1/webhooks/we" + noID, `{}`, nil, missing("id")},
		{"enable: unknown", "POST", onPath + "/enable", `{"now":true}`, nil, invalid("parameter_unknown", "now")},
		{"delete: not there", "DELETE", "/v1/webhooks/we" + noID, "", nil, missing("id")},
		{"test: disabled", "POST", "/v1/webhooks/" + off.text("id") + "/test", "", nil, invalid("endpoint_disabled", "id")},
		{"test: empty type", "POST", onPath + "/test", `{"type":""}`, nil, invalid("parameter_invalid", "type")},
		{"test: bad type", "POST", onPath + "/test", `{"type":"a b"}`, nil, invalid("event_type_invalid", "type")},

		// Events.
		{"event: empty", "POST", "/v1/events", "", nil, invalid("json_invalid", "")},
		{"event: no type", "POST", "/v1/events", `{"data":{"object":{}}}`, nil, invalid("parameter_missing", "type")},
		{"event: bad type", "POST", "/v1/events", `{"type":"a#b","data":{"object":{}}}`, nil, invalid("event_type_invalid", "type")},
		{"event: reserved type", "POST", "/v1/events", `{"type":"webhook_endpoint.disabled","data":{"object":{}}}`, nil, invalid("event_type_reserved", "type")},
		{"event: no data", "POST", "/v1/events", `{"type":"a"}`, nil, invalid("parameter_missing", "data")},
		{"event: no object", "POST", "/v1/events", `{"type":"a","data":{}}`, nil, invalid("parameter_missing", "data.object")},
		{"event: object a list", "POST", "/v1/events", `{"type":"a","data":{"object":[]}}`, nil, invalid("parameter_invalid", "data.object")},
		{"event: unknown", "POST", "/v1/events", `{"type":"a","data":{"object":{}},"livemode":true}`, nil, invalid("parameter_unknown", "livemode")},
		{"event: key twice", "POST", "/v1/events", `{"type":"a","data":{"object":{"a":1,"a":2}}}`, nil, invalid("duplicate_key", "data.object.a")},
		{"event: integer beyond 2^53", "POST", "/v1/events", `{"type":"a","data":{"object":{"items":[{"amount":9007199254740993}]}}}`, nil,
			invalid("number_not_representable", "data.object.items[0].amount")},
		{"event: text after", "POST", "/v1/events", `{"type":"a","data":{"object":{}}}x`, nil, invalid("json_invalid", "")},
		{"event: not UTF-8", "POST", "/v1/events", "{\"type\":\"a\",\"data\":{\"object\":{\"a\":\"\xff\"}}}", nil, invalid("json_invalid", "data.object.a")},
		{"event: bad id", "POST", "/v1/events", `{"id":"evt.1","type":"a","data":{"object":{}}}`, nil, invalid("parameter_invalid", "id")},
		{"event: taken id", "POST", "/v1/events", `{"id":"evt_takentakentaken0","type":"b","data":{"object":{}}}`, nil, invalid("event_id_taken", "id")},
		{"event: time a string", "POST", "/v1/events", `{"type":"a","data":{"object":{}},"created":"now"}`, nil, invalid("parameter_invalid", "created")},
		{"event: too large", "POST", "/v1/events", `{"type":"a","data":{"object":{"x":"` + strings.Repeat("x", 256<<10) + `"}}}`, nil, invalid("payload_too_large", "data")},
		{"event: not there", "GET", "/v1/events/evt" + noID, "", nil, missing("id")},
		{"event: odd id", "GET", "/v1/events/%ff%00..%2F", "", nil, missing("id")},
		{"event's deliveries: not there", "GET", "/v1/events/evt" + noID + "/deliveries", "", nil, missing("id")},
		{"resend: empty endpoint", "POST", evPath + "/resend", `{"endpoint":""}`, nil, invalid("parameter_invalid", "endpoint")},
		{"resend: empty endpoint in a form", "POST", evPath + "/resend", `endpoint=`, form, invalid("parameter_invalid", "endpoint")},
		{"resend: endpoint in the query", "POST", evPath + "/resend?endpoint=" + on.text("id"), "", nil, invalid("parameter_unknown", "endpoint")},
		{"resend: no such endpoint", "POST", evPath + "/resend", `{"endpoint":"we` + noID + `"}`, nil, invalid("resource_missing", "endpoint")},
		{"resend: endpoint of the other mode", "POST", evPath + "/resend", `{"endpoint":"` + live.text("id") + `"}`, nil, invalid("resource_missing", "endpoint")},
		{"resend: disabled endpoint", "POST", evPath + "/resend", `{"endpoint":"` + off.text("id") + `"}`, nil, invalid("endpoint_disabled", "endpoint")},
		{"resend: not there", "POST", "/v1/events/evt" + noID + "/resend", "", nil, missing("id")},
		{"retry event: for_stripecli is not a boolean", "POST", evPath + "/retry", "for_stripecli=perhaps", form, invalid("parameter_invalid", "for_stripecli")},
		{"retry event: not there", "POST", "/v1/events/evt" + noID + "/retry", "", nil, missing("id")},

		// Deliveries.
		{"delivery: not there", "GET", "/v1/deliveries/dlv" + noID, "", nil, missing("id")},
		{"delivery: odd id", "GET", "/v1/deliveries/1", "", nil, missing("id")},
		{"attempts: not there", "GET", "/v1/deliveries/dlv" + noID + "/attempts", "", nil, missing("id")},
		{"attempts: odd cursor", "GET", dPath + "/attempts?starting_after=att_1", "", nil, invalid("resource_missing", "starting_after")},
		{"retry: not there", "POST", "/v1/deliveries/dlv" + noID + "/retry", "", nil, missing("id")},
		{"retry: unknown", "POST", dPath + "/retry", `{"at":1}`, nil, invalid("parameter_unknown", "at")},
		{"cancel: not there", "POST", "/v1/deliveries/dlv" + noID + "/cancel", "", nil, missing("id")},

		// Lists.
		{"limit 0", "GET", "/v1/events?limit=0", "", nil, invalid("parameter_invalid", "limit")},
		{"limit 101", "GET", "/v1/webhooks?limit=101", "", nil, invalid("parameter_invalid", "limit")},
		{"limit negative", "GET", "/v1/webhooks?limit=-1", "", nil, invalid("parameter_invalid", "limit")},
		{"limit a word", "GET", "/v1/deliveries?limit=ten", "", nil, invalid("parameter_invalid", "limit")},
		{"limit a list", "GET", "/v1/deliveries?limit[]=1", "", nil, invalid("parameter_invalid", "limit")},
		{"both cursors", "GET", "/v1/events?starting_after=" + ev.text("id") + "&ending_before=" + ev.text("id"), "", nil, invalid("parameter_invalid", "ending_before")},
		{"cursor empty", "GET", "/v1/events?starting_after=", "", nil, invalid("parameter_invalid", "starting_after")},
		{"cursor not there", "GET", "/v1/webhooks?ending_before=we" + noID, "", nil, invalid("resource_missing", "ending_before")},
		{"cursor of the other mode", "GET", "/v1/webhooks?starting_after=" + live.text("id"), "", nil, invalid("resource_missing", "starting_after")},
		{"expand", "GET", "/v1/events?expand[]=data", "", nil, invalid("parameter_unknown", "expand")},
		{"unknown on an object", "GET", evPath + "?limit=1", "", nil, invalid("parameter_unknown", "limit")},
		{"time a word", "GET", "/v1/events?created[gte]=today", "", nil, invalid("parameter_invalid", "created[gte]")},
		{"time negative", "GET", "/v1/events?created=-1", "", nil, invalid("parameter_invalid", "created")},
		{"time narrowed oddly", "GET", "/v1/events?created[near]=1", "", nil, invalid("parameter_unknown", "created[near]")},
		{"type not a name", "GET", "/v1/deliveries?type=a*", "", nil, invalid("event_type_invalid", "type")},
		{"status unknown in a list", "GET", "/v1/deliveries?status=lost", "", nil, invalid("parameter_invalid", "status")},
		{"endpoint empty in a list", "GET", "/v1/deliveries?endpoint=", "", nil, invalid("parameter_invalid", "endpoint")},
		{"endpoint unknown in a list", "GET", "/v1/deliveries?endpoint=we" + noID, "", nil, invalid("resource_missing", "endpoint")},
		{"event unknown in a list", "GET", "/v1/deliveries?event=evt" + noID, "", nil, invalid("resource_missing", "event")},

		// Accounts and keys.
		{"account: no name to change", "POST", "/v1/accounts/" + w.account.ID, `{}`, with(adminKey), invalid("parameter_missing", "name")},
		{"account: name too long", "POST", "/v1/accounts", `{"name":"` + long + `"}`, with(adminKey), invalid("parameter_invalid", "name")},
		{"account: not there", "GET", "/v1/accounts/acct" + noID, "", with(adminKey), missing("id")},
		{"accounts: cursor not there", "GET", "/v1/accounts?starting_after=acct" + noID, "", with(adminKey), invalid("resource_missing", "starting_after")},
		{"key: for no account", "POST", "/v1/api_keys", `{}`, with(adminKey), invalid("account_missing", "Payment-Account")},
		{"key: livemode a string", "POST", "/v1/api_keys", `{"livemode":"yes"}`, w.asOperator(), invalid("parameter_invalid", "livemode")},
		{"key: not there", "DELETE", "/v1/api_keys/key" + noID, "", w.asOperator(), missing("id")},

		// Idempotency keys.
		{"idempotency key too long", "POST", "/v1/webhooks", `{` + good + `}`, []string{"Idempotency-Key", strings.Repeat("k", 256)}, invalid("parameter_invalid", "Idempotency-Key")},
		{"idempotency key not ASCII", "POST", "/v1/webhooks", `{` + good + `}`, []string{"Idempotency-Key", "schlüssel"}, invalid("parameter_invalid", "Idempotency-Key")},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.everything()
			w.engine.told()
			a := w.call(c.method, c.path, c.body, c.header...)
			a.t = t
			a.check(c.want)
			if w.everything() != before {
				t.Error("the refused request has changed something")
			}
			if woken, forgiven := w.engine.told(); len(woken)+len(forgiven) > 0 {
				t.Error("the refused request has woken the engine")
			}
		})
	}
}

func TestErrors_unknownPaths(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/v1", "/v1/", "/v2/events", "/v1/event", "/v1/events/", "/v1/webhooks/a/b/c", "//v1/events", "/v1//events", "/v1/../v1/events", "/./v1/events", "/favicon.ico"} {
		for _, method := range []string{"GET", "POST"} {
			a := w.call(method, path, "")
			a.check(refusal{http.StatusNotFound, "not_found_error", "unrecognized_request_url", ""})
		}
	}
}

func TestErrors_wrongMethod(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", "/v1/webhooks", "GET, POST"},
		{"BREW", "/v1/webhooks/we_1", "GET, POST, PATCH, PUT, DELETE"},
		{"GET", "/v1/webhooks/we_1/enable", "POST"},
		{"DELETE", "/v1/events", "GET, POST"},
		{"OPTIONS", "/v1/deliveries", "GET"},
		{"DELETE", "/v1/api_keys", "GET, POST"},
		{"POST", "/healthz", "GET"},
		{"POST", "/", "GET"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := w.call(c.method, c.path, "")
			a.t = t
			a.check(refusal{http.StatusMethodNotAllowed, "invalid_request_error", "method_not_allowed", ""})
			if got := a.header.Get("Allow"); got != c.allow {
				t.Errorf("Allow: %q, want %q", got, c.allow)
			}
		})
	}
}

// A body that exceeds its declared length is refused as soon as it does.
func TestErrors_tooLargeWithoutALength(t *testing.T) {
	w := newWorld(t)
	req, err := http.NewRequest(http.MethodPost, w.url+"/v1/events", struct{ *strings.Reader }{strings.NewReader(strings.Repeat("x", 2<<20))})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// If the store cannot write, nothing is accepted, and the cause is not revealed.
func TestErrors_storeUnavailable(t *testing.T) {
	w := newWorld(t)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/events", `{"type":"a.b","data":{"object":{}}}`},
		{"POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"]}`},
		{"GET", "/v1/events", ""},
		{"GET", "/v1/webhooks/we" + noID, ""},
		{"GET", "/v1/deliveries", ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := w.call(c.method, c.path, c.body)
			a.t = t
			if a.status != http.StatusServiceUnavailable || a.object().in("error").text("type") != "api_error" || a.header.Get("Retry-After") == "" {
				t.Errorf("%d %s, Retry-After %q", a.status, a.body, a.header.Get("Retry-After"))
			}
			for _, inner := range []string{"sql", "closed", "database", "store/"} {
				if strings.Contains(strings.ToLower(a.body), inner) {
					t.Errorf("the answer speaks of %q: %s", inner, a.body)
				}
			}
		})
	}
	if a := w.call("GET", "/readyz", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", a.status)
	}
	if a := w.call("GET", "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz: %d", a.status)
	}
}
