package httpapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
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
	_, _ = c.Write(append([]byte(head), begin...)) // the request may have been refused meanwhile
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

// A declared length reserves nothing.
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

// An account whose requests use too much memory is refused, and others are not.
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

// Forms are read within the same limits.
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

// An account at its limit is refused every further object; another account and the other mode
// are not, and the operator can raise the limit.
func TestLimits_ofEachObject(t *testing.T) {
	w := newWorld(t)
	id := w.account.ID
	w.must("POST", "/v1/accounts/"+id, `{"limits":{"endpoints":2,"event_types":2,"portal_sessions":2,"api_keys":9,"jobs":0}}`, with(adminKey)...)
	hook := func(i int) string {
		return fmt.Sprintf(`{"url":"https://example.com/%d","enabled_events":["*"]}`, i)
	}
	for name, tt := range map[string]struct {
		path   string
		body   func(int) string
		key    string
		header []string
	}{
		"endpoints":       {"/v1/webhooks", hook, "endpoints", with(testKey)},
		"event types":     {"/v1/event_types", func(i int) string { return fmt.Sprintf(`{"name":"own.t%d"}`, i) }, "event_types", with(testKey)},
		"portal sessions": {"/v1/portal_sessions", func(int) string { return `{}` }, "portal_sessions", with(testKey)},
		"API keys":        {"/v1/api_keys", func(int) string { return `{"name":"x"}` }, "api_keys", w.asOperator()},
		"jobs":            {"/v1/deliveries/retry", func(int) string { return `{"all":true}` }, "jobs", with(testKey)},
	} {
		var last answer
		made := 0
		for i := range 10 {
			if last = w.call("POST", tt.path, tt.body(i), tt.header...); last.status != http.StatusOK {
				break
			}
			made++
		}
		said := last.object().in("error")
		want, status := "limit_reached", http.StatusBadRequest
		if tt.key == "jobs" {
			want, status = "quota_exceeded", http.StatusTooManyRequests
		}
		if last.status != status || said.text("code") != want || said.text("param") != tt.key || !strings.Contains(said.text("message"), tt.key) {
			t.Errorf("%s: after %d: %d %v", name, made, last.status, said)
		}
	}
	for _, key := range []string{otherKey, liveKey} {
		if a := w.call("POST", "/v1/webhooks", hook(1), with(key)...); a.status != http.StatusOK {
			t.Errorf("beside the account that has all it may: %d %s", a.status, a.body)
		}
	}
	w.must("POST", "/v1/accounts/"+id, `{"limits":{"endpoints":3,"jobs":null}}`, with(adminKey)...)
	w.must("POST", "/v1/webhooks", hook(8), with(testKey)...)
	if a := w.call("POST", "/v1/webhooks", hook(9), with(testKey)...); a.status != http.StatusBadRequest {
		t.Errorf("beyond the higher limit: %d %s", a.status, a.body)
	}
	limits := w.must("GET", "/v1/accounts/"+id, "", with(adminKey)...).in("limits")
	if limits["endpoints"] != 3.0 || limits["jobs"] != 100.0 {
		t.Errorf("limits in force: %v", limits)
	}
	for _, wrong := range []string{`{"limits":{"endpoint":1}}`, `{"limits":{"jobs":-1}}`, `{"limits":{"jobs":"x"}}`, `{"limits":{"nope":null}}`} {
		if a := w.call("POST", "/v1/accounts/"+id, wrong, with(adminKey)...); a.status != http.StatusBadRequest || !strings.HasPrefix(a.object().in("error").text("param"), "limits[") {
			t.Errorf("%s: %d %s", wrong, a.status, a.body)
		}
	}
}

// A deleted endpoint makes room for another.
func TestLimits_deletedEndpointsDoNotCount(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"endpoints":1}}`, with(adminKey)...)
	for range 3 {
		e := w.register(`*`)
		if a := w.call("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["*"]}`, with(testKey)...); a.status != http.StatusBadRequest {
			t.Fatalf("a second endpoint: %d", a.status)
		}
		w.must("DELETE", "/v1/webhooks/"+e.text("id"), "", with(testKey)...)
	}
}

// One request creates a bounded number of deliveries; its first event is stored with any number
// of endpoints, and the order is kept.
func TestLimits_deliveriesOfABatch(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"batch_deliveries":7}}`, with(adminKey)...)
	for range 3 {
		w.register(`*`)
	}
	one := `{"type":"a.b","data":{"object":{}}}`
	out := w.must("POST", "/v1/events/batch", `{"events":[`+one+`,`+one+`,`+one+`,`+one+`]}`, with(testKey)...)
	if out["accepted"] != 2.0 || out["refused"] != 2.0 {
		t.Errorf("%v", out)
	}
	for i, r := range out["data"].([]any) {
		got := object(r.(map[string]any))
		want := 200.0
		if i > 1 {
			want = 429
		}
		if got["status"] != want || i > 1 && got.in("error").text("param") != "batch_deliveries" {
			t.Errorf("event %d: %v", i, got)
		}
	}
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"batch_deliveries":1}}`, with(adminKey)...)
	if out := w.must("POST", "/v1/events/batch", `{"events":[`+one+`]}`, with(testKey)...); out["accepted"] != 1.0 {
		t.Errorf("an event with more endpoints than the limit: %v", out)
	}
}

// A tail beyond the limit is refused, until another one ends.
func TestLimits_tails(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"tails":2}}`, with(adminKey)...)
	tail := func(key string) *http.Response {
		r, err := http.NewRequest(http.MethodGet, w.url+"/v1/logs/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	first := tail(testKey)
	tail(liveKey)
	if a := tail(testKey); a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("a third tail of an account: %d", a.StatusCode)
	}
	if a := tail(otherKey); a.StatusCode != http.StatusOK {
		t.Errorf("another account's tail: %d", a.StatusCode)
	}
	_ = first.Body.Close()
	w.until(func() bool {
		a := tail(testKey)
		return a.StatusCode == http.StatusOK
	})
}

// Compiling counts too: previews, endpoints and event types. It is counted separately from
// events, so that an account with too expensive filters can still change them.
func TestLimits_processorTimeOfEdits(t *testing.T) {
	w := newWorld(t)
	id := w.register("dear.one").text("id")
	dear := `{"type":"dear.one","data":{"object":{"a":[` + strings.Repeat("1,", 900) + `1]}}}`
	w.must("POST", "/v1/webhooks/"+id, `{"filter":"data.object.a.all(x, x == 1)"}`)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"processor_time":0}}`, with(adminKey)...)
	w.until(func() bool { // its events are refused
		status, _, _ := w.post("/v1/events", testKey, dear)
		return status == http.StatusTooManyRequests
	})
	for name, ask := range map[string]func(n int) (method, path, body string){
		"preview": func(n int) (string, string, string) {
			return "POST", "/v1/webhooks/preview", fmt.Sprintf(`{"type":"payment.succeeded","filter":"data.object.n == %d"}`, n)
		},
		"endpoint": func(n int) (string, string, string) {
			return "PATCH", "/v1/webhooks/" + id, fmt.Sprintf(`{"filter":"data.object.n == %d"}`, n)
		},
		"new endpoint": func(n int) (string, string, string) {
			return "POST", "/v1/webhooks", fmt.Sprintf(`{"url":"https://example.com/%d","enabled_events":["*"],"transform":"{\"object\": {\"n\": data.object.n + %d.0}}"}`, n, n)
		},
		"event type": func(n int) (string, string, string) {
			return "POST", "/v1/event_types", fmt.Sprintf(`{"name":"type.n%d","schema":{"type":"object"}}`, n)
		},
	} {
		w.until(func() bool { // the first one may be admitted by the remaining allowance
			method, path, body := ask(rand.IntN(1e6))
			a := w.call(method, path, body)
			if a.status == http.StatusTooManyRequests {
				a.check(refusal{http.StatusTooManyRequests, "rate_limit_error", "quota_exceeded", "processor_time"})
				if a.header.Get("Retry-After") == "" {
					t.Errorf("%s: no Retry-After", name)
				}
			}
			return a.status == http.StatusTooManyRequests
		})
	}
	w.must("PATCH", "/v1/webhooks/"+id, `{"description":"without an expression"}`)
	w.must("PATCH", "/v1/webhooks/"+id, `{"filter":""}`) // an expensive filter can be removed
	if status, code, _ := w.post("/v1/events", testKey, dear); status != http.StatusOK {
		t.Errorf("an event without filters: %d %s", status, code)
	}
}

// A job that evaluates a filter for missed events is charged to the account.
func TestLimits_processorTimeOfRecoveries(t *testing.T) {
	w := newWorld(t)
	id := w.register("dear.one").text("id")
	w.must("PATCH", "/v1/webhooks/"+id, `{"filter":"data.object.a.all(x, x == 1)"}`)
	w.must("POST", "/v1/webhooks/"+id+"/disable", "")
	dear := `{"type":"dear.one","data":{"object":{"a":[` + strings.Repeat("1,", 900) + `1]}}}`
	w.must("POST", "/v1/events", dear)
	w.must("POST", "/v1/webhooks/"+id+"/enable", "")
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"processor_time":0}}`, with(adminKey)...)
	since := w.now().Add(-time.Minute).Unix()
	w.pass(time.Minute)
	job := w.must("POST", "/v1/webhooks/"+id+"/recover", fmt.Sprintf(`{"since":%d,"include_missed":true}`, since))
	w.until(func() bool { return w.must("GET", "/v1/jobs/"+job.text("id"), "")["scanned"] == 1.0 })
	status, code, param := w.post("/v1/events", testKey, dear)
	if status != http.StatusTooManyRequests || code != "quota_exceeded" || param != "processor_time" {
		t.Errorf("after a job whose filter took all the processor time: %d %s %s", status, code, param)
	}
}

// An account whose filters exceed its processor time is told when to retry; its other events,
// and other accounts, are not affected.
func TestLimits_processorTime(t *testing.T) {
	w := newWorld(t)
	w.must("POST", "/v1/accounts/"+w.account.ID, `{"limits":{"processor_time":1}}`, with(adminKey)...)
	for _, key := range []string{testKey, otherKey} {
		w.must("POST", "/v1/webhooks", `{"url":"https://example.com/","enabled_events":["dear.one"],"filter":"data.object.a.all(x, x == 1)"}`, with(key)...)
	}
	dear := `{"type":"dear.one","data":{"object":{"a":[` + strings.Repeat("1,", 900) + `1]}}}`
	w.until(func() bool {
		status, code, param := w.post("/v1/events", testKey, dear)
		if status == http.StatusTooManyRequests && (code != "quota_exceeded" || param != "processor_time") {
			t.Errorf("%s %s", code, param)
		}
		return status == http.StatusTooManyRequests
	})
	for body, key := range map[string]string{oneEvent: testKey, dear: otherKey} {
		if status, code, _ := w.post("/v1/events", key, body); status != http.StatusOK {
			t.Errorf("%d %s", status, code)
		}
	}
}
