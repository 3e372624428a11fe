package e2e

import (
	"net/http"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A delivery's payload is the output of the transformation, signed, and the same at each try
// whatever is changed meanwhile. If the transformation fails, nothing is sent until it is
// corrected.
func TestTransform(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--test-schedule", "10ms,10ms")
	r := receive(t, answers(http.StatusInternalServerError))
	const keep = `{"object": {"id": data.object.id, "amount": data.object.amount}}`
	e := s.register(r.URL, "transform", keep)
	path := "/v1/webhooks/" + e.text("id")
	sent := s.send("payment.succeeded", object{"id": "pay_1", "amount": 2999, "secret": "s3cret"})
	s.settled(sent.text("id"))
	odd := s.send("payment.succeeded", object{"id": "pay_2", "secret": "s3cret"}).text("id")
	if d := s.settled(odd)[0]; d.text("status") != "failed" || d.text("last_outcome") != "misconfigured" {
		t.Errorf("the failed transformation became %v", d)
	} else if a := s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list(); len(a) != 3 || !strings.HasSuffix(a[0].text("error"), "no such key: amount") {
		t.Errorf("its attempts: %v", a)
	}
	if r.count() != 2 {
		t.Fatalf("%d requests, want a failed one and another", r.count())
	}
	s.must("PATCH", path, object{"transform": `{"object": {"id": data.object.id}}`})
	s.must("POST", "/v1/events/"+sent.text("id")+"/resend", nil)
	s.settled(sent.text("id"))
	s.must("POST", "/v1/events/"+odd+"/resend", nil)
	if d := s.settled(odd)[0]; d.text("status") != "succeeded" {
		t.Errorf("after it was mended: %v", d)
	}
	s.must("PATCH", path, object{"transform": nil})
	s.must("POST", "/v1/events/"+odd+"/resend", nil)
	s.settled(odd)
	verifier := must(standardwebhooks.NewWebhook(e.text("secret")))
	want := map[string]string{sent.text("id"): `"data":{"object":{"amount":2999,"id":"pay_1"}}}`, odd: `"data":{"object":{"id":"pay_2"}}}`}
	count := map[string]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, got := range r.requests {
		id, body := got.Header.Get("Webhook-Id"), r.bodies[i]
		count[id]++
		if !strings.HasSuffix(string(body), want[id]) || want[id] == "" {
			t.Errorf("%s was sent as %s, want …%s", id, body, want[id])
		}
		if err := verifier.Verify(body, got.Header); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if count[sent.text("id")] != 3 || count[odd] != 2 {
		t.Errorf("sent %v", count)
	}
}
