package adminui_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

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
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// still is an engine that does nothing.
type still struct{}

func (still) Wake(int64)                     {}
func (still) Forgive(int64)                  {}
func (still) Recall(int64)                   {}
func (still) Expedite(...delivery.ID)        {}
func (still) Breaker(int64) delivery.Breaker { return delivery.Breaker{} }

// site is the pages over a real service and store, with a signed-in admin.
type site struct {
	handler http.Handler
	session string
	account string
}

func newSite(t testing.TB) *site {
	t.Helper()
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	st, err := sqlite.Open(ctx, t.TempDir(), seal.NewRing(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	commits := commit.New(st, log)
	commits.Start(func(*store.Batch) {})
	targets := sender.New(sender.Config{Brand: "Payment", Version: "test", Timeout: time.Second, Now: time.Now})
	sv := service.New(service.Config{Store: st, Events: commits, Endpoints: endpoint.NewRegistry(), Targets: targets,
		IDs: event.NewIDs(event.NewKeys(time.Now, 0)), Now: time.Now, Log: log, Rules: endpoint.Rules{Signature: "Payment-Signature"}, Passwords: account.Passwords{Cost: cheap}})
	running, stopJobs := context.WithCancel(ctx)
	var recovering sync.WaitGroup
	t.Cleanup(func() {
		stop, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		stopJobs()
		recovering.Wait()
		targets.Close()
		if err := errors.Join(commits.Stop(stop), st.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := sv.Load(ctx, still{}); err != nil {
		t.Fatal(err)
	}
	recovering.Go(func() { sv.Jobs.Run(running) })
	if _, err := sv.Auth.EnsureKey(ctx, "sk_test_1234567890abcdef", "Acme"); err != nil {
		t.Fatal(err)
	}
	password, err := sv.Auth.EnsureAdmin(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := sv.Auth.SignIn(ctx, auth.SignInParams{Name: "alice", Password: password, Request: "req_1", Remote: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return &site{session: signed.Token, account: sv.Auth.Accounts()[0].ID, handler: adminui.New(adminui.Config{Service: sv, Brand: "Payment", Version: "test", Log: log,
		Sandbox: sandbox.New(sandbox.Config{Store: st, Events: sv, BaseURL: func() string { return "https://pay.example" }})})}
}

// wire is a response over a connection, for streamed pages.
type wire struct{ *httptest.ResponseRecorder }

func (wire) SetWriteDeadline(time.Time) error { return nil }

// For every page, path, query, cookie and form: never a 5xx, never a panic, always a
// Request-Id, and always text.
func FuzzPages(f *testing.F) {
	routes := []string{"GET /admin/static/{file}", "GET /admin/{id}", "GET /portal/{id}"}
	for _, r := range adminui.Routes() {
		routes = append(routes, r.Method+" "+r.Base+r.Path)
	}
	for i := range routes {
		f.Add(byte(i), true, "", "", "", "")
		f.Add(byte(i), true, "x/..%2f", "type=payment.*&status=failed&from=2026-01-01&cursor=evt_1", "name=a&url=https://example.com/&events=*&data={}&role=admin", "")
		f.Add(byte(i), false, "\x00", "%", "a=%zz&&;", "x")
	}
	s := newSite(f)
	token := account.FormToken(s.session)
	f.Fuzz(func(t *testing.T, route byte, signedIn bool, id, query, form, cookie string) {
		method, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		path = strings.NewReplacer("{account}", s.account, "{mode}", "test", "{id}", url.PathEscape(id), "{type}", url.PathEscape(id), "{token}", url.PathEscape(id), "{file}", url.PathEscape(id)).Replace(path)
		target, err := url.Parse("http://pay.example" + path)
		if err != nil || strings.HasSuffix(path, "/sign-out") { // it would end the session of all others
			t.Skip("not a URL, or one that ends the session")
		}
		target.RawQuery = query
		ctx := t.Context()
		if strings.HasSuffix(path, "/tail") || strings.HasSuffix(path, "/~tail") { // it streams until the client disconnects
			left, leave := context.WithCancel(ctx)
			leave()
			ctx = left
		}
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://pay.example/", bytes.NewReader([]byte("form_token="+token+"&"+form)))
		req.Method, req.URL, req.RequestURI = method, target, target.RequestURI()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if signedIn {
			cookie = s.session
		}
		for _, name := range adminui.CookieNames {
			req.AddCookie(&http.Cookie{Name: name, Value: cookie})
		}
		rec := httptest.NewRecorder()
		s.handler.ServeHTTP(wire{rec}, req)
		if rec.Code >= 500 && rec.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d %s", method, target, rec.Code, rec.Body)
		}
		if rec.Header().Get("Request-Id") == "" {
			t.Errorf("%s %s: %d without a Request-Id", method, target, rec.Code)
		}
		quoted := rec.Code/100 == 3 // net/http repeats the query unescaped, for clients that follow no redirect
		if !strings.HasPrefix(path, "/admin/static/") && !quoted && !utf8.Valid(rec.Body.Bytes()) {
			t.Errorf("%s %s: %q", method, target, rec.Body)
		}
	})
}
