package e2e

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The requests that the API's own matrix does not contain, because other parts of the program
// answer them, × all kinds of clients.
func TestAuth_everySurface(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	password := s.out.await(t, `Password +(\S+)`)[1]
	operator := []string{"Authorization", "Bearer " + adminKey}
	account := s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
	key := func(mode string) object {
		return s.must("POST", "/v1/api_keys", object{"name": mode}, append(operator, "Payment-Account", account, "Payment-Mode", mode)...)
	}
	live, gone := key("live"), key("test")
	if a := s.call("DELETE", "/v1/api_keys/"+gone.text("id"), nil, append(operator, "Payment-Account", account)...); a.status != http.StatusOK {
		t.Fatalf("revoke: %d %s", a.status, a.body)
	}
	_, signedIn := s.signIn("admin", password)
	session := signedIn.Value
	portal := regexp.MustCompile(`pst_[^/]+`).FindString(s.must("POST", "/v1/portal_sessions", nil).text("url"))

	roles := []struct {
		name   string
		header []string
	}{
		{"no key", []string{"Authorization", ""}},
		{"a garbage key", []string{"Authorization", "Bearer sk_test_'; DROP TABLE api_keys; --"}},
		{"a revoked key", []string{"Authorization", "Bearer " + gone.text("secret")}},
		{"a session as a key", []string{"Authorization", "Bearer " + session}},
		{"a session as a cookie", []string{"Authorization", "", "Cookie", "posthaste_session=" + session}},
		{"a portal", []string{"Authorization", "Bearer " + portal}},
		{"a test key", nil},
		{"a live key", []string{"Authorization", "Bearer " + live.text("secret")}},
		{"an operator", operator},
	}
	const refused = "401 authentication_error"
	none := []string{ // of clients without a credential
		refused, refused, refused, refused, refused, refused,
	}
	cells := 0
	for _, route := range []struct {
		method, path string
		want         []string // of clients with a valid key: test, live, operator
		public       bool
	}{
		{method: "GET", path: "/v1/listen?device=x", want: []string{"426", "426", "400 invalid_request_error"}},
		{method: "POST", path: "/v1/stripecli/sessions", want: []string{"200", "200", "400 invalid_request_error"}},
		{method: "GET", path: "/v1/logs/tail?status=9", want: []string{"400 invalid_request_error", "400 invalid_request_error", "400 invalid_request_error"}},
		{method: "GET", path: "/debug/pprof/", want: []string{"403 authorization_error", "403 authorization_error", "200"}},
		{method: "GET", path: "/debug/pprof/goroutine?debug=1", want: []string{"403 authorization_error", "403 authorization_error", "200"}},
		{method: "GET", path: "/debug/pprof/heap", want: []string{"403 authorization_error", "403 authorization_error", "200"}},
		{method: "GET", path: "/debug/pprof/profile?seconds=1", want: []string{"403 authorization_error", "403 authorization_error", "200"}},
		{method: "POST", path: "/debug/pprof/symbol", want: []string{"403 authorization_error", "403 authorization_error", "200"}},
		{method: "GET", path: "/debug/pprof/cmdline", want: []string{"403 authorization_error", "403 authorization_error", "404"}},
		{method: "GET", path: "/metrics", public: true},
		{method: "GET", path: "/v1/stripecli/connect", public: true}, // with the identifier of a session
	} {
		for i, r := range roles {
			cells++
			a := s.call(route.method, route.path, nil, r.header...)
			got := strings.TrimSpace(strings.Join([]string{strconv.Itoa(a.status), a.err("type")}, " "))
			if route.public {
				want := "200"
				if route.path != "/metrics" {
					want = "400 invalid_request_error"
				}
				if got != want {
					t.Errorf("%s %s with %s: %s, want %s", route.method, route.path, r.name, got, want)
				}
				continue
			}
			want := append(none, route.want...)[i]
			if got != want {
				t.Errorf("%s %s with %s: %s %.200s, want %s", route.method, route.path, r.name, got, a.body, want)
			}
			if a.status == http.StatusUnauthorized && (a.header.Get("Www-Authenticate") == "" || a.header.Get("Request-Id") == "" || a.err("code") == "") {
				t.Errorf("%s %s with %s: a refusal without challenge, Request-Id or code: %s", route.method, route.path, r.name, a.body)
			}
		}
	}
	for _, spelt := range []string{"bearer " + testKey, "Basic " + base64.StdEncoding.EncodeToString([]byte(testKey+":"))} {
		if a := s.call("GET", "/v1/listen?device=x", nil, "Authorization", spelt); a.status != http.StatusUpgradeRequired {
			t.Errorf("a key as %.6s: %d %s", spelt, a.status, a.body)
		}
	}
	t.Logf("routes=11 roles=%d cells=%d", len(roles), cells)
}

// Every response, pages and errors alike, has its media type and forbids framing, and pages may
// load files of this server only.
func TestHeaders_everySurface(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	paths := []string{
		"/", "/healthz", "/readyz", "/openapi.yaml", "/metrics", "/v1/meta", "/v1/events", "/v1/nothing", "/nothing", "/receipts/pay_none", "/v1/consents/none", "/v1/listen", "/v1/stripecli/connect", "/debug/pprof/", "/v1//x",
		"/admin", "/admin/", "/admin/sign-in", "/admin/nothing", "/admin/users", "/admin/acct_none/test/overview", "/admin/acct_none/none/overview", "/admin/static/nothing.js", "/portal/pst_none/webhooks", "/portal/", "/portal/pst_none",
		"/docs", "/docs/", "/docs/api", "/docs/security", "/docs/nothing", "/docs/search?q=<script>", "/docs/static/x/nothing.js", "/docs/images/nothing.webp", "/docs/how-to/rotate-a-secret.md",
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	pages := 0
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT"} {
			req, err := http.NewRequest(method, s.base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			h, policy := resp.Header, resp.Header.Get("Content-Security-Policy")
			if h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %d without nosniff", method, path, resp.StatusCode)
			}
			if bytes.Contains(body, []byte("<script>")) {
				t.Errorf("%s %s repeats markup", method, path)
			}
			if !strings.HasPrefix(h.Get("Content-Type"), "text/html") && !strings.HasPrefix(path, "/admin") && !strings.HasPrefix(path, "/docs") && !strings.HasPrefix(path, "/portal") {
				continue
			}
			pages++
			for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
				if !strings.Contains(policy, part) {
					t.Errorf("%s %s: %d with the policy %q, without %s", method, path, resp.StatusCode, policy, part)
				}
			}
			if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "same-origin" {
				t.Errorf("%s %s: %d with %q, %q and %q", method, path, resp.StatusCode, policy, h.Get("X-Frame-Options"), h.Get("Referrer-Policy"))
			}
		}
	}
	t.Logf("paths=%d answers=%d pages=%d", len(paths), 3*len(paths), pages)
}

// Plain http is for test mode: in live mode it is refused, on creation and on a change, unless
// the operator allows it.
func TestPlainHTTP_notInLiveMode(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	receiver := newServer(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Webhook-Id") })
	for _, allowed := range []bool{false, true} {
		s := serve(t, "", "--allow-plain-live="+strconv.FormatBool(allowed))
		operator := []string{"Authorization", "Bearer " + adminKey}
		account := s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
		live := append(operator, "Payment-Account", account, "Payment-Mode", "live")
		hook := func(to string) object { return object{"url": to, "enabled_events": []string{"*"}} }
		a := s.call("POST", "/v1/webhooks", hook(receiver.URL), live...)
		if refused := a.status == http.StatusBadRequest && a.err("param") == "url" && a.err("code") == "url_invalid"; refused == allowed || allowed && a.status != http.StatusOK {
			t.Errorf("allowed=%v: http in live mode: %d %s", allowed, a.status, a.body)
		}
		secure := s.must("POST", "/v1/webhooks", hook("https://receiver.invalid/"), live...)
		a = s.call("POST", "/v1/webhooks/"+secure.text("id"), object{"url": receiver.URL}, live...)
		if refused := a.status == http.StatusBadRequest && a.err("param") == "url"; refused == allowed {
			t.Errorf("allowed=%v: a change to http in live mode: %d %s", allowed, a.status, a.body)
		}
		if now := s.must("GET", "/v1/webhooks/"+secure.text("id"), nil, live...).text("url"); (now == receiver.URL) != allowed {
			t.Errorf("allowed=%v: the URL is %s now", allowed, now)
		}
		event := s.must("POST", "/v1/events", object{"type": "a.b", "data": object{"object": object{}}}, live...)
		if allowed {
			if id := <-got; id != event.text("id") {
				t.Errorf("%s arrived, want %s", id, event.text("id"))
			}
			<-got // by the other endpoint
			continue
		}
		s.register(receiver.URL) // in test mode
		sent := s.send("a.b", object{}).text("id")
		if d := s.settled(sent); len(d) != 1 || d[0].text("status") != "succeeded" {
			t.Errorf("http in test mode: %v", d)
		}
		if id := <-got; id != sent || len(got) > 0 {
			t.Errorf("%s arrived, and %d more; want %s alone", id, len(got), sent)
		}
	}
}

// Metrics are for the operator: at the server's own address they need an operator key, and
// --metrics-addr serves only metrics.
func TestMetrics_areTheOperators(t *testing.T) {
	t.Parallel()
	s := serveWith(t, "")
	for header, want := range map[string]int{"": 401, "Bearer " + testKey: 403, "Bearer " + adminKey: 200} {
		if a := s.call("GET", "/metrics", nil, "Authorization", header); a.status != want || (want == 200) != strings.Contains(a.body, "posthaste_") {
			t.Errorf("/metrics with %.9q: %d, want %d", header, a.status, want)
		}
	}
	s = serveWith(t, "", "--metrics-addr", "127.0.0.1:0")
	if a := s.call("GET", "/metrics", nil); a.status != http.StatusNotFound {
		t.Errorf("/metrics at --addr beside --metrics-addr: %d", a.status)
	}
	apart := &server{process: s.process, base: "http://" + s.out.await(t, `metrics_addr=(\S+)`)[1]}
	for path, want := range map[string]int{"/metrics": 200, "/v1/events": 404, "/admin": 404, "/healthz": 404} {
		if a := apart.call("GET", path, nil, "Authorization", ""); a.status != want {
			t.Errorf("%s at --metrics-addr: %d, want %d", path, a.status, want)
		}
	}
}

// posthaste audit verify reports, beside a running server and without one, whether the audit
// log was changed.
func TestAuditVerify(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	s.register("https://example.com/hook")
	_, port, _ := strings.Cut(strings.TrimPrefix(s.base, "http://"), ":")
	verify := func(want int, said string) {
		t.Helper()
		p := start(t, []string{"POSTHASTE_ADMIN_KEY=" + adminKey}, binary, "audit", "verify", "--dev", "--data", s.data, "--addr", "127.0.0.1:"+port)
		if code := p.exit(); code != want || !strings.Contains(p.out.String(), said) {
			t.Errorf("exit code %d, want %d and %q:\n%s", code, want, said, p.out)
		}
	}
	verify(0, "node 0: ")
	s.stop()
	verify(0, "node 0: ")
	db, err := sql.Open("sqlite", filepath.Join(s.data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE audit SET actor = 'another user' WHERE seq = 2`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	verify(1, "The entry was changed")
}
