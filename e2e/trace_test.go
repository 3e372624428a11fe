package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector that accepts OTLP over HTTP.
type spans struct {
	url  string
	mu   sync.Mutex
	all  []*trace.Span
	text strings.Builder // all data that arrived, to search it for secrets
}

func collect(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var in collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &in)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, from := range in.GetResourceSpans() {
			for _, scope := range from.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
		s.text.WriteString(in.String())
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(web.Close)
	s.url = web.URL
	return s
}

// of returns the spans about an event so far, and that of its request.
func (s *spans) of(event string) (request, publish *trace.Span, attempts []*trace.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range s.all {
		if attribute(span, "posthaste.event.id") != event {
			continue
		}
		if span.GetName() == "deliver" {
			attempts = append(attempts, span)
		} else {
			publish = span
		}
	}
	for _, span := range s.all {
		if publish != nil && string(span.GetSpanId()) == string(publish.GetParentSpanId()) {
			request = span
		}
	}
	return request, publish, attempts
}

func attribute(s *trace.Span, name string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// TestTraces follows an event from its sender's trace, over a kill and a restart of the server,
// to its receiver.
func TestTraces(t *testing.T) {
	c := collect(t)
	var mu sync.Mutex
	var told []string // traceparents
	works := false
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r.Header.Get("Traceparent"))
		if !works {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer r.Close()
	data := t.TempDir()
	traced := func() *server { // exports its spans after 20 milliseconds
		return serveProgram(t, []string{"OTEL_BSP_SCHEDULE_DELAY=20"}, data, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data,
			"--otlp-endpoint", c.url, "--test-schedule", "1s,1s,1s,1s,1s,1s,1s,1s")
	}
	s := traced()
	s.register(r.URL + "/hooks?token=in-the-query")
	const theirTrace, theirSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	sent := s.call("POST", "/v1/events", object{"type": "a.b", "data": object{"object": object{"card": "in-the-payload"}}}, "Traceparent", "00-"+theirTrace+"-"+theirSpan+"-01")
	if sent.status != http.StatusOK {
		t.Fatal(sent.body)
	}
	id := sent.object.text("id")
	until(t, "the first attempt to be exported", func() bool { _, _, attempts := c.of(id); return len(attempts) > 0 })
	s.kill()
	mu.Lock()
	works = true
	mu.Unlock()
	s = traced()
	s.settled(id)
	var request, publish *trace.Span
	var attempts []*trace.Span
	until(t, "the last attempt to be exported", func() bool {
		request, publish, attempts = c.of(id)
		return len(attempts) > 1 && attribute(attempts[len(attempts)-1], "posthaste.attempt.outcome") == "succeeded"
	})
	switch {
	case request == nil || publish == nil:
		t.Fatalf("request %v, publish %v", request, publish)
	case hex.EncodeToString(request.GetParentSpanId()) != theirSpan || request.GetKind() != trace.Span_SPAN_KIND_SERVER || request.GetName() != "POST /v1/events":
		t.Errorf("the request's span is not a child of its sender's: %v", request)
	case attribute(request, "posthaste.request.id") != sent.header.Get("Request-Id"):
		t.Errorf("the request's span does not name it: %v", request)
	}
	mu.Lock()
	headers := strings.Join(told, " ")
	mu.Unlock()
	for _, a := range append(attempts, request, publish) {
		if got := hex.EncodeToString(a.GetTraceId()); got != theirTrace {
			t.Errorf("%s is of the trace %s, not the sender's", a.GetName(), got)
		}
	}
	for i, a := range attempts {
		if string(a.GetParentSpanId()) != string(publish.GetSpanId()) {
			t.Errorf("the span of attempt %d is not a child of the event's span", i+1)
		}
		if want := "00-" + theirTrace + "-" + hex.EncodeToString(a.GetSpanId()) + "-01"; !strings.Contains(headers, want) {
			t.Errorf("attempt %d: the receiver was told %s, not %s", i+1, headers, want)
		}
		if attribute(a, "server.address") != "127.0.0.1" || !strings.HasPrefix(attribute(a, "posthaste.endpoint.id"), "we_") {
			t.Errorf("attempt %d: %v", i+1, a)
		}
	}

	// A sender without tracing, and an event that is created in the transaction of a change.
	plain := s.send("a.b", object{"n": 1}).text("id")
	until(t, "an event without a trace of its sender to be exported", func() bool {
		request, publish, attempts := c.of(plain)
		return request != nil && publish != nil && len(attempts) == 1 && len(request.GetParentSpanId()) == 0 &&
			string(attempts[0].GetTraceId()) == string(request.GetTraceId())
	})
	s.must("POST", "/v1/webhooks/"+s.register(r.URL, "enabled_events", []string{"webhook_endpoint.*"}).text("id")+"/rotate_secret", object{"expires_in": 0})
	until(t, "an announcement's attempts to be exported, in one trace", func() bool {
		traces := map[string]map[string]bool{} // of events without a span of their own
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, span := range c.all {
			if e := attribute(span, "posthaste.event.id"); span.GetName() == "deliver" && len(span.GetParentSpanId()) == 0 {
				if traces[e] == nil {
					traces[e] = map[string]bool{}
				}
				traces[e][string(span.GetTraceId())] = true
			}
		}
		for _, t := range traces {
			if len(t) != 1 {
				return false
			}
		}
		return len(traces) > 0
	})
	s.stop()
	for _, hidden := range []string{"in-the-payload", "in-the-query", testKey, "whsec_", "/hooks"} {
		if strings.Contains(c.text.String(), hidden) {
			t.Errorf("the collector was told %q", hidden)
		}
	}
}

// TestTraces_off checks that a server without tracing settings exports nothing and sends no
// trace header.
func TestTraces_off(t *testing.T) {
	t.Parallel()
	var got string
	var mu sync.Mutex
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = "asked " + r.Header.Get("Traceparent")
	}))
	defer r.Close()
	s := serve(t, "")
	s.register(r.URL)
	sent := s.must("POST", "/v1/events", object{"type": "a.b", "data": object{"object": object{}}}, "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	s.settled(sent.text("id"))
	mu.Lock()
	defer mu.Unlock()
	if got != "asked " {
		t.Errorf("the receiver was %q", got)
	}
}
