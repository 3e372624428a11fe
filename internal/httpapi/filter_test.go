package httpapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/service"
)

func (w *world) sendAmount(amount int) (id string) {
	return w.must("POST", "/v1/events", fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"amount":%d}}}`, amount)).text("id")
}

func (w *world) receivers(event string) (ids []string) {
	for _, d := range w.must("GET", "/v1/events/"+event+"/deliveries", "").list() {
		ids = append(ids, d.text("endpoint"))
	}
	slices.Sort(ids)
	return ids
}

const overThousand = `data.object.amount >= 1000`

func (w *world) registerFiltered(events, filter string) object {
	return w.must("POST", "/v1/webhooks", fmt.Sprintf(`{"url":"https://example.com/hook","enabled_events":[%q],"filter":%q}`, events, filter))
}

func TestFilter_decidesWhoGetsAnEvent(t *testing.T) {
	w := newWorld(t)
	picky, all := w.registerFiltered("*", overThousand), w.register("*")
	if picky["filter"] != overThousand || all["filter"] != nil {
		t.Errorf("registered with %v and %v", picky["filter"], all["filter"])
	}
	both := []string{picky.text("id"), all.text("id")}
	slices.Sort(both)
	small, large := w.sendAmount(999), w.sendAmount(1000)
	odd := w.must("POST", "/v1/events", `{"type":"payment.succeeded","data":{"object":{"total":1}}}`).text("id")
	for id, want := range map[string][]string{small: {all.text("id")}, large: both, odd: both} {
		if got := w.receivers(id); !slices.Equal(got, want) {
			t.Errorf("%v got the event, want %v", got, want)
		}
	}
	if got := w.service.FilterCounts(); got != (service.FilterCounts{Accepted: 1, Refused: 1, Failed: 1}) {
		t.Errorf("counted %+v", got)
	}
	if log := w.log.String(); !strings.Contains(log, "filter cannot be evaluated") || !strings.Contains(log, odd) {
		t.Errorf("the log does not tell of it:\n%s", log)
	}

	// Resend: to the matching endpoints, or to the named one.
	w.must("POST", "/v1/events/"+small+"/resend", "")
	if got := w.receivers(small); !slices.Equal(got, []string{all.text("id")}) {
		t.Errorf("sent again to %v", got)
	}
	w.must("POST", "/v1/events/"+small+"/resend", `{"endpoint":"`+picky.text("id")+`"}`)
	if got := w.receivers(small); !slices.Equal(got, both) {
		t.Errorf("sent again to the one named: %v", got)
	}

	path := "/v1/webhooks/" + picky.text("id")
	w.call("PATCH", path, `{"filter":"amount > 1"}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "expression_invalid", "filter"})
	if e := w.must("PATCH", path, `{"description":"d"}`); e["filter"] != overThousand {
		t.Errorf("after a change of something else: %v", e["filter"])
	}
	w.must("PATCH", path, `{"filter":"data.object.amount < 1000"}`)
	if got := w.receivers(w.sendAmount(1000)); len(got) != 1 {
		t.Errorf("after a change: %v", got)
	}
	if e := w.must("PATCH", path, `{"filter":null}`); e["filter"] != nil {
		t.Errorf("removed: %v", e["filter"])
	}
	if got := w.receivers(w.sendAmount(1000)); len(got) != 2 {
		t.Errorf("without it: %v", got)
	}
}

func TestFilter_batchesAndAnnouncements(t *testing.T) {
	w := newWorld(t)
	other := w.register("nothing.else")
	picky := w.registerFiltered("*", `type.startsWith("payment.") && data.object.amount >= 1000`)
	batch := w.batch([]string{`{"type":"payment.succeeded","data":{"object":{"amount":1}}}`, `{"type":"payment.succeeded","data":{"object":{"amount":1000}}}`}).object().list()
	if len(w.receivers(batch[0].text("id"))) != 0 || len(w.receivers(batch[1].text("id"))) != 1 {
		t.Errorf("of a batch, events went to %v and %v", w.receivers(batch[0].text("id")), w.receivers(batch[1].text("id")))
	}
	before := len(w.must("GET", "/v1/events", "").list())
	w.must("POST", "/v1/webhooks/"+other.text("id")+"/disable", "")
	if got := len(w.must("GET", "/v1/events", "").list()); got != before {
		t.Errorf("%d events after something that %s refuses to hear of, had %d", got, picky.text("id"), before)
	}
	// A test event ignores the endpoint's filter.
	sample := w.must("POST", "/v1/webhooks/"+picky.text("id")+"/test", `{"type":"refund.created"}`)
	if got := w.receivers(sample.text("id")); len(got) != 1 {
		t.Errorf("the sample went to %v", got)
	}
}

// An event that an endpoint's filter rejected was not missed.
func TestRecover_filter(t *testing.T) {
	w := newWorld(t)
	e := w.registerFiltered("payment.*", overThousand)
	path := "/v1/webhooks/" + e.text("id")
	w.must("POST", path+"/disable", "")
	var wanted, refused []string
	for i := range 20 { // more than are examined together
		wanted = append(wanted, w.sendAmount(1000+i))
		refused = append(refused, w.sendAmount(i), w.send("refund.created").text("id"))
	}
	odd := w.send("payment.failed").text("id")
	w.must("POST", path+"/enable", "")
	refused = append(refused, w.sendAmount(5))
	job := w.must("POST", path+"/recover", `{"since":0}`)
	w.pass(time.Minute)
	deadline := time.Now().Add(30 * time.Second)
	for job.text("status") == "running" && time.Now().Before(deadline) {
		job = w.must("GET", "/v1/jobs/"+job.text("id"), "")
	}
	if job.text("status") != "succeeded" || job["requeued"] != 21.0 {
		t.Errorf("ended: %v", job)
	}
	for _, id := range append(wanted, odd) {
		if len(w.receivers(id)) != 1 {
			t.Errorf("%s was not sent", id)
		}
	}
	for _, id := range refused {
		if got := w.receivers(id); len(got) != 0 {
			t.Errorf("%s was sent to %v", id, got)
		}
	}
}

func TestPreview(t *testing.T) {
	w := newWorld(t)
	sent := w.must("POST", "/v1/events", `{"type":"payment.succeeded","data":{"object":{"id":"pay_1","amount":999}}}`)
	body := `{"id":"` + sent.text("id") + `","type":"payment.succeeded","created":1699564800,"data":{"object":{"id":"pay_1","amount":999}}}`
	for _, tt := range []struct {
		name, in string
		matched  bool
		failure  any
		body     any
		media    any
	}{
		{"no filter", `{}`, true, nil, body, "application/json"},
		{"one that it meets", `{"filter":"data.object.amount < 1000"}`, true, nil, body, "application/json"},
		{"one that refuses it", `{"filter":"data.object.amount >= 1000"}`, false, nil, nil, nil},
		{"one that cannot be evaluated", `{"filter":"data.object.total >= 1000"}`, true, "no such key: total", body, "application/json"},
		{"a form", `{"payload_format":"cloudevents_binary"}`, true, nil, `{"object":{"id":"pay_1","amount":999}}`, "application/json"},
		{"another", `{"payload_format":"cloudevents_structured"}`, true, nil, `{"specversion":"1.0","id":"` + sent.text("id") + `","source":"/accounts/` + w.account.ID +
			`/test","type":"payment.succeeded","time":"2023-11-09T21:20:00Z","subject":"pay_1","datacontenttype":"application/json","data":{"object":{"id":"pay_1","amount":999}}}`, "application/cloudevents+json"},
	} {
		in := `{"event":"` + sent.text("id") + `"`
		if tt.in != "{}" {
			in += "," + tt.in[1:]
		} else {
			in += "}"
		}
		got := w.must("POST", "/v1/webhooks/preview", in)
		if got.text("event") != sent.text("id") || got["matched"] != tt.matched || got["filter_error"] != tt.failure || got["body"] != tt.body || got.in("headers")["content-type"] != tt.media {
			t.Errorf("%s: %v", tt.name, got)
		}
		if strings.Contains(tt.in, "binary") && got.in("headers").text("ce-subject") != "pay_1" {
			t.Errorf("%s: headers %v", tt.name, got["headers"])
		}
	}
	if got := w.must("POST", "/v1/webhook_endpoints/preview", `{"type":"payment.failed","filter":"type == \"payment.failed\""}`); got["matched"] != true || got.text("event_type") != "payment.failed" {
		t.Errorf("of a sample: %v", got)
	}
	for in, want := range map[string]refusal{
		`{}`:                                 {400, "invalid_request_error", "event_type_invalid", "type"},
		`{"type":"a b"}`:                     {400, "invalid_request_error", "event_type_invalid", "type"},
		`{"type":"a","event":"evt_1"}`:       {400, "invalid_request_error", "parameter_invalid", "type"},
		`{"event":"evt_1234567890abcdefgh"}`: {400, "invalid_request_error", "resource_missing", "event"},
		`{"type":"a","filter":"b"}`:          {400, "invalid_request_error", "expression_invalid", "filter"},
		`{"type":"a","payload_format":"b"}`:  {400, "invalid_request_error", "parameter_invalid", "payload_format"},
		`{"type":"a","url":"b"}`:             {400, "invalid_request_error", "parameter_unknown", "url"},
	} {
		w.call("POST", "/v1/webhooks/preview", in).check(want)
	}
	w.call("POST", "/v1/webhooks/preview", `{"event":"`+sent.text("id")+`"}`, with(otherKey)...).check(refusal{400, "invalid_request_error", "resource_missing", "event"})
	if n := len(w.must("GET", "/v1/events", "").list()); n != 1 {
		t.Errorf("%d events are stored", n)
	}
}
