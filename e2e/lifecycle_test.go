package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	svix "github.com/svix/svix-webhooks/go"

	"github.com/posthaste-hq/posthaste/webhook"
)

// receiver is an HTTP server whose responses a test sets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   [][]byte
	arrivals []time.Time
}

func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = newServer(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.requests, r.bodies, r.arrivals = append(r.requests, req), append(r.bodies, body), append(r.arrivals, time.Now())
		r.mu.Unlock()
		answer(w, req)
	})
	return r
}

func newServer(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

func decode(t testing.TB, body []byte) (o object) {
	t.Helper()
	if err := json.Unmarshal(body, &o); err != nil {
		t.Error(err)
	}
	return o
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

// answers answers with the codes in turn, then with 200.
func answers(codes ...int) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		if i := int(n.Add(1)) - 1; i < len(codes) {
			w.WriteHeader(codes[i])
		}
	}
}

func TestLibraries_go(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	s := serve(t, "")
	secret := s.register(r.URL).text("secret")
	for _, odd := range oddObjects {
		s.settled(s.must("POST", "/v1/events", `{"type":"payment.failed","data":{"object":`+odd+`}}`).text("id"))
	}
	sw, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sx, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	own, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	if r.count() != len(oddObjects) {
		t.Fatalf("%d deliveries, want %d", r.count(), len(oddObjects))
	}
	for i, body := range r.bodies {
		for name, verify := range map[string]func([]byte, http.Header) error{
			"standardwebhooks": sw.Verify, "svix": sx.Verify,
			"webhook": func(b []byte, h http.Header) error { return own.Verify(h, b) },
			"webhook, plain": func(b []byte, h http.Header) error {
				return own.Verify(http.Header{"Payment-Signature": h["Payment-Signature"]}, b)
			},
		} {
			if err := verify(body, r.requests[i].Header); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := verify(append([]byte(" "), body...), r.requests[i].Header); err == nil {
				t.Errorf("%s accepts a body with a space before it", name)
			}
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	r := receive(t, answers(500, 302, 429))
	s := serve(t, "", "--test-schedule", "1s,1s,1s,1s")
	s.register(r.URL)
	d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
	if d.text("status") != "succeeded" || d["attempts"] != 4.0 {
		t.Fatalf("delivery %v", d)
	}
	var outcomes []string
	for _, a := range s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list() {
		outcomes = append(outcomes, a.text("outcome"))
	}
	if got := strings.Join(outcomes, " "); got != "succeeded throttled redirected server_error" {
		t.Errorf("outcomes, newest first: %s", got)
	}
	for i := 1; i < len(r.bodies); i++ {
		if string(r.bodies[i]) != string(r.bodies[0]) || r.requests[i].Header.Get("Webhook-Id") != r.requests[0].Header.Get("Webhook-Id") {
			t.Errorf("attempt %d differs in body or id", i+1)
		}
	}
}

// A receiver's Retry-After can delay the retry beyond the schedule, and never makes it earlier.
func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		code         int
		wait         time.Duration // at least
	}{
		{"429", "3", 429, 3 * time.Second},
		{"503", "3", 503, 3 * time.Second},
		{"date", "", 429, 3 * time.Second},
		{"sooner than the schedule", "0", 429, time.Second},
		{"not with 500", "60", 500, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
				if n.Add(1) > 1 {
					return
				}
				header := tt.header
				if header == "" { // a date has whole seconds, so one more
					header = time.Now().Add(tt.wait + time.Second).UTC().Format(http.TimeFormat)
				}
				w.Header().Set("Retry-After", header)
				w.WriteHeader(tt.code)
			})
			s := serve(t, "", "--test-schedule", "1s")
			s.register(r.URL)
			d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
			if d.text("status") != "succeeded" || r.count() != 2 {
				t.Fatalf("%d requests, delivery %v", r.count(), d)
			}
			// A busy machine may add some delay, but not a minute.
			if gap := r.arrivals[1].Sub(r.arrivals[0]); gap < tt.wait-50*time.Millisecond || gap > tt.wait+30*time.Second {
				t.Errorf("retried after %s, want %s", gap, tt.wait)
			}
		})
	}
}

// A redirect is a failure, and its target receives no request.
func TestRedirect_isNotFollowed(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			elsewhere := receive(t, answers())
			r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.URL+"/stolen")
				w.WriteHeader(code)
			})
			s := serve(t, "", "--test-schedule", "")
			s.register(r.URL)
			d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
			if d.text("status") != "failed" || d.text("last_outcome") != "redirected" || d["last_status_code"] != float64(code) {
				t.Errorf("delivery %v", d)
			}
			if r.count() != 1 || elsewhere.count() != 0 {
				t.Errorf("%d requests to the endpoint, %d to where it points", r.count(), elsewhere.count())
			}
		})
	}
}

func TestExhausted_thenRetried(t *testing.T) {
	t.Parallel()
	r := receive(t, answers(500, 500))
	s := serve(t, "", "--test-schedule", "1s")
	s.register(r.URL)
	d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
	if d.text("status") != "failed" {
		t.Fatalf("delivery %v", d)
	}
	if failed := s.must("GET", "/v1/deliveries?status=failed", nil).list(); len(failed) != 1 || failed[0].text("id") != d.text("id") {
		t.Errorf("dead letters: %v", failed)
	}
	s.must("POST", "/v1/deliveries/"+d.text("id")+"/retry", nil)
	if d := s.settled(d.text("event"))[0]; d.text("status") != "succeeded" || d["attempts"] != 3.0 {
		t.Errorf("after retry: %v", d)
	}
}

func TestGone_disables(t *testing.T) {
	t.Parallel()
	r := receive(t, answers(410))
	watch := receive(t, answers())
	s := serve(t, "")
	e := s.register(r.URL)
	s.must("POST", "/v1/webhooks", object{"url": watch.URL, "enabled_events": []string{"webhook_endpoint.*"}})
	d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
	if d.text("status") != "failed" || d.text("last_outcome") != "gone" {
		t.Errorf("delivery %v", d)
	}
	s.until("the endpoint to be disabled", func() bool {
		return s.must("GET", "/v1/webhooks/"+e.text("id"), nil).text("disabled_reason") == "gone"
	})
	s.until("webhook_endpoint.disabled", func() bool { return watch.count() == 1 })
	if !strings.Contains(string(watch.bodies[0]), `"type":"webhook_endpoint.disabled"`) || !strings.Contains(string(watch.bodies[0]), e.text("id")) {
		t.Errorf("announced %s", watch.bodies[0])
	}
	if id := s.send("payment.succeeded", object{"id": "pay_2"}).text("id"); len(s.must("GET", "/v1/events/"+id+"/deliveries", nil).list()) != 0 {
		t.Error("a disabled endpoint still gets deliveries")
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	r := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	s := serve(t, "", "--timeout", "1s", "--test-schedule", "")
	s.register(r.URL)
	d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
	if d.text("status") != "failed" || d.text("last_outcome") != "timeout" {
		t.Errorf("delivery %v", d)
	}
	tried := s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list()
	if took, _ := tried[0]["duration_ms"].(float64); len(tried) != 1 || took < 1000 || took >= 15_000 { // the default timeout
		t.Errorf("%d attempts, the last took %v ms, want one of 1000", len(tried), took)
	}
}

func TestEndpoint_switchAndDelete(t *testing.T) {
	t.Parallel()
	r := receive(t, answers(500))
	s := serve(t, "", "--test-schedule", "1h")
	e := s.register(r.URL)
	id := e.text("id")
	first := s.send("payment.succeeded", object{"id": "pay_1"}).text("id")
	s.until("the first attempt", func() bool {
		d := s.must("GET", "/v1/deliveries?endpoint="+id, nil).list()
		return len(d) == 1 && d[0]["attempts"] == 1.0
	})
	if got := s.must("POST", "/v1/webhooks/"+id+"/disable", nil); got.text("status") != "disabled" {
		t.Errorf("disabled: %v", got)
	}
	if a := s.call("POST", "/v1/webhooks/"+id+"/test", nil); a.status != 400 || a.err("code") != "endpoint_disabled" {
		t.Errorf("test of a disabled endpoint: %d %s", a.status, a.body)
	}
	s.must("POST", "/v1/webhooks/"+id+"/enable", nil)
	s.must("POST", "/v1/webhooks/"+id+"/test", object{"type": "payment.failed"})
	s.until("the test event", func() bool { return r.count() == 2 })
	if a := s.call("DELETE", "/v1/webhooks/"+id, nil); a.status != 200 || a.object["deleted"] != true {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	if d := s.settled(first)[0]; d.text("status") != "canceled" || d.text("endpoint") != id {
		t.Errorf("pending delivery of a deleted endpoint: %v", d)
	}
	if a := s.call("GET", "/v1/webhooks/"+id, nil); a.status != 404 {
		t.Errorf("deleted endpoint: %d", a.status)
	}
}

func TestRestart_keepsEverything(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	data := t.TempDir()
	s := serve(t, data, "--test-schedule", "2s,2s,2s")
	operator := []string{"Authorization", "Bearer " + adminKey}
	me, _ := s.must("GET", "/v1/account", nil)["account"].(map[string]any)
	made := s.must("POST", "/v1/api_keys", object{"name": "backend"}, append(operator, "Payment-Account", object(me).text("id"))...)
	backend := []string{"Authorization", "Bearer " + made.text("secret")}
	e := s.register(r.URL, "description", "kept", "metadata", object{"order": "6735"}, "enabled_events", []string{"payment.*"})
	off := s.register("https://example.com/off")
	s.must("POST", "/v1/webhooks/"+off.text("id")+"/disable", nil)
	before := s.call("GET", "/v1/webhooks", nil, backend...).body
	id := s.send("payment.succeeded", object{"id": "pay_1"}).text("id")
	s.until("a first attempt", func() bool {
		return s.must("GET", "/v1/events/"+id+"/deliveries", nil).list()[0]["attempts"] == 1.0
	})
	pending := s.call("GET", "/v1/events/"+id+"/deliveries", nil).body
	s.stop()

	s = serve(t, data, "--test-schedule", "2s,2s,2s")
	if after := s.call("GET", "/v1/webhooks", nil, backend...); after.status != 200 || after.body != before {
		t.Errorf("endpoints, asked for with a key made before the restart: %d %s, want %s", after.status, after.body, before)
	}
	if after := s.call("GET", "/v1/events/"+id+"/deliveries", nil).body; r.count() == 1 && after != pending {
		t.Errorf("pending delivery: %s, want %s", after, pending)
	}
	up.Store(true)
	if d := s.settled(id)[0]; d.text("status") != "succeeded" || d.text("endpoint") != e.text("id") {
		t.Errorf("after the restart: %v", d)
	}
	last := r.count() - 1
	if got, want := r.requests[last].Header.Get("Payment-Signature"), signature(e.text("secret"), string(r.bodies[last])); got != want {
		t.Errorf("signature %s, with the secret from before the restart %s", got, want)
	}
	if string(r.bodies[last]) != string(r.bodies[0]) {
		t.Errorf("body %s, before the restart %s", r.bodies[last], r.bodies[0])
	}
	s.stop()
}

// The server waits for a short attempt under way, which is not repeated.
func TestStop_waitsForAnAttempt(t *testing.T) {
	t.Parallel()
	const hold = 500 * time.Millisecond // from when the server accepts no more requests
	started, closed := make(chan struct{}, 8), make(chan struct{})
	var cut atomic.Int64
	r := receive(t, func(_ http.ResponseWriter, req *http.Request) {
		started <- struct{}{}
		select {
		case <-closed:
		case <-req.Context().Done():
			cut.Add(1)
			return
		}
		select {
		case <-time.After(hold):
		case <-req.Context().Done():
			cut.Add(1)
		}
	})
	s := serve(t, "")
	s.register(r.URL)
	id := s.send("payment.succeeded", object{"id": "pay_1"}).text("id")
	<-started
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.until("the server to take no more requests", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(closed)
	if code := s.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if cut.Load() != 0 {
		t.Error("the attempt was cut off")
	}
	again := serve(t, s.data)
	if d := again.settled(id)[0]; d.text("status") != "succeeded" || d["attempts"] != 1.0 || r.count() != 1 {
		t.Errorf("%d requests, delivery %v", r.count(), d)
	}
}

func TestStop_withAnAttemptUnderWay(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}, 8), make(chan struct{})
	r := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	data := t.TempDir()
	s := serve(t, data, "--stop-timeout", "1s")
	s.register(r.URL)
	id := s.send("payment.succeeded", object{"id": "pay_1"}).text("id")
	<-started
	s.stop() // cancels the attempt after a second
	s = serve(t, data)
	if d := s.must("GET", "/v1/events/"+id+"/deliveries", nil).list()[0]; d.text("status") != "pending" || d["attempts"] != 0.0 {
		t.Errorf("given back: %v", d)
	}
	<-started // and it is repeated
}

func TestSecondServer_refuses(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	p := start(t, nil, binary, "serve", "--addr", "127.0.0.1:0", "--data", s.data)
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "another server is running") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"serve", "--nonsense"}, {"serve", "--timeout", "1h"}, {"nonsense"}, {"serve", "surplus"}} {
		p := start(t, nil, binary, args...)
		if code := p.exit(); code != 2 || !strings.Contains(p.out.String(), "--help") {
			t.Errorf("%v: exit code %d: %s", args, code, p.out)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new")
	p := start(t, nil, binary, "migrate", "--data", data)
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "up to date") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestTargets_outsideDevelopment(t *testing.T) {
	t.Parallel()
	s := serveWith(t, "")
	for _, target := range []string{"http://127.0.0.1:1/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://localhost/", "http://2130706433/"} {
		a := s.call("POST", "/v1/webhooks", object{"url": target, "enabled_events": []string{"*"}})
		if a.status != 400 || a.err("param") != "url" || a.err("code") != "url_target_forbidden" {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
	if n := len(s.must("GET", "/v1/webhooks", nil).list()); n != 0 {
		t.Errorf("%d endpoints remain", n)
	}
}

// The target is checked again at each attempt: an endpoint that was registered while loopback
// was allowed receives nothing when it is not.
func TestTargets_atDelivery(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	data := t.TempDir()
	s := serve(t, data)
	s.register(r.URL)
	s.stop()
	s = serveWith(t, data, "--test-schedule", "")
	d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
	if d.text("status") != "failed" || d.text("last_outcome") != "forbidden_target" {
		t.Errorf("delivery %v", d)
	}
	if r.count() != 0 {
		t.Errorf("%d requests arrived", r.count())
	}
}

func TestOperator_makesAccounts(t *testing.T) {
	t.Parallel()
	s := serveWith(t, "")
	operator := []string{"Authorization", "Bearer " + adminKey}
	acme := s.must("POST", "/v1/accounts", object{"name": "Acme"}, operator...)
	in := append(operator, "Payment-Account", acme.text("id"))
	key := s.must("POST", "/v1/api_keys", object{"livemode": true, "name": "backend"}, in...)
	live := []string{"Authorization", "Bearer " + key.text("secret")}
	if a := s.call("POST", "/v1/webhooks", object{"url": "http://example.com/", "enabled_events": []string{"*"}}, live...); a.status != 400 || a.err("param") != "url" {
		t.Errorf("http in live mode: %d %s", a.status, a.body)
	}
	e := s.must("POST", "/v1/webhooks", object{"url": "https://example.com/", "enabled_events": []string{"*"}}, live...)
	if e["livemode"] != true {
		t.Errorf("endpoint %v", e)
	}
	// The test key of another account cannot see it, and neither can the operator in test mode.
	for name, header := range map[string][]string{"other account": nil, "operator, test mode": in} {
		if a := s.call("GET", "/v1/webhooks/"+e.text("id"), nil, header...); a.status != 404 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	if a := s.call("GET", "/v1/webhooks/"+e.text("id"), nil, append(in, "Payment-Mode", "live")...); a.status != 200 {
		t.Errorf("operator, live mode: %d", a.status)
	}
	if a := s.call("POST", "/v1/accounts", object{"name": "x"}); a.status != 403 {
		t.Errorf("an account key created an account: %d", a.status)
	}
	s.must("DELETE", "/v1/api_keys/"+key.text("id"), nil, in...)
	if a := s.call("GET", "/v1/webhooks", nil, live...); a.status != 401 || a.err("code") != "api_key_revoked" {
		t.Errorf("revoked key: %d %s", a.status, a.body)
	}
}

// A development server without POSTHASTE_TEST_KEY reuses the key of its last start, and has at
// most one.
func TestDevKey(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "test-key")
	begin := func() (*server, string) {
		p := start(t, nil, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data)
		key := p.out.await(t, `Test key      (sk_test_\S+)`)[1]
		return &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}, key
	}
	list := func(s *server, key string) []object {
		return s.must("GET", "/v1/api_keys", nil, "Authorization", "Bearer "+key).list()
	}
	s, first := begin()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	s.stop()
	s, again := begin()
	if again != first || len(list(s, again)) != 1 {
		t.Errorf("key %s after %s, of %d", again, first, len(list(s, again)))
	}
	s.stop()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s, other := begin()
	if a := s.call("GET", "/v1/account", nil, "Authorization", "Bearer "+first); other == first || a.err("code") != "api_key_revoked" {
		t.Errorf("the first key after the second, %s: %d %s", other, a.status, a.body)
	}
	operator, err := os.ReadFile(filepath.Join(data, "operator-key"))
	if err != nil {
		t.Fatal(err)
	}
	as := []string{"Authorization", "Bearer " + strings.TrimSpace(string(operator)), "Payment-Account", s.must("GET", "/v1/account", nil, "Authorization", "Bearer "+other)["account"].(map[string]any)["id"].(string)}
	for _, k := range list(s, other) {
		if k["revoked"] == nil {
			s.must("DELETE", "/v1/api_keys/"+k.text("id"), nil, as...)
		}
	}
	s.stop()
	s, third := begin() // a revoked key stays revoked
	if third == other || s.call("GET", "/v1/account", nil, "Authorization", "Bearer "+third).status != http.StatusOK {
		t.Errorf("key %s after %s was revoked", third, other)
	}
	s.stop()
	if err := os.WriteFile(file, []byte("sk_test_\nnonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, fourth := begin(); !strings.HasPrefix(fourth, "sk_test_") || fourth == third {
		t.Errorf("key %s for a file of nonsense", fourth)
	}
}

// The first operator key is only in a file that only its owner can read.
func TestFirstOperatorKey(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if code := start(t, nil, binary, "keys", "new-master", "--out", filepath.Join(data, "master-key")).exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	p := start(t, nil, binary, "serve", "--addr", "127.0.0.1:0", "--data", data)
	s := &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}
	file := filepath.Join(data, "operator-key")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	key := strings.TrimSpace(string(text))
	s.must("POST", "/v1/accounts", object{"name": "Acme"}, "Authorization", "Bearer "+key)
	if strings.Contains(p.out.String(), key) {
		t.Error("the key is in the log")
	}
}

func TestLog_holdsNoSecrets(t *testing.T) {
	t.Parallel()
	r := receive(t, answers(500))
	s := serve(t, "", "--log-level", "debug", "--test-schedule", "")
	secret := s.register(r.URL + "/hook?token=querysecret").text("secret")
	const marker = "card-4242-marker"
	s.settled(s.send("payment.succeeded", object{"note": marker}).text("id"))
	s.call("POST", "/v1/events", `{"type":"`+marker+`"}`)
	s.call("POST", "/v1/events", `{"type":"a.b","`+marker+`":1}`)
	s.call("GET", "/v1/events", nil, "Authorization", "Bearer sk_test_wrongkeywrongkey")
	s.stop()
	banner, log, _ := strings.Cut(s.out.String(), "msg=listening")
	if !strings.Contains(banner, testKey) {
		t.Error("development mode does not show the test key")
	}
	if !strings.Contains(log, "route=/v1/events") {
		t.Fatalf("requests are not logged:\n%s", log)
	}
	for name, hidden := range map[string]string{
		"API key": testKey, "operator key": adminKey, "unknown key": "wrongkeywrongkey", "signing secret": strings.TrimPrefix(secret, "whsec_"), "payload": marker, "URL query": "querysecret",
	} {
		if strings.Contains(log, hidden) {
			t.Errorf("the log holds a %s:\n%s", name, log)
		}
	}
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	r := receive(t, answers())
	s := serve(t, data)
	s.register(r.URL)
	body := `{"type":"payment.succeeded","data":{"object":{"id":"pay_1"}}}`
	first := s.call("POST", "/v1/events", body, "Idempotency-Key", "order-1")
	s.settled(first.object.text("id"))
	s.kill() // the acknowledged change is on disk, including its key
	s = serve(t, data)
	again := s.call("POST", "/v1/events", body, "Idempotency-Key", "order-1")
	if again.status != 200 || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %d %s", again.status, again.body)
	}
	other := s.call("POST", "/v1/events", strings.Replace(body, "pay_1", "pay_2", 1), "Idempotency-Key", "order-1")
	if other.status != 422 || other.err("type") != "idempotency_replay_mismatch" {
		t.Errorf("other body: %d %s", other.status, other.body)
	}
	if n := len(s.must("GET", "/v1/events", nil).list()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	made := s.call("POST", "/v1/webhooks", `{"url":"https://example.com","enabled_events":["*"]}`, "Idempotency-Key", "endpoint-1")
	again = s.call("POST", "/v1/webhooks", `{"url":"https://example.com","enabled_events":["*"]}`, "Idempotency-Key", "endpoint-1")
	if again.body != made.body || len(s.must("GET", "/v1/webhooks", nil).list()) != 2 {
		t.Errorf("endpoint: %s, then %s", made.body, again.body)
	}
}

func TestFIFO(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []int
	fails := 0
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var e struct {
			Data struct{ Object struct{ N int } }
		}
		if err := json.NewDecoder(req.Body).Decode(&e); err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if n := e.Data.Object.N; n%40 == 7 && fails <= n/40 {
			fails++
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		order = append(order, e.Data.Object.N)
	}))
	t.Cleanup(r.Close)
	s := serve(t, "", "--test-schedule", "1s,1s,1s,1s")
	s.register(r.URL, "ordering", "fifo")
	const total = 120
	for n := range total {
		s.send("payment.succeeded", object{"n": n})
	}
	s.until("all events", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(order) >= total
	})
	mu.Lock()
	defer mu.Unlock()
	for i, n := range order {
		if n != i {
			t.Fatalf("out of order at %d: %v", i, order)
		}
	}
	if fails != 3 {
		t.Errorf("%d failures, want 3: the test proves little", fails)
	}
}

func TestSigterm_underLoad(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	s := serve(t, "")
	s.register(r.URL)
	var wg sync.WaitGroup
	var accepted sync.Map // ids
	var n atomic.Int64
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				a, err := s.try("POST", "/v1/events", fmt.Sprintf(`{"type":"a.b","data":{"object":{"i":%d}}}`, i))
				if err != nil || a.status != 200 {
					return
				}
				accepted.Store(a.object.text("id"), true)
				n.Add(1)
			}
		})
	}
	s.until("some load", func() bool { return n.Load() > 200 })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if code := s.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	again := serve(t, s.data)
	again.until("every accepted event", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		arrived := map[any]bool{}
		for _, req := range r.requests {
			arrived[req.Header.Get("Webhook-Id")] = true
		}
		all := true
		accepted.Range(func(id, _ any) bool {
			all = arrived[id]
			return all
		})
		return all
	})
}
