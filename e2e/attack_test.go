package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Requests that no HTTP client would write are written to the socket as they are. Each
// is refused with a status below 500, or by closing the connection; none makes an event.
// 501 is net/http's answer to a transfer encoding that it does not know.
func TestAttack_rawRequests(t *testing.T) {
	s := serve(t, t.TempDir())
	address := strings.TrimPrefix(s.base, "http://")
	auth := "Authorization: Bearer " + testKey + "\r\n"
	post := func(header, body string) string {
		return "POST /v1/events HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nConnection: close\r\n" + header + "\r\n" + body
	}
	get := func(target, header string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + "\r\n"
	}
	event, broken := `{"type":"a.b","data":{"object":{"n":1}}}`, `{"type":"a\r\nb","data":{"object":{"n":1}}}`
	length := "Content-Length: " + strconv.Itoa(len(event)) + "\r\n"
	attacks := []struct{ name, request string }{
		{"NUL in the idempotency key", post(length+"Idempotency-Key: a\x00b\r\n", event)},
		{"CR in the idempotency key", post(length+"Idempotency-Key: a\rb\r\n", event)},
		{"space before the colon", post(length+"Idempotency-Key : a\r\n", event)},
		{"two lengths", post(length+"Content-Length: 3\r\n", event)},
		{"a negative length", post("Content-Length: -1\r\n", event)},
		{"a length with a sign", post("Content-Length: +"+strconv.Itoa(len(event))+"\r\n", event)},
		{"a length past int64", post("Content-Length: 99999999999999999999\r\n", event)},
		{"a chunk of no number", post("Transfer-Encoding: chunked\r\n", "zz\r\n"+event+"\r\n0\r\n\r\n")},
		{"a chunk past int64", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+event+"\r\n0\r\n\r\n")},
		{"a chunk longer than it says", post("Transfer-Encoding: chunked\r\n", "3\r\n"+event+"\r\n0\r\n\r\n")},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
		{"a type with a line break", post("Content-Length: "+strconv.Itoa(len(broken))+"\r\n", broken)},
		{"a compressed body", post(length+"Content-Encoding: gzip\r\n", "\x1f\x8b"+event[2:])},
		{"no host", "GET /v1/events HTTP/1.1\r\nConnection: close\r\n\r\n"},
		{"two hosts", get("/v1/events", "Host: y\r\n")},
		{"no credentials, another method by header", get("/v1/events", "X-HTTP-Method-Override: POST\r\n")},
		{"an absolute form without credentials", get("http://evil.example/v1/events", "")},
		{"forwarded, without credentials", get("/v1/events", "X-Forwarded-For: 127.0.0.1\r\nX-Original-URL: /v1/meta\r\n")},
		{"dots", get("/v1/meta/../events", "")},
		{"encoded dots", get("/v1/meta/%2e%2e/events", "")},
		{"an encoded slash", get("/v1%2fevents", "")},
		{"two slashes", get("//v1//events", "")},
		{"a NUL in the path", get("/v1/events/%00", auth)},
		{"a line break in an id", get("/v1/events/evt_1%0d%0aX-Evil:%201", auth)},
		{"a bad escape", get("/v1/events/%zz", auth)},
		{"a long path", get("/v1/events/"+strings.Repeat("a", 32<<10), auth)},
		{"a header past the limit", get("/v1/events", auth+"X-Long: "+strings.Repeat("a", 200<<10)+"\r\n")},
	}
	ask := func(name, request string) (*http.Response, []byte) {
		t.Helper()
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request) // the server may refuse before it has read all
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Errorf("%s: no answer", name)
		}
		if err != nil {
			return nil, nil
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return resp, body
	}
	for _, a := range attacks {
		resp, body := ask(a.name, a.request)
		if resp == nil {
			continue
		}
		if status := resp.StatusCode; (status < 300 || status >= 500) && status != http.StatusNotImplemented {
			t.Errorf("%s: answered with %d %s", a.name, status, body)
		}
		if resp.Header.Get("X-Evil") != "" || strings.Contains(resp.Header.Get("Location"), "evil") {
			t.Errorf("%s: wrote into the answer's header: %v", a.name, resp.Header)
		}
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && !json.Valid(body) {
			t.Errorf("%s: answered with what is not JSON: %s", a.name, body)
		}
	}
	if made := s.must("GET", "/v1/events", nil).list(); len(made) != 0 {
		t.Errorf("%d events were made: %v", len(made), made)
	}
	if resp, body := ask("no attack", post(length, event)); resp == nil || resp.StatusCode >= 300 {
		t.Errorf("the same request without an attack is refused: %v %s", resp, body)
	}
	t.Logf("%d attacks", len(attacks))
}
