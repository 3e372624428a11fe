package httpapi_test

import (
	"strings"
	"testing"
	"time"
)

func TestTransform_isCheckedWhenItIsSet(t *testing.T) {
	w := newWorld(t)
	const good = `{\"object\": {\"id\": data.object.id}}`
	create := func(events, transform string) answer {
		return w.call("POST", "/v1/webhooks", `{"url":"https://example.com/hook","enabled_events":["`+events+`"],"transform":"`+transform+`"}`)
	}
	e := create("payment.*", good).object()
	if want := strings.ReplaceAll(good, `\`, ""); e.text("transform") != want {
		t.Errorf("registered with %v, want %s", e["transform"], want)
	}
	create("payment.*", "data.object.id ==").check(refusal{400, "invalid_request_error", "expression_invalid", "transform"})
	create("payment.*", "true").check(refusal{400, "invalid_request_error", "expression_invalid", "transform"})
	// It is tried on the sample of a type that it names, if there is one, but not on groups.
	const odd = `{\"object\": data.object.nowhere}`
	create("payment.succeeded", odd).check(refusal{400, "invalid_request_error", "expression_invalid", "transform"})
	create("my.own", odd).object()
	path := "/v1/webhooks/" + create("payment.*", odd).object().text("id")
	w.call("PATCH", path, `{"enabled_events":["payment.failed"]}`).check(refusal{400, "invalid_request_error", "expression_invalid", "transform"})
	w.call("PATCH", path, `{"transform":"[data]"}`).check(refusal{400, "invalid_request_error", "expression_invalid", "transform"})
	if got := w.must("PATCH", path, `{"description":"d"}`); got.text("transform") == "" {
		t.Errorf("after a change of something else: %v", got)
	}
	w.pass(time.Minute)
	if got := w.must("PATCH", path, `{"transform":""}`); got["transform"] != nil || got.text("payload_format") != "standard" {
		t.Errorf("removed: %v", got)
	}

	preview := w.must("POST", "/v1/webhooks/preview", `{"type":"payment.succeeded","transform":"{\"object\": {\"a\": type}}","payload_format":"cloudevents_binary"}`)
	if preview["body"] != `{"object":{"a":"payment.succeeded"}}` || preview["transform_error"] != nil {
		t.Errorf("previewed: %v", preview)
	}
	preview = w.must("POST", "/v1/webhooks/preview", `{"type":"payment.succeeded","transform":"`+odd+`"}`)
	if preview["body"] != nil || preview["matched"] != true || preview["transform_error"] != "no such key: nowhere" || len(preview.in("headers")) != 0 {
		t.Errorf("previewed: %v", preview)
	}
}
