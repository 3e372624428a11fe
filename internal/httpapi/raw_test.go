package httpapi_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Bytes that are posted, or sent as base64, are stored and shown as the same event, and an
// endpoint with the format raw receives exactly them.
func TestRawEvents(t *testing.T) {
	w := newWorld(t)
	const body = "{\"n\":9007199254740993,\"n\":1,\"s\":\"\\ud800\"}\r\n\x00"
	encoded := base64.StdEncoding.EncodeToString([]byte(body))
	posted := w.must("POST", "/v1/events/raw", body, "Event-Type", "a.b", "Event-Id", "evt_1234567890abcdef", "Event-Created", "1699564800", "Content-Type", "application/json; charset=utf-8")
	raw := posted.in("data").in("raw")
	if posted.text("id") != "evt_1234567890abcdef" || posted.text("type") != "a.b" || posted["created"] != 1699564800.0 || raw.text("base64") != encoded || raw.text("content_type") != "application/json; charset=utf-8" || len(posted.in("data").in("object")) != 0 {
		t.Errorf("posted: %v", posted)
	}
	again := w.must("POST", "/v1/events", `{"type":"a.b","id":"evt_1234567890abcdef","raw":"`+encoded+`","content_type":"application/json; charset=utf-8"}`)
	if again.text("id") != posted.text("id") {
		t.Errorf("the same event as base64: %v", again)
	}
	w.call("POST", "/v1/events", `{"type":"a.b","id":"evt_1234567890abcdef","raw":"`+encoded+`"}`).check(refusal{400, "invalid_request_error", "event_id_taken", "id"})

	preview := func(event, format string) object {
		return w.must("POST", "/v1/webhooks/preview", `{"event":"`+event+`","payload_format":"`+format+`"}`)
	}
	if got := preview(posted.text("id"), "raw"); got["body"] != body || got.in("headers").text("content-type") != "application/json; charset=utf-8" {
		t.Errorf("previewed: %v", got)
	}
	binary := w.must("POST", "/v1/events/raw", "\xff\xfe", "Event-Type", "a.b", "Content-Type", "")
	if got := preview(binary.text("id"), "raw"); got["body"] != "\ufffd" || got.in("headers").text("content-type") != "application/octet-stream" {
		t.Errorf("bytes that are no text: %v", got)
	}
	if got := preview(posted.text("id"), "standard"); !strings.HasSuffix(got.text("body"), `"data":{"object":{},"raw":{"content_type":"application/json; charset=utf-8","base64":"`+encoded+`"}}}`) {
		t.Errorf("in the standard format: %v", got)
	}
	batch := w.must("POST", "/v1/events/batch", `{"events":[{"type":"a.b","raw":"AAAA","data":{"object":{"id":"x"}}},{"type":"a.b","raw":"A"}]}`)
	if batch["accepted"] != 1.0 || batch["refused"] != 1.0 {
		t.Errorf("a batch: %v", batch)
	}

	for _, tt := range []struct {
		header []string
		want   refusal
	}{
		{nil, refusal{400, "invalid_request_error", "parameter_missing", "Event-Type"}},
		{[]string{"Event-Type", "a b"}, refusal{400, "invalid_request_error", "event_type_invalid", "Event-Type"}},
		{[]string{"Event-Type", "message.attempt.exhausted"}, refusal{400, "invalid_request_error", "event_type_reserved", "Event-Type"}},
		{[]string{"Event-Type", "a.b", "Event-Id", "e.1"}, refusal{400, "invalid_request_error", "parameter_invalid", "Event-Id"}},
		{[]string{"Event-Type", "a.b", "Event-Created", "now"}, refusal{400, "invalid_request_error", "parameter_invalid", "Event-Created"}},
		{[]string{"Event-Type", "a.b", "Content-Type", "xml"}, refusal{400, "invalid_request_error", "parameter_invalid", "Content-Type"}},
		{[]string{"Event-Type", "a.b\xff"}, refusal{400, "invalid_request_error", "parameter_invalid", ""}},
	} {
		w.call("POST", "/v1/events/raw", body, tt.header...).check(tt.want)
	}
	// The limit applies to the bytes, not to their base64.
	w.must("POST", "/v1/events/raw", strings.Repeat("x", w.service.MaxBody-300), "Event-Type", "a.b")
	w.call("POST", "/v1/events/raw", strings.Repeat("x", w.service.MaxBody), "Event-Type", "a.b").check(refusal{400, "invalid_request_error", "payload_too_large", "raw"})

	key := []string{"Idempotency-Key", "raw-1"}
	first := w.call("POST", "/v1/events/raw", body, append(key, "Event-Type", "a.b")...)
	if second := w.call("POST", "/v1/events/raw", body, append(key, "Event-Type", "a.b")...); second.body != first.body {
		t.Errorf("repeated: %s and %s", first.body, second.body)
	}
	w.call("POST", "/v1/events/raw", body, append(key, "Event-Type", "a.c")...).check(refusal{422, "idempotency_replay_mismatch", "idempotency_key_reused", ""})
}

// The headers of an event are stored and shown with it, and are part of its identity for repeated requests.
func TestEventHeaders(t *testing.T) {
	w := newWorld(t)
	const event = `{"type":"a.b","id":"evt_1234567890abcdef","data":{"object":{}},"headers":{"x-tenant":"acme","X-Order":"7"}}`
	sent := w.must("POST", "/v1/events", event)
	if got := sent.in("headers"); got.text("X-Tenant") != "acme" || got.text("X-Order") != "7" || len(got) != 2 {
		t.Errorf("sent: %v", sent)
	}
	if got := w.must("GET", "/v1/events/evt_1234567890abcdef", "").in("headers"); got.text("X-Tenant") != "acme" {
		t.Errorf("read: %v", got)
	}
	if again := w.must("POST", "/v1/events", event); again.text("id") != sent.text("id") || again.in("headers").text("X-Order") != "7" {
		t.Errorf("again: %v", again)
	}
	w.call("POST", "/v1/events", strings.Replace(event, "acme", "other", 1)).check(refusal{400, "invalid_request_error", "event_id_taken", "id"})
	if plain := w.must("POST", "/v1/events", `{"type":"a.b","data":{"object":{}},"headers":{}}`); plain["headers"] != nil {
		t.Errorf("without headers: %v", plain)
	}
	raw := w.must("POST", "/v1/events/raw", "x", "Event-Type", "a.b", "Content-Type", "text/plain", "Event-Header-X-Tenant", "acme", "event-header-x-order", "7")
	if got := raw.in("headers"); got.text("X-Tenant") != "acme" || got.text("X-Order") != "7" || len(got) != 2 {
		t.Errorf("raw: %v", raw)
	}
	if got := w.must("POST", "/v1/webhooks/preview", `{"event":"`+raw.text("id")+`","payload_format":"raw"}`).in("headers"); got.text("x-tenant") != "acme" || got.text("content-type") != "text/plain" {
		t.Errorf("previewed: %v", got)
	}
	for headers, want := range map[string]refusal{
		`{"Webhook-Signature":"x"}`: {400, "invalid_request_error", "header_reserved", "headers[Webhook-Signature]"},
		`{"X-A":"b\r\nc"}`:          {400, "invalid_request_error", "header_invalid", "headers[X-A]"},
		`{"X-A":7}`:                 {400, "invalid_request_error", "parameter_invalid", "headers.X-A"},
		`["X-A"]`:                   {400, "invalid_request_error", "parameter_invalid", "headers"},
		`{"X-A":"b","X-A":"c"}`:     {400, "invalid_request_error", "duplicate_key", "headers.X-A"},
	} {
		w.call("POST", "/v1/events", `{"type":"a.b","data":{"object":{}},"headers":`+headers+`}`).check(want)
	}
	w.must("DELETE", "/v1/events/evt_1234567890abcdef", "")
	if got := w.must("GET", "/v1/events/evt_1234567890abcdef", ""); got["headers"] != nil {
		t.Errorf("erased: %v", got)
	}
}
