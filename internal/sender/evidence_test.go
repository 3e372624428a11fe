package sender_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
	"github.com/posthaste-hq/posthaste/webhook"
)

// The attempt records the request as the receiver received it, without secrets.
func TestSend_keepsTheRequest(t *testing.T) {
	var got http.Header
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	r := request(srv.URL + "/café")
	r.Secrets, r.Header = secrets(secret, newer), map[string]string{"X-Api-Key": "hush"}
	r.Attributes = map[string][]string{"Ce-Id": {"1"}}
	a := newSender(t, nil).Send(context.Background(), r)
	if !a.Succeeded() || a.URL != r.URL || a.Peer != (delivery.Peer{}) || a.Refused != nil {
		t.Fatalf("attempt %+v", a)
	}
	kept := http.Header{}
	for line := range strings.SplitSeq(a.RequestHeader.Lines(r.EventID, a.Started), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		kept.Set(name, value)
	}
	got.Del("Content-Length")
	for name, values := range got {
		want := values[0]
		if name == "X-Api-Key" {
			want = "(hidden)"
		}
		if kept.Get(name) != want {
			t.Errorf("%s is %q and kept as %q", name, want, kept.Get(name))
		}
	}
	if len(kept) != len(got) {
		t.Errorf("kept %v of %v", kept, got)
	}
}

func TestSend_tellsWhoAnswered(t *testing.T) {
	root := newAuthority(t)
	chain, private := root.issue(nil)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(private))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pair.Leaf.Raw)
	for _, h2 := range []bool{false, true} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		srv.TLS, srv.EnableHTTP2, srv.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{pair}}, h2, quiet()
		srv.StartTLS()
		t.Cleanup(srv.Close)
		s := newSender(t, func(c *sender.Config) { c.RootCAs = root.pool() })
		want := delivery.Peer{Version: "TLS 1.3", Subject: "issued", Issuer: "CA of a test", SHA256: hex.EncodeToString(sum[:])}
		for range 2 { // on a new connection and on a kept one
			if a := s.Send(context.Background(), request(srv.URL)); !a.Succeeded() || a.Peer != want {
				t.Errorf("HTTP/2 %v: %s, answered by %+v", h2, a.Outcome, a.Peer)
			}
		}
		// An untrusted peer is recorded as well.
		strict := newSender(t, func(c *sender.Config) { c.RootCAs = x509.NewCertPool() })
		want.Version = ""
		if a := strict.Send(context.Background(), request(srv.URL)); a.Outcome != delivery.OutcomeTLS || a.Peer != want || a.RemoteAddr != srv.Listener.Addr().String() {
			t.Errorf("HTTP/2 %v, not trusted: %s, answered by %+v at %q", h2, a.Outcome, a.Peer, a.RemoteAddr)
		}
	}
}

// The duration of an unfinished step is recorded.
func TestSend_timesStepsThatDidNotEnd(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	hangs := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	s := newSender(t, func(c *sender.Config) {
		c.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	})
	const timeout = 200 * time.Millisecond
	for _, tt := range []struct {
		name, url string
		spent     func(delivery.Timing) time.Duration
	}{
		{"looking up the name", "http://slow.example/", func(w delivery.Timing) time.Duration { return w.DNS }},
		{"agreeing on keys", "https://" + silent.Addr().String(), func(w delivery.Timing) time.Duration { return w.TLS }},
		{"waiting for the answer", hangs.URL, func(w delivery.Timing) time.Duration { return w.Answer }},
	} {
		r := request(tt.url)
		r.Timeout = timeout
		a := s.Send(context.Background(), r)
		if spent := tt.spent(a.Timing); a.Succeeded() || spent < timeout/2 || spent > a.Duration {
			t.Errorf("%s: %s after %s, of which %+v", tt.name, a.Outcome, a.Duration, a.Timing)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	if a := s.Send(context.Background(), request("http://"+closed)); a.Outcome != delivery.OutcomeConnection || a.Timing.Connect <= 0 || a.RemoteAddr != closed {
		t.Errorf("refused: %s at %q, %+v", a.Outcome, a.RemoteAddr, a.Timing)
	}
}

// picky is a receiver that verifies the plain signature with a single secret.
type picky struct {
	knows   atomic.Pointer[string]
	refused atomic.Int64
}

func (p *picky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Payment-Signature") != webhook.Sign(*p.knows.Load(), body) {
		p.refused.Add(1)
		w.Header().Set("X-Why", "signature")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "bad signature")
	}
}

// During a rotation, each switch of a receiver with a single secret costs one refused request,
// which the attempt records.
func TestSend_remembersWhichSecretFits(t *testing.T) {
	third := "whsec_dGhpcmR0aGlyZHRoaXJkdGhpcmR0aGlyZHRoaXJkMTI="
	p := &picky{}
	srv := serve(t, p.ServeHTTP)
	s := newSender(t, nil)
	send := func(known string, live ...string) delivery.Attempt {
		t.Helper()
		p.knows.Store(&known)
		r := request(srv.URL)
		r.Secrets, r.EndpointID = secrets(live...), "we_1"
		a := s.Send(context.Background(), r)
		if !a.Succeeded() {
			t.Fatalf("attempt %+v", a)
		}
		return a
	}
	for _, step := range []struct {
		known   string
		live    []string
		refused int64 // requests refused in the first delivery; none in the following ten
	}{
		{secret, []string{secret}, 0},
		{secret, []string{secret, newer}, 0},
		{newer, []string{secret, newer}, 1},        // the receiver switches
		{newer, []string{secret, newer, third}, 0}, // another rotation begins
		{third, []string{secret, newer, third}, 1},
		{secret, []string{secret, newer, third}, 1}, // it goes back
		{newer, []string{secret, newer, third}, 1},
		{newer, []string{newer, third}, 0}, // the oldest expires
		{third, []string{newer, third}, 1},
		{third, []string{third}, 0},
	} {
		before := p.refused.Load()
		first := send(step.known, step.live...)
		if n := p.refused.Load() - before; n != step.refused || len(first.Refused) != int(n) {
			t.Errorf("%d live secrets: %d requests are refused and %d told of, want %d", len(step.live), n, len(first.Refused), step.refused)
		}
		for _, refused := range first.Refused {
			lines := refused.RequestHeader.Lines("evt_1234567890abcdef", first.Started)
			if refused.StatusCode != 401 || string(refused.ResponseBody) != "bad signature" || !strings.Contains(refused.ResponseHeader, "X-Why: signature") ||
				!strings.Contains(lines, "Payment-Signature: ") || lines == first.RequestHeader.Lines("evt_1234567890abcdef", first.Started) {
				t.Errorf("the attempt tells of %+v", refused)
			}
		}
		for range 10 {
			if a := send(step.known, step.live...); a.Refused != nil {
				t.Errorf("with %d live secrets a later delivery is refused: %+v", len(step.live), a.Refused)
			}
		}
	}
}

// If the instances of a receiver switch one after the other, a delivery to an instance with the
// other secret is refused once, and all succeed.
func TestSend_instancesThatSwitchInTurn(t *testing.T) {
	var turn atomic.Int64
	known := []string{secret, newer}
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Payment-Signature") != webhook.Sign(known[turn.Load()], body) {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	s := newSender(t, nil)
	for i := range int64(20) {
		turn.Store(i % 2)
		r := request(srv.URL)
		r.Secrets, r.EndpointID = secrets(known...), "we_1"
		if a := s.Send(context.Background(), r); !a.Succeeded() || len(a.Refused) > 1 {
			t.Errorf("delivery %d: %s after %d refusals", i, a.Outcome, len(a.Refused))
		}
	}
}

// The attempt records both requests with access tokens.
func TestSend_tellsOfTheStaleToken(t *testing.T) {
	var tokens, posts atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"access_token":"t%d","token_type":"Bearer"}`, tokens.Add(1))
			return
		}
		if posts.Add(1) == 1 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	r := request(srv.URL + "/hook")
	r.Auth = &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.ClientCredentials, TokenURL: srv.URL + "/token", ClientID: "shop", ClientSecret: "sesame"}
	a := newSender(t, nil).Send(context.Background(), r)
	if !a.Succeeded() || len(a.Refused) != 1 || a.Refused[0].StatusCode != 401 || slices.Contains(strings.Split(a.RequestHeader.Lines("", a.Started), "\n"), "Authorization: Bearer t2") {
		t.Errorf("attempt %+v", a)
	}
}
