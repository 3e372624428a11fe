package sender_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// clock is a time that only the test changes.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// issuer is an OAuth token server (RFC 6749) with one client and one user, which numbers its
// tokens.
type issuer struct {
	*httptest.Server
	asked  atomic.Int64
	mu     sync.Mutex
	forms  []url.Values
	basic  []string // client ids sent as HTTP Basic
	life   int      // seconds
	fresh  bool     // give refresh tokens
	answer http.HandlerFunc
	valid  map[string]bool // access tokens
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{life: 3600, valid: map[string]bool{}}
	i.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := i.asked.Add(1)
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.forms = append(i.forms, r.PostForm)
		id, secret, ok := r.BasicAuth()
		if ok {
			i.basic = append(i.basic, id)
		} else {
			id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
		}
		if i.answer != nil {
			i.answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		refuse := func(code string, status int) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"error":%q,"error_description":"internal detail of the issuer"}`, code)
		}
		switch grant := r.PostForm.Get("grant_type"); {
		case id != "" && (id != "shop" || secret != "client-sesame"):
			refuse("invalid_client", http.StatusUnauthorized)
			return
		case grant == "client_credentials" && id == "", grant == "password" && (r.PostForm.Get("username") != "jane" || r.PostForm.Get("password") != "user-sesame"),
			grant == "refresh_token" && !strings.HasPrefix(r.PostForm.Get("refresh_token"), "refresh-"):
			refuse("invalid_grant", http.StatusBadRequest)
			return
		}
		token := fmt.Sprintf("token-%d", n)
		i.valid[token] = true
		refresh := ""
		if i.fresh {
			refresh = fmt.Sprintf(`,"refresh_token":"refresh-%d"`, n)
		}
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","expires_in":%d%s}`, token, i.life, refresh)
	})
	return i
}

// receiver accepts requests with a valid token of the issuer.
func (i *issuer) receiver(t testing.TB, requests *atomic.Int64) string {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		i.mu.Lock()
		defer i.mu.Unlock()
		if !i.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}).URL
}

func (i *issuer) revokeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.valid)
}

func (i *issuer) client(change func(*endpoint.Authentication)) *endpoint.Authentication {
	a := &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.ClientCredentials, TokenURL: i.URL + "/token", ClientID: "shop", ClientSecret: "client-sesame", Scope: "a b"}
	if change != nil {
		change(a)
	}
	return a
}

func (i *issuer) user() *endpoint.Authentication {
	return &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.Password, TokenURL: i.URL + "/token", Username: "jane", Password: "user-sesame"}
}

func authenticated(url string, a *endpoint.Authentication) *sender.Request {
	r := request(url)
	r.Auth = a
	return r
}

func TestSend_basic(t *testing.T) {
	var got atomic.Value
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		got.Store(u + "/" + p)
	})
	a := newSender(t, nil).Send(context.Background(), authenticated(srv.URL, &endpoint.Authentication{Type: endpoint.AuthBasic, Username: "jane", Password: "päss:word"}))
	if !a.Succeeded() || got.Load() != "jane/päss:word" {
		t.Errorf("%s, the receiver saw %v", a.Outcome, got.Load())
	}
}

func TestSend_clientCredentials(t *testing.T) {
	for _, place := range []endpoint.ClientAuth{"", endpoint.ClientAuthBasic, endpoint.ClientAuthBody} {
		i := newIssuer(t)
		var requests atomic.Int64
		url := i.receiver(t, &requests)
		auth := i.client(func(a *endpoint.Authentication) { a.ClientAuth = place })
		if a := newSender(t, nil).Send(context.Background(), authenticated(url, auth)); !a.Succeeded() {
			t.Errorf("%q: %s %q", place, a.Outcome, a.Error)
		}
		if form := i.forms[0]; form.Get("grant_type") != "client_credentials" || form.Get("scope") != "a b" || (len(i.basic) == 0) != (place == endpoint.ClientAuthBody) ||
			(form.Get("client_secret") != "") != (place == endpoint.ClientAuthBody) {
			t.Errorf("%q: the issuer saw %v and %v", place, form, i.basic)
		}
	}
}

// One token serves all attempts until it is about to expire.
func TestSend_tokenIsKept(t *testing.T) {
	i, c := newIssuer(t), &clock{now: time.Now()}
	var requests atomic.Int64
	url := i.receiver(t, &requests)
	s := newSender(t, func(cfg *sender.Config) { cfg.Now = c.Now })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if a := s.Send(context.Background(), authenticated(url, i.client(nil))); !a.Succeeded() {
				t.Errorf("%s %q", a.Outcome, a.Error)
			}
		})
	}
	wg.Wait()
	if n := i.asked.Load(); n != 1 || requests.Load() != 50 {
		t.Errorf("%d tokens for %d requests", n, requests.Load())
	}
	for _, step := range []struct {
		pass time.Duration
		want int64
	}{{59 * time.Minute, 1}, {45 * time.Second, 1}, {10 * time.Second, 2}, {time.Minute, 2}, {time.Hour, 3}} {
		c.pass(step.pass)
		s.Send(context.Background(), authenticated(url, i.client(nil)))
		if n := i.asked.Load(); n != step.want {
			t.Errorf("after another %s: %d tokens, want %d", step.pass, n, step.want)
		}
	}
	// Other credentials mean another account.
	s.Send(context.Background(), authenticated(url, i.client(func(a *endpoint.Authentication) { a.Scope = "c" })))
	if n := i.asked.Load(); n != 4 {
		t.Errorf("changed credentials: %d tokens", n)
	}
}

func TestSend_passwordGrant(t *testing.T) {
	i, c := newIssuer(t), &clock{now: time.Now()}
	i.fresh = true
	var requests atomic.Int64
	url := i.receiver(t, &requests)
	s := newSender(t, func(cfg *sender.Config) { cfg.Now = c.Now })
	grants := func() (all []string) {
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, f := range i.forms {
			all = append(all, f.Get("grant_type"))
		}
		return all
	}
	for range 3 {
		if a := s.Send(context.Background(), authenticated(url, i.user())); !a.Succeeded() {
			t.Fatalf("%s %q", a.Outcome, a.Error)
		}
		c.pass(time.Hour)
	}
	if got := strings.Join(grants(), " "); got != "password refresh_token refresh_token" {
		t.Errorf("asked by %s", got)
	}
	// A refused refresh token is replaced by the password.
	i.mu.Lock()
	i.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.PostForm.Get("grant_type") == "refresh_token" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
		i.valid["by password"] = true
		_, _ = io.WriteString(w, `{"access_token":"by password"}`)
	}
	i.mu.Unlock()
	if a := s.Send(context.Background(), authenticated(url, i.user())); !a.Succeeded() {
		t.Errorf("%s %q", a.Outcome, a.Error)
	}
	if got := strings.Join(grants()[3:], " "); got != "refresh_token password" {
		t.Errorf("asked by %s", got)
	}
}

// A receiver that refuses a token receives a new one once, within the attempt.
func TestSend_refusedToken(t *testing.T) {
	i := newIssuer(t)
	var requests atomic.Int64
	url := i.receiver(t, &requests)
	s := newSender(t, nil)
	s.Send(context.Background(), authenticated(url, i.client(nil)))
	i.revokeAll()
	if a := s.Send(context.Background(), authenticated(url, i.client(nil))); !a.Succeeded() || i.asked.Load() != 2 || requests.Load() != 3 {
		t.Errorf("%s after %d tokens and %d requests", a.Outcome, i.asked.Load(), requests.Load())
	}
	always := serve(t, func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); w.WriteHeader(http.StatusUnauthorized) }).URL
	requests.Store(0)
	if a := s.Send(context.Background(), authenticated(always, i.client(nil))); a.Outcome != delivery.OutcomeRejected || a.StatusCode != http.StatusUnauthorized || requests.Load() != 2 || i.asked.Load() != 3 {
		t.Errorf("%s %d after %d tokens and %d requests", a.Outcome, a.StatusCode, i.asked.Load(), requests.Load())
	}
}

func TestSend_noToken(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	var reached atomic.Int64
	target := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) }).URL
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		change func(*endpoint.Authentication)
		says   string
	}{
		"bad credentials": {nil, func(a *endpoint.Authentication) { a.ClientSecret = "wrong-sesame" }, "responded with 401, invalid_client"},
		"server error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "stack trace with client-sesame")
		}, nil, "responded with 500."},
		"an error of its own": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"client-sesame is wrong"}`)
		}, nil, "responded with 400."},
		"HTML":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>client-sesame") }, nil, "no usable access token"},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"token_type":"bearer"}`) }, nil, "no usable access token"},
		"injected header": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"access_token":"a\r\nX-B: c"}`)
		}, nil, "no usable access token"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }, nil, "responded with 302"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, nil, "within 1s"},
		"endless":          {func(w http.ResponseWriter, r *http.Request) { endless(w, r) }, nil, ""},
		"private address":  {nil, func(a *endpoint.Authentication) { a.TokenURL = "http://10.255.255.255/token" }, "not public"},
		"metadata address": {nil, func(a *endpoint.Authentication) { a.TokenURL = "http://169.254.169.254/token" }, "not public"},
		"refused":          {nil, func(a *endpoint.Authentication) { a.TokenURL = "http://127.0.0.1:1/token" }, "refused"},
		"no such name":     {nil, func(a *endpoint.Authentication) { a.TokenURL = "http://nowhere.example/token" }, "no such host"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.answer = tt.answer
			s := newSender(t, func(c *sender.Config) { c.Resolver = names(t, nil) })
			r := authenticated(target, i.client(tt.change))
			r.Timeout = time.Second
			a := s.Send(context.Background(), r)
			if a.Outcome != delivery.OutcomeNoToken || !strings.Contains(a.Error, tt.says) || strings.Contains(a.Error, "sesame") || strings.Contains(a.Error, "detail") {
				t.Errorf("%s %q, want it to say %q", a.Outcome, a.Error, tt.says)
			}
		})
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests without a token", reached.Load())
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
			return
		}
	}
}

// Not every attempt calls a token URL that is down.
func TestSend_failedTokenIsShared(t *testing.T) {
	i, c := newIssuer(t), &clock{now: time.Now()}
	i.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	s := newSender(t, func(cfg *sender.Config) { cfg.Now = c.Now })
	for range 20 {
		s.Send(context.Background(), authenticated(i.URL, i.client(nil)))
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	c.pass(time.Second)
	s.Send(context.Background(), authenticated(i.URL, i.client(nil)))
	if n := i.asked.Load(); n != 2 {
		t.Errorf("a second later: asked %d times", n)
	}
}

// A server that stops while it waits for a token returns the delivery.
func TestSend_stoppedWhileWaiting(t *testing.T) {
	i, asked := newIssuer(t), make(chan struct{})
	i.answer = func(_ http.ResponseWriter, r *http.Request) { close(asked); <-r.Context().Done() }
	s := newSender(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan delivery.Attempt, 2)
	go func() { results <- s.Send(ctx, authenticated(i.URL, i.client(nil))) }()
	<-asked
	go func() { results <- s.Send(ctx, authenticated(i.URL, i.client(nil))) }() // waits for the first
	cancel()
	for range 2 {
		if a := <-results; a.Outcome != delivery.OutcomeNone {
			t.Errorf("%s %q", a.Outcome, a.Error)
		}
	}
}

// A token that arrives before its request, from a token server that sends more than was
// requested, is not used.
func TestSend_leftoverToken(t *testing.T) {
	answer := func(token string) string {
		body := `{"access_token":"` + token + `","token_type":"Bearer","expires_in":1}`
		return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	issuer := "http://" + listen(t, func(_ int, c *net.TCPConn) {
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if _, err := io.WriteString(c, answer("asked")+answer("foreign")); err != nil {
				return
			}
		}
	})
	var foreign atomic.Int64
	receiver := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer asked" {
			foreign.Add(1)
		}
	})
	s := newSender(t, nil)
	var sent, refused atomic.Int64
	var all sync.WaitGroup
	for n := range 16 { // each with its own token, over shared connections
		all.Go(func() {
			for range 25 {
				a := s.Send(context.Background(), authenticated(receiver.URL, &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.ClientCredentials,
					TokenURL: issuer, ClientID: "c" + strconv.Itoa(n), ClientSecret: "s"}))
				if a.Succeeded() {
					sent.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	if foreign.Load() != 0 || sent.Load() == 0 {
		t.Errorf("%d requests had a token without a token request, %d were sent", foreign.Load(), sent.Load())
	}
	t.Logf("sent=%d refused=%d", sent.Load(), refused.Load())
}
