package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// A URL is normalized in the first response, in whatever form it was given.
func TestURLs_haveOneSpelling(t *testing.T) {
	w := newWorld(t)
	const spelled = "https://xn--bcher-kva.example.com/caf%C3%A9?name=Jos%C3%A9&q=%7B%7C%5B%2f"
	body := func(url string) string { return fmt.Sprintf(`{"url":%q,"enabled_events":["*"]}`, url) }
	given := []string{
		"https://BÜCHER.example.com/café?name=José&q={|[%2f",
		"HTTPS://bu\u0308cher.example.com./caf%C3%A9?name=José&q=%7B|[%2f",
		spelled,
	}
	for _, url := range given {
		e := w.must("POST", "/v1/webhooks", body(url))
		if e.text("url") != spelled {
			t.Errorf("%q is answered as %q", url, e.text("url"))
		}
		if got := w.must("GET", "/v1/webhooks/"+e.text("id"), "").text("url"); got != spelled {
			t.Errorf("%q is shown as %q", url, got)
		}
		other := w.register("*").text("id")
		if got := w.must("PATCH", "/v1/webhooks/"+other, fmt.Sprintf(`{"url":%q}`, url)).text("url"); got != spelled {
			t.Errorf("%q, which takes the place of another, is answered as %q", url, got)
		}
	}
	for _, e := range w.must("GET", "/v1/webhooks?limit=100", "").list() {
		if e.text("url") != spelled {
			t.Errorf("the list has %q", e.text("url"))
		}
	}
	oauth := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"],"authentication":
		{"type":"oauth2","grant_type":"client_credentials","token_url":"https://ÍD.example.com/|","client_id":"a","client_secret":"b"}}`)
	if got := oauth.in("authentication").text("token_url"); got != "https://xn--d-iga.example.com/%7C" {
		t.Errorf("the token URL is %q", got)
	}
	// A change to an equal token URL keeps its secret.
	w.must("PATCH", "/v1/webhooks/"+oauth.text("id"), `{"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://ÍD.example.com/|","client_id":"a","scope":"s"}}`)
}

func TestURLs_thatAreRefused(t *testing.T) {
	w := newWorld(t)
	for url, says := range map[string]string{
		"https://" + strings.Repeat("a", 64) + ".example.com/":  "63 bytes",
		"https://" + strings.Repeat("ü", 60) + ".example.com/":  "63 bytes",
		"https://" + strings.Repeat("a.", 123) + "example.com/": "253 bytes",
		"https://a..example.com/":                               "is empty",
		"https://.example.com/":                                 "is empty",
		"https://a*b.example.com/":                              "other than letters",
		"https://example.com/%zz":                               "begins no escape",
		"https://example.com/" + strings.Repeat("é", 400):       "2048 characters, percent-encoded",
		"https://example.com:99999/":                            "1 to 65535",
	} {
		a := w.call("POST", "/v1/webhooks", fmt.Sprintf(`{"url":%q,"enabled_events":["*"]}`, url))
		a.check(invalid("url_invalid", "url"))
		if !strings.Contains(a.body, says) {
			t.Errorf("%.60q: %s does not say %q", url, a.body, says)
		}
	}
}

// The history of the events for a deleted endpoint remains readable.
func TestDeletedEndpoint_hasAHistory(t *testing.T) {
	w := newWorld(t)
	gone, kept := w.register("payment.*"), w.register("refund.*")
	d := w.deliveryOf(w.send("payment.succeeded").text("id"))
	w.deliveryOf(w.send("refund.created").text("id"))
	id := gone.text("id")
	w.must("POST", "/v1/webhooks/"+id+"/recover", `{"since":1}`)
	w.must("DELETE", "/v1/webhooks/"+id, "")

	list := w.must("GET", "/v1/deliveries?endpoint="+id, "").list()
	if len(list) != 1 || list[0].text("id") != d.text("id") || list[0].text("endpoint") != id {
		t.Errorf("its deliveries are %v", list)
	}
	if jobs := w.must("GET", "/v1/jobs?endpoint="+id, "").list(); len(jobs) != 1 {
		t.Errorf("its jobs are %v", jobs)
	}
	w.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", "")
	// A list that was started before the deletion continues.
	w.must("GET", "/v1/webhooks?starting_after="+id, "")
	if list := w.must("GET", "/v1/webhooks?ending_before="+id, "").list(); len(list) != 1 || list[0].text("id") != kept.text("id") {
		t.Errorf("newer than the deleted endpoint: %v", list)
	}

	w.call("POST", "/v1/deliveries/retry", `{"endpoint":"`+id+`"}`).check(invalid("endpoint_deleted", "endpoint"))
	w.call("GET", "/v1/webhooks/"+id, "").check(missing("id"))
	for _, key := range []string{otherKey, liveKey} {
		w.call("GET", "/v1/deliveries?endpoint="+id, "", with(key)...).check(invalid("resource_missing", "endpoint"))
	}
	w.call("GET", "/v1/deliveries?endpoint=we"+noID, "").check(invalid("resource_missing", "endpoint"))
}

// An invalid body results in an error with the place.
func TestBodies_thatAreRefused(t *testing.T) {
	w := newWorld(t)
	const event, hook, batch = "/v1/events", "/v1/webhooks", "/v1/events/batch"
	for _, tt := range []struct{ path, body, code, param, says string }{
		{event, `{"type":"a.b","data":{"object":{"note":"cut \ud83d"}}}`, "string_not_representable", "data.object.note", `lone surrogate, \ud83d at byte 44`},
		{event, `{"type":"a.b","data":{"object":{"list":[1,{"x":"\udc00"}]}}}`, "string_not_representable", "data.object.list[1].x", `\udc00`},
		{event, `{"type":"\ud800","data":{"object":{}}}`, "string_not_representable", "type", "surrogate"},
		{event, "{\"type\":\"a.b\",\"data\":{\"object\":{\"a\":\"\xff\"}}}", "json_invalid", "data.object.a", "invalid UTF-8 at byte 37"},
		{event, `{"type":"a.b","data":{"object":{"a":}}}`, "json_invalid", "data.object.a", "invalid character '}' at start of value at byte 36"},
		{event, `{"type":"a.b","data":{"object":{"a":"\x"}}}`, "json_invalid", "data.object.a", "escape"},
		{event, `{"type":"a.b","data":{"object":{`, "json_invalid", "data.object", "unexpected end of input at byte 32"},
		{event, `{"type":"a.b","data":{"object":{}}} x`, "json_invalid", "", "ends at byte 35"},
		{hook, `{"url":"https://example.com/","description":"\ud83d"}`, "string_not_representable", "description", `\ud83d at byte 45`},
		{hook, `{"url":"https://example.com/","metadata":{"a":"\ud83d"}}`, "string_not_representable", "metadata[a]", "surrogate"},
		{hook, `{"url":"https://example.com/",}`, "json_invalid", "", "byte 29"},
		{hook, `{"url":`, "json_invalid", "", "unexpected end of input at byte 7"},
		{hook, "{\"url\":\"\xff\"}", "json_invalid", "", "invalid UTF-8"},
		{hook, `["url"]`, "json_invalid", "", "this is an array"},
		{hook, `null`, "json_invalid", "", "this is null"},
		{hook, `{"timeout":1e999}`, "json_invalid", "", "the number 1e999 of timeout is out of range"},
		{batch, `{"events":[{"type":}]}`, "json_invalid", "", "byte 19"},
		{batch, `{"events":[`, "json_invalid", "", "unexpected end of input at byte 11"},
		{batch, `[]`, "json_invalid", "", `such as {\"events\"`},
	} {
		a := w.call("POST", tt.path, tt.body)
		a.check(invalid(tt.code, tt.param))
		if !strings.Contains(a.object().in("error").text("message"), strings.ReplaceAll(tt.says, `\"`, `"`)) {
			t.Errorf("%s %s\n%s does not say %q", tt.path, tt.body, a.body, tt.says)
		}
	}
	for body, says := range map[string]string{"description=a%zz": "description is not percent-encoded: invalid URL escape", "description=%ff": "description is not UTF-8"} {
		a := w.call("POST", hook, body, "Content-Type", formType)
		a.check(invalid("form_invalid", ""))
		if !strings.Contains(a.body, says) {
			t.Errorf("%s: %s does not say %q", body, a.body, says)
		}
	}
	// In a batch, each event is refused separately.
	sent := w.must("POST", batch, `{"events":[{"type":"a.b","data":{"object":{"note":"\ud83d"}}},{"type":"a.b","data":{"object":{}}}]}`).list()
	if len(sent) != 2 || sent[0].in("error").text("param") != "data.object.note" || sent[1]["status"] != 200.0 {
		t.Errorf("the batch is answered with %v", sent)
	}
}
