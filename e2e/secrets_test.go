package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The server stores secrets of every kind; then all that it shows or writes is searched for
// them.
func TestSecrets_showNowhere(t *testing.T) {
	t.Parallel()
	const notifySecret = "whsec_bm90aWZ5bm90aWZ5bm90aWZ5bm90aWZ5bm90aWZ5bm8="
	data := t.TempDir()
	if err := os.Chmod(data, 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"POSTHASTE_TEST_KEY=" + testKey, "POSTHASTE_ADMIN_KEY=" + adminKey, "POSTHASTE_EGRESS_PROXY=http://carrier:proxy-in-clear@127.0.0.1:1",
		"POSTHASTE_BROKERS=queue=amqp://carrier:broker-in-clear@127.0.0.1:1", "POSTHASTE_OTLP_ENDPOINT=http://carrier:collector-in-clear@127.0.0.1:1",
		"POSTHASTE_SMTP_ADDR=127.0.0.1:1", "POSTHASTE_SMTP_FROM=a@example.com", "POSTHASTE_SMTP_TO=b@example.com", "POSTHASTE_SMTP_USERNAME=carrier", "POSTHASTE_SMTP_PASSWORD=smtp-in-clear",
		"POSTHASTE_NOTIFY_URL=http://127.0.0.1:1/operator?token=notify-in-clear", "POSTHASTE_NOTIFY_SECRET=" + notifySecret}
	p := start(t, env, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--log-level", "debug", "--test-schedule", "")
	s := &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}
	password := p.out.await(t, `Password +(\S+)`)[1]
	operator := []string{"Authorization", "Bearer " + adminKey}
	account := s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)

	e := s.register("http://127.0.0.1:1/hook", "headers", object{"X-Api-Key": "header-in-clear"}, "authentication",
		object{"type": "oauth2", "grant_type": "password", "token_url": "http://127.0.0.1:1/token", "username": "jane", "password": "password-in-clear", "client_id": "c", "client_secret": "client-secret-in-clear"})
	basic := s.register("http://127.0.0.1:1/basic", "authentication", object{"type": "basic", "username": "u", "password": "basic-in-clear"})
	rotated := s.must("POST", "/v1/webhooks/"+e.text("id")+"/rotate_secret", object{"expires_in": 3600})
	key := s.must("POST", "/v1/api_keys", object{"name": "shown once"}, append(operator, "Payment-Account", account)...)
	s.must("POST", "/v1/users", object{"name": "bob", "role": "viewer", "password": "user-in-clear-1234"}, operator...)
	portal := s.must("POST", "/v1/portal_sessions", nil)
	card := object{"number": "5555555555554444", "exp_month": 12, "exp_year": 2030, "cvc": "987"}
	payment := s.must("POST", "/v1/payments", object{"amount": 2999, "currency": "usd", "payment_method": object{"type": "card", "card": card}})
	sent := s.send("a.b", object{"n": 1}).text("id")
	deliveries := s.settled(sent)

	browser, session := s.signIn("admin", password)
	master, err := os.ReadFile(filepath.Join(data, "master-key"))
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(portal.text("url"), "/portal/")
	token, _, _ = strings.Cut(token, "/")
	secrets := map[string]string{
		"API key": testKey, "operator key": adminKey, "made API key": key.text("secret"), "signing secret": e.text("secret"), "new signing secret": rotated.text("secret"),
		"other signing secret": basic.text("secret"), "header": "header-in-clear", "OAuth password": "password-in-clear", "OAuth client secret": "client-secret-in-clear",
		"Basic password": "basic-in-clear", "user's password": "user-in-clear-1234", "admin's password": password, "session": session.Value, "portal's session": token,
		"card number": "5555555555554444", "master key": strings.TrimSpace(string(master)), "proxy's password": "proxy-in-clear",
		"broker's password": "broker-in-clear", "collector's password": "collector-in-clear", "SMTP password": "smtp-in-clear", "operator's webhook's secret": notifySecret,
	}
	code := regexp.MustCompile(`(?i)cvc\W{0,8}987`)
	places := 0
	search := func(place, text string) {
		t.Helper()
		places++
		if text == "" {
			t.Errorf("%s is empty, so that nothing was searched", place)
		}
		if code.MatchString(text) { // three digits alone are part of many numbers
			t.Errorf("%s shows the card's verification code", place)
		}
		for name, secret := range secrets {
			if secret == "" {
				t.Fatalf("%s not found", name)
			}
			if strings.Contains(text, strings.TrimPrefix(secret, "whsec_")) {
				t.Errorf("%s shows the %s", place, name)
			}
		}
	}
	for _, path := range []string{
		"/metrics", "/v1/meta", "/v1/account", "/v1/webhooks", "/v1/webhooks/" + e.text("id"), "/v1/webhooks/" + basic.text("id"), "/v1/events", "/v1/events/" + sent,
		"/v1/events/" + sent + "/deliveries", "/v1/deliveries", "/v1/deliveries/" + deliveries[0].text("id") + "/attempts", "/v1/deliveries/" + deliveries[1].text("id") + "/attempts",
		"/v1/jobs", "/v1/audit_log?limit=100", "/v1/api_keys", "/v1/payments", "/v1/payments/" + payment.text("id"), "/receipts/" + payment.text("id"), "/v1/nothing",
	} {
		search("GET "+path, s.call("GET", path, nil).body)
	}
	for _, path := range []string{"/v1/audit_log?limit=100", "/v1/users", "/v1/accounts"} {
		search("the operator's "+path, s.call("GET", path, nil, operator...).body)
	}
	for _, body := range []string{`{"url":"password-in-clear"}`, `{"url":"https://example.com/","enabled_events":["*"],"secret":"` + e.text("secret") + `x y"}`, `{"headers":{"Host":"header-in-clear"}}`} {
		search("the refusal of a webhook", s.call("POST", "/v1/webhooks", body).body)
	}
	search("the refusal of a key", s.call("GET", "/v1/events", nil, "Authorization", "Bearer "+testKey+"x").body)
	pages := "/admin/" + account + "/test"
	for _, path := range []string{
		pages + "/overview", pages + "/webhooks", pages + "/webhooks/" + e.text("id"), pages + "/webhooks/" + e.text("id") + "/edit", pages + "/webhooks/" + basic.text("id") + "/edit",
		pages + "/events", pages + "/events/" + sent, pages + "/deliveries", pages + "/deliveries/" + deliveries[0].text("id"), pages + "/deliveries/" + deliveries[1].text("id"),
		pages + "/keys", pages + "/audit", pages + "/portal", pages + "/jobs", pages + "/types", pages + "/sandbox", "/admin/settings", "/admin/users", "/admin/accounts", "/admin/server-audit", "/admin/profile",
	} {
		resp, err := browser.Get(s.base + path)
		if err != nil {
			t.Fatal(err)
		}
		var page bytes.Buffer
		_, err = page.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
		text := page.String()
		if path == pages+"/sandbox" { // it lists the test cards
			text = strings.ReplaceAll(text, card["number"].(string), "")
		}
		search(path, text)
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid)); err == nil { // on Linux
		search("the process list", string(args))
	}
	doctor := start(t, env, binary, "doctor", "--data", data, "--addr", strings.TrimPrefix(s.base, "http://"), "--egress-proxy-resolves") // so that it resolves no name
	doctor.exit()
	search("doctor", doctor.out.String())
	file := filepath.Join(t.TempDir(), "backup.db")
	if code := start(t, nil, binary, "backup", "--data", data, file).exit(); code != 0 {
		t.Fatalf("backup: exit code %d", code)
	}
	backup, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	search("the backup", string(backup))
	files := func(when string) {
		all, err := filepath.Glob(filepath.Join(data, "*"))
		if err != nil || len(all) < 2 {
			t.Fatal(all, err)
		}
		for _, f := range all {
			text, err := os.ReadFile(f)
			if name := filepath.Base(f); err != nil {
				t.Error(err)
			} else if name != "master-key" && len(text) > 0 { // the lock is empty
				search(when+", "+name, string(text))
			}
		}
	}
	files("running")
	s.stop()
	files("stopped")
	_, log, _ := strings.Cut(p.out.String(), "msg=listening") // before it, development mode prints the initial keys
	search("the log", log)
	if strings.Contains(log, "notify-in-clear") { // URLs are stored unencrypted, but logged without their query
		t.Error("the log shows the query of the operator's webhook")
	}
	for path, want := range map[string]os.FileMode{"": 0o700, "master-key": 0o600, "posthaste.db": 0o600} {
		if info, err := os.Stat(filepath.Join(data, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, want %v, %v", filepath.Join("data", path), info.Mode().Perm(), want, err)
		}
	}
	t.Logf("secrets=%d places=%d", len(secrets), places)
}

// An invalid setting may be a mistyped password: no command's error contains it.
func TestSecrets_inNoErrors(t *testing.T) {
	t.Parallel()
	const secret = "hush-in-clear"
	serve := []string{"serve", "--dev", "--addr", "127.0.0.1:0", "--data"}
	doctor := []string{"doctor", "--addr", "127.0.0.1:1", "--data"}
	commands := 0
	for _, tt := range []struct {
		setting  string
		commands [][]string
		values   []string
	}{
		{"DATABASE_URL", [][]string{serve, doctor, {"migrate", "--data"}, {"users", "list", "--data"}}, []string{
			"postgres://u:hush-in-clear@127.0.0.1:1/db", "postgres://u:hush-in-clear%zz@127.0.0.1:1/db", "postgres://u:hush-in-clear@127.0.0.1:1x/db", "postgres://u:hush-in-clear/x@127.0.0.1:1/db",
			"postgres://u:hush-in-clear#x@127.0.0.1:1/db", "user=u password=hush-in-clear host=127.0.0.1 port=x", "postgres://u@127.0.0.1:1/db?password=hush-in-clear&sslmode=none", "hush-in-clear",
		}},
		{"BROKERS", [][]string{serve}, []string{
			"q=amqp://u:hush-in-clear@127.0.0.1:1x", "q=amqp://u:hush-in-clear%zz@127.0.0.1:1", "q=nats://u:hush-in-clear@127.0.0.1:x", "q=kafka://u:hush-in-clear#x@127.0.0.1:1", "q=none://u:hush-in-clear@127.0.0.1:1", "amqp://u:hush-in-clear@127.0.0.1:1",
		}},
		{"EGRESS_PROXY", [][]string{serve, doctor}, []string{"http://u:hush-in-clear%zz@127.0.0.1:1", "http://u:hush-in-clear@127.0.0.1:x", "socks5://u:hush-in-clear@127.0.0.1:1", "hush-in-clear"}},
		{"OTLP_ENDPOINT", [][]string{serve}, []string{"http://u:hush-in-clear%zz@127.0.0.1:1", "http://u:hush-in-clear@127.0.0.1:x", "http://u:hush-in-clear#x@127.0.0.1:1", "grpc://u:hush-in-clear@127.0.0.1:1"}},
		{"NOTIFY_URL", [][]string{serve}, []string{"http://u:hush-in-clear%zz@127.0.0.1:1", "http://u:hush-in-clear@127.0.0.1:1/"}},
		{"PUBLIC_URL", [][]string{serve}, []string{"ftp://u:hush-in-clear@127.0.0.1:1"}},
		{"MASTER_KEY", [][]string{serve, doctor}, []string{"phmk_hush-in-clear", "hush-in-clear"}},
		{"ADMIN_KEY", [][]string{serve}, []string{"hush-in-clear", "sk_test_hush-in-clear"}},
		{"TEST_KEY", [][]string{serve}, []string{"hush-in-clear"}},
	} {
		for _, value := range tt.values {
			for _, args := range tt.commands {
				commands++
				p := start(t, []string{"POSTHASTE_" + tt.setting + "=" + value}, binary, append(slices.Clone(args), t.TempDir())...)
				if code := p.exit(); code == 0 {
					t.Errorf("%s with %s=%s: exit code 0", args[0], tt.setting, value)
				}
				if said := p.out.String(); said == "" || strings.Contains(said, secret) {
					t.Errorf("%s with %s=%s says %q", args[0], tt.setting, value, said)
				}
			}
		}
	}
	t.Logf("commands=%d", commands)
}

// If a token URL sends data after its response, net/http logs the beginning of it with the
// standard logger. None of that reaches the log.
func TestLog_holdsNoStrayAnswers(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	delivered, dropped := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			dropped <- err
			return
		}
		defer func() { _ = conn.Close() }()
		requests := bufio.NewReader(conn)
		if _, err := http.ReadRequest(requests); err != nil {
			dropped <- err
			return
		}
		say := func(token string) {
			body := `{"access_token":"` + token + `","token_type":"Bearer","expires_in":3600}`
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
		say("first-in-clear")
		<-delivered // the connection is idle
		say("stray-in-clear")
		_, err = io.Copy(io.Discard, conn) // until the server closes it, which it has logged by then
		dropped <- err
	}()
	receiver := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer first-in-clear" {
			delivered <- struct{}{}
		}
	})
	s := serve(t, "", "--log-level", "debug")
	s.register(receiver.URL, "authentication", object{"type": "oauth2", "grant_type": "client_credentials", "token_url": "http://" + listener.Addr().String() + "/token", "client_id": "c", "client_secret": "d"})
	s.settled(s.send("a.b", object{}).text("id"))
	select {
	case <-dropped:
	case <-time.After(patience):
		t.Fatal("the connection is kept")
	}
	s.stop()
	for _, text := range []string{"Unsolicited", "in-clear", "HTTP/1.1 200"} {
		if strings.Contains(s.out.String(), text) {
			t.Errorf("the log holds %q", text)
		}
	}
}
