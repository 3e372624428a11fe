package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/client"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// consenting is a receiver with the SDK of CloudEvents, which also answers validation requests.
// It records the requests.
type consenting struct {
	*receiver
	mu        sync.Mutex
	taken     []string // ids of events
	callbacks []string // addresses of callbacks for the consent
}

func newConsenting(t *testing.T, rate int, origin string, byCallback bool) *consenting {
	t.Helper()
	r := &consenting{}
	sdk := must(cehttp.New(cehttp.WithDefaultOptionsHandlerFunc([]string{http.MethodPost}, rate, []string{origin}, byCallback)))
	events := must(client.NewHTTPReceiveHandler(context.Background(), sdk, func(e cloudevents.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.taken = append(r.taken, e.ID())
	}))
	r.receiver = &receiver{Server: newServer(t, func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if c := req.Header.Get("WebHook-Request-Callback"); c != "" {
			r.callbacks = append(r.callbacks, c)
		}
		r.requests = append(r.requests, req)
		r.mu.Unlock()
		if byCallback && req.Method == http.MethodOptions && req.Header.Get("WebHook-Request-Callback") == "" {
			w.WriteHeader(http.StatusMethodNotAllowed) // otherwise, the SDK would answer at once
			return
		}
		events.ServeHTTP(w, req)
	})}
	return r
}

// sent returns the ids of the received events, and whether each request named its sender.
func (r *consenting) sent() (ids []string, named bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named = true
	for _, req := range r.requests {
		named = named && req.Header.Get("WebHook-Request-Origin") == "127.0.0.1"
	}
	return append(ids, r.taken...), named
}

func (r *consenting) callback() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.callbacks) == 0 {
		return ""
	}
	return r.callbacks[len(r.callbacks)-1]
}

// A receiver with CloudEvents' SDK, unchanged, receives nothing before it has consented: at
// once, by callback, or manually with the address in its log. Then it receives all events that
// were accepted meanwhile.
func TestValidation(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	for _, tt := range []struct {
		name       string
		origin     string // that the SDK allows
		byCallback bool
		first      string // its state after the registration; empty: the callback may have been faster
		byHand     bool
	}{
		{"at once", "127.0.0.1", false, "granted", false},
		{"by callback", "*", true, "", false},
		{"by hand", "other.example", false, "pending", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newConsenting(t, 6000, tt.origin, tt.byCallback)
			e := s.register(r.URL, "validation", "cloudevents", "payload_format", "cloudevents_structured")
			defer s.must("DELETE", "/v1/webhooks/"+e.text("id"), nil)
			consent := func() object { return object(e["consent"].(map[string]any)) }
			if got := consent().text("status"); tt.first != "" && got != tt.first {
				t.Errorf("registered with consent %s: %v", got, e["consent"])
			}
			early := s.send("payment.succeeded", object{"amount": 1}).text("id")
			if tt.byHand {
				if consent().text("message") != "The receiver answered 400, which does not grant consent." {
					t.Errorf("refused: %v", e["consent"])
				}
				if d := s.must("GET", "/v1/events/"+early+"/deliveries", nil).list(); len(d) != 1 || d[0].text("status") != "pending" || d[0]["attempts"] != 0.0 {
					t.Errorf("before consent: %v", d)
				}
				resp, err := http.Get(r.callback())
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("consent by hand: %d", resp.StatusCode)
				}
			}
			late := s.send("payment.succeeded", object{"amount": 2}).text("id")
			s.settled(early)
			s.settled(late)
			ids, named := r.sent()
			if len(ids) != 2 || !strings.Contains(strings.Join(ids, " "), early) || !strings.Contains(strings.Join(ids, " "), late) || !named {
				t.Errorf("got %v, named %v, want %s and %s", ids, named, early, late)
			}
			e = s.must("GET", "/v1/webhooks/"+e.text("id"), nil)
			if c := consent(); c.text("status") != "granted" || !tt.byHand && c["allowed_rate"] != 6000.0 {
				t.Errorf("in the end: %v", c)
			}
		})
	}
}

// After a restart, the server still waits for consent, at the same address.
func TestValidation_survivesARestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data)
	r := newConsenting(t, 6000, "other.example", false)
	e := s.register(r.URL, "validation", "cloudevents", "payload_format", "cloudevents_binary")
	sent := s.send("payment.succeeded", object{"amount": 1}).text("id")
	_, key, _ := strings.Cut(r.callback(), "/v1/consents/")
	s.stop()
	s = serve(t, data)
	if c := s.must("GET", "/v1/webhooks/"+e.text("id"), nil)["consent"].(map[string]any); c["status"] != "pending" {
		t.Errorf("after a restart: %v", c)
	}
	if a := s.call("POST", "/v1/consents/"+key, nil, "Authorization", "", "WebHook-Allowed-Rate", "*"); a.status != http.StatusOK {
		t.Fatalf("consent: %d %s", a.status, a.body)
	}
	s.settled(sent)
	if ids, named := r.sent(); len(ids) != 1 || ids[0] != sent || !named {
		t.Errorf("got %v, named %v", ids, named)
	}
}

// A consent that is sent to one node applies to the other.
func TestValidation_nodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	for i := range 4 { // some for either node
		r := newConsenting(t, 6000, "other.example", false)
		e := f.node(i%2).register(r.URL, "validation", "cloudevents", "payload_format", "cloudevents_structured", "enabled_events", []string{"payment.*"})
		_, key, _ := strings.Cut(r.callback(), "/v1/consents/")
		other := f.node((i + 1) % 2)
		if a := other.call("GET", "/v1/consents/"+key, nil, "Authorization", ""); a.status != http.StatusOK {
			t.Fatalf("consent: %d %s", a.status, a.body)
		}
		f.know(1)
		sent := other.send("payment.succeeded", object{"amount": 1}).text("id")
		other.settled(sent)
		until(t, "the event to come", func() bool { ids, _ := r.sent(); return len(ids) == 1 && ids[0] == sent })
		other.must("DELETE", "/v1/webhooks/"+e.text("id"), nil)
		f.know(0)
	}
}
