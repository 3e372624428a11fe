package endpoint

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// AuthType is how the server authenticates to an endpoint, in addition to signatures.
type AuthType string

// The types of authentication.
const (
	AuthNone  AuthType = ""
	AuthBasic AuthType = "basic"  // RFC 7617
	AuthOAuth AuthType = "oauth2" // RFC 6749
)

// Grant is an OAuth 2.0 grant.
type Grant string

// The grants (RFC 6749, sections 4.4 and 4.3).
const (
	ClientCredentials Grant = "client_credentials"
	Password          Grant = "password"
)

// ClientAuth is how the client's credentials are sent to the token URL.
type ClientAuth string

// Places of the client's credentials (RFC 6749, section 2.3.1).
const (
	ClientAuthBasic ClientAuth = "basic" // as HTTP Basic; the default
	ClientAuthBody  ClientAuth = "body"  // as parameters of the request's body
)

// Authentication is an endpoint's authentication. The zero value is none.
type Authentication struct {
	Type     AuthType `json:"type,omitempty"`
	Username string   `json:"username,omitempty"` // Basic, and OAuth with the password grant
	Password string   `json:"password,omitempty"`

	Grant        Grant      `json:"grant_type,omitempty"` // the following fields are for OAuth
	TokenURL     string     `json:"token_url,omitempty"`
	ClientID     string     `json:"client_id,omitempty"`
	ClientSecret string     `json:"client_secret,omitempty"`
	Scope        string     `json:"scope,omitempty"` // separated by spaces
	ClientAuth   ClientAuth `json:"client_auth,omitempty"`
}

// maxCredential bounds each part of an authentication, in bytes.
const maxCredential = 4096

// InheritSecrets keeps the password and the client secret of old that a omits, if URL and user
// or client are unchanged: a caller who cannot read a credential must not be able to send it to
// another receiver.
func (a *Authentication) InheritSecrets(old *Authentication) {
	if a.Type != old.Type || a.Username != old.Username || a.TokenURL != old.TokenURL || a.ClientID != old.ClientID || a.Grant != old.Grant {
		return
	}
	if a.Password == "" {
		a.Password = old.Password
	}
	if a.ClientSecret == "" {
		a.ClientSecret = old.ClientSecret
	}
}

func (a *Authentication) check(plain bool) error {
	fail := func(field string, reason fault.Reason, format string, args ...any) error {
		return fault.Param("authentication["+field+"]", reason, format, args...)
	}
	for _, part := range []struct{ name, value string }{
		{"username", a.Username}, {"password", a.Password}, {"client_id", a.ClientID}, {"client_secret", a.ClientSecret}, {"scope", a.Scope},
	} {
		if len(part.value) > maxCredential || strings.ContainsFunc(part.value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fail(part.name, "parameter_invalid", "The %s is longer than %d bytes or contains a control character.", part.name, maxCredential)
		}
	}
	missing := func(field string) error {
		return fail(field, "parameter_missing", "Authentication of type %s needs a %s.", a.Type, field)
	}
	switch a.Type {
	case AuthNone:
		if *a != (Authentication{}) {
			return fail("type", "parameter_missing", "Set the type of the authentication: none, basic or oauth2.")
		}
		return nil
	case AuthBasic:
		switch {
		case a.Username == "":
			return missing("username")
		case strings.Contains(a.Username, ":"):
			return fail("username", "parameter_invalid", "A user name for HTTP Basic must not contain a colon.")
		case a.Password == "":
			return missing("password")
		case *a != Authentication{Type: AuthBasic, Username: a.Username, Password: a.Password}:
			return fail("type", "parameter_invalid", "Authentication of type basic accepts username and password only.")
		}
		return nil
	case AuthOAuth:
	default:
		return fail("type", "parameter_invalid", "The type of the authentication must be none, basic or oauth2.")
	}
	if a.TokenURL == "" {
		return missing("token_url")
	}
	if err := checkURL("authentication[token_url]", a.TokenURL, plain); err != nil {
		return err
	}
	switch {
	case a.Grant != ClientCredentials && a.Grant != Password:
		return fail("grant_type", "parameter_invalid", "The grant type must be client_credentials or password.")
	case a.ClientAuth != "" && a.ClientAuth != ClientAuthBasic && a.ClientAuth != ClientAuthBody:
		return fail("client_auth", "parameter_invalid", "The client's credentials must be sent as basic or body.")
	case a.Grant == ClientCredentials && a.ClientID == "":
		return missing("client_id")
	case a.Grant == ClientCredentials && a.ClientSecret == "":
		return missing("client_secret")
	case a.Grant == ClientCredentials && (a.Username != "" || a.Password != ""):
		return fail("username", "parameter_invalid", "The client_credentials grant has no user name and no password.")
	case a.Grant == Password && a.Username == "":
		return missing("username")
	case a.Grant == Password && a.Password == "":
		return missing("password")
	}
	return nil
}

// TLS contains an endpoint's deviations from the server's TLS settings. The zero value has
// none.
type TLS struct {
	Certificate string `json:"certificate,omitempty"` // the client's chain, PEM, leaf first
	PrivateKey  string `json:"private_key,omitempty"` // PEM
	RootCAs     string `json:"root_cas,omitempty"`    // PEM; trusted instead of the system's
}

// maxPEM bounds each part of a [TLS], in bytes.
const maxPEM = 64 << 10

// Pair returns the client certificate, nil if there is none.
func (t *TLS) Pair() (*tls.Certificate, error) {
	if t.Certificate == "" && t.PrivateKey == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair([]byte(t.Certificate), []byte(t.PrivateKey))
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// Roots returns the pool of RootCAs, nil if there are none.
func (t *TLS) Roots() (*x509.CertPool, bool) {
	if t.RootCAs == "" {
		return nil, true
	}
	pool := x509.NewCertPool()
	return pool, pool.AppendCertsFromPEM([]byte(t.RootCAs))
}

// Leaf returns the client certificate itself, nil if there is none.
func (t *TLS) Leaf() *x509.Certificate {
	block, _ := pem.Decode([]byte(t.Certificate))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// certificate returns the public details of the client certificate, for responses.
func (e *Endpoint) certificate() any {
	leaf := e.TLS.Leaf()
	if leaf == nil {
		return nil
	}
	sum := sha256.Sum256(leaf.Raw)
	return map[string]any{"subject": leaf.Subject.String(), "not_after": leaf.NotAfter.Unix(), "fingerprint": hex.EncodeToString(sum[:])}
}

// check checks t for an endpoint whose URL or token URL is https (secure).
func (t *TLS) check(secure bool) error {
	for _, part := range []struct{ name, value string }{
		{"client_certificate[certificate]", t.Certificate}, {"client_certificate[private_key]", t.PrivateKey}, {"ca_certificates", t.RootCAs},
	} {
		if len(part.value) > maxPEM {
			return fault.Param(part.name, "parameter_invalid", "The PEM text is longer than %d bytes.", maxPEM)
		}
	}
	if *t != (TLS{}) && !secure {
		return fault.Param("url", "url_invalid", "An endpoint with its own certificates needs an https:// URL or an https:// token URL.")
	}
	if _, err := t.Pair(); err != nil { // the error may quote the key
		return fault.Param("client_certificate", "certificate_invalid",
			"The client certificate must be a PEM certificate with its matching, unencrypted PEM private key.")
	}
	if _, ok := t.Roots(); !ok {
		return fault.Param("ca_certificates", "certificate_invalid", "The text contains no PEM certificate.")
	}
	return nil
}
