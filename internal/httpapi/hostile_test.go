package httpapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// slowBody sends the head of a request with a declared length and the beginning of its body,
// and returns the connection.
func (w *world) slowBody(path, key string, length int, begin []byte) net.Conn {
	w.t.Helper()
	host := strings.TrimPrefix(w.url, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, host, key, length)
	_, _ = c.Write(append([]byte(head), begin...)) // which may have been refused meanwhile
	return c
}

// post sends a request and returns the status and the error's code and parameter.
func (w *world) post(path, key, body string) (status int, code, param string) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var said struct {
		Error struct{ Code, Param string }
	}
	_ = json.NewDecoder(answer.Body).Decode(&said)
	return answer.StatusCode, said.Error.Code, said.Error.Param
}

// until waits for a condition.
func (w *world) until(condition func() bool) {
	w.t.Helper()
	for began := time.Now(); !condition(); runtime.Gosched() {
		if time.Since(began) > time.Minute {
			w.t.Fatal("waited in vain")
		}
	}
}

const oneEvent = `{"type":"payment.succeeded","data":{"object":{"id":"pay_1"}}}`

// What a request declares costs nothing, whoever declares it.
func TestBodies_declaredLengthTakesNothing(t *testing.T) {
	w := newWorld(t)
	for range 64 {
		w.slowBody("/v1/events/batch", otherKey, 8<<20, []byte("{"))
	}
	for i, key := range []string{testKey, otherKey, liveKey} {
		if status, code, _ := w.post("/v1/events", key, oneEvent); status != http.StatusOK {
			t.Errorf("event %d beside them: %d %s", i, status, code)
		}
	}
}

// The account whose requests hold too much is refused, and others are not.
func TestBodies_shareOfAnAccount(t *testing.T) {
	w := newWorld(t)
	part := bytes.Repeat([]byte(" "), 6<<20)
	for range 8 {
		w.slowBody("/v1/events/batch", otherKey, 8<<20, part)
	}
	w.until(func() bool { return w.service.Bodies.Held() >= 20<<20 })
	large := fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"text":%q}}}`, strings.Repeat("x", 250_000))
	w.until(func() bool {
		status, code, param := w.post("/v1/events/batch", otherKey, `{"events":[`+strings.TrimSuffix(strings.Repeat(large+",", 30), ",")+`]}`)
		if status == http.StatusTooManyRequests && (code != "quota_exceeded" || param != "body_bytes") {
			t.Errorf("the account beyond its share: %s %s", code, param)
		}
		return status == http.StatusTooManyRequests
	})
	if held := w.service.Bodies.Held(); held > 32<<20 {
		t.Errorf("one account holds %d bytes", held)
	}
	for _, body := range []string{oneEvent, large} {
		if status, code, _ := w.post("/v1/events", testKey, body); status != http.StatusOK {
			t.Errorf("another account's event: %d %s", status, code)
		}
	}
}

func TestBodies_areGivenBack(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{oneEvent, "{", strings.Repeat("x", 2<<20)} {
		w.post("/v1/events", testKey, body)
		w.post("/v1/webhooks", testKey, body)
	}
	c := w.slowBody("/v1/events", testKey, 1000, []byte("{"))
	_ = c.Close()
	w.until(func() bool { return w.service.Bodies.Held() == 0 })
}

// Parameters of many small values take a hundred times their size in memory.
func TestParams_manyValuesAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	w := newWorld(t)
	numbers := strings.TrimSuffix(strings.Repeat("1,", 30_000), ",")
	for name, tt := range map[string]struct {
		path, body, code string
		status           int
	}{
		"a list":               {"/v1/webhooks", `{"metadata":[` + numbers + `]}`, "json_too_large", 400},
		"objects":              {"/v1/event_types", `{"schema":{"enum":[` + strings.TrimSuffix(strings.Repeat(`{"a":1},`, 20_000), ",") + `]}}`, "json_too_large", 400},
		"levels":               {"/v1/event_types", `{"schema":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, "json_too_large", 400},
		"a large body":         {"/v1/payments", `{"description":"` + strings.Repeat("x", 100_000) + `"}`, "request_too_large", 413},
		"a form":               {"/v1/payments", strings.TrimSuffix(strings.Repeat("a=1&", 10_000), "&"), "json_invalid", 400},
		"as large as they are": {"/v1/event_types", `{"name":"a.b","schema":{"enum":[` + strings.TrimSuffix(strings.Repeat(`"abcdefgh",`, 4_000), ",") + `]}}`, "", 200},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		status, code, _ := w.post(tt.path, testKey, tt.body)
		runtime.ReadMemStats(&after)
		if status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, code, tt.status, tt.code)
		}
		if used := after.TotalAlloc - before.TotalAlloc; tt.code == "json_too_large" && used > 16<<20 {
			t.Errorf("%s: %d MB were allocated", name, used>>20)
		}
	}
}

// A form of the Stripe CLI's kind, or one that is not, is read within the same limits.
func TestForms_manyParameters(t *testing.T) {
	w := newWorld(t)
	c := w.slowBody("/v1/payments", testKey, 20_000, nil)
	_ = c.Close()
	r, err := http.NewRequest(http.MethodPost, w.url+"/v1/payments", strings.NewReader(strings.Repeat("a=1&", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(bufio.NewReader(answer.Body))
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest || !bytes.Contains(text, []byte("form_invalid")) {
		t.Errorf("%d %s", answer.StatusCode, text)
	}
}
