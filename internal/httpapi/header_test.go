package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// An endpoint's custom headers cannot end a line of a request, nor replace a header of the
// connection, the server or a signature. The error names the header, never its value, and the
// endpoint is not changed.
func TestHeaders_injection(t *testing.T) {
	w := newWorld(t)
	e := w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"],"headers":{"X-Api-Key":"sesame"}}`)
	path := "/v1/webhooks/" + e.text("id")
	const bad, reserved = "header_invalid", "header_reserved"
	type row struct{ name, value, code string }
	var rows []row
	for _, value := range []string{
		"sesame\r\nX-Evil: 1", "sesame\nX-Evil: 1", "sesame\rX-Evil: 1", "sesame\r\n X-Evil: 1", "sesame\n\tX-Evil: 1", "\r\n", "sesame\r\n\r\nGET / HTTP/1.1", "sesame\x00b", "sesame\x01b", "sesame\x1bb", "sesame\x7fb", "sesame\vb", "sesame\fb",
		" sesame", "sesame ", "\tsesame", "sesame\t", "sesame\n", strings.Repeat("sesame", 1000),
	} {
		rows = append(rows, row{"X-A", value, bad})
	}
	for _, name := range []string{
		"", " ", "X A", "X-A ", " X-A", "X-A:", "X\r\nX-Evil", "X\nX-Evil", "X\rX-Evil", "X\x00A", "X\tA", "X-Ä", "X\u2028A", "(X)", "X,A", "X;A", "X=A", "X/A", "X\"A", "X{A}", strings.Repeat("a", 101),
	} {
		rows = append(rows, row{name, "a", bad})
	}
	for _, name := range []string{
		"Connection", "connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "TRANSFER-ENCODING", "Upgrade", "HTTP2-Settings",
		"Host", "host", "Content-Length", "content-length", "Content-Type", "Content-Encoding", "Expect", "User-Agent", "Accept-Encoding", "Idempotency-Key", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto",
		"Payment-Signature", "payment-signature", "webhook-id", "Webhook-Id", "webhook-timestamp", "webhook-signature", "Webhook-Anything", "svix-id", "svix-timestamp", "Svix-Signature",
	} {
		rows = append(rows, row{name, "a", reserved})
	}
	before := w.everything()
	cells := 0
	for _, r := range rows {
		headers, err := json.Marshal(map[string]string{r.name: r.value})
		if err != nil {
			t.Fatal(err)
		}
		name := r.name
		if len(name) > 50 {
			name = "" // it is shortened
		}
		for _, call := range []struct{ method, path, body string }{
			{"POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"],"headers":` + string(headers) + `}`},
			{"POST", "/v1/webhook_endpoints", `{"url":"https://example.com/","enabled_events":["*"],"headers":` + string(headers) + `}`},
			{"POST", path, `{"headers":` + string(headers) + `}`},
			{"PATCH", path, `{"headers":` + string(headers) + `}`},
		} {
			cells++
			a := w.call(call.method, call.path, call.body)
			got := a.object().in("error")
			if a.status != http.StatusBadRequest || got.text("code") != r.code || !strings.HasPrefix(got.text("param"), "headers["+name) {
				t.Errorf("%s %s with %q: %q: %d %s, want %s and the name of the header", call.method, call.path, r.name, r.value, a.status, a.body, r.code)
			}
			if strings.Contains(a.body, "sesame") || a.header.Get("X-Evil") != "" {
				t.Errorf("the refusal of %q: %q repeats it: %s", r.name, r.value, a.body)
			}
		}
	}
	if w.everything() != before {
		t.Error("a refused header changed something")
	}
	if got := w.must("GET", path, "").in("headers"); len(got) != 1 || got["X-Api-Key"] == nil {
		t.Errorf("the endpoint's headers are %v now", got)
	}
	for _, ok := range []string{`{"X-A":"a\tb, c=\"d\"; ü"}`, `{"Authorization":"Bearer a"}`, `{"x-custom_1":"~"}`} {
		w.must("PATCH", path, `{"headers":`+ok+`}`)
	}
	t.Logf("headers=%d cells=%d", len(rows), cells)
}
