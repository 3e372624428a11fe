package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/service"
)

const goodEvent = `{"type":"payment.succeeded","data":{"object":{"id":"pay_1"}}}`

func (w *world) batch(events []string, header ...string) answer {
	w.t.Helper()
	return w.call("POST", "/v1/events/batch", `{"events":[`+strings.Join(events, ",")+`]}`, header...)
}

// Each event of a batch gets the same result as alone, in order.
func TestBatch_eachForItself(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	events := []string{
		goodEvent,
		`{"type":"payment.succeeded"}`,
		`{"type":"payment.succeeded","id":"evt_mine567890123456","data":{"object":{}}}`,
		`{"type":"payment.succeeded","id":"evt_mine567890123456","data":{"object":{}}}`,
		`{"type":"payment.succeeded","id":"evt_mine567890123456","data":{"object":{"other":1}}}`,
		`{"type":"payment.succeeded","data":{"object":{"n":9007199254740993}}}`,
		`{"type":"message.attempt.exhausted","data":{"object":{}}}`,
		`{"type":"a","type":"b","data":{"object":{}}}`,
		`"no object"`,
		`{"type":"other.type","data":{"object":{}}}`,
	}
	a := w.batch(events)
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	o := a.object()
	if o.text("object") != "event_batch" || o["accepted"] != 4.0 || o["refused"] != 6.0 {
		t.Errorf("%v of kind %q accepted, %v refused", o["accepted"], o.text("object"), o["refused"])
	}
	want := []struct {
		status      float64
		code, param string
	}{
		{200, "", ""}, {400, "parameter_missing", "data"}, {200, "", ""}, {200, "", ""}, {400, "event_id_taken", "id"},
		{400, "number_not_representable", "data.object.n"}, {400, "event_type_reserved", "type"}, {400, "duplicate_key", "type"}, {400, "json_invalid", ""}, {200, "", ""},
	}
	got := o.list()
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d", len(got), len(want))
	}
	for i, g := range got {
		e := g.in("error")
		if g["status"] != want[i].status || e.text("code") != want[i].code || e.text("param") != want[i].param {
			t.Errorf("event %d, %s: %v", i, events[i], g)
		}
		alone := w.call("POST", "/v1/events", events[i])
		if float64(alone.status) != want[i].status || alone.object().in("error").text("message") != e.text("message") {
			t.Errorf("event %d alone: %d %s; in the batch %v", i, alone.status, alone.body, g)
		}
	}
	if got[2].text("id") != "evt_mine567890123456" || got[3].text("id") != "evt_mine567890123456" {
		t.Errorf("the sender's id: %v, %v", got[2], got[3])
	}
	if d := w.deliveryOf(got[0].text("id")); d.text("status") != "pending" {
		t.Errorf("delivery %v", d)
	}
	if n := len(w.must("GET", "/v1/events/"+got[9].text("id")+"/deliveries", "").list()); n != 0 {
		t.Errorf("an event without endpoints has %d deliveries", n)
	}
}

func TestBatch_refused(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, body string
		want       refusal
	}{
		{"nothing", "", invalid("json_invalid", "")},
		{"a list", "[" + goodEvent + "]", invalid("json_invalid", "")},
		{"broken off", `{"events":[` + goodEvent, invalid("json_invalid", "")},
		{"broken within", `{"events":[{"type":}]}`, invalid("json_invalid", "")},
		{"more behind", `{"events":[` + goodEvent + `]}{}`, invalid("json_invalid", "")},
		{"no events", `{}`, invalid("parameter_invalid", "events")},
		{"no list", `{"events":{}}`, invalid("parameter_invalid", "events")},
		{"empty", `{"events":[]}`, invalid("parameter_invalid", "events")},
		{"twice", `{"events":[],"events":[]}`, invalid("duplicate_key", "events")},
		{"unknown parameter", `{"events":[` + goodEvent + `],"atomic":true}`, invalid("parameter_unknown", "atomic")},
		{"too many", `{"events":[` + strings.Repeat(goodEvent+",", service.MaxEvents) + goodEvent + `]}`, invalid("parameter_invalid", "events")},
		{"too large", `{"events":["` + strings.Repeat("x", 8<<20) + `"]}`, refusal{http.StatusRequestEntityTooLarge, "invalid_request_error", "request_too_large", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := w.everything()
			w.call("POST", "/v1/events/batch", tt.body).check(tt.want)
			if w.everything() != before {
				t.Error("something has changed")
			}
		})
	}
	w.call("POST", "/v1/events/batch", "events[0][type]=a", "Content-Type", "application/x-www-form-urlencoded").check(invalid("content_type_unsupported", "Content-Type"))
}

func TestBatch_full(t *testing.T) {
	w := newWorld(t)
	events := make([]string, service.MaxEvents)
	for i := range events {
		events[i] = fmt.Sprintf(`{"type":"payment.succeeded","id":"evt_%016d","data":{"object":{"n":%d}}}`, i, i)
	}
	o := w.batch(events).object()
	if o["accepted"] != float64(service.MaxEvents) {
		t.Fatalf("accepted %v, refused %v", o["accepted"], o["refused"])
	}
	for i, g := range o.list() {
		if g.text("id") != fmt.Sprintf("evt_%016d", i) {
			t.Fatalf("result %d: %v", i, g)
		}
	}
	page := w.must("GET", "/v1/events?limit=1", "").list()
	if page[0].text("id") != fmt.Sprintf("evt_%016d", service.MaxEvents-1) {
		t.Errorf("the newest event is %v: they are not in the order of the batch", page[0].text("id"))
	}
}

// With an idempotency key, accepted events are kept, and the others are accepted when the
// request is repeated.
func TestBatch_idempotency(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	events := []string{goodEvent, `{"type":"payment.succeeded"}`, goodEvent}
	first := w.batch(events, key("k")...)
	before := w.everything()
	again := w.batch(events, key("k")...)
	if again.body != first.body {
		t.Errorf("again %s, first %s", again.body, first.body)
	}
	if again.header.Get("Idempotent-Replayed") != "" {
		t.Error("replayed although one was judged anew")
	}
	if w.everything() != before {
		t.Error("something was done twice")
	}
	whole := []string{goodEvent, goodEvent}
	w.batch(whole, key("whole")...)
	if a := w.batch(whole, key("whole")...); a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("not replayed: %s", a.body)
	}

	other := w.batch([]string{goodEvent, goodEvent, `{"type":"other","data":{"object":{}}}`}, key("k")...).object().list()
	if other[0].text("id") != first.object().list()[0].text("id") || other[1]["status"] != 200.0 {
		t.Errorf("the unchanged events, and those refused before: %v", other[:2])
	}
	if other[2]["status"] != 422.0 || other[2].in("error").text("code") != "idempotency_key_reused" {
		t.Errorf("another event in an accepted one's place: %v", other[2])
	}
	w.must("POST", "/v1/events", goodEvent, key("single")...)
	w.batch(whole, key("single")...).check(refusal{http.StatusUnprocessableEntity, "idempotency_replay_mismatch", "idempotency_key_reused", ""})
}

// If the store accepts nothing, the response is that of a single event.
func TestBatch_unavailable(t *testing.T) {
	w := newWorld(t)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.batch([]string{goodEvent, goodEvent})
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
}
