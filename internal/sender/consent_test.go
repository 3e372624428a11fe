package sender_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// A receiver is asked at its URL, with everything that deliveries contain, and its response
// grants consent only if it says so.
func TestAskConsent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		header []string
		want   endpoint.ConsentAnswer
	}{
		{"consent", 200, []string{"WebHook-Allowed-Origin", "pay.example", "WebHook-Allowed-Rate", "120"}, endpoint.ConsentAnswer{Answered: true, Granted: true, Rate: 120}},
		{"consent to all", 204, []string{"webhook-allowed-origin", "*"}, endpoint.ConsentAnswer{Answered: true, Granted: true}},
		{"a site that knows OPTIONS only", 204, []string{"Allow", "POST"}, endpoint.ConsentAnswer{Answered: true, Reason: "The receiver answered 204 without WebHook-Allowed-Origin."}},
		{"consent to others", 200, []string{"WebHook-Allowed-Origin", "a.example"}, endpoint.ConsentAnswer{Answered: true, Reason: "The receiver answered 200 with a WebHook-Allowed-Origin that is neither * nor pay.example."}},
		{"no OPTIONS", 405, []string{"WebHook-Allowed-Origin", "*"}, endpoint.ConsentAnswer{Answered: true, Reason: "The receiver answered 405, which does not grant consent."}},
		{"a redirect", 302, []string{"Location", "/elsewhere", "WebHook-Allowed-Origin", "*"}, endpoint.ConsentAnswer{Answered: true, Reason: "The receiver answered 302, which does not grant consent."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked []*http.Request
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r)
				for i := 0; i < len(tt.header); i += 2 {
					w.Header().Set(tt.header[i], tt.header[i+1])
				}
				w.WriteHeader(tt.status)
			})
			e := &endpoint.Endpoint{Config: endpoint.Config{URL: srv.URL + "/hook?a=b", Headers: map[string]string{"X-Tenant": "t1"}, Auth: endpoint.Authentication{Type: endpoint.AuthBasic, Username: "u", Password: "p"},
				Settings: endpoint.Settings{Rate: 0.51}}}
			got := newSender(t, nil).AskConsent(context.Background(), e, endpoint.ConsentRequest{Origin: "pay.example", Callback: "https://pay.example/v1/consents/x"})
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if len(asked) != 1 {
				t.Fatalf("asked %d times", len(asked))
			}
			r := asked[0]
			user, password, _ := r.BasicAuth()
			if r.Method != "OPTIONS" || r.URL.String() != "/hook?a=b" || r.ContentLength != 0 || r.Header.Get("WebHook-Request-Origin") != "pay.example" ||
				r.Header.Get("WebHook-Request-Callback") != "https://pay.example/v1/consents/x" || r.Header.Get("WebHook-Request-Rate") != "31" ||
				r.Header.Get("X-Tenant") != "t1" || user != "u" || password != "p" || r.Header.Get("User-Agent") != "Payment-Webhooks/1.2.3" {
				t.Errorf("asked by %s %s %v", r.Method, r.URL, r.Header)
			}
		})
	}
}

// A receiver that cannot be asked is described like a failed attempt, without details of the
// server's network.
func TestAskConsent_unanswered(t *testing.T) {
	gone := serve(t, nil)
	gone.Close()
	for _, tt := range []struct {
		name, url, want string
		change          func(*sender.Config)
	}{
		{"a closed port", gone.URL, "No response: the connection was refused.", nil},
		{"an address that is not allowed", gone.URL, "The target's address is not public, and the server's operator does not allow it.", func(c *sender.Config) { c.AllowLoopback = false }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newSender(t, tt.change).AskConsent(context.Background(), &endpoint.Endpoint{Config: endpoint.Config{URL: tt.url}}, endpoint.ConsentRequest{Origin: "pay.example"})
			if got != (endpoint.ConsentAnswer{Reason: tt.want}) {
				t.Errorf("%+v, want %s", got, tt.want)
			}
		})
	}
	waits := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-waits })
	defer close(waits)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if got := newSender(t, nil).AskConsent(ctx, &endpoint.Endpoint{Config: endpoint.Config{URL: slow.URL}}, endpoint.ConsentRequest{Origin: "pay.example"}); got.Answered || got.Granted {
		t.Errorf("%+v for a silent receiver", got)
	}
}

// Deliveries name the sender to receivers that consented to it, and to no others.
func TestSend_origin(t *testing.T) {
	var got http.Header
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	for _, origin := range []string{"", "pay.example"} {
		r := request(srv.URL)
		r.Origin = origin
		a := newSender(t, nil).Send(context.Background(), r)
		if a.Outcome != delivery.OutcomeSucceeded || got.Get("WebHook-Request-Origin") != origin || strings.Contains(string(a.RequestHeader), "Webhook-Request-Origin") != (origin != "") {
			t.Errorf("%q: %+v, sent with %v", origin, a, got)
		}
	}
}
