package httpapi_test

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestPages(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ path, contentType, holds string }{
		{"/", "text/plain; charset=utf-8", "Posthaste 1.2.3"},
		{"/", "text/plain; charset=utf-8", "/openapi.yaml"},
		{"/healthz", "text/plain; charset=utf-8", "ok"},
		{"/readyz", "text/plain; charset=utf-8", "ready"},
		{"/openapi.yaml", "application/yaml", "openapi: 3.1"},
	} {
		a := w.call("GET", c.path, "", "Authorization", "")
		if a.status != http.StatusOK || a.header.Get("Content-Type") != c.contentType || !strings.Contains(a.body, c.holds) {
			t.Errorf("%s: %d %q", c.path, a.status, a.header.Get("Content-Type"))
		}
	}
	w = newWorld(t) // because the check is cached for a moment
	w.mu.Lock()
	w.ready = &fault.Error{Code: fault.Unavailable, Hint: "free disk space", Err: errors.New("disk full at /secret/path")}
	w.mu.Unlock()
	a := w.call("GET", "/readyz", "")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "store does not accept writes: free disk space") || strings.Contains(a.body, "/secret/path") {
		t.Errorf("not ready: %d %s", a.status, a.body)
	}
	if len(w.log.lines("/secret/path")) == 0 {
		t.Error("the log does not say why the server is not ready")
	}
}

// Every response has a unique id and forbids browsers and caches to interpret or store it.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	last := ""
	for _, c := range []struct{ method, path string }{
		{"GET", "/"}, {"GET", "/healthz"}, {"GET", "/nothing"}, {"GET", "/v1//events"}, {"PUT", "/v1/events"}, {"GET", "/v1/events"},
		{"HEAD", "/v1/events"}, {"POST", "/v1/events"}, {"GET", "/metrics"}, {"GET", "/openapi.yaml"},
	} {
		a := w.call(c.method, c.path, "")
		id := a.header.Get("Request-Id")
		if !strings.HasPrefix(id, "req_") || len(id) < len("req_")+16 || seen[id] || id <= last {
			t.Errorf("%s %s: Request-Id %q after %q", c.method, c.path, id, last)
		}
		seen[id], last = true, id
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %v", c.method, c.path, a.header)
		}
		if c.method == "HEAD" && (a.status != http.StatusOK || a.body != "") {
			t.Errorf("HEAD: %d %q", a.status, a.body)
		}
	}
	w.register("*")
	for _, a := range []answer{w.call("GET", "/v1/webhooks", ""), w.call("POST", "/v1/events", `{"type":"a","data":{"object":{}}}`), w.call("GET", "/v1/nothing", "")} {
		if a.header.Get("Content-Length") == "" {
			t.Errorf("no Content-Length with %s", a.body)
		}
	}
}

// The response to a panic reveals nothing; the log has it under the request's id.
func TestPanic(t *testing.T) {
	w := newWorld(t)
	a := w.call("GET", "/metrics", "")
	a.check(refusal{http.StatusInternalServerError, "api_error", "internal_error", ""})
	if strings.Contains(a.body, "secret kind") {
		t.Errorf("the response reveals the panic: %s", a.body)
	}
	lines := w.log.lines(a.header.Get("Request-Id"))
	if len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "secret kind") {
		t.Errorf("logged %q", lines)
	}
}

// One line per request names the caller, the operation and the result, and none of its
// contents.
func TestLog(t *testing.T) {
	w := newWorld(t)
	const private = "a-private-thing"
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		holds                    []string
	}{
		{"success", "POST", "/v1/events", `{"type":"a","data":{"object":{"x":"` + private + `"}}}`, nil,
			[]string{"level=DEBUG", "method=POST", "route=/v1/events", "status=200", "duration=", "key=key_", "account=" + w.account.ID}},
		{"refusal", "GET", "/v1/webhooks/" + private, "", nil,
			[]string{"level=INFO", "method=GET", "route=/v1/webhooks/{id}", "status=404", "code=not_found", "reason=resource_missing", "account=" + w.account.ID}},
		{"bad parameter", "POST", "/v1/webhooks", `{"` + private + `":1}`, nil, []string{"level=INFO", "status=400", "reason=parameter_unknown"}},
		{"unknown key", "GET", "/v1/events", "", with("sk_test_" + private), []string{"level=INFO", "status=401", "reason=api_key_invalid"}},
		{"operator without an account", "GET", "/v1/accounts", "", with(adminKey), []string{"level=DEBUG", "status=200", "key=key_"}},
		{"unknown path", "GET", "/" + private, "", nil, []string{"level=INFO", "status=404", "reason=unrecognized_request_url"}},
		{"wrong method", "PUT", "/v1/events", private, nil, []string{"level=INFO", "status=405", "reason=method_not_allowed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.call(c.method, c.path, c.body, c.header...)
			lines := w.log.lines(a.header.Get("Request-Id"))
			if len(lines) != 1 {
				t.Fatalf("%d lines: %q", len(lines), lines)
			}
			for _, part := range c.holds {
				if !strings.Contains(lines[0], part) {
					t.Errorf("no %s in %s", part, lines[0])
				}
			}
		})
	}
	for _, secret := range []string{private, testKey, adminKey} {
		if found := w.log.lines(secret); len(found) > 0 {
			t.Errorf("the log tells: %s", found[0])
		}
	}
}

func TestLog_quietByDefault(t *testing.T) {
	w := newWorldLogging(t, slog.LevelInfo)
	w.send("a.b")
	w.must("GET", "/v1/events", "")
	if text := w.log.String(); text != "" {
		t.Errorf("logged %s", text)
	}
}

// TestObserve checks that every request is observed once, under a name that its caller cannot
// choose.
func TestObserve(t *testing.T) {
	w := newWorld(t)
	w.register("*")
	w.call("GET", "/v1/webhooks/we_none", "")
	w.call("HEAD", "/v1/events", "")
	w.call("POST", "/v1/events", "{")
	w.call("POST", "/v1/events", "{", "Authorization", "")
	w.call("GET", "/v1/made/up", "")
	w.call("BREW", "/v1/events", "")
	w.call("GET", "/debug/pprof/heap", "", "Authorization", "Bearer "+adminKey)
	w.call("GET", "/healthz", "")
	want := map[string]int{
		"POST /v1/webhooks 200 true": 1, "GET /v1/webhooks/{id} 404 true": 1, "GET /v1/events 200 true": 1,
		"POST /v1/events 400 true": 1, "POST /v1/events 401 true": 1,
		"any unmatched 404 true": 1, "any unmatched 405 true": 1, "any /debug/pprof/ 200 false": 1,
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !maps.Equal(w.seen, want) {
		t.Errorf("told of %v,\nwant %v", w.seen, want)
	}
}
