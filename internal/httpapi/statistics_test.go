package httpapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// Statistics count events and attempts in their step, also for an endpoint that was deleted
// since.
func TestStatistics(t *testing.T) {
	w := newWorld(t)
	w.pass(start.Truncate(time.Hour).Add(time.Hour).Sub(start)) // a full hour
	first := w.now()
	e := w.register("payment.*")
	var own *endpoint.Endpoint
	w.service.Endpoints.Each(func(one *endpoint.Registered) {
		if one.ID == e.text("id") {
			own = one.Endpoint
		}
	})
	for hour, code := range []int{200, 500, 200} {
		for range hour + 1 {
			w.send("payment.failed")
			a := delivery.Attempt{Number: 1, Started: w.now(), Outcome: delivery.OutcomeSucceeded, StatusCode: code, Duration: 20 * time.Millisecond}
			if code == 500 {
				a.Outcome = delivery.OutcomeServerError
			}
			w.service.Watcher().Attempted(own, &a)
		}
		w.pass(time.Hour)
	}
	w.send("order.created") // without a subscribed endpoint
	ended, end := context.WithCancel(t.Context())
	end()
	w.service.RunStatistics(ended) // writes the remaining counts
	w.must("DELETE", "/v1/webhooks/"+e.text("id"), "")

	since := fmt.Sprintf("created[gte]=%d", first.Unix())
	for query, want := range map[string][]string{
		"?" + since + "&created[lt]=" + fmt.Sprint(first.Add(3*time.Hour).Unix()):                                             {"6 events, 6 deliveries, 4+2", "1 events, 1 deliveries, 1+0", "2 events, 2 deliveries, 0+2", "3 events, 3 deliveries, 3+0"},
		"?interval=hour&endpoint=" + e.text("id") + "&" + since + "&created[lt]=" + fmt.Sprint(first.Add(2*time.Hour).Unix()): {"<nil> events, 3 deliveries, 1+2", "<nil> events, 1 deliveries, 1+0", "<nil> events, 2 deliveries, 0+2"},
		"?interval=minute&" + since + "&created[lt]=" + fmt.Sprint(first.Add(2*time.Minute).Unix()):                           {"1 events, 1 deliveries, 1+0", "1 events, 1 deliveries, 1+0", "0 events, 0 deliveries, 0+0"},
	} {
		got := w.must("GET", "/v1/statistics"+query, "")
		all := append([]object{got.in("total")}, got.list()...)
		if len(all) != len(want) {
			t.Errorf("%s: %d steps, want %d", query, len(all)-1, len(want)-1)
			continue
		}
		for i, c := range all {
			said := fmt.Sprintf("%v events, %v deliveries, %v+%v", c["events"], c["deliveries"], c.in("attempts")["succeeded"], c.in("attempts")["failed"])
			if said != want[i] {
				t.Errorf("%s: step %d: %s, want %s", query, i-1, said, want[i])
			}
		}
	}
	for interval, steps := range map[string]int{"": 24, "minute": 60, "hour": 24, "day": 7} {
		got := w.must("GET", "/v1/statistics?"+map[bool]string{true: "", false: "interval=" + interval}[interval == ""], "")
		data := got.list()
		if len(data) != steps || data[len(data)-1]["end"].(float64) < float64(w.now().Unix()) {
			t.Errorf("%s: %d steps, the last is %v", interval, len(data), data[len(data)-1])
		}
	}
	for query, r := range map[string]refusal{
		"interval=week":                invalid("parameter_invalid", "interval"),
		"endpoint=we_0":                invalid("resource_missing", "endpoint"),
		"created[gte]=1":               invalid("parameter_invalid", "created[gte]"),
		"created[gte]=2&created[lt]=2": invalid("parameter_invalid", "created"),
		"interval=minute&created[gte]=" + fmt.Sprint(w.now().Add(-27*time.Hour).Unix()): invalid("parameter_invalid", "created[gte]"),
		"limit=3": invalid("parameter_unknown", "limit"),
	} {
		w.call("GET", "/v1/statistics?"+query, "").check(r)
	}
}
