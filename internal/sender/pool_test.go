package sender

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// closing counts its Close calls.
type closing struct {
	net.Conn
	n *atomic.Int64
}

func (c closing) Close() error {
	c.n.Add(1)
	return nil
}

// Idle connections are closed after a while, and those that have been idle longest are closed
// if there are too many.
func TestPool_closesIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(&http.Transport{TLSClientConfig: &tls.Config{}, MaxIdleConns: 5, MaxIdleConnsPerHost: 3})
		closed := map[string]*atomic.Int64{}
		put := func(name string) {
			closed[name] = &atomic.Int64{}
			p.put(&link{pool: p, at: host{name: name[:1]}, own: closing{n: closed[name]}})
		}
		want := func(names string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for name, n := range closed {
				if strings.Contains(names, name) != (n.Load() == 1) || n.Load() > 1 {
					got = append(got, fmt.Sprintf("%s was closed %d times", name, n.Load()))
				}
			}
			if len(got) > 0 {
				t.Errorf("want closed: %s; %v", names, got)
			}
		}
		put("a1")
		time.Sleep(idleFor / 2)
		for _, name := range []string{"a2", "a3", "a4", "b1"} {
			put(name)
		}
		want("a4")
		put("c1")
		put("c2")
		want("a4 a1")
		if l := p.take(host{name: "a"}); l == nil || l.own.(closing).n != closed["a3"] {
			t.Errorf("not the one that was used last: %v", l)
		}
		time.Sleep(idleFor - time.Second)
		want("a4 a1")
		put("d1")
		time.Sleep(time.Second)
		want("a4 a1 a2 b1 c1 c2")
		put("d2")
		p.CloseIdleConnections()
		want("a4 a1 a2 b1 c1 c2 d1 d2")
		if p.count != 0 || len(p.idle) != 0 || p.oldest != nil || p.newest != nil {
			t.Errorf("%d are left: %v", p.count, p.idle)
		}
	})
}

// poolFor returns a pool that trusts srv, and a function that makes requests to it.
func poolFor(t *testing.T, srv *httptest.Server) (*pool, func(size int) *http.Request) {
	trusted := x509.NewCertPool()
	if c := srv.Certificate(); c != nil {
		trusted.AddCert(c)
	}
	p := newPool(&http.Transport{DialContext: dial(&net.Dialer{}), TLSClientConfig: &tls.Config{RootCAs: trusted}, MaxIdleConns: 4, MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true})
	t.Cleanup(p.CloseIdleConnections)
	return p, func(size int) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func exchange(t *testing.T, p *pool, r *http.Request) *http.Response {
	t.Helper()
	resp, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp
}

// Connections are reused with and without TLS; the first request over TLS determines the host's
// protocol, and a host that later speaks only HTTP/2 is negotiated with again.
func TestPool_protocols(t *testing.T) {
	for _, tt := range []struct {
		name  string
		tls   bool
		conns int64
	}{{"plain", false, 1}, {"TLS", true, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			var conns atomic.Int64
			var only atomic.Bool
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(w, r.Body)
			}))
			srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
				if st == http.StateNew {
					conns.Add(1)
				}
			}
			if tt.tls {
				srv.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					c := srv.TLS.Clone()
					switch {
					case !only.Load():
						c.NextProtos = []string{"http/1.1"}
					case slices.Contains(hello.SupportedProtos, "h2"):
						c.NextProtos = []string{"h2"}
					default: // crypto/tls makes an exception for h2 only
						c.NextProtos = []string{"none"}
					}
					return c, nil
				}}
				srv.EnableHTTP2 = true
				srv.StartTLS()
			} else {
				srv.Start()
			}
			t.Cleanup(srv.Close)
			p, request := poolFor(t, srv)
			for range 5 {
				if resp := exchange(t, p, request(100)); resp.ProtoMajor != 1 {
					t.Errorf("HTTP/%d", resp.ProtoMajor)
				}
			}
			if n := conns.Load(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
			if !tt.tls {
				return
			}
			only.Store(true)
			p.CloseIdleConnections()
			for range 2 {
				if resp := exchange(t, p, request(100)); resp.ProtoMajor != 2 {
					t.Errorf("HTTP/%d", resp.ProtoMajor)
				}
			}
		})
	}
}

// The rest of a response is never read as the next one, and the body of a closed response is
// empty.
func TestPool_givesNothingToOthers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("y", 100_000))
	}))
	t.Cleanup(srv.Close)
	p, request := poolFor(t, srv)
	for range 3 {
		resp, err := p.RoundTrip(request(10))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, 10); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		}
		if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("a closed body: %d bytes, %v", n, err)
		}
	}
	if p.count != 0 {
		t.Error("a connection with an unread answer is kept")
	}
	exchange(t, p, request(10))
	if p.count != 1 {
		t.Errorf("%d connections are kept, want 1", p.count)
	}
}

// An endless header ends the attempt, and so does the end of the context, in any state of the
// connection.
func TestPool_bounds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for err == nil {
					_, err = io.WriteString(c, "X-A: "+strings.Repeat("a", 1000)+"\r\n")
				}
			}()
		}
	}()
	p, request := poolFor(t, &httptest.Server{URL: "http://" + l.Addr().String()})
	if resp, err := p.RoundTrip(request(10)); !errors.Is(err, errHeaderTooLarge) {
		t.Errorf("an endless header: %v %v", resp, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if resp, err := p.RoundTrip(request(10).WithContext(ctx)); err != why {
		t.Errorf("a context that has ended: %v %v", resp, err)
	}
}
