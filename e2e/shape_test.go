package e2e

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/posthaste-hq/posthaste/webhook"
)

// read reads a delivery with the SDK of CloudEvents, and returns its mode.
func read(t *testing.T, header http.Header, body []byte) (*cloudevents.Event, binding.Encoding) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	m := cehttp.NewMessageFromHttpRequest(req)
	mode := m.ReadEncoding()
	e, err := binding.ToEvent(context.Background(), m)
	if err != nil {
		t.Fatalf("the SDK cannot read it: %v\n%v\n%s", err, header, body)
	}
	if err := e.Validate(); err != nil {
		t.Errorf("not a CloudEvent: %v", err)
	}
	return e, mode
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// All attempts at an event have the same bytes in every format, before and after the format
// changes, and a signature of those bytes. The SDK of CloudEvents reads the ones in its format.
func TestPayloadFormats(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--test-schedule", "10ms,10ms")
	account := s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
	const id, quoted = `pay é"%1`, `"pay é\"%1"`
	const data = `{"object":{"id":` + quoted + `,"object":"payment","amount":2999}}`
	for _, tt := range []struct {
		format string
		mode   binding.Encoding
	}{
		{"standard", binding.EncodingUnknown}, {"cloudevents_structured", binding.EncodingStructured}, {"cloudevents_binary", binding.EncodingBinary}, {"thin", binding.EncodingUnknown},
	} {
		t.Run(tt.format, func(t *testing.T) {
			r := receive(t, answers(http.StatusInternalServerError))
			e := s.register(r.URL, "payload_format", tt.format, "signature_schemes", []string{"v1", "v1a"})
			defer s.must("DELETE", "/v1/webhooks/"+e.text("id"), nil)
			if e.text("payload_format") != tt.format {
				t.Errorf("registered as %v", e["payload_format"])
			}
			sent := s.must("POST", "/v1/events", `{"type":"payment.succeeded","data":`+data+`}`)
			s.settled(sent.text("id"))
			for _, other := range []string{"thin", "standard"} {
				s.must("PATCH", "/v1/webhooks/"+e.text("id"), object{"payload_format": other})
				s.must("POST", "/v1/events/"+sent.text("id")+"/resend", nil)
				s.settled(sent.text("id"))
			}
			if r.count() != 4 {
				t.Fatalf("%d attempts, want a failed one, another and two more", r.count())
			}
			created := strconv.FormatFloat(sent["created"].(float64), 'f', 0, 64)
			want := map[string]string{
				"standard":           `{"id":"` + sent.text("id") + `","type":"payment.succeeded","created":` + created + `,"data":` + data + `}`,
				"cloudevents_binary": data,
				"thin":               `{"id":"` + sent.text("id") + `","type":"payment.succeeded","created":` + created + `,"mode":"test","object":{"id":` + quoted + `,"type":"payment"},"event_url":"/v1/events/` + sent.text("id") + `"}`,
			}[tt.format]
			for i, body := range r.bodies {
				header := r.requests[i].Header
				if want != "" && string(body) != want || !bytes.Equal(body, r.bodies[0]) {
					t.Errorf("attempt %d: %s\nwant %s", i, body, want)
				}
				for _, key := range []string{e.text("secret"), e.text("public_key")} {
					own := must(webhook.NewVerifier(key))
					if err := own.Verify(header, body); err != nil {
						t.Errorf("attempt %d: %v", i, err)
					}
				}
				if err := must(standardwebhooks.NewWebhook(e.text("secret"))).Verify(body, header); err != nil {
					t.Errorf("attempt %d: %v", i, err)
				}
				if header.Get("Payment-Signature") != webhook.Sign(e.text("secret"), body) {
					t.Errorf("attempt %d: the plain signature is of something else", i)
				}
				if tt.mode == binding.EncodingUnknown {
					if header.Get("Content-Type") != "application/json" || header.Get("Ce-Id") != "" {
						t.Errorf("attempt %d: %v", i, header)
					}
					continue
				}
				ce, mode := read(t, header, body)
				if mode != tt.mode {
					t.Errorf("attempt %d came in %v mode", i, mode)
				}
				if ce.ID() != sent.text("id") || ce.Type() != "payment.succeeded" || ce.Source() != "/accounts/"+account+"/test" || ce.DataContentType() != "application/json" ||
					strconv.FormatInt(ce.Time().Unix(), 10) != created || string(ce.Data()) != data {
					t.Errorf("attempt %d: %v", i, ce)
				}
				if subject := ce.Subject(); mode == binding.EncodingStructured && subject != id || mode == binding.EncodingBinary && subject != id && subject != `pay%20%C3%A9%22%251` {
					t.Errorf("attempt %d: subject %q", i, subject)
				}
			}
			if event := s.must("GET", "/v1/events/"+sent.text("id"), nil); event["data"] == nil {
				t.Errorf("the event has no data: %v", event)
			}
		})
	}
}

// A changed format applies to events that are accepted afterwards.
func TestPayloadFormat_changes(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	s := serve(t, "")
	e := s.register(r.URL)
	s.must("PATCH", "/v1/webhooks/"+e.text("id"), object{"payload_format": "cloudevents_structured"})
	s.until("an event in the new format", func() bool {
		s.settled(s.send("a.b", object{}).text("id"))
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.requests[len(r.requests)-1].Header.Get("Content-Type") == "application/cloudevents+json"
	})
	if got := s.must("GET", "/v1/webhooks/"+e.text("id"), nil); got.text("payload_format") != "cloudevents_structured" {
		t.Errorf("got %v", got["payload_format"])
	}
	if a := s.call("PATCH", "/v1/webhooks/"+e.text("id"), object{"payload_format": "xml"}); a.status != http.StatusBadRequest || !bytes.Contains([]byte(a.body), []byte("payload_format")) {
		t.Errorf("an unknown format: %d %s", a.status, a.body)
	}
}
