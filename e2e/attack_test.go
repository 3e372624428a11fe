package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// exchange writes a request to a socket of its own unchanged, and describes all responses up to
// the end of the connection: "400 json_invalid", or "closed" without a response.
func exchange(t *testing.T, address, name, request string) (said string, header []http.Header) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(conn, request) }() // the server may refuse before it has read everything
	var words []string
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Errorf("%s: after %q the connection stays open", name, words)
		}
		if err != nil {
			break
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		word := strconv.Itoa(resp.StatusCode)
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			var refused struct {
				Error struct{ Type, Code, Message string }
			}
			if err := json.Unmarshal(body, &refused); err != nil {
				t.Errorf("%s: the response is not JSON: %s", name, body)
			}
			if e := refused.Error; e.Code != "" {
				word += " " + e.Code
				if e.Type == "" || e.Message == "" || resp.Header.Get("Request-Id") == "" {
					t.Errorf("%s: %s is not in the shape of an error, or has no Request-Id", name, body)
				}
			}
		}
		words, header = append(words, word), append(header, resp.Header)
	}
	if len(words) == 0 {
		return "closed", nil
	}
	return strings.Join(words, ", "), header
}

// attack is a request that no HTTP client would write, and the expected response.
type attack struct{ name, request, want string }

// Requests that no HTTP client would write are written to the socket unchanged. Each is refused
// as the table states, with an error of the API whenever the request can be parsed; none
// creates an event, and none changes the responses to another client.
func TestAttack_rawRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	address := strings.TrimPrefix(s.base, "http://")
	auth := "Authorization: Bearer " + testKey + "\r\n"
	postTo := func(path, header, body string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + auth + "Connection: close\r\n" + header + "\r\n" + body
	}
	post := func(header, body string) string {
		return postTo("/v1/events", "Content-Type: application/json\r\n"+header, body)
	}
	get := func(target, header string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + "\r\n"
	}
	long := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	event, broken := `{"type":"a.b","data":{"object":{"n":1}}}`, `{"type":"a\r\nb","data":{"object":{"n":1}}}`
	length := long(len(event))
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 64<<20)) // into memory: cannot fail
	_ = z.Close()
	big := strings.Repeat("a", 2<<20)
	const form = "Content-Type: application/x-www-form-urlencoded\r\n"
	attacks := []attack{
		{"NUL in the idempotency key", post(length+"Idempotency-Key: a\x00b\r\n", event), "400"},
		{"CR in the idempotency key", post(length+"Idempotency-Key: a\rb\r\n", event), "400"},
		{"space before the colon", post(length+"Idempotency-Key : a\r\n", event), "400"},
		{"no name of a header", post(length+": a\r\n", event), "400"},
		{"two lengths", post(length+"Content-Length: 3\r\n", event), "400"},
		{"a negative length", post("Content-Length: -1\r\n", event), "400"},
		{"a length with a sign", post("Content-Length: +"+strconv.Itoa(len(event))+"\r\n", event), "400"},
		{"a length past int64", post("Content-Length: 99999999999999999999\r\n", event), "400"},
		{"a chunk of no number", post("Transfer-Encoding: chunked\r\n", "zz\r\n"+event+"\r\n0\r\n\r\n"), "400 request_incomplete"},
		{"a chunk past int64", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n"+event+"\r\n0\r\n\r\n"), "400 request_incomplete"},
		{"a chunk longer than it says", post("Transfer-Encoding: chunked\r\n", "3\r\n"+event+"\r\n0\r\n\r\n"), "400 request_incomplete"},
		{"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "501"},
		{"chunked and compressed", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501"},
		{"an unknown encoding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "501"},
		{"an unknown expectation", post(length+"Expect: 200-ok\r\n", event), "417"},
		{"a type with a line break", post(long(len(broken)), broken), "400 event_type_invalid"},
		{"a compressed body", post(long(bomb.Len())+"Content-Encoding: gzip\r\n", bomb.String()), "415 content_encoding_unsupported"},
		{"a body that says it is compressed", post(length+"Content-Encoding: identity\r\nContent-Encoding: deflate\r\n", event), "415 content_encoding_unsupported"},
		{"no host", "GET /v1/events HTTP/1.1\r\nConnection: close\r\n\r\n", "400"},
		{"two hosts", get("/v1/events", "Host: y\r\n"), "400"},
		{"no method", "G@T /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"no version", "GET /v1/events\r\n\r\n", "400"},
		{"another version", "GET /v1/events HTTP/3.0\r\nHost: x\r\n\r\n", "505"},
		{"a tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n", "404 unrecognized_request_url"},
		{"an echo", "TRACE /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + "\r\n", "405 method_not_allowed"},
		{"no credentials, another method by header", get("/v1/events", "X-HTTP-Method-Override: POST\r\n"), "401 api_key_missing"},
		{"an absolute form without credentials", get("http://evil.example/v1/events", ""), "401 api_key_missing"},
		{"forwarded, without credentials", get("/v1/events", "X-Forwarded-For: 127.0.0.1\r\nX-Original-URL: /v1/meta\r\n"), "401 api_key_missing"},
		{"another protocol, without credentials", get("/v1/events", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), "401 api_key_missing"},
		{"dots", get("/v1/meta/../events", ""), "404 unrecognized_request_url"},
		{"encoded dots", get("/v1/meta/%2e%2e/events", ""), "404 unrecognized_request_url"},
		{"dots out of the Admin UI", get("/admin/../v1/events", ""), "404 unrecognized_request_url"},
		{"dots with a body", postTo("/v1/meta/../events", length, event), "404 unrecognized_request_url"},
		{"an encoded slash", get("/v1%2fevents", ""), "404 unrecognized_request_url"},
		{"two slashes", get("//v1//events", ""), "404 unrecognized_request_url"},
		{"another host after two slashes", get("//evil.example/%2e%2e", ""), "404 unrecognized_request_url"},
		{"a NUL in the path", get("/v1/events/%00", auth), "404 resource_missing"},
		{"a line break in an id", get("/v1/events/evt_1%0d%0aX-Evil:%201", auth), "404 resource_missing"},
		{"a bad escape", get("/v1/events/%zz", auth), "400"},
		{"a long path", get("/v1/events/"+strings.Repeat("a", 32<<10), auth), "404 resource_missing"},

		// Over the limits. A request whose header exceeds them has no response.
		{"a path past the limit", get("/v1/events/"+strings.Repeat("a", 200<<10), auth), "431"},
		{"a header past the limit", get("/v1/events", auth+"X-Long: "+strings.Repeat("a", 200<<10)+"\r\n"), "431"},
		{"headers past the limit", get("/v1/events", auth+strings.Repeat("X-Many: 1\r\n", 20_000)), "431"},
		{"a body past the limit", post(long(len(big)), big), "413 request_too_large"},
		{"a body past the limit, promised", post("Content-Length: 9223372036854775807\r\n", ""), "413 request_too_large"},
		{"a body past the limit, in chunks", post("Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big)), "413 request_too_large"},
		{"a batch past the limit", postTo("/v1/events/batch", long(9<<20), ""), "413 request_too_large"},
		{"a form past the limit", postTo("/admin/sign-in", form+long(len(big)), big), "413"},
		{"a form of the Stripe CLI past the limit", postTo("/v1/stripecli/sessions", form+long(len(big)), big), "413 request_too_large"},
	}

	other := &http.Client{Transport: &http.Transport{}} // on one connection throughout
	defer other.CloseIdleConnections()
	ask := func() string {
		req, err := http.NewRequest("GET", s.base+"/v1/account", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		resp, err := other.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status + string(body)
	}
	alone := ask()
	try := func(a attack) {
		t.Helper()
		got, headers := exchange(t, address, a.name, a.request)
		if got != a.want {
			t.Errorf("%s: answered with %q, want %q", a.name, got, a.want)
		}
		for _, h := range headers {
			if h.Get("X-Evil") != "" || strings.Contains(h.Get("Location"), "evil") {
				t.Errorf("%s: wrote into the answer's header: %v", a.name, h)
			}
		}
		if now := ask(); now != alone {
			t.Errorf("%s: another client is answered with %s, want %s", a.name, now, alone)
		}
	}
	for _, a := range attacks {
		try(a)
	}
	made := func() (types []string) {
		for _, e := range s.must("GET", "/v1/events?limit=100", nil).list() {
			types = append(types, e.text("type"))
		}
		return types
	}
	if made := made(); len(made) != 0 {
		t.Errorf("%d events were made: %v", len(made), made)
	}

	// Requests that contain a second one, which a proxy in front would take for a body. The second
	// one is never executed.
	hidden := `{"type":"smuggled","data":{"object":{}}}`
	second := "POST /v1/events HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nConnection: close\r\n" + long(len(hidden)) + "\r\n" + hidden
	open := func(version, header, body string) string { // the connection may stay open
		return "POST /v1/events HTTP/" + version + "\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\n" + header + "\r\n" + body
	}
	chunks := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text) }
	const chunked = "Transfer-Encoding: chunked\r\n"
	all := "0\r\n\r\n" + second
	pairs := []attack{
		{"a length over chunks that end early", open("1.1", long(len(all))+chunked, all), "400 json_invalid"},
		{"chunks before a length", open("1.1", chunked+long(len(all)), all), "400 json_invalid"},
		{"a length over a whole event in chunks", open("1.1", long(len(chunks(event)+second))+chunked, chunks(event)+second), "200"},
		{"a request in a chunk after a short length", open("1.1", "Content-Length: 4\r\n"+chunked, chunks(second)), "400 json_invalid"},
		{"chunks without a length", open("1.1", chunked, chunks(event)+second), "200"},
		{"chunked, in other letters", open("1.1", "transfer-encoding:\tChunKed\r\n"+long(len(all)), all), "400 json_invalid"},
		{"chunked, on a folded line", open("1.1", long(len(all))+"Transfer-Encoding:\r\n chunked\r\n", all), "400 json_invalid"},
		{"chunked, behind a bare line feed", open("1.1", long(len(all))+"X-A: b\nTransfer-Encoding: chunked\r\n", all), "400 json_invalid"},
		{"chunked, behind a space", open("1.1", long(len(all))+"Transfer-Encoding : chunked\r\n", all), "400"},
		{"chunked, behind a control character", open("1.1", long(len(all))+"Transfer-Encoding: \vchunked\r\n", all), "400"},
		{"chunked and not", open("1.1", long(len(all))+chunked+"Transfer-Encoding: identity\r\n", all), "501"},
		{"not quite chunked", open("1.1", long(len(all))+"Transfer-Encoding: xchunked\r\n", all), "501"},
		{"a list of lengths", open("1.1", fmt.Sprintf("Content-Length: 0, %d\r\n", len(second)), second), "400"},
		{"two lengths", open("1.1", long(0)+long(len(second)), second), "400"},
		{"a line feed within a chunk's size", open("1.1", chunked, "0;\n\r\n\r\n"+second), "400 request_incomplete"},
		{"chunks in HTTP/1.0", open("1.0", "Connection: keep-alive\r\nContent-Length: 0\r\n"+chunked, chunks(second)), "400 json_invalid"},
		{"chunks in HTTP/1.0, after a length", open("1.0", "Connection: keep-alive\r\n"+long(5)+chunked, all), "400 json_invalid"},
		{"a body of a GET", "GET /v1/meta HTTP/1.1\r\nHost: x\r\n" + long(len(second)) + "\r\n" + second + get("/healthz", ""), "200, 200"},
		{"a body past the limit", open("1.1", long(len(big)+len(second)), big+second), "413 request_too_large"},
	}
	for _, a := range pairs {
		try(a)
	}
	if made := strings.Join(made(), " "); made != "a.b a.b" {
		t.Errorf("the events are %q, want those two that were not hidden", made)
	}
	if said, _ := exchange(t, address, "no attack", post(length, event)); said != "200" {
		t.Errorf("the same request without an attack is refused: %s", said)
	}
	if said, _ := exchange(t, address, "two honest requests", strings.Replace(post(length, event), "Connection: close\r\n", "", 1)+post(length, event)); said != "200, 200" {
		t.Errorf("two requests without an attack on one connection: %s", said)
	}
	t.Logf("attacks=%d pairs=%d", len(attacks), len(pairs))
}

// Hundreds of concurrent requests over the limits, and hundreds that stop half-way, use little
// memory, and other requests are served meanwhile.
func TestAttack_manyAtOnce(t *testing.T) {
	t.Parallel()
	const many = 200
	const growth = 5 * 64 << 20 // one account's bodies have half of 64 MiB, and processing them needs about three times as much
	s := serve(t, t.TempDir())
	address := strings.TrimPrefix(s.base, "http://")
	auth := "Authorization: Bearer " + testKey + "\r\n"
	head := "POST /v1/events HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Type: application/json\r\nConnection: close\r\n"
	big := strings.Repeat("a", 3<<20)
	s.send("a.b", object{"n": 1})
	before := s.peak()
	for _, c := range []struct {
		name, request string
		want          []string
	}{
		{"of a length past the limit", head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(big)) + big, []string{"413 request_too_large"}},
		// The number of concurrent bodies of one account is limited.
		{"chunks past the limit", head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big), []string{"413 request_too_large", "429 quota_exceeded"}},
		{"headers past the limit", head + "X-Long: " + big, []string{"431"}},
		{"nested too deeply", head + fmt.Sprintf("Content-Length: %d\r\n\r\n", 1<<20) + strings.Repeat("[", 1<<20), []string{"400 json_invalid", "429 quota_exceeded"}},
	} {
		said := make([]string, many)
		var all sync.WaitGroup
		for i := range said {
			all.Go(func() { said[i], _ = exchange(t, address, c.name, c.request) })
		}
		all.Wait()
		counts := map[string]int{}
		for _, s := range said {
			counts[s]++
		}
		for _, want := range c.want {
			many := counts[want]
			delete(counts, want)
			t.Logf("%s: %d × %s", c.name, many, want)
		}
		if len(counts) > 0 {
			t.Errorf("%s: also answered with %v, want %v only", c.name, counts, c.want)
		}
	}
	grown := s.peak() - before
	t.Logf("memory grew by %.0f MiB at most", grown/(1<<20))
	if grown > growth {
		t.Errorf("memory grew by %.0f MiB", grown/(1<<20))
	}

	for _, half := range []string{"", "POST /v1/events HTT", head + "X-Slow: a", head + "Content-Length: 40\r\n\r\n{", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{"} {
		for range many {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, half); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 { // TestWeb_slowClients checks how soon
		s.send("a.b", object{"n": 1})
	}
}
