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

// route identifies the connections that an attempt may share: those to the operator's own
// receiver are not guarded, and an endpoint's certificates are used for that endpoint only. On
// the route to its token URL, its CAs are trusted in addition to the public ones: the identity
// provider may be public although the endpoint is private.
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
	// A separate cache: a resumed session is not verified again, so it must not be used with
	// another set of certificates.
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(sessions)}
	if r.tls != (endpoint.TLS{}) {
		pair, err := r.tls.Pair()
		if err != nil { // the error may quote the key
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
		Proxy:                  nil, // a proxy of the environment would bypass the guard
		DialContext:            s.dialer(r.trusted),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           s.MaxIdleConns,
		MaxIdleConnsPerHost:    s.MaxIdleConnsPerHost,
		WriteBufferSize:        writeBuffer,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // only the beginning of a response is stored; a compressed bomb stays compressed
		ForceAttemptHTTP2:      true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second,
			MaxReceiveBufferPerStream: keepOnFailure}, // the part of a response that is read; otherwise each may use megabytes of memory
	}), nil
}

// roots returns the trusted CAs of a route, nil for the system's.
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

// usualRoots returns a copy of the trusted CAs for endpoints without their own.
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

// dialer returns a transport's dial function: directly, with the guard checking each address,
// or through the operator's proxy.
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

// proxy dials through an HTTP proxy by CONNECT (RFC 9110, section 9.3.6), for http targets too.
// TLS to the target passes through it end to end.
//
// Unless the proxy resolves names, this process resolves them, the guard checks the address,
// and the proxy is asked for that address, so that it cannot resolve the name differently.
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
	// A proxy that does not respond is interrupted when the attempt ends.
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

// authority returns the host and port of a URL.
func authority(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
}

// target returns the target of the CONNECT request.
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
	for _, a := range addrs { // all of them: a single non-public address makes the name suspicious
		if err := p.guard.checkPort(a, uint16(n)); err != nil {
			return "", err
		}
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)).String(), nil
}

// connect requests a tunnel from the proxy. On an error it closes c.
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
	// Targets do not speak first, so the buffer contains none of their data.
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

// proxyRefusal is the response of a proxy that refuses to connect.
type proxyRefusal struct{ status int }

func (r *proxyRefusal) Error() string {
	return fmt.Sprintf("it refused the connection with %d", r.status)
}

// reason explains the proxy's refusal. Other statuses are not distinguished: they would tell an
// endpoint's owner which hosts are reachable in the proxy's network.
func (r *proxyRefusal) reason() string {
	switch r.status {
	case http.StatusForbidden:
		return "the server's egress proxy does not allow connections to this target (403); the server's operator can allow it there"
	case http.StatusProxyAuthRequired:
		return "the server's egress proxy did not accept the server's credentials (407); the server's operator must correct the user and the password of --egress-proxy"
	}
	return "the server's egress proxy refused the connection"
}
