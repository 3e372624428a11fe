package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/posthaste-hq/posthaste/webhook"
)

// traffic sends events until stop is called, which returns their ids.
func (s *server) traffic(typ string) (sent *atomic.Int64, stop func() []string) {
	var ids []string
	end, wg := make(chan struct{}), sync.WaitGroup{}
	sent = new(atomic.Int64)
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			a, err := s.try("POST", "/v1/events", object{"type": typ, "data": object{"object": object{"n": len(ids)}}})
			if err != nil || a.status != http.StatusOK {
				s.t.Errorf("send: %v %d %s", err, a.status, a.body)
				return
			}
			ids = append(ids, a.object.text("id"))
			sent.Add(1)
		}
	})
	return sent, func() []string {
		close(end)
		wg.Wait()
		return ids
	}
}

// A secret rotates under continuous traffic. The documentation's receiver has one secret at a
// time, and so does a Standard Webhooks receiver; both get the new one before the old one
// expires. No delivery is refused.
func TestRotation_underTraffic(t *testing.T) {
	t.Parallel()
	seed := block(t, "javascript", 0)
	file := filepath.Join(t.TempDir(), "receiver.js")
	prelude, err := os.ReadFile("node/express-prelude.js")
	if err != nil {
		t.Fatal(err)
	}
	postlude, err := os.ReadFile("node/express-postlude.js")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(string(prelude)+seed+string(postlude)), 0o600); err != nil {
		t.Fatal(err)
	}
	app := node(t, nil, file)
	single := "http://127.0.0.1:" + app.out.await(t, `ready (\d+)`)[1] + "/webhooks/payment"

	var verifier atomic.Pointer[standardwebhooks.Webhook]
	var refused atomic.Int64
	standard := receiveVerified(t, &verifier, &refused)

	s := serve(t, "")
	one, two := s.register(single), s.register(standard.URL)
	give := func(o, p object) { // the deployment of a new secret at a receiver
		t.Helper()
		if _, err := fmt.Fprintln(app.in, o.text("secret")); err != nil {
			t.Fatal(err)
		}
		v, err := standardwebhooks.NewWebhook(p.text("secret"))
		if err != nil {
			t.Fatal(err)
		}
		verifier.Store(v)
	}
	give(one, two)
	app.out.await(t, "secret set")
	sent, stop := s.traffic("payment.succeeded")
	after := func(n int64) {
		t.Helper()
		from := sent.Load()
		s.until("more traffic", func() bool { return sent.Load() >= from+n })
	}
	after(50)
	rotate := func(e object) object {
		return s.must("POST", "/v1/webhooks/"+e.text("id")+"/rotate_secret", object{"expires_in": 3600})
	}
	newOne, newTwo := rotate(one), rotate(two)
	if newOne.text("secret") == one.text("secret") {
		t.Fatal("the secret has not changed")
	}
	first := s.send("payment.succeeded", object{"after": "the rotation"}).text("id")
	after(50) // no receiver has the new secrets yet
	s.until("the deliveries from before the rotation, which have one signature, to be settled", func() bool {
		pending := s.must("GET", "/v1/deliveries?status=pending&limit=100", nil)
		return pending["has_more"] != true && !slices.ContainsFunc(pending.list(), func(d object) bool { return d.text("event") < first })
	})
	give(newOne, newTwo)
	s.until("the receiver to have its new secret", func() bool { return strings.Count(app.out.String(), "secret set") == 2 })
	after(50)
	for _, e := range []object{one, two} {
		s.must("POST", "/v1/webhooks/"+e.text("id")+"/revoke_secret", nil)
	}
	after(50)
	ids := stop()
	deliveries, attempts := 0, 0
	for _, id := range ids {
		for _, d := range s.settled(id) {
			deliveries++
			attempts += int(d["attempts"].(float64))
			if d.text("status") != "succeeded" || d["attempts"] != 1.0 {
				t.Errorf("event %s: %v", id, d)
				for _, a := range s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list() {
					t.Errorf("attempt %v: %v %v %v, %v", a["number"], a["outcome"], a["response_status"], a["error"], a["response_body"])
				}
			}
		}
	}
	if deliveries != 2*len(ids) || refused.Load() > 0 {
		t.Errorf("%d deliveries of %d events, %d refused by the Standard Webhooks receiver", deliveries, len(ids), refused.Load())
	}
	t.Logf("events=%d deliveries=%d attempts=%d", len(ids), deliveries, attempts)

	log := s.must("GET", "/v1/audit_log?limit=100", nil).list()
	actions := map[string]int{}
	for _, e := range log {
		actions[e.text("action")]++
	}
	if actions["webhook_endpoint.secret_rotated"] != 2 || actions["webhook_endpoint.secret_revoked"] != 2 {
		t.Errorf("audit log: %v", actions)
	}
}

// receiveVerified answers 401 to deliveries that the verifier refuses.
func receiveVerified(t testing.TB, v *atomic.Pointer[standardwebhooks.Webhook], refused *atomic.Int64) *receiver {
	r := &receiver{}
	r.Server = newServer(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if err := v.Load().Verify(body, req.Header); err != nil {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return r
}

// Receivers verify v1a signatures with the public key alone.
func TestEd25519(t *testing.T) {
	t.Parallel()
	var verifier atomic.Pointer[webhook.Verifier]
	var refused atomic.Int64
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := verifier.Load().Verify(r.Header, body); err != nil {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s := serve(t, "", "--test-schedule", "")
	e := s.register(srv.URL, "signature_schemes", []string{"v1", "v1a"})
	know := func(keys ...string) {
		v, err := webhook.NewVerifier(keys...)
		if err != nil {
			t.Fatal(err)
		}
		verifier.Store(v)
	}
	know(e.text("public_key"))
	delivered := func() {
		t.Helper()
		if d := s.settled(s.send("a.b", object{}).text("id"))[0]; d.text("status") != "succeeded" {
			t.Errorf("got %v", d)
		}
	}
	delivered()
	next := s.must("POST", "/v1/webhooks/"+e.text("id")+"/rotate_secret", object{"expires_in": 3600})
	delivered() // signed with the old key
	know(next.text("public_key"))
	delivered()
	if refused.Load() != 0 {
		t.Errorf("%d refused", refused.Load())
	}
}

// A copy of the data directory contains no secret in clear text.
func TestData_holdsNoSecrets(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	e := s.register("https://example.com/hook", "signature_schemes", []string{"v1", "v1a"}, "headers", object{"X-Api-Key": "header-in-clear"},
		"authentication", object{"type": "oauth2", "grant_type": "password", "token_url": "https://example.com/token", "username": "jane",
			"password": "password-in-clear", "client_id": "c", "client_secret": "client-secret-in-clear"})
	path := "/v1/webhooks/" + e.text("id")
	basic := s.register("https://example.com/hook", "authentication", object{"type": "basic", "username": "u", "password": "basic-in-clear"})
	own := "whsec_" + strings.Repeat("b3du", 8)
	s.register("https://example.com/hook", "secret", own)
	rotated := s.must("POST", path+"/rotate_secret", object{"expires_in": 3600}, "Idempotency-Key", "rotate")
	created := s.must("POST", "/v1/webhooks", object{"url": "https://example.com/hook", "enabled_events": []string{"a.b"}}, "Idempotency-Key", "create")
	revealed := s.must("POST", path+"/reveal_secret", nil, "Idempotency-Key", "reveal")
	if again := s.must("POST", path+"/reveal_secret", nil, "Idempotency-Key", "reveal"); again.text("secret") != revealed.text("secret") {
		t.Error("a repeated request is answered with another secret")
	}
	secrets := []string{e.text("secret"), basic.text("secret"), rotated.text("secret"), created.text("secret"), own,
		"header-in-clear", "password-in-clear", "client-secret-in-clear", "basic-in-clear", testKey, adminKey}
	check := func(when string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(s.data, "*"))
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		dump := 0
		for _, f := range files {
			if filepath.Base(f) == "master-key" {
				continue // it is the key of all others, and may be stored elsewhere
			}
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			dump += len(text)
			for _, secret := range secrets {
				if bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(strings.TrimPrefix(secret, "whsec_"))) {
					t.Errorf("%s: %s holds %s", when, filepath.Base(f), secret)
				}
			}
		}
		t.Logf("%s: searched %d bytes for %d secrets", when, dump, len(secrets))
	}
	check("running")
	s.stop()
	check("stopped")
	for _, secret := range secrets {
		if secret != testKey && strings.Contains(s.out.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestMasterKey(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	file := filepath.Join(s.data, "master-key")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info, err)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, answers())
	e := s.register(r.URL)
	addr := strings.TrimPrefix(s.base, "http://")

	// While the server is running and delivering.
	_, stop := s.traffic("a.b")
	p := start(t, []string{"POSTHASTE_ADMIN_KEY=" + adminKey}, binary, "keys", "rotate-master", "--data", s.data, "--addr", addr)
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "re-encrypted") {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	for _, id := range stop() {
		if d := s.settled(id)[0]; d["attempts"] != 1.0 || d.text("status") != "succeeded" {
			t.Errorf("delivery during the rotation: %v", d)
		}
	}
	second, err := os.ReadFile(file)
	if err != nil || bytes.Equal(first, second) || bytes.Count(second, []byte("\n")) != 1 {
		t.Errorf("the key file has %d lines, %v", bytes.Count(second, []byte("\n")), err)
	}
	if log := s.must("GET", "/v1/audit_log", nil, "Authorization", "Bearer "+adminKey).list(); len(log) == 0 || log[0].text("action") != "master_key.rotated" {
		t.Errorf("audit log of the server: %v", log)
	}
	s.stop()

	// With the server stopped.
	p = start(t, nil, binary, "keys", "rotate-master", "--data", s.data)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	again := serve(t, s.data)
	if got := again.must("POST", "/v1/webhooks/"+e.text("id")+"/reveal_secret", nil); got.text("secret") != e.text("secret") {
		t.Error("the secret did not survive")
	}
	again.stop()

	// A wrong key is refused, with the identifiers of both keys.
	for name, env := range map[string]string{"the first": string(first), "the second": string(second)} {
		p := start(t, []string{"POSTHASTE_MASTER_KEY=" + strings.TrimSpace(env)}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", s.data)
		if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "the master key does not match the data") {
			t.Errorf("with %s key: exit code %d: %s", name, code, p.out)
		}
	}
	// Two keys from the environment: the first one seals from now on.
	third, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	both := "POSTHASTE_MASTER_KEY=" + strings.TrimSpace(string(first)) + "," + strings.TrimSpace(string(third))
	p = start(t, []string{both}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", s.data)
	p.out.await(t, "the other keys can be removed")
	_ = p.cmd.Process.Kill()
	<-p.done
	p = start(t, []string{"POSTHASTE_MASTER_KEY=" + strings.TrimSpace(string(first))}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", s.data)
	p.out.await(t, "msg=listening")

	// An interrupted rotation left both keys in the file: the next start continues it.
	_ = p.cmd.Process.Kill()
	<-p.done
	if code := start(t, nil, binary, "keys", "new-master", "--out", file+".next").exit(); code != 0 {
		t.Fatal("no key")
	}
	next, err := os.ReadFile(file + ".next")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(bytes.Clone(next), first...), 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, nil, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", s.data)
	p.out.await(t, "the other keys can be removed")
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, next) {
		t.Errorf("after the rotation went on, the file holds %d keys, %v", bytes.Count(now, []byte("\n")), err)
	}

	// A key file that others can read is refused.
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "master-key"), first, 0o644); err != nil {
		t.Fatal(err)
	}
	p = start(t, nil, binary, "serve", "--data", data)
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "chmod 600") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	// Outside development mode, no key is created silently.
	p = start(t, nil, binary, "serve", "--data", t.TempDir())
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "posthaste keys new-master") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

// An endpoint fails, is disabled, and works again: recover sends all the events that it missed,
// in order, and none twice.
func TestRecover(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	var mu sync.Mutex
	arrived := map[string]int{}
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		arrived[r.Header.Get("Webhook-Id")]++
	})
	s := serve(t, "", "--test-schedule", "")
	e := s.register(srv.URL)
	path := "/v1/webhooks/" + e.text("id")
	var all []string
	send := func(n int) {
		for range n {
			all = append(all, s.send("a.b", object{"n": len(all)}).text("id"))
		}
	}
	send(3)
	s.settled(all[2])
	down.Store(true)
	send(8)
	for _, id := range all[3:] {
		s.settled(id)
	}
	s.must("POST", path+"/disable", nil)
	send(5) // without an endpoint: no delivery exists
	if a, err := s.try("POST", path+"/recover", object{"since": 0}); err != nil || a.status != http.StatusBadRequest || a.err("code") != "endpoint_disabled" {
		t.Errorf("while disabled: %v %s", err, a.body)
	}
	down.Store(false)
	s.must("POST", path+"/enable", nil)
	job := s.must("POST", path+"/recover", object{"since": e["created"]}, "Idempotency-Key", "recover")
	if again := s.must("POST", path+"/recover", object{"since": e["created"]}, "Idempotency-Key", "recover"); again.text("id") != job.text("id") {
		t.Errorf("the same request started another job: %v", again)
	}
	s.until("the job to end", func() bool {
		job = s.must("GET", "/v1/jobs/"+job.text("id"), nil)
		return job.text("status") != "running"
	})
	if job.text("status") != "succeeded" || job["requeued"] != 13.0 || job["scanned"] != 16.0 || job["total"] != 16.0 {
		t.Errorf("job: %v", job)
	}
	s.until("all of them to arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(arrived) >= len(all)
	})
	mu.Lock()
	defer mu.Unlock()
	for _, id := range all {
		if arrived[id] != 1 {
			t.Errorf("%s arrived %d times", id, arrived[id])
		}
	}
}

// A job continues after kill -9.
func TestRecover_afterACrash(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	s := serve(t, "", "--test-schedule", "")
	e := s.register(r.URL)
	s.must("POST", "/v1/webhooks/"+e.text("id")+"/disable", nil)
	const count = 40
	for i := range count {
		s.send("a.b", object{"n": i})
	}
	s.must("POST", "/v1/webhooks/"+e.text("id")+"/enable", nil)
	job := s.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", object{"since": 0})
	s.kill() // the job pauses before its last step, so it is still running
	s = serve(t, s.data, "--test-schedule", "")
	s.until("the job to end", func() bool {
		return s.must("GET", "/v1/jobs/"+job.text("id"), nil).text("status") == "succeeded"
	})
	s.until("all events to arrive", func() bool { return r.count() == count })
}

// The operator's receiver is notified of problems in all accounts, and its URL may be one that
// is forbidden for endpoints.
func TestOperatorReceiver(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + strings.Repeat("b3du", 8)
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var heard []object
	operator := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := verifier.Verify(r.Header, body); err != nil {
			t.Errorf("operator's receiver: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, decode(t, body))
	})
	gone := receive(t, answers(http.StatusGone))
	data := t.TempDir()
	env := []string{"POSTHASTE_TEST_KEY=" + testKey, "POSTHASTE_NOTIFY_SECRET=" + secret}
	p := start(t, env, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--notify-url", operator.URL)
	s := &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}
	e := s.register(gone.URL, "enabled_events", []string{"a.b"})
	s.send("a.b", object{})
	s.until("the operator to hear of it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, h := range heard {
			o, _ := h["data"].(map[string]any)["object"].(map[string]any)
			if h.text("type") == "webhook_endpoint.disabled" && o["id"] == e.text("id") && strings.HasPrefix(fmt.Sprint(o["account"]), "acct_") {
				return true
			}
		}
		return false
	})
	if list := s.must("GET", "/v1/webhooks", nil).list(); len(list) != 1 {
		t.Errorf("an account sees %d endpoints, want its own", len(list))
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--rate-limit", "5")
	var last answer
	ok := 0
	for range 8 {
		a, err := s.try("GET", "/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		if last = a; a.status == http.StatusOK {
			ok++
		}
	}
	if ok != 5 || last.status != http.StatusTooManyRequests || last.err("code") != "rate_limit_exceeded" || last.err("type") != "rate_limit_error" {
		t.Errorf("%d went through, the last: %d %s", ok, last.status, last.body)
	}
	for name, want := range map[string]string{"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0"} {
		if got := last.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if last.header.Get("Retry-After") == "" || last.header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("headers: %v", last.header)
	}
	// The operator has no limit, and raises the account's.
	acct := s.must("GET", "/v1/accounts", nil, "Authorization", "Bearer "+adminKey).list()[0]
	s.must("POST", "/v1/accounts/"+acct.text("id"), object{"rate_limit": 1000}, "Authorization", "Bearer "+adminKey)
	s.until("the new limit to hold", func() bool {
		a, err := s.try("GET", "/v1/events", nil)
		return err == nil && a.status == http.StatusOK && a.header.Get("X-RateLimit-Limit") == "1000"
	})
}

func TestMeta(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--egress-addresses", "203.0.113.7,2001:db8::/64")
	resp, err := http.Get(s.base + "/v1/meta")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"egress_addresses":["203.0.113.7","2001:db8::/64"]`) {
		t.Errorf("%v %d %s", err, resp.StatusCode, body)
	}
}

// The reminder about an old secret is sent once.
func TestSecretRotationDue(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	s := serve(t, "", "--secret-max-age", "1ns")
	s.register(r.URL, "enabled_events", []string{"webhook_endpoint.*"})
	s.stop()
	s = serve(t, s.data, "--secret-max-age", "1ns")
	s.until("the reminder", func() bool { return r.count() == 1 })
	r.mu.Lock()
	body := string(r.bodies[0])
	r.mu.Unlock()
	if !strings.Contains(body, "webhook_endpoint.secret_rotation_due") {
		t.Errorf("got %s", body)
	}
	s.stop()
	s = serve(t, s.data, "--secret-max-age", "1ns")
	s.until("the server to be up for a while", func() bool { return s.must("GET", "/v1/events", nil) != nil })
	if n := len(s.must("GET", "/v1/events", nil).list()); n != 1 {
		t.Errorf("%d events, want the one reminder", n)
	}
}
