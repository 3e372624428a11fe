package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

func certificate(t *testing.T) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sender"}, NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func TestEndpoint_Check_authentication(t *testing.T) {
	basic := Authentication{Type: AuthBasic, Username: "u", Password: "sesame"}
	client := Authentication{Type: AuthOAuth, Grant: ClientCredentials, TokenURL: "https://id.example/token", ClientID: "i", ClientSecret: "sesame"}
	password := Authentication{Type: AuthOAuth, Grant: Password, TokenURL: "https://id.example/token", Username: "u", Password: "sesame"}
	chain, key := certificate(t)
	_, otherKey := certificate(t)
	many := map[string]string{}
	for i := range MaxHeaders + 1 {
		many["X-"+strings.Repeat("a", i+1)] = "v"
	}
	with := func(a Authentication, change func(*Authentication)) func(*Endpoint) {
		return func(e *Endpoint) { e.Auth = a; change(&e.Auth) }
	}
	as := func(a Authentication) func(*Endpoint) { return func(e *Endpoint) { e.Auth = a } }
	header := func(name, value string) func(*Endpoint) {
		return func(e *Endpoint) { e.Headers = map[string]string{name: value} }
	}
	for _, tt := range []struct {
		name   string
		change func(*Endpoint)
		param  string // at fault; empty is none
	}{
		{"basic", as(basic), ""},
		{"client credentials", as(client), ""},
		{"password grant", as(password), ""},
		{"password grant with a client", with(password, func(a *Authentication) { a.ClientID, a.ClientSecret, a.ClientAuth = "i", "s", ClientAuthBody }), ""},
		{"no user", with(basic, func(a *Authentication) { a.Username = "" }), "authentication[username]"},
		{"colon in user", with(basic, func(a *Authentication) { a.Username = "a:b" }), "authentication[username]"},
		{"no password", with(basic, func(a *Authentication) { a.Password = "" }), "authentication[password]"},
		{"line break", with(basic, func(a *Authentication) { a.Password = "sesame\r\nX: y" }), "authentication[password]"},
		{"basic with a token URL", with(basic, func(a *Authentication) { a.TokenURL = "https://id.example" }), "authentication[type]"},
		{"no type", with(basic, func(a *Authentication) { a.Type = "" }), "authentication[type]"},
		{"unknown type", as(Authentication{Type: "digest"}), "authentication[type]"},
		{"no token URL", with(client, func(a *Authentication) { a.TokenURL = "" }), "authentication[token_url]"},
		{"plain token URL in live mode", with(client, func(a *Authentication) { a.TokenURL = "http://id.example" }), "authentication[token_url]"},
		{"token URL with a user", with(client, func(a *Authentication) { a.TokenURL = "https://u:sesame@id.example" }), "authentication[token_url]"},
		{"no grant", with(client, func(a *Authentication) { a.Grant = "" }), "authentication[grant_type]"},
		{"implicit grant", with(client, func(a *Authentication) { a.Grant = "implicit" }), "authentication[grant_type]"},
		{"no client id", with(client, func(a *Authentication) { a.ClientID = "" }), "authentication[client_id]"},
		{"no client secret", with(client, func(a *Authentication) { a.ClientSecret = "" }), "authentication[client_secret]"},
		{"client credentials with a user", with(client, func(a *Authentication) { a.Username = "u" }), "authentication[username]"},
		{"password grant without one", with(password, func(a *Authentication) { a.Password = "" }), "authentication[password]"},
		{"unknown place", with(client, func(a *Authentication) { a.ClientAuth = "query" }), "authentication[client_auth]"},

		{"header", header("X-Api-Key", "sesame"), ""},
		{"authorization header", header("Authorization", "Token sesame"), ""},
		{"authorization header beside authentication", func(e *Endpoint) { e.Auth = basic; e.Headers = map[string]string{"Authorization": "sesame"} }, "headers[Authorization]"},
		{"the brand's signature", header("payment-signature", "sesame"), "headers[payment-signature]"},
		{"standard signature", header("Webhook-Signature", "sesame"), "headers[Webhook-Signature]"},
		{"hop by hop", header("connection", "close"), "headers[connection]"},
		{"content type", header("Content-Type", "text/plain"), "headers[Content-Type]"},
		{"host", header("Host", "sesame"), "headers[Host]"},
		{"forwarded", header("X-Forwarded-For", "sesame"), "headers[X-Forwarded-For]"},
		{"bad name", header("X Y", "sesame"), "headers[X Y]"},
		{"injection by name", header("X\r\nY", "sesame"), "headers[X\r\nY]"},
		{"injection by value", header("X-A", "sesame\r\nX-B: c"), "headers[X-A]"},
		{"leading or trailing spaces", header("X-A", " sesame"), "headers[X-A]"},
		{"long value", header("X-A", strings.Repeat("sesame", 1000)), "headers[X-A]"},
		{"too many", func(e *Endpoint) { e.Headers = many }, "headers"},

		{"client certificate", func(e *Endpoint) { e.TLS = TLS{Certificate: chain, PrivateKey: key} }, ""},
		{"CA", func(e *Endpoint) { e.TLS = TLS{RootCAs: chain} }, ""},
		{"certificate without key", func(e *Endpoint) { e.TLS = TLS{Certificate: chain} }, "client_certificate"},
		{"key without certificate", func(e *Endpoint) { e.TLS = TLS{PrivateKey: key} }, "client_certificate"},
		{"another's key", func(e *Endpoint) { e.TLS = TLS{Certificate: chain, PrivateKey: otherKey} }, "client_certificate"},
		{"no PEM", func(e *Endpoint) { e.TLS = TLS{RootCAs: "sesame"} }, "ca_certificates"},
		{"certificate and plain http", func(e *Endpoint) {
			e.Space, e.URL, e.TLS = event.SpaceOf(1, false), "http://a.example", TLS{Certificate: chain, PrivateKey: key}
		}, "url"},
		{"endless PEM", func(e *Endpoint) { e.TLS = TLS{RootCAs: strings.Repeat("x", maxPEM+1)} }, "ca_certificates"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Endpoint{Space: event.SpaceOf(1, true), Config: Config{URL: "https://a.example/hooks", Events: []string{"*"}}}
			tt.change(e)
			err := e.Check(Rules{Signature: "Payment-Signature"})
			var f *fault.Error
			switch {
			case tt.param == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.param != "" && (!errors.As(err, &f) || f.Code != fault.Invalid || f.Param != tt.param || f.Message == "" || f.Reason == ""):
				t.Errorf("got %v, want fault.Invalid for %s", err, tt.param)
			case err != nil && (strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "PRIVATE")):
				t.Errorf("the error shows a credential: %v", err)
			}
		})
	}
}

func TestAuthentication_InheritSecrets(t *testing.T) {
	old := Authentication{Type: AuthOAuth, Grant: Password, TokenURL: "https://id.example", Username: "u", Password: "p", ClientID: "i", ClientSecret: "s", Scope: "a"}
	for _, tt := range []struct {
		name   string
		change func(*Authentication)
		want   string
	}{
		{"the same place", func(*Authentication) {}, "p s"},
		{"another scope", func(a *Authentication) { a.Scope = "b" }, "p s"},
		{"a new password", func(a *Authentication) { a.Password = "q" }, "q s"},
		{"another token URL", func(a *Authentication) { a.TokenURL = "https://evil.example" }, " "},
		{"another user", func(a *Authentication) { a.Username = "v" }, " "},
		{"another client", func(a *Authentication) { a.ClientID = "j" }, " "},
		{"another type", func(a *Authentication) { a.Type = AuthBasic }, " "},
	} {
		a := old
		a.Password, a.ClientSecret = "", ""
		tt.change(&a)
		a.InheritSecrets(&old)
		if got := a.Password + " " + a.ClientSecret; got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
