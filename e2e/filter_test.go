package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// On either store, an endpoint receives the events that its filter accepts or cannot be
// evaluated for, and a recovery job does not send events that it refused.
func TestFilter(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"sqlite", "postgres"} {
		t.Run(store, func(t *testing.T) {
			var s *server
			if store == "sqlite" {
				s = serve(t, "")
			} else {
				s = newFleet(t, database(t).URL("postgres"), 1).node(0).server
			}
			picky, all := receive(t, answers()), receive(t, answers())
			e := s.register(picky.URL, "filter", `data.object.amount >= 1000`)
			s.register(all.URL)
			large := s.send("payment.succeeded", object{"amount": 1000}).text("id")
			small := s.send("payment.succeeded", object{"amount": 999}).text("id")
			odd := s.send("payment.succeeded", object{"total": 999}).text("id")
			for id, want := range map[string]int{large: 2, small: 1, odd: 2} {
				if got := s.settled(id); len(got) != want {
					t.Errorf("%d deliveries, want %d: %v", len(got), want, got)
				}
			}
			if picky.count() != 2 || all.count() != 3 {
				t.Errorf("%d and %d arrived, want 2 and 3", picky.count(), all.count())
			}
			job := s.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", object{"since": 0})
			s.until("the job to end", func() bool {
				job = s.must("GET", "/v1/jobs/"+job.text("id"), nil)
				return job.text("status") != "running"
			})
			if job.text("status") != "succeeded" || job["requeued"] != 0.0 {
				t.Errorf("recovered %v", job)
			}
			// A missed event is read from the store, where it is compressed.
			s.must("POST", "/v1/webhooks/"+e.text("id"), object{"filter": `data.object.amount < 1000`})
			job = s.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", object{"since": 0})
			s.until("the job to end", func() bool {
				job = s.must("GET", "/v1/jobs/"+job.text("id"), nil)
				return job.text("status") != "running"
			})
			s.until("what was missed to arrive", func() bool { return picky.count() == 3 })
			if job["requeued"] != 1.0 || len(s.settled(small)) != 2 {
				t.Errorf("recovered %v", job)
			}
			text := string(s.call("GET", "/metrics", nil).body)
			for _, line := range []string{`{result="failed"} 1`, `{result="refused"} 2`} {
				if !strings.Contains(text, "posthaste_filter_evaluations_total"+line) {
					t.Errorf("the metrics lack %s", line)
				}
			}
			a, err := s.try("POST", "/v1/webhooks/"+e.text("id"), object{"filter": "amount > 1"})
			if err != nil || a.status != http.StatusBadRequest || a.err("param") != "filter" || !strings.HasPrefix(a.err("message"), "At character 1, there is no amount.") {
				t.Errorf("an invalid filter: %d %s %v", a.status, a.body, err)
			}
		})
	}
}
