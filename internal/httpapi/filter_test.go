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

	// Sent again: to those that want it, or to the one that is named.
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
	// A test is of the endpoint, not of its filter.
	sample := w.must("POST", "/v1/webhooks/"+picky.text("id")+"/test", `{"type":"refund.created"}`)
	if got := w.receivers(sample.text("id")); len(got) != 1 {
		t.Errorf("the sample went to %v", got)
	}
}

// What an endpoint's filter refused, it did not miss.
func TestRecover_filter(t *testing.T) {
	w := newWorld(t)
	e := w.registerFiltered("payment.*", overThousand)
	path := "/v1/webhooks/" + e.text("id")
	w.must("POST", path+"/disable", "")
	var wanted, refused []string
	for i := range 20 { // more than are looked at together
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
