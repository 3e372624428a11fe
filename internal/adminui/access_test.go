package adminui_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/adminui"
	"github.com/posthaste-hq/posthaste/internal/commit"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/sandbox"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

const (
	testKey  = "sk_test_1234567890abcdef"
	otherKey = "sk_test_otheraccount1234"
	password = "correct horse battery"
)

// cheap is the cost of passwords in tests: bcrypt's minimum.
const cheap = 4

// idle is an engine that sends nothing.
type idle struct{}

func (idle) Wake(int64)                     {}
func (idle) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }
func (idle) Forgive(int64)                  {}
func (idle) Recall(int64)                   {}
func (idle) Expedite(...delivery.ID)        {}

// desk is the Admin UI over a real service and store.
type desk struct {
	t       *testing.T
	url     string
	service *service.Service
	store   *sqlite.Store
	account account.Account
	ids     map[string]string // identifiers of an object of each kind, by the preceding part of the path

	idle map[string]bool // jobs without a worker

	mu       sync.Mutex
	compared []string // hashes that passwords were compared with
}

func (d *desk) note(hash string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.compared = append(d.compared, hash)
}

func newDesk(t *testing.T, https bool) *desk {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := sqlite.Open(ctx, t.TempDir(), seal.NewRing(seal.NewKey()))
	must(err)
	log := slog.New(slog.DiscardHandler)
	commits := commit.New(st, log)
	commits.Start(func(*store.Batch) {})
	targets := sender.New(sender.Config{Brand: "Payment", Version: "test", Now: time.Now, Resolver: &net.Resolver{PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name servers here")
		}}})
	d := &desk{t: t, store: st, idle: map[string]bool{}}
	d.service = service.New(service.Config{
		Store: st, Events: commits, Endpoints: endpoint.NewRegistry(), Targets: targets, IDs: event.NewIDs(event.NewKeys(time.Now, 0)), Now: time.Now, Log: log,
		Rules: endpoint.Rules{Signature: "Payment-Signature"}, Passwords: account.Passwords{Cost: cheap, Compared: d.note}, PublicURL: func() string { return "https://pay.example" },
	})
	must(d.service.Load(ctx, idle{}))
	web := httptest.NewServer(adminui.New(adminui.Config{Service: d.service, Brand: "Payment", Log: log, PublicURL: map[bool]string{true: "https://pay.example", false: ""}[https],
		Sandbox: sandbox.New(sandbox.Config{Store: st, Events: d.service, BaseURL: func() string { return "https://pay.example" }})}))
	d.url = web.URL
	t.Cleanup(func() {
		web.Close()
		targets.Close()
		if err := errors.Join(commits.Stop(ctx), st.Close()); err != nil {
			t.Error(err)
		}
	})
	_, err = d.service.Auth.EnsureKey(ctx, testKey, "Acme")
	must(err)
	d.account = d.service.Auth.Accounts()[0]
	for _, role := range []account.UserRole{account.UserViewer, account.UserMember, account.UserAdmin} {
		hash, err := d.service.Passwords.Hash(password)
		must(err)
		must(st.CreateUser(ctx, &account.User{ID: d.service.IDs.New(event.PrefixUser), Name: string(role), Role: role, Password: hash, Created: time.Now()}, store.Trail{}))
	}
	call, err := d.service.Auth.Authenticate(t.Context(), testKey)
	must(err)
	url, all := "https://example.com/hook", []string{"*"}
	e, err := d.service.CreateEndpoint(ctx, call, endpoint.Params{"url": url, "enabled_events": all})
	must(err)
	ev, err := d.service.SendEvent(ctx, call, []byte(`{"type":"payment.succeeded","data":{"object":{"id":"pay_1"}}}`))
	must(err)
	ds, _, err := st.ListDeliveries(ctx, call.Space, store.DeliveryFilter{}, store.Page[delivery.ID]{Limit: 10})
	must(err)
	users, err := st.AllUsers(ctx)
	must(err)
	d.ids = map[string]string{"webhooks": e.ID, "events": ev.ID, "deliveries": ds[0].ID.String(), "jobs": "job_none", "users": users[0].ID, "keys": call.Key.ID, "sandbox": "pay_none", "accounts": d.account.ID, "portal": "prt_none", "sessions": "ses_none"}
	return d
}

// digest describes everything that the pages could change.
func (d *desk) digest() string {
	d.t.Helper()
	ctx := context.Background()
	var b strings.Builder
	note := func(v any, err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&b, "%+v\n", v)
	}
	users, err := d.store.AllUsers(ctx)
	note(users, err)
	accounts, err := d.store.AllAccounts(ctx)
	note(accounts, err)
	keys, err := d.store.AllKeys(ctx)
	note(keys, err)
	types, err := d.store.AllTypes(ctx)
	note(types, err)
	note("", d.store.AllEndpoints(ctx, func(e *endpoint.Endpoint) error {
		_, err := fmt.Fprintf(&b, "%+v\n", *e)
		return err
	}))
	for _, a := range accounts {
		for _, live := range []bool{false, true} {
			ds, _, err := d.store.ListDeliveries(ctx, event.SpaceOf(a.No, live), store.DeliveryFilter{}, store.Page[delivery.ID]{Limit: 1000})
			note(ds, err)
		}
	}
	return b.String()
}

type reply struct {
	*http.Response
	body string
}

func (d *desk) ask(method, path, cookie string, form url.Values, header ...string) reply {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		d.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if cookie != "" {
		req.Header.Set("Cookie", "posthaste_session="+cookie)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if (strings.HasSuffix(path, "/tail") || strings.HasSuffix(path, "/~tail")) && resp.StatusCode == http.StatusOK {
		return reply{resp, ""} // it streams forever
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return reply{resp, string(body)}
}

func (d *desk) session(name string) string {
	d.t.Helper()
	signed, err := d.service.Auth.SignIn(context.Background(), auth.SignInParams{Name: name, Password: password, Request: "req_x", Remote: "127.0.0.1:1"})
	if err != nil {
		d.t.Fatal(err)
	}
	return signed.Token
}

// change changes a user, as an admin can.
func (d *desk) change(name string, p auth.UserParams) {
	d.t.Helper()
	ctx := context.Background()
	admin, err := d.store.UserNamed(ctx, "admin")
	if err != nil {
		d.t.Fatal(err)
	}
	call, err := d.service.Auth.UserCall(&admin, "", false)
	if err != nil {
		d.t.Fatal(err)
	}
	u, err := d.store.UserNamed(ctx, name)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.service.Auth.UpdateUser(ctx, call, u.ID, p); err != nil {
		d.t.Fatal(err)
	}
}

// path fills in a route's path.
func (d *desk) path(r adminui.Route, portal string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
	return strings.NewReplacer("{account}", d.account.ID, "{mode}", "test", "{token}", portal, "{id}", d.ids[kind], "{type}", "payment.succeeded").Replace(r.Base + r.Path)
}

// Every page × every kind of caller.
func TestAccess_matrix(t *testing.T) {
	d := newDesk(t, false)
	ctx := context.Background()
	ended := d.session("admin")
	if err := d.service.Auth.SignOut(ctx, ended, "req_x", "127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	sessions := map[string]string{"viewer": d.session("viewer"), "member": d.session("member"), "admin": d.session("admin")}
	ownCall, err := d.service.Auth.Authenticate(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	open := func(c *call.Call, readOnly bool) string {
		p, err := d.service.Auth.CreatePortal(ctx, c, auth.PortalParams{Portal: account.Portal{ReadOnly: readOnly}})
		if err != nil {
			t.Fatal(err)
		}
		return p.Token
	}
	otherAccount := account.Account{ID: d.service.IDs.New(event.PrefixAccount), Name: "Other", Created: time.Now()}
	if err := d.store.CreateAccount(ctx, &otherAccount, store.Trail{}); err != nil {
		t.Fatal(err)
	}
	k, _ := account.NewKey(d.service.IDs.New(event.PrefixKey), otherKey, "", otherAccount.No, time.Now())
	if err := d.store.CreateKey(ctx, &k, store.Trail{}); err != nil {
		t.Fatal(err)
	}
	if err := d.service.Load(ctx, idle{}); err != nil {
		t.Fatal(err)
	}
	foreignCall, err := d.service.Auth.Authenticate(t.Context(), otherKey)
	if err != nil {
		t.Fatal(err)
	}
	own, looking, foreign := open(ownCall, false), open(ownCall, true), open(foreignCall, false)

	cells, forged := 0, 0
	for _, r := range adminui.Routes() {
		before := d.digest()
		changed := func(who string) {
			t.Helper()
			if d.digest() != before {
				t.Errorf("%s %s%s by %s changed something", r.Method, r.Base, r.Path, who)
				before = d.digest()
			}
		}
		if strings.HasPrefix(r.Base, "/portal/") {
			for name, tt := range map[string]struct {
				token string
				want  int
			}{"an unknown token": {"pst_unknowntoken00", 404}, "a user's session": {sessions["admin"], 404}, "another account": {foreign, 0}, "one who may look": {looking, 0}, "its own": {own, 200}} {
				if r.Method == http.MethodPost && name == "its own" || !sampled(r.Method+r.Base+r.Path+name) {
					continue
				}
				cells++
				a := d.ask(r.Method, d.path(r, tt.token), "", url.Values{"form_token": {account.FormToken(tt.token)}, "confirm": {d.ids["webhooks"]}, "url": {"https://example.com/"}, "all": {"on"}})
				missing := strings.Contains(r.Path, "{id}") && name == "another account" && r.Method == http.MethodGet
				switch {
				case r.Path == "" && tt.want == 200 && a.StatusCode == http.StatusSeeOther: // to the first page
				case tt.want != 0 && a.StatusCode != tt.want,
					missing && a.StatusCode != http.StatusNotFound,
					r.Method == http.MethodPost && name == "one who may look" && a.StatusCode < 400, a.StatusCode >= 500:
					t.Errorf("%s %s%s by %s: %d", r.Method, r.Base, r.Path, name, a.StatusCode)
				case name == "another account" && (strings.Contains(a.body, d.account.ID) || !missing && strings.Contains(a.body, "https://example.com/hook")):
					t.Errorf("%s %s%s shows another account's data", r.Method, r.Base, r.Path)
				}
				if r.Method == http.MethodPost && name == "another account" && !strings.Contains(r.Path, "{id}") {
					before = d.digest() // it created its own object
				}
				changed(name)
			}
			continue
		}
		path := d.path(r, "")
		for name, cookie := range map[string]string{"no session": "", "garbage": "x", "who signed out": ended, "an API key": testKey, "a portal": own} {
			if !sampled(r.Method + r.Base + r.Path + name) {
				continue
			}
			cells++
			a := d.ask(r.Method, path, cookie, url.Values{"form_token": {account.FormToken(cookie)}})
			if toSignIn := a.StatusCode == http.StatusSeeOther && strings.HasPrefix(a.Header.Get("Location"), "/admin/sign-in"); !toSignIn && r.Access != adminui.Public {
				t.Errorf("%s %s by %s: %d", r.Method, path, name, a.StatusCode)
			}
			changed(name)
		}
		for name, cookie := range sessions {
			if !sampled(r.Method + r.Base + r.Path + name) {
				continue
			}
			token := account.FormToken(cookie)
			if r.Method == http.MethodPost && r.Path != "/sign-in" {
				for what, a := range map[string]reply{
					"no token":                 d.ask("POST", path, cookie, url.Values{"confirm": {name}}),
					"another session's token":  d.ask("POST", path, cookie, url.Values{"confirm": {name}, "form_token": {account.FormToken("x")}}),
					"a token in the query":     d.ask("POST", path+"?form_token="+token, cookie, url.Values{"confirm": {name}}),
					"a foreign Sec-Fetch-Site": d.ask("POST", path, cookie, url.Values{"confirm": {name}, "form_token": {token}}, "Sec-Fetch-Site", "cross-site"),
					"a foreign Origin":         d.ask("POST", path, cookie, url.Values{"confirm": {name}, "form_token": {token}}, "Origin", "https://evil.example"),
					"a null Origin":            d.ask("POST", path, cookie, url.Values{"confirm": {name}, "form_token": {token}}, "Origin", "null"),
				} {
					forged++
					if a.StatusCode != http.StatusForbidden {
						t.Errorf("POST %s by %s with %s: %d", path, name, what, a.StatusCode)
					}
				}
				changed(name + " with a forged form")
			}
			if r.Method == http.MethodPost && (name != "viewer" && r.Access == adminui.Inside || name == "admin" || r.Access == adminui.Public || r.Access == adminui.SignedIn) {
				continue // allowed callers, which other tests cover
			}
			cells++
			a := d.ask(r.Method, path, cookie, url.Values{"form_token": {token}, "confirm": {name}, "url": {"https://example.com/"}, "data": {"{}"}})
			forbidden := (r.Access == adminui.Admins || r.Access == adminui.Top) && name != "admin"
			switch {
			case forbidden != (a.StatusCode == http.StatusForbidden) && (forbidden || r.Method == http.MethodGet), a.StatusCode >= 500,
				r.Method == http.MethodPost && a.StatusCode < 400, strings.Contains(a.Header.Get("Location"), "sign-in"):
				t.Errorf("%s %s by %s: %d %s", r.Method, path, name, a.StatusCode, a.Header.Get("Location"))
			}
			changed(name)
		}
	}
	t.Logf("pages=%d callers=13 cells=%d forged=%d", len(adminui.Routes()), cells, forged)
}

// Every page forbids framing by other sites, runs no foreign code, and does not reveal its URL.
func TestHeaders_everyPage(t *testing.T) {
	d := newDesk(t, true)
	cookie := []string{"Cookie", "__Host-posthaste=" + d.session("admin")}
	for _, r := range adminui.Routes() {
		if r.Method != http.MethodGet {
			continue
		}
		a := d.ask("GET", d.path(r, "pst_x"), "", nil, cookie...)
		policy := a.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s%s: the policy is %q, without %s", r.Base, r.Path, policy, part)
			}
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s%s: %s is %q", r.Base, r.Path, name, got)
			}
		}
		if strings.Contains(policy, "unsafe") || !strings.Contains(a.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s%s: %q, cached as %q", r.Base, r.Path, policy, a.Header.Get("Cache-Control"))
		}
	}
	a := d.ask("POST", "/admin/sign-in", "", url.Values{"name": {"viewer"}, "password": {password}})
	if set := a.Header.Get("Set-Cookie"); !strings.HasPrefix(set, "__Host-posthaste=") || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "Secure") || !strings.Contains(set, "SameSite=Lax") || !strings.Contains(set, "Path=/;") {
		t.Errorf("over https, the cookie is set with %q", strings.Split(set, ";")[1:])
	}
}

// A change of the password, the role or the right to sign in ends all existing sessions.
func TestSessions_endWithChanges(t *testing.T) {
	d := newDesk(t, false)
	ctx := context.Background()
	fresh, role, yes := "another good password", "viewer", true
	for _, tt := range []struct {
		name   string
		change auth.UserParams
	}{{"role", auth.UserParams{Role: &role}}, {"password", auth.UserParams{Password: &fresh}}, {"disabled", auth.UserParams{Disabled: &yes}}} {
		pass := password
		if tt.name == "disabled" {
			pass = fresh
		}
		signed, err := d.service.Auth.SignIn(ctx, auth.SignInParams{Name: "member", Password: pass, Request: "req_x", Remote: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		token := signed.Token
		if a := d.ask("GET", "/admin/profile", token, nil); a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d before", tt.name, a.StatusCode)
		}
		d.change("member", tt.change)
		if a := d.ask("GET", "/admin/profile", token, nil); a.StatusCode != http.StatusSeeOther {
			t.Errorf("after a change of %s the session goes on: %d", tt.name, a.StatusCode)
		}
	}
}
