package sender_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// tunnel is an HTTP proxy that supports CONNECT. It resolves names to this machine.
type tunnel struct {
	url    string
	mu     sync.Mutex
	asked  []string
	auth   []string
	answer string // instead of connecting
}

func newTunnel(t testing.TB, config *tls.Config) *tunnel {
	t.Helper()
	p := &tunnel{}
	handle := func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		p.mu.Lock()
		p.asked, p.auth = append(p.asked, r.Method+" "+r.Host), append(p.auth, r.Header.Get("Proxy-Authorization"))
		answer := p.answer
		p.mu.Unlock()
		if answer != "" {
			_, _ = io.WriteString(c, answer)
			return
		}
		_, port, _ := net.SplitHostPort(r.Host)
		up, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return
		}
		defer func() { _ = up.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 200 Connected\r\n\r\n")
		go func() { _, _ = io.Copy(up, c) }()
		_, _ = io.Copy(c, up)
	}
	addr := listen(t, func(_ int, c *net.TCPConn) {
		if config == nil {
			handle(c)
			return
		}
		s := tls.Server(c, config)
		if s.Handshake() == nil {
			handle(s)
		}
	})
	p.url = "http://" + addr
	if config != nil {
		p.url = "https://" + addr
	}
	return p
}

func (p *tunnel) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.asked...)
}

func through(t testing.TB, rawURL string) *url.URL {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestProxy(t *testing.T) {
	ca := newAuthority(t)
	chain, key := ca.issue(nil)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	ok := func(http.ResponseWriter, *http.Request) {}
	plain, secure := serve(t, ok), ca.serveTLS(ok, nil, nil)
	for name, p := range map[string]*tunnel{"http": newTunnel(t, nil), "https": newTunnel(t, &tls.Config{Certificates: []tls.Certificate{pair}})} {
		s := newSender(t, func(c *sender.Config) {
			u := through(t, p.url)
			u.User = url.UserPassword("u", "sesame")
			c.EgressProxy, c.RootCAs, c.AllowLoopback = u, ca.pool(), true
		})
		for _, target := range []string{plain.URL, secure.URL} {
			a := s.Send(context.Background(), request(target))
			if !a.Succeeded() || a.RemoteAddr != through(t, target).Host {
				t.Errorf("%s proxy, %s: %s %q, remote %s", name, target, a.Outcome, a.Error, a.RemoteAddr)
			}
		}
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("u:sesame"))
		if got := p.requests(); len(got) != 2 || got[0] != "CONNECT "+plain.Listener.Addr().String() || p.auth[0] != want {
			t.Errorf("%s proxy was asked for %v with %v", name, got, p.auth)
		}
	}
}

// The proxy is asked only for addresses that were checked.
func TestProxy_guards(t *testing.T) {
	p := newTunnel(t, nil)
	flips := 0
	resolver := namesBy(t, func(name string) ([]string, bool) {
		switch name {
		case "public.example":
			return []string{"8.8.8.8"}, true
		case "private.example":
			return []string{"127.0.0.1"}, true
		case "both.example":
			return []string{"8.8.8.8", "127.0.0.1"}, true
		case "flips.example":
			flips++
			if flips <= 2 { // for both kinds of address
				return []string{"8.8.8.8"}, true
			}
			return []string{"127.0.0.1"}, true
		}
		return nil, false
	})
	srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	port := through(t, srv.URL).Port()
	s := newSender(t, func(c *sender.Config) {
		c.EgressProxy, c.AllowLoopback, c.Resolver = through(t, p.url), false, resolver
	})
	for host, want := range map[string]delivery.Outcome{
		"public.example": delivery.OutcomeSucceeded, "private.example": delivery.OutcomeForbidden, "both.example": delivery.OutcomeForbidden,
		"127.0.0.1": delivery.OutcomeForbidden, "[::1]": delivery.OutcomeForbidden, "169.254.169.254": delivery.OutcomeForbidden, "nowhere.example": delivery.OutcomeDNS,
	} {
		if a := s.Send(context.Background(), request("http://"+host+":"+port+"/")); a.Outcome != want {
			t.Errorf("%s: %s %q, want %s", host, a.Outcome, a.Error, want)
		}
	}
	for _, asked := range p.requests() {
		if asked != "CONNECT 8.8.8.8:"+port {
			t.Errorf("the proxy was asked for %q", asked)
		}
	}
	// The proxy is asked for the checked address of a name whose address changes.
	if a := s.Send(context.Background(), request("http://flips.example:"+port+"/")); !a.Succeeded() {
		t.Errorf("%s %q", a.Outcome, a.Error)
	}

	// A proxy that resolves receives names; addresses are checked nevertheless.
	q := newTunnel(t, nil)
	s = newSender(t, func(c *sender.Config) {
		c.EgressProxy, c.AllowLoopback, c.ProxyResolves, c.Resolver = through(t, q.url), false, true, resolver
		c.Ports = []sender.PortRange{{From: 443, To: 443}, {From: 1024, To: 65535}}
	})
	for target, want := range map[string]delivery.Outcome{
		"http://private.example:" + port: delivery.OutcomeSucceeded, "http://127.0.0.1:" + port: delivery.OutcomeForbidden, "http://private.example:22": delivery.OutcomeForbidden,
	} {
		if a := s.Send(context.Background(), request(target)); a.Outcome != want {
			t.Errorf("%s: %s %q, want %s", target, a.Outcome, a.Error, want)
		}
	}
	if got := q.requests(); len(got) != 1 || got[0] != "CONNECT private.example:"+port {
		t.Errorf("the proxy was asked for %v", got)
	}
}

func TestProxy_fails(t *testing.T) {
	for _, tt := range []struct{ name, answer, says string }{
		{"forbids", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "does not allow connections to this target (403)"},
		{"wants a login", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "must correct the user and the password of --egress-proxy"},
		{"cannot reach it", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "egress proxy refused the connection."},
		{"speaks", "220 mail.example ESMTP\r\n", ""},
		{"says too much", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", ""},
	} {
		p := newTunnel(t, nil)
		p.answer = tt.answer
		s := newSender(t, func(c *sender.Config) {
			u := through(t, p.url)
			u.User = url.UserPassword("u", "sesame")
			c.EgressProxy = u
		})
		a := s.Send(context.Background(), request("http://127.0.0.1:9/"))
		if a.Outcome != delivery.OutcomeConnection || !strings.Contains(a.Error, tt.says) || strings.Contains(a.Error, "sesame") || strings.Contains(a.Error, through(t, p.url).Host) {
			t.Errorf("%s: %s %q", tt.name, a.Outcome, a.Error)
		}
	}
	hangs := listen(t, func(_ int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	s := newSender(t, func(c *sender.Config) { c.EgressProxy = through(t, "http://"+hangs) })
	r := request("http://127.0.0.1:9/")
	r.Timeout = time.Second
	if a := s.Send(context.Background(), r); a.Outcome != delivery.OutcomeTimeout {
		t.Errorf("a proxy that hangs: %s %q", a.Outcome, a.Error)
	}
}

// The operator's own receiver may have any address, and is reached directly.
func TestSend_trusted(t *testing.T) {
	p := newTunnel(t, nil)
	srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback, c.EgressProxy, c.Ports = false, through(t, p.url), []sender.PortRange{{From: 443, To: 443}}
		c.DenyNets = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	r := request(srv.URL)
	if a := s.Send(context.Background(), r); a.Outcome != delivery.OutcomeForbidden {
		t.Errorf("not trusted: %s", a.Outcome)
	}
	r.Trusted = true
	if a := s.Send(context.Background(), r); !a.Succeeded() || len(p.requests()) != 0 {
		t.Errorf("trusted: %s %q, the proxy was asked for %v", a.Outcome, a.Error, p.requests())
	}
}

func TestSend_ports(t *testing.T) {
	srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := newSender(t, func(c *sender.Config) { c.Ports = []sender.PortRange{{From: 80, To: 80}, {From: 443, To: 443}} })
	if a := s.Send(context.Background(), request(srv.URL)); a.Outcome != delivery.OutcomeForbidden {
		t.Errorf("%s %q", a.Outcome, a.Error)
	}
	for target, ok := range map[string]bool{
		"https://example.com/": true, "http://example.com/": true, "https://example.com:443/": true, "https://example.com:80/": true,
		"https://example.com:22/": false, "http://example.com:8080/": false, "https://example.com:6379/": false,
	} {
		if err := s.CheckTarget("url", target); (err == nil) != ok {
			t.Errorf("%s: %v", target, err)
		}
	}
}
