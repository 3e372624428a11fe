package sender

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// route is which connections an attempt may share: those to the operator's own
// receiver are not guarded, and certificates of an endpoint's own are for it alone.
// On the route to its token URL, its CAs are trusted beside the usual ones: the
// identity provider may be a public one although the endpoint is private.
type route struct {
	trusted  bool
	tls      endpoint.TLS
	tokenURL bool
}

// transport returns the pool of connections for an attempt.
func (s *Sender) transport(r route) (*pool, error) {
	return s.transports.get(r, s.newTransport)
}

func (s *Sender) newTransport(r route) (*pool, error) {
	// A cache of its own: a resumed session is not verified anew, so it must not
	// pass from one set of certificates to another.
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(sessions)}
	if r.tls != (endpoint.TLS{}) {
		pair, err := r.tls.Pair()
		if err != nil { // the cause may quote the key
			return nil, errors.New("the client certificate cannot be used")
		}
		if pair != nil {
			config.Certificates = []tls.Certificate{*pair}
		}
		if config.RootCAs, err = s.roots(r); err != nil {
			return nil, err
		}
	}
	return newPool(&http.Transport{
		Proxy:                  nil, // a proxy of the environment would dial unguarded
		DialContext:            s.dialer(r.trusted),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           s.MaxIdleConns,
		MaxIdleConnsPerHost:    s.MaxIdleConnsPerHost,
		WriteBufferSize:        writeBuffer,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // what is kept of an answer is small as it is; a compressed bomb stays one
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second,
			MaxReceiveBufferPerStream: keepOnFailure}, // all that is read of an answer; else each may fill megabytes of memory
	}), nil
}

// roots returns the CAs that are trusted on a route, nil for the system's.
func (s *Sender) roots(r route) (*x509.CertPool, error) {
	own, ok := r.tls.Roots()
	switch {
	case !ok:
		return nil, errors.New("the endpoint's CA certificates cannot be used")
	case own == nil:
		return s.RootCAs, nil
	case !r.tokenURL:
		return own, nil
	}
	usual, err := s.usualRoots()
	if err != nil {
		return nil, err
	}
	usual.AppendCertsFromPEM([]byte(r.tls.RootCAs))
	return usual, nil
}

// usualRoots returns a copy of the CAs that are trusted for endpoints without their own.
func (s *Sender) usualRoots() (*x509.CertPool, error) {
	if s.RootCAs != nil {
		return s.RootCAs.Clone(), nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's CA certificates: %w", err)
	}
	return pool, nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns how a transport dials: directly, with the guard looking at each
// address, or through the operator's proxy.
func (s *Sender) dialer(trusted bool) dialFunc {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: s.Resolver}
	if trusted {
		return s.patient(dial(d))
	}
	if s.EgressProxy == nil {
		d.Control = s.guard.control
		return s.patient(dial(d))
	}
	p := &proxy{Dialer: d, url: s.EgressProxy, guard: s.guard, resolves: s.ProxyResolves, roots: s.RootCAs}
	return s.patient(p.dial)
}

// proxy dials through an HTTP proxy by CONNECT (RFC 9110, section 9.3.6), for http
// targets too. TLS to the target goes through it end to end.
//
// Unless the proxy resolves names, they are resolved here, the guard looks at the
// address, and that address is what the proxy is asked for: it has no name to
// resolve another way.
type proxy struct {
	*net.Dialer
	url      *url.URL
	guard    *guard
	resolves bool
	roots    *x509.CertPool
}

func (p *proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	target, err := p.target(ctx, address)
	if err != nil {
		return nil, err
	}
	c, err := p.DialContext(ctx, network, authority(p.url))
	if err != nil {
		return nil, fmt.Errorf("egress proxy: %w", err)
	}
	// A proxy that does not answer ends with the attempt.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	c, err = p.connect(ctx, c, target)
	if !stop() && err == nil {
		err = errors.Join(context.Cause(ctx), c.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("egress proxy: %w", err)
	}
	return newConn(c, target), nil
}

// authority returns the host and port that a URL leads to.
func authority(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
}

// target returns what to ask the proxy for.
func (p *proxy) target(ctx context.Context, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", err
	}
	if literal, err := netip.ParseAddr(host); err == nil {
		return address, p.guard.checkPort(literal, uint16(n))
	}
	if p.resolves {
		return address, p.guard.checkPortNumber(uint16(n))
	}
	resolver := p.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	for _, a := range addrs { // all of them: one that is not public makes the name suspect
		if err := p.guard.checkPort(a, uint16(n)); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)).String(), nil
}

// connect asks the proxy for a tunnel. On an error c is closed.
func (p *proxy) connect(ctx context.Context, c net.Conn, target string) (_ net.Conn, err error) {
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	if p.url.Scheme == "https" {
		t := tls.Client(c, &tls.Config{ServerName: p.url.Hostname(), MinVersion: tls.VersionTLS12, RootCAs: p.roots})
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", errProxyTLS, err)
		}
		c = t
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if u := p.url.User; u != nil {
		password, _ := u.Password()
		ask.Header.Set("Proxy-Authorization", basic(u.Username(), password))
	}
	if err := ask.Write(c); err != nil {
		return nil, err
	}
	// Targets do not speak first, so nothing of theirs gets into the buffer.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, maxResponseHeader)), ask)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &proxyRefusal{resp.StatusCode}
	}
	return c, nil
}

var errProxyTLS = errors.New("no trusted TLS connection")

// proxyRefusal is the answer of a proxy that does not connect.
type proxyRefusal struct{ status int }

func (r *proxyRefusal) Error() string {
	return fmt.Sprintf("it refused the connection with %d", r.status)
}

// reason says in plain words why the proxy did not connect. Other statuses than these are not
// told apart: they would tell an endpoint's owner what is reachable in the proxy's network.
func (r *proxyRefusal) reason() string {
	switch r.status {
	case http.StatusForbidden:
		return "the server's egress proxy does not allow connections to this target (403); the server's operator can allow it there"
	case http.StatusProxyAuthRequired:
		return "the server's egress proxy did not accept the server's credentials (407); the server's operator must correct the user and the password of --egress-proxy"
	}
	return "the server's egress proxy refused the connection"
}
