package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/posthaste-hq/posthaste/webhook"
)

// command runs posthaste against the server and returns its process.
func (s *server) command(args ...string) *process {
	s.t.Helper()
	env := []string{"POSTHASTE_API_KEY=" + testKey, "POSTHASTE_SERVER=" + s.base, "XDG_CONFIG_HOME=" + filepath.Join(s.data, "config"), "NO_COLOR=1"}
	return start(s.t, env, binary, args...)
}

// says runs a command that must succeed and returns its output.
func (s *server) says(args ...string) string {
	s.t.Helper()
	p := s.command(args...)
	if code := p.exit(); code != 0 {
		s.t.Fatalf("%v: exit code %d: %s", args, code, p.out)
	}
	return p.out.String()
}

func pay(card string) object {
	return object{"amount": 2999, "currency": "usd", "payment_method": object{"type": "card", "card": object{"number": card, "exp_month": 12, "exp_year": 2035, "cvc": "123"}}}
}

// The steps of the tutorial: listen forwards to the documentation's receiver, and a payment, a
// decline and a refund arrive and verify.
func TestListen_seed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("node", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	file := filepath.Join(dir, "receiver.js")
	if err := os.WriteFile(file, []byte(read("express-prelude.js")+block(t, "javascript", 0)+read("express-postlude.js")), 0o600); err != nil {
		t.Fatal(err)
	}
	app := node(t, nil, file)
	target := "127.0.0.1:" + app.out.await(t, `ready (\d+)`)[1] + "/webhooks/payment"
	s := serve(t, "")
	secret := strings.TrimSpace(s.says("listen", "--print-secret"))
	if !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("secret %q", secret)
	}
	if _, err := fmt.Fprintln(app.in, secret); err != nil {
		t.Fatal(err)
	}
	app.out.await(t, "secret set")
	l := s.command("listen", "--forward-to", target)
	if got := l.out.await(t, `signing secret is (\S+)`)[1]; got != secret {
		t.Errorf("secret %s, before %s", got, secret)
	}
	paid := s.must("POST", "/v1/payments", pay("4242424242424242"))
	if a, err := s.try("POST", "/v1/payments", pay("4000000000000002")); err != nil || a.status != http.StatusPaymentRequired {
		t.Errorf("decline: %v %d %s", err, a.status, a.body)
	}
	s.must("POST", "/v1/refunds", object{"payment_id": paid["id"]})
	for _, typ := range []string{"payment.succeeded", "payment.failed", "refund.created"} {
		id := l.out.await(t, `--> `+typ+` \[(evt_\w+)\]`)[1]
		l.out.await(t, `\[200\] POST http://`+target+` \[`+id+`\]`)
		if d := s.settled(id)[0]; d.text("status") != "succeeded" || d["last_status_code"] != 200.0 || d["attempts"] != 1.0 {
			t.Errorf("%s: %v", typ, d)
		}
	}
	s.stop()
	if strings.Contains(s.out.String(), "level=ERROR") {
		t.Errorf("stopping with a listener connected:\n%s", s.out)
	}
	l.out.await(t, "The connection ended")
}

// listen is killed and restarted during a burst: it misses no event.
func TestListen_restartedDuringABurst(t *testing.T) {
	t.Parallel()
	const count = 1000
	s := serve(t, "")
	var verifier atomic.Pointer[webhook.Verifier]
	var mu sync.Mutex
	arrived := map[string]int{}
	srv := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || verifier.Load().Verify(r.Header, body) != nil {
			t.Errorf("not genuine: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		arrived[r.Header.Get("Webhook-Id")]++
	})
	v, err := webhook.NewVerifier(strings.TrimSpace(s.says("listen", "--print-secret")))
	if err != nil {
		t.Fatal(err)
	}
	verifier.Store(v)
	listen := func() *process { return s.command("listen", "--forward-to", srv.URL) }
	l := listen()
	l.out.await(t, "Ready")
	var ids []string
	for i := range count {
		ids = append(ids, s.send("payment.succeeded", object{"n": i}).text("id"))
		if i%250 == 125 { // four times, at random moments
			_ = l.cmd.Process.Kill()
			<-l.done
		}
		if i%250 == 200 {
			l = listen()
		}
	}
	s.until("all events to arrive", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(arrived) == count
	})
	twice := 0
	mu.Lock()
	defer mu.Unlock()
	for _, id := range ids {
		if arrived[id] == 0 {
			t.Errorf("%s did not arrive", id)
		}
		if arrived[id] > 1 {
			twice++
		}
	}
	t.Logf("events=%d kills=4 missed=0 twice=%d", count, twice)
}

func TestListen_options(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	for i := range 3 {
		s.send("a.b", object{"n": i})
	}
	s.send("c.d", object{"n": 3})
	bad := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	})
	p := s.command("listen", "--events", "a.*", "--replay-since", "10m", "--forward-to", bad.URL, "--count", "3", "--fail-on-non-2xx")
	if code := p.exit(); code != 1 || bad.count() < 3 || !strings.Contains(p.out.String(), "short and stout") || !strings.Contains(p.out.String(), "[418]") || strings.Contains(p.out.String(), "c.d") {
		t.Errorf("exit code %d after %d requests: %s", code, bad.count(), p.out)
	}
	p = s.command("listen", "--device", "other", "--latest", "2", "--format", "json", "--count", "2")
	if code := p.exit(); code != 0 || strings.Count(p.out.String(), `"kind":"event"`) != 2 || !strings.Contains(p.out.String(), `"type":"c.d"`) {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	p = s.command("listen", "--device", "idle", "--timeout", "1s")
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "stopped after 1s") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	for _, args := range [][]string{{"listen", "--forward-to", "ftp://x"}, {"listen", "--format", "xml"}, {"listen", "--replay-since", "soon"}, {"listen", "--latest", "101"}} {
		if p := s.command(args...); p.exit() != 2 {
			t.Errorf("%v: %s", args, p.out)
		}
	}
	p = s.command("listen", "--device", "a b")
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "without spaces") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	// No receiver: the port is closed.
	gone := receive(t, answers())
	gone.Close()
	p = s.command("listen", "--device", "third", "--latest", "1", "--forward-to", gone.URL, "--count", "1")
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "[ERROR]") || !strings.Contains(p.out.String(), "refused") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	r := receive(t, answers())
	out := s.says("endpoints", "create", r.URL, "--events", "payment.*", "--description", "mine")
	e := decode(t, []byte(out))
	id := e.text("id")
	if !strings.HasPrefix(e.text("secret"), "whsec_") || e.text("description") != "mine" {
		t.Errorf("created: %s", out)
	}
	fields := filepath.Join(t.TempDir(), "fields.json")
	if err := os.WriteFile(fields, []byte(`{"headers":{"X-Team":"pay"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"endpoints", "list"}, id},
		{[]string{"endpoints", "get", id}, `"status": "enabled"`},
		{[]string{"endpoints", "update", id, "--description", "ours", "--metadata", "team=pay,order=", "--events", "payment.*,refund.*"}, `"description": "ours"`},
		{[]string{"endpoints", "update", id, "--retry-schedule", "10s,1h", "--timeout", "1m", "--rate-limit", "2.5", "--max-concurrency", "3", "--ordering", "fifo"}, `"rate_limit": 2.5`},
		{[]string{"endpoints", "update", id, "--fields", fields}, `"X-Team": "********"`},
		{[]string{"endpoints", "get", id}, `"retry_schedule": [
    10,
    3600
  ]`},
		{[]string{"endpoints", "update", id, "--retry-schedule", "default"}, `"retry_schedule": null`},
		{[]string{"endpoints", "disable", id}, `"status": "disabled"`},
		{[]string{"endpoints", "enable", id}, `"status": "enabled"`},
		{[]string{"endpoints", "rotate-secret", id, "--expires-in", "1h"}, `"secret": "whsec_`},
		{[]string{"endpoints", "reveal-secret", id}, e.text("secret")},
		{[]string{"endpoints", "revoke-secret", id}, `"secrets": [`},
		{[]string{"endpoints", "test", id}, "webhook_endpoint.test"},
	} {
		if got := s.says(tt.args...); !strings.Contains(got, tt.says) {
			t.Errorf("%v: %s", tt.args, got)
		}
	}
	line := strings.Fields(s.says("trigger", "payment.succeeded", "--override", "data.object.amount=500", "--override", "data.object.customer.name=Jo"))
	if len(line) != 2 || line[1] != "payment.succeeded" {
		t.Fatalf("triggered: %v", line)
	}
	event := line[0]
	s.settled(event)
	if got := s.says("events", "get", event); !strings.Contains(got, `"amount": 500`) || !strings.Contains(got, `"name": "Jo"`) {
		t.Errorf("event: %s", got)
	}
	file := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(file, []byte(`{"total":1.50}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.says("trigger", "payment.paid", "--data", file, "--count", "3", "--json"); strings.Count(got, `"total":1.5`) != 3 {
		t.Errorf("with a file: %s", got)
	}
	if got := s.says("events", "list", "--type", "payment.paid"); strings.Count(got, "payment.paid") != 3 {
		t.Errorf("events: %s", got)
	}
	s.must("POST", "/v1/event_types", object{"name": "invoice.paid", "samples": []any{object{"object": object{"number": "R-1"}, "previous": object{"due": 3}}}})
	if got := s.says("trigger", "invoice.paid", "--override", "data.object.paid=true", "--json"); !strings.Contains(got, `"data":{"object":{"number":"R-1","paid":true},"previous":{"due":3}}`) {
		t.Errorf("the account's own sample: %s", got)
	}
	if got := s.says("events", "resend", event); !strings.Contains(got, id) {
		t.Errorf("resend: %s", got)
	}
	deliveries := s.says("deliveries", "list", "--event", event)
	if !strings.Contains(deliveries, "STATUS") || !strings.Contains(deliveries, "dlv_") {
		t.Fatalf("deliveries: %s", deliveries)
	}
	i := strings.Index(deliveries, "dlv_")
	delivery := strings.Fields(deliveries[i:])[0]
	s.until("the delivery to succeed", func() bool { return strings.Contains(s.says("deliveries", "get", delivery), "succeeded") })
	for _, args := range [][]string{{"deliveries", "attempts", delivery}, {"deliveries", "retry", delivery}, {"endpoints", "recover", id, "--since", "1h"},
		{"deliveries", "retry-failed", "--endpoint", id, "--type", "payment.*", "--since", "1h", "--until", "0s"}, {"endpoints", "delete", id}} {
		s.says(args...)
	}
	// Errors of the server have a remedy; usage errors.
	p := s.command("events", "get", "evt_x")
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "404: No such event") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	for _, args := range [][]string{{"events", "send"}, {"deliveries", "retri", "--json"}, {"endpoints", "update", id}, {"endpoints", "update", id, "--timeout", "1500ms"},
		{"endpoints", "update", id, "--retry-schedule", "10"}, {"deliveries", "retry-failed", "--until", "soon"}, {"trigger"}, {"trigger", "a.b", "--count", "0"}, {"trigger", "a.b", "--override", "x=1"}, {"events", "list", "--profile", "nobody"}} {
		if p := s.command(args...); p.exit() != 2 {
			t.Errorf("%v: %s", args, p.out)
		}
	}
	// After one login, no environment variables are needed.
	config := "XDG_CONFIG_HOME=" + t.TempDir()
	p = start(t, []string{config, "POSTHASTE_API_KEY=" + testKey}, binary, "login", "--server", s.base)
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "acct_") || strings.Contains(p.out.String(), testKey) {
		t.Errorf("login: exit code %d: %s", code, p.out)
	}
	p = start(t, []string{config}, binary, "events", "list")
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), event) {
		t.Errorf("after login: exit code %d: %s", code, p.out)
	}
	p = start(t, []string{config, "POSTHASTE_API_KEY=sk_test_wrongwrongwrong12"}, binary, "login", "--server", s.base)
	if code := p.exit(); code != 1 {
		t.Errorf("login with a wrong key: exit code %d: %s", code, p.out)
	}
}

// The operator's commands, on a server of another brand.
func TestCommands_operator(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--brand", "Acme")
	env := []string{"POSTHASTE_SERVER=" + s.base, "POSTHASTE_ADMIN_KEY=" + adminKey, "XDG_CONFIG_HOME=" + t.TempDir()}
	run := func(code int, args ...string) string {
		t.Helper()
		p := start(t, env, binary, args...)
		if got := p.exit(); got != code {
			t.Fatalf("%v: exit code %d, want %d: %s", args, got, code, p.out)
		}
		return p.out.String()
	}
	idIn := func(text, prefix string) string {
		t.Helper()
		id := regexp.MustCompile(prefix + `[0-9a-z]{16,}`).FindString(text)
		if id == "" {
			t.Fatalf("no %s in %s", prefix, text)
		}
		return id
	}
	acct := idIn(run(0, "accounts", "create", "Shop", "--rate-limit", "100"), "acct_")
	if got := run(0, "accounts", "update", acct, "--name", "The Shop", "--rate-limit", "-1"); !strings.Contains(got, `"name": "The Shop"`) || !strings.Contains(got, `"rate_limit": null`) {
		t.Errorf("update: %s", got)
	}
	if got := run(0, "accounts", "list"); !strings.Contains(got, acct) || !strings.Contains(got, "The Shop") {
		t.Errorf("list: %s", got)
	}
	run(2, "accounts", "update", acct)
	run(1, "accounts", "get", "acct_none")

	// Keys of the account, of both modes.
	created := run(0, "api-keys", "create", "backend", "--account", acct, "--live")
	secret := regexp.MustCompile(`sk_live_[0-9A-Za-z]+`).FindString(created)
	if secret == "" || !strings.Contains(run(0, "api-keys", "create", "tests", "--account", acct), "sk_test_") {
		t.Fatalf("keys: %s", created)
	}
	key := idIn(created, "key_")
	if got := run(0, "api-keys", "list", "--account", acct); !strings.Contains(got, key) || strings.Contains(got, secret) || !strings.Contains(got, "tests") {
		t.Errorf("list: %s", got)
	}

	// All other commands use the named account and mode.
	test := idIn(run(0, "endpoints", "create", "http://127.0.0.1:9/", "--account", acct), "we_")
	live := idIn(run(0, "endpoints", "create", "https://example.com/", "--account", acct, "--live"), "we_")
	if got := run(0, "endpoints", "list", "--account", acct); !strings.Contains(got, test) || strings.Contains(got, live) {
		t.Errorf("endpoints of test mode: %s", got)
	}
	if got := run(0, "endpoints", "list", "--account", acct, "--live"); strings.Contains(got, test) || !strings.Contains(got, live) {
		t.Errorf("endpoints of live mode: %s", got)
	}
	run(0, "trigger", "payment.succeeded", "--account", acct)
	if got := run(0, "events", "list", "--account", acct); !strings.Contains(got, "payment.succeeded") {
		t.Errorf("events: %s", got)
	}
	if got := run(0, "deliveries", "retry-failed", "--dry-run", "--account", acct); !strings.Contains(got, `"total": 0`) {
		t.Errorf("dry run: %s", got)
	}
	run(2, "deliveries", "retry-failed", "--account", acct)
	run(2, "events", "list", "--live")
	env = append(env, "POSTHASTE_API_KEY="+adminKey)
	if got := run(1, "events", "list"); !strings.Contains(got, "Acme-Account") || !strings.Contains(got, "--account") {
		t.Errorf("without an account: %s", got)
	}
	run(0, "api-keys", "revoke", key, "--account", acct)
	if a := s.call("GET", "/v1/events", nil, "Authorization", "Bearer "+secret); a.err("code") != "api_key_revoked" {
		t.Errorf("a revoked key: %d %s", a.status, a.body)
	}
}
