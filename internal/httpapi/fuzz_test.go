package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/httpapi"
)

// v1Routes lists the routes that require a key.
func v1Routes() []string {
	var all []string
	for _, r := range httpapi.Routes() {
		if strings.Contains(r, " /v1/") {
			all = append(all, r)
		}
	}
	return all
}

// For every body of every POST, the response is never a 5xx, and always JSON.
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

// wire is a response over a connection, for streamed responses.
type wire struct{ *httptest.ResponseRecorder }

func (wire) SetWriteDeadline(time.Time) error { return nil }

// For every method, route, key, header, query and body: never a 5xx, never a panic, always a
// Request-Id, and errors always in the error envelope.
func FuzzRequest(f *testing.F) {
	form := `amount=100&currency=usd&payment_method[type]=card&payment_method[card][number]=4242424242424242&payment_method[card][exp_month]=12&payment_method[card][exp_year]=2099&payment_method[card][cvc]=123`
	for i := range len(httpapi.Routes()) {
		f.Add(byte(i), "", "", byte(i), byte(0), "", "", "", []byte(nil))
		f.Add(byte(i), "", "", byte(0), byte(i), "key", "created[gte]=1&limit=100", "", []byte(form))
		f.Add(byte(i), "", "evt_00000000000000000001", byte(1), byte(1), "", "limit=-1", "acct_1", []byte(`{"events":[{"type":"a.b","data":{"object":{}}},1]}`))
	}
	f.Add(byte(0), "BREW", "%2e%2e", byte(9), byte(9), "\x00", "%", "\xff", []byte("{"))
	f.Add(byte(1), "OPTIONS", "a/b", byte(2), byte(2), strings.Repeat("k", 300), "a[b][c]=d&a=e", "", []byte(`[{"type":"a.b","data":{"object":{}}}]`))

	w := newWorldLogging(f, slog.LevelError)
	e := w.register("payment.*")
	ev := w.send("payment.succeeded")
	fill := map[string]string{"/webhooks/": e.text("id"), "/webhook_endpoints/": e.text("id"), "/events/": ev.text("id"),
		"/deliveries/": w.deliveryOf(ev.text("id")).text("id"), "/accounts/": w.account.ID}
	routes := slices.DeleteFunc(httpapi.Routes(), func(r string) bool { return strings.HasSuffix(r, "/metrics") }) // which panics in this world
	slices.Sort(routes)
	keys := []string{testKey, adminKey, liveKey, otherKey, goneKey, "", "x"}
	types := []string{"", "application/json", formType, "application/json; charset=utf-16", "text/plain"}
	f.Fuzz(func(t *testing.T, route byte, method, id string, key, contentType byte, idempotencyKey, query, account string, body []byte) {
		own, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		path = strings.TrimSuffix(path, "{$}")
		if id == "" {
			for under, id := range fill {
				path = strings.Replace(path, under+"{id}", under+id, 1)
			}
		}
		path = strings.ReplaceAll(path, "{id}", url.PathEscape(id))
		if method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || method == "CONNECT" {
			method = own
		}
		ctx := t.Context()
		if strings.HasSuffix(path, "/tail") { // which streams until the caller disconnects
			left, leave := context.WithCancel(ctx)
			leave()
			ctx = left
		}
		target, err := url.Parse("http://api.example" + path)
		if err != nil {
			t.Skip("not a URL")
		}
		target.RawQuery = query
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://api.example/", bytes.NewReader(body))
		req.Method, req.URL, req.RequestURI = method, target, target.RequestURI()
		for name, value := range map[string]string{"Authorization": "Bearer " + keys[int(key)%len(keys)], "Content-Type": types[int(contentType)%len(types)],
			"Idempotency-Key": idempotencyKey, "Payment-Account": account, "If-None-Match": account} {
			if value != "" && !strings.ContainsAny(value, "\r\n\x00") {
				req.Header.Set(name, value)
			}
		}
		if keys[int(key)%len(keys)] == adminKey && account == "" {
			req.Header.Set("Payment-Account", w.account.ID)
		}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(wire{rec}, req)
		answer := rec.Body.Bytes()
		if rec.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, target, rec.Code, answer)
		}
		if rec.Header().Get("Request-Id") == "" {
			t.Errorf("%s %s: %d without a Request-Id", method, target, rec.Code)
		}
		isPage := !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/oauth20/")
		if rec.Code < 400 || method == http.MethodHead || isPage {
			return
		}
		var envelope struct {
			Error struct{ Type, Code, Message string }
		}
		if err := json.Unmarshal(answer, &envelope); err != nil || !utf8.Valid(answer) || envelope.Error.Code == "" || envelope.Error.Message == "" ||
			!slices.Contains(errorTypes, envelope.Error.Type) {
			t.Errorf("%s %s: %d %q", method, target, rec.Code, answer)
		}
	})
}

var errorTypes = append(httpapi.ErrorTypes(), "payment_error")

// The same for every query of every list.
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
