package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// A response with ?wait contains the attempt that was made meanwhile, otherwise the delivery in
// its current state.
func TestWait(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	event := w.send("payment.succeeded").text("id")
	id := w.deliveryOf(event).text("id")
	w.attempted(id, delivery.Attempt{Started: start, Outcome: delivery.OutcomeTimeout})
	test := ""
	for name, path := range map[string]string{
		"retry": "/v1/deliveries/" + id + "/retry", "resend": "/v1/events/" + event + "/resend", "test": "/v1/webhooks/" + e.text("id") + "/test",
	} {
		t.Run(name, func(t *testing.T) {
			got := w.call("POST", path+"?wait=1", "")
			if got.status != 200 || !strings.Contains(got.body, `"latest_attempt":null`) {
				t.Errorf("nothing was attempted: %d %s", got.status, got.body)
			}
			if name == "test" {
				test = got.body
			}
			if got := w.call("POST", path+"?wait=0", ""); strings.Contains(got.body, "latest_attempt") {
				t.Errorf("without waiting: %s", got.body)
			}
			for _, bad := range []string{"-1", "31", "1.5", "x", ""} {
				w.call("POST", path+"?wait="+bad, "").check(invalid("parameter_invalid", "wait"))
			}
			w.call("POST", path+"?wiat=1", "").check(invalid("parameter_unknown", "wiat"))
		})
	}
	if !strings.Contains(test, `"object":"event"`) || !strings.Contains(test, `"deliveries":[{"id":"dlv_`) {
		t.Errorf("a test that was waited for: %s", test)
	}

	w.engine.expedite = func(id delivery.ID) {
		w.attempted(id.String(), delivery.Attempt{Started: start.Add(time.Second), Outcome: delivery.OutcomeServerError, StatusCode: 502})
	}
	got := w.call("POST", "/v1/deliveries/"+id+"/retry?wait=30", "")
	if got.status != 200 || !strings.Contains(got.body, `"latest_attempt":{"id":"att`) || !strings.Contains(got.body, `"response_status_code":502`) || !strings.Contains(got.body, `"attempts":2`) {
		t.Errorf("%d %s", got.status, got.body)
	}
}
