package sender_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// authority is a test's CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue returns a certificate and its key, PEM. change may make it invalid.
func (a *authority) issue(change func(*x509.Certificate)) (chain, private string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "issued"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// serveTLS starts a server with a certificate of a.
func (a *authority) serveTLS(h http.HandlerFunc, change func(*tls.Config), bad func(*x509.Certificate)) *httptest.Server {
	a.t.Helper()
	chain, key := a.issue(bad)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(srv.TLS)
	}
	srv.Config.ErrorLog = quiet()
	srv.EnableHTTP2 = true
	srv.StartTLS()
	a.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

func TestSend_clientCertificate(t *testing.T) {
	servers, clients := newAuthority(t), newAuthority(t)
	var subject atomic.Value
	srv := servers.serveTLS(func(_ http.ResponseWriter, r *http.Request) {
		subject.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
	},
		func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool() }, nil)
	chain, key := clients.issue(nil)
	strangeChain, strangeKey := newAuthority(t).issue(nil)
	s := newSender(t, nil)
	for _, tt := range []struct {
		name string
		tls  *endpoint.TLS
		want delivery.Outcome
	}{
		{"its certificate", &endpoint.TLS{Certificate: chain, PrivateKey: key, RootCAs: servers.pem}, delivery.OutcomeSucceeded},
		{"no certificate", &endpoint.TLS{RootCAs: servers.pem}, delivery.OutcomeTLS},
		{"another CA's certificate", &endpoint.TLS{Certificate: strangeChain, PrivateKey: strangeKey, RootCAs: servers.pem}, delivery.OutcomeTLS},
		{"an untrusted server", &endpoint.TLS{Certificate: chain, PrivateKey: key}, delivery.OutcomeTLS},
		{"its certificate again", &endpoint.TLS{Certificate: chain, PrivateKey: key, RootCAs: servers.pem}, delivery.OutcomeSucceeded},
		{"no certificate after a session was made", &endpoint.TLS{RootCAs: servers.pem}, delivery.OutcomeTLS},
		{"a broken key", &endpoint.TLS{Certificate: chain, PrivateKey: "x", RootCAs: servers.pem}, delivery.OutcomeMisconfigured},
	} {
		subject.Store("")
		r := request(srv.URL)
		r.TLS = tt.tls
		a := s.Send(context.Background(), r)
		if a.Outcome != tt.want || (subject.Load() == "issued") != (tt.want == delivery.OutcomeSucceeded) {
			t.Errorf("%s: %s %q, the server saw %q", tt.name, a.Outcome, a.Error, subject.Load())
		}
	}
}

// An endpoint's CA is trusted for that endpoint only, and is the only one trusted there.
func TestSend_ownCA(t *testing.T) {
	usual, own := newAuthority(t), newAuthority(t)
	ok := func(http.ResponseWriter, *http.Request) {}
	usualSrv, ownSrv := usual.serveTLS(ok, nil, nil), own.serveTLS(ok, nil, nil)
	s := newSender(t, func(c *sender.Config) { c.RootCAs = usual.pool() })
	for range 2 { // the second time with existing connections and sessions
		for _, tt := range []struct {
			name string
			url  string
			tls  *endpoint.TLS
			want delivery.Outcome
		}{
			{"usual", usualSrv.URL, nil, delivery.OutcomeSucceeded},
			{"own", ownSrv.URL, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeSucceeded},
			{"own, not named", ownSrv.URL, nil, delivery.OutcomeTLS},
			{"usual, but another is named", usualSrv.URL, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeTLS},
		} {
			r := request(tt.url)
			r.TLS = tt.tls
			if a := s.Send(context.Background(), r); a.Outcome != tt.want {
				t.Errorf("%s: %s %q, want %s", tt.name, a.Outcome, a.Error, tt.want)
			}
		}
	}
}

// An identity provider with a certificate of the endpoint's CA provides tokens, also if it
// requires the endpoint's client certificate; one with a public certificate does too.
func TestSend_tokenURLWithOwnCA(t *testing.T) {
	usual, own := newAuthority(t), newAuthority(t)
	var subject atomic.Value
	give := func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			subject.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"good","token_type":"bearer"}`)
	}
	wantsCertificate := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, own.pool() }
	ownIssuer, mutual, usualIssuer := own.serveTLS(give, nil, nil), own.serveTLS(give, wantsCertificate, nil), usual.serveTLS(give, nil, nil)
	accept := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	target, plain := own.serveTLS(accept, nil, nil), serve(t, accept)
	s := newSender(t, func(c *sender.Config) { c.RootCAs = usual.pool() })
	chain, key := own.issue(nil)
	for _, tt := range []struct {
		name             string
		issuer, receiver *httptest.Server
		tls              *endpoint.TLS
		want             delivery.Outcome
	}{
		{"own CA", ownIssuer, target, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeSucceeded},
		{"usual CA at the issuer, own at the receiver", usualIssuer, target, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeSucceeded},
		{"own CA for the issuer alone", ownIssuer, plain, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeSucceeded},
		{"a client certificate", mutual, target, &endpoint.TLS{RootCAs: own.pem, Certificate: chain, PrivateKey: key}, delivery.OutcomeSucceeded},
		{"no client certificate", mutual, target, &endpoint.TLS{RootCAs: own.pem}, delivery.OutcomeNoToken},
		{"own CA, not named", ownIssuer, plain, nil, delivery.OutcomeNoToken},
		{"another CA", ownIssuer, plain, &endpoint.TLS{RootCAs: newAuthority(t).pem}, delivery.OutcomeNoToken},
	} {
		subject.Store("")
		r := authenticated(tt.receiver.URL, &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.ClientCredentials, TokenURL: tt.issuer.URL, ClientID: "shop", ClientSecret: "sesame"})
		r.TLS = tt.tls
		a := s.Send(context.Background(), r)
		if a.Outcome != tt.want || (subject.Load() == "issued") != (tt.tls != nil && tt.tls.Certificate != "") {
			t.Errorf("%s: %s %q, the issuer saw %q", tt.name, a.Outcome, a.Error, subject.Load())
		}
	}
}

func TestSend_badTLS(t *testing.T) {
	ca := newAuthority(t)
	reached := func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }
	s := newSender(t, func(c *sender.Config) { c.RootCAs = ca.pool() })
	for name, srv := range map[string]*httptest.Server{
		"TLS 1.1":     ca.serveTLS(reached, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, nil),
		"expired":     ca.serveTLS(reached, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"not yet":     ca.serveTLS(reached, nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
		"wrong name":  ca.serveTLS(reached, nil, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }),
		"wrong usage": ca.serveTLS(reached, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		"another CA":  newAuthority(t).serveTLS(reached, nil, nil),
	} {
		if a := s.Send(context.Background(), request(srv.URL)); a.Outcome != delivery.OutcomeTLS || a.Error == "" {
			t.Errorf("%s: %s %q", name, a.Outcome, a.Error)
		}
	}
}
