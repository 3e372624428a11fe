package httpapi_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/httpapi"
)

// v1Routes is the routes that need a key.
func v1Routes() []string {
	var all []string
	for _, r := range httpapi.Routes() {
		if strings.Contains(r, " /v1/") {
			all = append(all, r)
		}
	}
	return all
}

// Whatever the body of whichever POST: never our fault, always JSON.
func FuzzPost(f *testing.F) {
	for i, seed := range []string{
		``, `{}`, `{"url":"https://example.com/","enabled_events":["*"],"metadata":{"a":"b"},"retry_schedule":[1],"status":"enabled"}`,
		`{"type":"a","data":{"object":{"1":[1e3,"\u0000\ud83d\ude00"]}},"id":"evt_1234567890abcdef","created":1}`,
		`url=https://example.com/&enabled_events[]=a&metadata[a]=b&timeout=1e1`, `a[b][c][]=1&a[b][c][]=2`, `[[`, `{"a":{"a":{"a":`, "\xff",
		`{"name":"x","livemode":true}`, `webhook_endpoint=we_1`, `{"endpoint":null}`, `%5B%5D=`, `&&&`, `=`,
	} {
		f.Add(byte(i), byte(i), []byte(seed))
	}
	w := newWorldLogging(f, slog.LevelError)
	e := w.register("payment.*")
	ev := w.send("payment.succeeded")
	fill := map[string]string{"/webhooks/": e.text("id"), "/webhook_endpoints/": e.text("id"), "/events/": ev.text("id"),
		"/deliveries/": w.deliveryOf(ev.text("id")).text("id"), "/accounts/": w.account.ID}
	var paths []string
	for _, r := range v1Routes() {
		path, isPost := strings.CutPrefix(r, "POST ")
		if !isPost {
			continue
		}
		for under, id := range fill {
			path = strings.Replace(path, under+"{id}", under+id, 1)
		}
		paths = append(paths, path)
	}
	types := []string{"", "application/json", formType}
	f.Fuzz(func(t *testing.T, route, contentType byte, body []byte) {
		path := paths[int(route)%len(paths)]
		req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+testKey)
		if strings.HasPrefix(path, "/v1/accounts") || strings.HasPrefix(path, "/v1/api_keys") {
			req.Header.Set("Authorization", "Bearer "+adminKey)
			req.Header.Set("Payment-Account", w.account.ID)
		}
		if ct := types[int(contentType)%len(types)]; ct != "" {
			req.Header.Set("Content-Type", ct)
		}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code >= 500 {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
		if b := rec.Body.Bytes(); !utf8.Valid(b) || len(b) == 0 || b[0] != '{' || b[len(b)-1] != '}' {
			t.Errorf("%s: not a JSON object: %q", path, b)
		}
	})
}

// Whatever the query of whichever list: the same.
func FuzzQuery(f *testing.F) {
	for i, seed := range []string{
		"", "limit=1", "created[gte]=1&created[lt]=99999999999", "type=payment.*&status=failed", "limit=1e0&limit=2", "%", "a[", "[]=1",
		"starting_after=evt_1", "ending_before=%00", "created=1.5", "expand[]=x",
	} {
		f.Add(byte(i), seed)
	}
	w := newWorldLogging(f, slog.LevelError)
	w.register("*")
	d := w.deliveryOf(w.send("a.b").text("id"))
	paths := []string{"/v1/webhooks", "/v1/events", "/v1/deliveries", "/v1/api_keys", "/v1/events/" + d.text("event") + "/deliveries", "/v1/deliveries/" + d.text("id") + "/attempts"}
	f.Fuzz(func(t *testing.T, route byte, query string) {
		req := httptest.NewRequest(http.MethodGet, paths[int(route)%len(paths)], nil)
		req.URL.RawQuery = query
		req.Header.Set("Authorization", "Bearer "+testKey)
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code != http.StatusOK && rec.Code != http.StatusBadRequest {
			t.Errorf("%s?%s: %d %s", req.URL.Path, query, rec.Code, rec.Body)
		}
		if !utf8.Valid(rec.Body.Bytes()) {
			t.Errorf("%s?%s: %q", req.URL.Path, query, rec.Body)
		}
	})
}
