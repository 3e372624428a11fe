package httpapi_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/service"
)

const moneySchema = `{"type":"object","properties":{"data":{"type":"object","properties":{"object":{"type":"object","required":["amount"],
	"properties":{"amount":{"type":"integer"},"items":{"type":"array","items":{"$ref":"#/$defs/item"}}}}}}},"$defs":{"item":{"type":"string"}}}`

// An event that does not match its schema is refused with its JSON path, accepted with a
// warning, or not validated, as its type defines, alone and in a batch.
func TestEventTypes_validate(t *testing.T) {
	w := newWorld(t)
	made := w.must("POST", "/v1/event_types", `{"name":"invoice.paid","validation":"reject","schema":`+moneySchema+`,"samples":[{"object":{"amount":1}}]}`)
	if made.text("id") != "invoice.paid" || made["version"] != 1.0 {
		t.Errorf("made %v", made)
	}
	for object, param := range map[string]string{
		`{"amount":"1"}`: "data.object.amount", `{}`: "data.object.amount", `{"amount":1,"items":["a",2]}`: "data.object.items[1]",
	} {
		a := w.call("POST", "/v1/events", `{"type":"invoice.paid","data":{"object":`+object+`}}`)
		if a.status != 400 || a.object().in("error").text("param") != param || a.object().in("error").text("code") != "schema_mismatch" {
			t.Errorf("%s: %d %v", object, a.status, a.object())
		}
	}
	w.must("POST", "/v1/events", `{"type":"invoice.paid","data":{"object":{"amount":1}}}`)
	const two = `{"events":[{"type":"invoice.paid","data":{"object":{"amount":1}}},{"type":"invoice.paid","data":{"object":{}}}]}`
	if b := w.must("POST", "/v1/events/batch", two); b["accepted"] != 1.0 || b["refused"] != 1.0 {
		t.Errorf("batch %v", b)
	}
	w.must("PATCH", "/v1/event_types/invoice.paid", `{"validation":"warn"}`)
	e := w.must("POST", "/v1/events", `{"type":"invoice.paid","data":{"object":{}}}`)
	if list, _ := e["warnings"].([]any); len(list) != 1 || list[0].(map[string]any)["param"] != "data.object.amount" {
		t.Errorf("warned %v", e)
	}
	w.must("PATCH", "/v1/event_types/invoice.paid", `{"validation":"off"}`)
	if e := w.must("POST", "/v1/events", `{"type":"invoice.paid","data":{"object":{}}}`); e["warnings"] != nil {
		t.Errorf("a warning about an unused keyword: %v", e)
	}
	if want := map[service.Verdict]int{service.Fits: 2, service.Warned: 1, service.Rejected: 4}; !maps.Equal(w.found, want) {
		t.Errorf("counted %v, want %v", w.found, want)
	}
}

// Types with other separators than dots are defined, sent, matched and listed like those with
// dots.
func TestEventTypes_names(t *testing.T) {
	w := newWorld(t)
	for name, pattern := range map[string]string{"payment-method.added": "payment-*", "/orders/created": "/orders/*", "iam:user:created": "iam:user:*", "order_shipped": "order_*", "a/../b": "a/*"} {
		path := "/v1/event_types/" + url.PathEscape(name)
		w.must("POST", "/v1/event_types", `{"name":"`+name+`","validation":"reject","schema":{"properties":{"data":{"properties":{"object":{"required":["amount"]}}}}}}`)
		if d := w.must("GET", path, ""); d.text("id") != name {
			t.Errorf("%s is %v", path, d)
		}
		if a := w.call("POST", "/v1/events", `{"type":"`+name+`","data":{"object":{}}}`); a.status != 400 {
			t.Errorf("%s is not validated: %d", name, a.status)
		}
		group := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["`+pattern+`"]}`)
		exact := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["`+name+`"]}`)
		e := w.must("POST", "/v1/events", `{"type":"`+name+`","data":{"object":{"amount":1}}}`)
		for _, filter := range []string{pattern, name} {
			list := w.must("GET", "/v1/events?type="+url.QueryEscape(filter), "")["data"].([]any)
			if len(list) != 1 || list[0].(map[string]any)["id"] != e.text("id") {
				t.Errorf("events of %s: %v", filter, list)
			}
		}
		if list := w.must("GET", "/v1/events/"+e.text("id")+"/deliveries", "")["data"].([]any); len(list) != 2 {
			t.Errorf("%s matched %d of %s and %s", name, len(list), group.text("id"), exact.text("id"))
		}
		w.must("DELETE", path, "")
	}
}

// Each schema is a version, and older ones stay readable.
func TestEventTypes_versions(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/event_types", `{"name":"a.b","schema":{"type":"object"}}`)
	w.must("PATCH", "/v1/event_types/a.b", `{"description":"x"}`)
	if v := w.must("PATCH", "/v1/event_types/a.b", `{"schema":{"type":["object","null"]}}`); v["version"] != 2.0 {
		t.Errorf("changed %v", v)
	}
	versions := w.must("GET", "/v1/event_types/a.b/versions", "")["data"].([]any)
	if len(versions) != 2 || versions[1].(map[string]any)["schema"].(map[string]any)["type"] != "object" {
		t.Errorf("versions %v", versions)
	}
	w.must("DELETE", "/v1/event_types/a.b", "")
	if a := w.call("GET", "/v1/event_types/a.b", ""); a.status != 404 {
		t.Errorf("deleted and still there: %d", a.status)
	}
}

// Invalid schemas and definitions are refused with the right code.
func TestEventTypes_refused(t *testing.T) {
	w := newWorld(t)
	bomb := `{"$defs":{"a0":{"type":"object"}`
	for i := 1; i < 20; i++ {
		n, m := string(rune('a'+i)), string(rune('a'+i-1))
		if i == 1 {
			m = "a0"
		}
		bomb += `,"` + n + `":{"allOf":[{"$ref":"#/$defs/` + m + `"},{"$ref":"#/$defs/` + m + `"}]}`
	}
	bomb += `},"$ref":"#/$defs/t"}`
	for name, c := range map[string]struct{ body, param string }{
		"remote":     {`{"name":"a.b","schema":{"properties":{"x":{"$ref":"https://example.com/s"}}}}`, "schema.properties.x.$ref"},
		"circle":     {`{"name":"a.b","schema":{"properties":{"x":{"$ref":"#"}}}}`, "schema.properties.x.$ref.properties.x.$ref"},
		"bomb":       {`{"name":"a.b","schema":` + bomb + `}`, "schema"},
		"dangling":   {`{"name":"a.b","schema":{"$ref":"#/$defs/none"}}`, "schema.$ref"},
		"no schema":  {`{"name":"a.b","schema":{"type":"money"}}`, "schema.type"},
		"draft":      {`{"name":"a.b","schema":{"$schema":"http://json-schema.org/draft-07/schema#"}}`, "schema.$schema"},
		"sample":     {`{"name":"a.b","schema":` + moneySchema + `,"samples":[{"object":{}}]}`, "samples[0]"},
		"large":      {`{"name":"a.b","schema":{"description":"` + strings.Repeat("x", 70000) + `"}}`, "schema"},
		"reserved":   {`{"name":"webhook_endpoint.test"}`, "name"},
		"nothing":    {`{"name":"a.b","validation":"reject"}`, "schema"},
		"validation": {`{"name":"a.b","validation":"maybe","schema":{}}`, "validation"},
		"no object":  {`{"name":"a.b","samples":[{"amount":1}]}`, "samples[0]"},
		"unknown":    {`{"name":"a.b","colour":"x"}`, "colour"},
	} {
		a := w.call("POST", "/v1/event_types", c.body)
		if a.status != 400 || a.object().in("error").text("param") != c.param {
			t.Errorf("%s: %d %v, want param %s", name, a.status, a.object(), c.param)
		}
	}
	if a := w.call("PATCH", "/v1/event_types/payment.failed", `{"description":"x"}`); a.status != 400 || a.object().in("error").text("code") != "event_type_read_only" {
		t.Errorf("built in: %d %v", a.status, a.object())
	}
	w.must("POST", "/v1/event_types", `{"name":"a.b"}`)
	if a := w.call("POST", "/v1/event_types", `{"name":"a.b"}`); a.status != 400 || a.object().in("error").text("param") != "name" {
		t.Errorf("twice: %d %v", a.status, a.object())
	}
}

// Test events contain the account's own sample.
func TestEventTypes_sample(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/event_types", `{"name":"invoice.paid","samples":[{"object":{"number":"R-1"}}]}`)
	hook := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["invoice.paid"]}`)
	e := w.must("POST", "/v1/webhooks/"+hook.text("id")+"/test", `{}`)
	if e.in("data").in("object").text("number") != "R-1" {
		t.Errorf("sent %v", e)
	}
}

// Events of the sandbox are validated against the account's definition too, and a payment whose
// event is refused is not created.
func TestEventTypes_sandbox(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/event_types", `{"name":"payment.succeeded","validation":"reject","schema":{"properties":{"data":{"properties":{"object":{"properties":{"amount":{"maximum":100}}}}}}}}`)
	pay := func(amount string) answer {
		return w.call("POST", "/v1/payments", `{"amount":`+amount+`,"currency":"usd","payment_method":{"type":"card","card":{"number":"4242424242424242","exp_month":12,"exp_year":2035,"cvc":"123"}}}`)
	}
	if a := pay("101"); a.status != 400 || a.object().in("error").text("code") != "schema_mismatch" || a.object().in("error").text("param") != "data.object.amount" {
		t.Errorf("a payment that does not fit: %d %v", a.status, a.object())
	}
	if n := len(w.must("GET", "/v1/events", "").list()); n != 0 {
		t.Errorf("%d events of a payment that was refused", n)
	}
	if a := pay("100"); a.status != 200 {
		t.Errorf("a payment that fits: %d %v", a.status, a.object())
	}
}
