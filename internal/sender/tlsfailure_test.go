package sender_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// under returns an intermediate authority issued by a, and its certificate.
func (a *authority) under(name string, change func(*x509.Certificate)) *authority {
	a.t.Helper()
	chain, private := a.issue(func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage = pkix.Name{CommonName: name}, true, true, x509.KeyUsageCertSign
		c.IPAddresses, c.ExtKeyUsage = nil, nil
		if change != nil {
			change(c)
		}
	})
	pair, err := tls.X509KeyPair([]byte(chain), []byte(private))
	if err != nil {
		a.t.Fatal(err)
	}
	return &authority{a.t, pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey), chain}
}

func TestSend_saysWhyThereIsNoTLS(t *testing.T) {
	root := newAuthority(t)
	middle := root.under("Intermediate of a test", nil)
	stale := root.under("Stale intermediate", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for _, tt := range []struct {
		name    string
		issuer  *authority
		change  func(*x509.Certificate)
		send    []*authority // certificates that the receiver sends besides its own
		trusted bool
		says    string
		fix     string
	}{
		{"trusted", root, nil, nil, true, "", ""},
		{"a whole chain", middle, nil, []*authority{middle}, true, "", ""},
		{"incomplete chain", middle, nil, nil, true, `the certificate chain is incomplete: the certificate is signed by "Intermediate of a test"`, "must send its intermediate certificates"},
		{"unknown authority", middle, nil, []*authority{middle}, false, `by the authority "CA of a test", which is not trusted`, "ca_certificates"},
		{"unknown authority that is sent along", middle, nil, []*authority{root, middle}, false, `by the authority "CA of a test", which is not trusted`, "ca_certificates"},
		{"expired", root, func(c *x509.Certificate) { c.NotAfter = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }, nil, true, "the certificate expired on 2026-01-02 03:04 UTC", "must renew it"},
		{"not valid yet", root, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		}, nil, true, "the certificate is valid only from 2099-01-02 03:04 UTC on", ""},
		{"expired authority", stale, nil, []*authority{stale}, true, "Stale intermediate", "must renew it"},
		{"another name", root, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"a.example", "b.example"} }, nil, true, "the certificate is for a.example, b.example, not for 127.0.0.1", "must name a host of the certificate"},
		{"no name", root, func(c *x509.Certificate) { c.IPAddresses = nil }, nil, true, "no subject alternative names", ""},
		{"for clients", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil, true, "the certificate is not valid for servers", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain, private := tt.issuer.issue(tt.change)
			for _, a := range tt.send {
				chain += a.pem
			}
			pair, err := tls.X509KeyPair([]byte(chain), []byte(private))
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			srv.TLS, srv.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{pair}}, quiet()
			srv.StartTLS()
			t.Cleanup(srv.Close)
			s := newSender(t, func(c *sender.Config) {
				if c.RootCAs = x509.NewCertPool(); tt.trusted {
					c.RootCAs = root.pool()
				}
			})
			a := s.Send(context.Background(), request(srv.URL))
			if tt.says == "" {
				if !a.Succeeded() {
					t.Errorf("%s %q", a.Outcome, a.Error)
				}
				return
			}
			if a.Outcome != delivery.OutcomeTLS || !strings.Contains(a.Error, tt.says) || !strings.Contains(a.Error, tt.fix) {
				t.Errorf("%s %q, want %q", a.Outcome, a.Error, tt.says)
			}
		})
	}
}

func TestSend_saysThatACertificateIsSelfSigned(t *testing.T) {
	cert, _ := certificate(t, time.Now().Add(time.Hour))
	serveWith := func(config *tls.Config) string {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		srv.TLS, srv.Config.ErrorLog = config, quiet()
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := newSender(t, func(c *sender.Config) { c.RootCAs = x509.NewCertPool() })
	for target, says := range map[string]string{
		serveWith(&tls.Config{Certificates: []tls.Certificate{cert}}):                                                                     "the certificate is self-signed; add it to the endpoint's ca_certificates",
		serveWith(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}):         "TLS 1.2 or later",
		serveWith(&tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("not you") }}): "alert: ",
		strings.Replace(plain.URL, "http:", "https:", 1):                                                                                  "does not use TLS",
	} {
		if a := s.Send(context.Background(), request(target)); a.Outcome != delivery.OutcomeTLS || !strings.Contains(a.Error, says) {
			t.Errorf("%s %q, want %q", a.Outcome, a.Error, says)
		}
	}
}

// Details of the proxy's certificate are for the operator only.
func TestSend_keepsQuietAboutTheProxysCertificate(t *testing.T) {
	cert, _ := certificate(t, time.Now().Add(time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
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
			go func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); _ = c.Close() }(c)
		}
	}()
	s := newSender(t, func(c *sender.Config) {
		c.RootCAs, c.EgressProxy, c.ProxyResolves = x509.NewCertPool(), through(t, "https://"+l.Addr().String()), true
	})
	a := s.Send(context.Background(), request("http://receiver.example/"))
	if a.Outcome != delivery.OutcomeConnection || !strings.Contains(a.Error, "egress proxy") || strings.Contains(a.Error, "self-signed") {
		t.Errorf("%s %q", a.Outcome, a.Error)
	}
}
