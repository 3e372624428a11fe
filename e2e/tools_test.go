package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/webhook"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + strings.Repeat("b3du", 8)
	body := `{"id":"evt_1","type":"a.b","created":1,"data":{"object":{"n":1}}}`
	sent := time.Unix(1699564800, 0)
	standard, err := webhook.SignStandard(secret, "evt_1", sent, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"webhook-id: evt_1", "webhook-timestamp: 1699564800", "webhook-signature: " + standard, "Payment-Signature: " + webhook.Sign(secret, []byte(body))}
	for _, tt := range []struct {
		name, body, secret, at string
		headers                []string
		code                   int
		says                   string
	}{
		{"genuine", body, secret, "2023-11-09T21:20:00Z", good, 0, "Payment-Signature: good"},
		{"too old", body, secret, "2023-11-09T22:20:00Z", good, 1, "The signature is valid"},
		{"a line end too many", body + "\n", secret, "2023-11-09T21:20:00Z", good, 1, "ends with white space"},
		{"re-encoded", `{ "type": "a.b", "id": "evt_1", "created": 1, "data": {"object": {"n": 1}} }`, secret, "2023-11-09T21:20:00Z", good, 1, "signed with another secret"},
		{"with other white space", `{"id": "evt_1", "type": "a.b", "created": 1.0, "data": {"object": {"n": 1}}}`, secret, "2023-11-09T21:20:00Z", good, 1, "decoded and re-encoded"},
		{"cut off", body[:20], secret, "2023-11-09T21:20:00Z", good, 1, "not complete JSON"},
		{"another secret", body, "whsec_" + strings.Repeat("b3dv", 8), "2023-11-09T21:20:00Z", good, 1, "It was signed with another secret"},
		{"both secrets", body, "whsec_" + strings.Repeat("b3dv", 8) + "," + secret, "2023-11-09T21:20:00Z", good, 0, "good"},
		{"no signature", body, secret, "", []string{"webhook-id: evt_1"}, 1, "has no signature"},
		{"no secret", body, "", "", good, 2, "WEBHOOK_SECRET"},
		{"bad secret", body, "sesame", "", good, 2, "WEBHOOK_SECRET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "body")
			if err := os.WriteFile(file, []byte(tt.body), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"verify", "--body", file}
			if tt.at != "" {
				args = append(args, "--at", tt.at)
			}
			for _, h := range tt.headers {
				args = append(args, "--header", h)
			}
			p := start(t, []string{"WEBHOOK_SECRET=" + tt.secret}, binary, args...)
			if code := p.exit(); code != tt.code || !strings.Contains(p.out.String(), tt.says) || tt.secret != "" && strings.Contains(p.out.String(), tt.secret) {
				t.Errorf("exit code %d: %s", code, p.out)
			}
		})
	}
	// A whole request in one file, as terminals and editors save it.
	head := "POST /hooks HTTP/1.1\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n" + strings.Join(good, "\r\n") + "\r\n\r\n"
	bare := strings.Join(good, "\r\n") + "\r\n\r\n"
	lf := func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
	for _, tt := range []struct{ name, text, says string }{
		{"as it came", head + body, "good"},
		{"LF", lf(head) + body, "good"},
		{"LF, no request line", lf(bare) + body, "good"},
		{"LF, a line end added", lf(bare) + body + "\n", "added a line end"},
		{"LF, an empty line added", lf(bare) + body + "\r\n\r\n", "added a line end"},
		{"LF, a line end added after a known length", lf(head) + body + "\n", "is ignored"},
		{"LF in the head, CRLF before the body", strings.Replace(lf(head), "\n\n", "\n\r\n", 1) + body, "good"},
		{"CRLF in the head, LF before the body", strings.Replace(head, "\r\n\r\n", "\r\n\n", 1) + body, "good"},
		{"a byte order mark", "\ufeff" + head + body, "good"},
		{"empty lines first", "\n\n" + lf(head) + body + "\n\n", "is ignored"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "request")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, []string{"WEBHOOK_SECRET=" + secret}, binary, "verify", "--body", file, "--at", "2023-11-09T21:20:00Z")
			if code := p.exit(); code != 0 || strings.Count(p.out.String(), "good") != 2 || !strings.Contains(p.out.String(), tt.says) || strings.Contains(p.out.String(), "JSON") {
				t.Errorf("exit code %d: %s", code, p.out)
			}
		})
	}
	// Bodies of several lines, whose line ends were converted.
	for _, tt := range []struct{ name, signed, captured, says string }{
		{"CRLF became LF", "{\r\n\"a\": 1\r\n}", "{\n\"a\": 1\n}\n", "from CRLF to LF"},
		{"LF became CRLF", "{\n\"a\": 1\n}\n", "{\r\n\"a\": 1\r\n}\r\n", "from LF to CRLF"},
		{"empty lines within", "{\r\n\r\n\"a\": 1\r\n\r\n}", "{\r\n\r\n\"a\": 1\r\n\r\n}", "good"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "request")
			if err := os.WriteFile(file, []byte("Payment-Signature: "+webhook.Sign(secret, []byte(tt.signed))+"\n\n"+tt.captured), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, []string{"WEBHOOK_SECRET=" + secret}, binary, "verify", "--body", file)
			if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "Payment-Signature: good") || !strings.Contains(p.out.String(), tt.says) {
				t.Errorf("exit code %d: %s", code, p.out)
			}
		})
	}
}

func TestSink(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--test-schedule", "1s,1s,1s")
	p := start(t, nil, binary, "sink", "--addr", "127.0.0.1:0", "--fail-first", "1", "--show-body")
	url := p.out.await(t, `http://\S+`)[0]
	e := s.register(url)
	id := s.send("a.b", object{"n": 1}).text("id")
	p.out.await(t, regexp.QuoteMeta(id)+` a\.b \d+ bytes, not verified, answered 500`)
	p.out.await(t, regexp.QuoteMeta(id)+` a\.b \d+ bytes, not verified, answered 200`)
	if d := s.settled(id)[0]; d["attempts"] != 2.0 {
		t.Errorf("got %v", d)
	}
	p = start(t, []string{"WEBHOOK_SECRET=" + e.text("secret")}, binary, "sink", "--addr", "127.0.0.1:0", "--status", "202")
	s.must("POST", "/v1/webhooks/"+e.text("id"), object{"url": p.out.await(t, `http://\S+`)[0]})
	p.out.await(t, "Listening")
	s.send("a.b", object{"n": 2})
	p.out.await(t, "genuine, answered 202")
	if p := start(t, nil, binary, "sink", "--status", "99"); p.exit() != 2 {
		t.Errorf("status 99: %s", p.out)
	}
}

// Every command that prints a result can print it as JSON.
func TestJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	addr := strings.TrimPrefix(s.base, "http://")
	secret := "whsec_" + strings.Repeat("b3du", 8)
	body := filepath.Join(dir, "body.json")
	if err := os.WriteFile(body, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, says string }{
		{"keys new-master", `"key":"phmk_`},
		{"keys new-master --out " + filepath.Join(dir, "another-key"), `"file":`},
		{"keys rotate-master --data " + dir + " --addr " + addr, `"records":`},
		{"backup --data " + dir + " " + filepath.Join(dir, "copy.db"), `"bytes":`},
		{"doctor --data " + dir + " --addr " + addr + " --egress-proxy " + s.base + " --egress-proxy-resolves", `"check":"master key"`},
		{"verify --body " + body + " --header Payment-Signature:" + webhook.Sign(secret, []byte("{}")), `"verdict":"good"`},
	} {
		p := start(t, []string{"POSTHASTE_ADMIN_KEY=" + adminKey, "WEBHOOK_SECRET=" + secret}, binary, append(strings.Fields(tt.args), "--json")...)
		if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), tt.says) {
			t.Errorf("%s: exit code %d: %s", tt.args, code, p.out)
			continue
		}
		for line := range strings.Lines(p.out.String()) {
			decode(t, []byte(line))
		}
	}
	p := start(t, nil, binary, "sink", "--addr", "127.0.0.1:0", "--json")
	s.register(p.out.await(t, `http://\S+`)[0])
	s.send("a.b", object{})
	p.out.await(t, `"status":200,"type":"a.b"`)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	addr := strings.TrimPrefix(s.base, "http://")
	if err := os.Chmod(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	quiet := []string{"--egress-proxy", s.base, "--egress-proxy-resolves"} // so that no name is resolved
	p := start(t, nil, binary, append([]string{"doctor", "--data", s.data, "--addr", addr}, quiet...)...)
	out := func() string { p.exit(); return p.out.String() }()
	for _, want := range []string{"can be written", "in " + filepath.Join(s.data, "master-key"), "a server runs at " + addr + " and is ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	p = start(t, nil, binary, append([]string{"doctor", "--data", filepath.Join(s.data, "none"), "--addr", addr, "--smtp-addr", "127.0.0.1:1", "--smtp-from", "a@example.com", "--smtp-to", "b@example.com"}, quiet...)...)
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "posthaste keys new-master") || !strings.Contains(p.out.String(), "WRONG  mail") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	p := start(t, nil, binary, "completion", "bash")
	if code := p.exit(); code != 0 || !strings.Contains(p.out.String(), "posthaste") {
		t.Errorf("exit code %d: %.200s", code, fmt.Sprint(p.out))
	}
}

func TestLogsTail(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	p, failed := s.command("logs", "tail"), s.command("logs", "tail", "--failed", "--json")
	for _, one := range []*process{p, failed} {
		one.out.await(t, "Waiting for requests")
	}
	s.must("GET", "/v1/events?limit=3", nil)
	if _, err := s.try("GET", "/v1/events/evt_x", nil); err != nil {
		t.Fatal(err)
	}
	p.out.await(t, `\[200\] GET /v1/events \[req_\w+\] [\d.]+ ms\n`)
	p.out.await(t, `\[404\] GET /v1/events/evt_x \[req_\w+\] [\d.]+ ms resource_missing`)
	failed.out.await(t, `"path":"/v1/events/evt_x","status":404`)
	if strings.Contains(failed.out.String(), `"status":200`) {
		t.Errorf("shows deliveries that did not fail: %s", failed.out)
	}
	s.stop() // a client that follows the log does not delay the end
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d: %s", code, p.out)
	}
}

func TestMan(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man")
	p := start(t, nil, binary, "man", dir)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	for _, page := range []string{"posthaste.1", "posthaste-listen.1", "posthaste-keys-rotate-master.1", "posthaste-endpoints-recover.1"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !strings.Contains(string(text), ".SH") {
			t.Errorf("%s: %v", page, err)
		}
	}
}

// Users are created, changed and listed beside a running server and without one.
func TestUsers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	users := func(addr string, args ...string) *process {
		t.Helper()
		return start(t, []string{"POSTHASTE_ADMIN_KEY=" + adminKey}, binary, append(append([]string{"users"}, args...), "--dev", "--data", dir, "--addr", addr)...)
	}
	const nowhere = "127.0.0.1:1"
	made := users(nowhere, "create", "alice", "--role", "admin")
	if made.exit() != 0 {
		t.Fatal(made.out)
	}
	first := made.out.await(t, `The admin alice was made\. Password: (\S+)`)[1]
	for args, says := range map[string]string{
		"create alice --role viewer": "A user with this name already exists", "create ALICE --role viewer": "A user with this name already exists",
		"create bob --role owner": "The role must be viewer, member or admin", "update carol --disable": "No such user", "update alice --role viewer": "This is the last admin",
	} {
		if p := users(nowhere, strings.Fields(args)...); p.exit() != 1 || !strings.Contains(p.out.String(), says) {
			t.Errorf("%s: %s", args, p.out)
		}
	}
	if p := users(nowhere, "update", "alice"); p.exit() != 2 {
		t.Errorf("update without a change: %s", p.out)
	}

	s := serve(t, dir)
	addr := strings.TrimPrefix(s.base, "http://")
	signIn := func(name, password string) int {
		t.Helper()
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).
			PostForm(s.base+"/admin/sign-in", url.Values{"name": {name}, "password": {password}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if code := signIn("alice", first); code != http.StatusSeeOther {
		t.Errorf("alice signs in: %d", code)
	}
	p := users(addr, "create", "bob", "--password-stdin", "--json")
	if _, err := p.in.Write([]byte("bob's very own password\n")); err != nil {
		t.Fatal(err)
	}
	if p.exit() != 0 || !strings.Contains(p.out.String(), `"role":"member"`) || strings.Contains(p.out.String(), "own password") {
		t.Errorf("create bob: %s", p.out)
	}
	if code := signIn("bob", "bob's very own password"); code != http.StatusSeeOther {
		t.Errorf("bob signs in: %d", code)
	}
	if p := users(addr, "update", "bob", "--disable"); p.exit() != 0 {
		t.Errorf("disable bob: %s", p.out)
	}
	if code := signIn("bob", "bob's very own password"); code != http.StatusUnauthorized {
		t.Errorf("bob, disabled, signs in: %d", code)
	}
	p = users(addr, "update", "alice", "--new-password")
	p.exit()
	if code := signIn("alice", p.out.await(t, `Password: (\S+)`)[1]); code != http.StatusSeeOther {
		t.Errorf("alice with the new password: %d", code)
	}
	if p := users(addr, "list"); p.exit() != 0 || !strings.Contains(p.out.String(), "alice") || !strings.Contains(p.out.String(), "disabled") {
		t.Errorf("list: %s", p.out)
	}
}
