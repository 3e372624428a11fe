package sender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// errToken is the error of a missing access token.
var errToken = errors.New("no access token")

// tokenWait is the time for which the result of a failed token request applies to following
// ones, so that not every attempt calls a token URL that is down.
const tokenWait = time.Second

// account identifies the owner of tokens. Comparing it detects changed credentials, including
// the client certificate (RFC 8705).
type account struct {
	auth    endpoint.Authentication
	trusted bool
	tls     endpoint.TLS
}

// tokens obtains access tokens for one account and caches the last one.
type tokens struct {
	auth  *endpoint.Authentication
	http  *http.Client
	now   func() time.Time
	turn  chan struct{} // holds one element while a goroutine uses the fields below
	token *oauth2.Token
	err   error
	tried time.Time // time of err
}

func (s *Sender) newTokens(a account) (*tokens, error) {
	transport, err := s.transport(route{trusted: a.trusted, tls: a.tls, tokenURL: a.tls != (endpoint.TLS{})})
	if err != nil {
		return nil, err
	}
	return &tokens{auth: &a.auth, now: s.Now, turn: make(chan struct{}, 1), http: &http.Client{
		Transport:     uncompressed{transport.Transport}, // guarded like any transport, because the endpoint's owner chose the token URL
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// uncompressed requests uncompressed responses.
type uncompressed struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper], which must not change the request.
func (u uncompressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	r.Header["Accept-Encoding"] = identity
	return u.RoundTripper.RoundTrip(r)
}

// get returns a valid token other than the stale one. One request at a time is made to the
// token URL; other attempts that need a token wait for its result.
func (t *tokens) get(ctx context.Context, stale string) (*oauth2.Token, error) {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t.valid() && t.token.AccessToken != stale {
		return t.token, nil
	}
	if t.err != nil && t.now().Sub(t.tried) < tokenWait {
		return nil, t.err
	}
	token, err := t.fetch(ctx)
	if err == nil && (token.AccessToken == "" || !endpoint.HeaderValue(token.Type()+" "+token.AccessToken)) {
		err = fmt.Errorf("%w: the token URL's response contains no usable token", errToken)
	}
	if err != nil {
		if ctx.Err() == nil { // otherwise this attempt's time has ended
			t.err, t.tried = err, t.now()
		}
		return nil, err
	}
	if !token.Expiry.IsZero() { // the library uses the machine's clock, not ours
		token.Expiry = t.now().Add(time.Until(token.Expiry))
	}
	t.token, t.err = token, nil
	return token, nil
}

// early is how long before its expiry a token counts as expired, because its request takes
// time.
const early = 10 * time.Second

func (t *tokens) valid() bool {
	return t.token != nil && (t.token.Expiry.IsZero() || t.now().Add(early).Before(t.token.Expiry))
}

// fetch requests a token, and ignores any response that arrived before the request.
func (t *tokens) fetch(ctx context.Context) (*oauth2.Token, error) {
	var l leftover
	token, err := t.ask(httptrace.WithClientTrace(ctx, l.trace()))
	if l.found.Load() {
		return nil, errLeftover
	}
	return token, err
}

func (t *tokens) ask(ctx context.Context) (*oauth2.Token, error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, t.http)
	style := oauth2.AuthStyleInHeader
	if t.auth.ClientAuth == endpoint.ClientAuthBody {
		style = oauth2.AuthStyleInParams
	}
	scopes := strings.Fields(t.auth.Scope)
	if t.auth.Grant == endpoint.ClientCredentials {
		c := clientcredentials.Config{ClientID: t.auth.ClientID, ClientSecret: t.auth.ClientSecret, TokenURL: t.auth.TokenURL, Scopes: scopes, AuthStyle: style}
		return c.Token(ctx)
	}
	c := oauth2.Config{
		ClientID: t.auth.ClientID, ClientSecret: t.auth.ClientSecret, Scopes: scopes,
		Endpoint: oauth2.Endpoint{TokenURL: t.auth.TokenURL, AuthStyle: style},
	}
	if t.token != nil && t.token.RefreshToken != "" {
		token, err := c.TokenSource(ctx, &oauth2.Token{RefreshToken: t.token.RefreshToken}).Token()
		if err == nil || ctx.Err() != nil {
			return token, err
		}
		t.token = nil // the refresh token is no longer valid; the password may be
	}
	return c.PasswordCredentialsToken(ctx, t.auth.Username, t.auth.Password)
}

// tokenFailure explains a missing token, without the contents of the token URL's response,
// which may repeat the credentials.
func tokenFailure(err error) string {
	var answer *oauth2.RetrieveError
	switch {
	case errors.As(err, &answer) && answer.Response != nil && standardError[answer.ErrorCode]:
		return fmt.Sprintf("The token URL responded with %d, %s.", answer.Response.StatusCode, answer.ErrorCode)
	case errors.As(err, &answer) && answer.Response != nil:
		return fmt.Sprintf("The token URL responded with %d.", answer.Response.StatusCode)
	case errors.Is(err, errToken), strings.HasPrefix(err.Error(), "oauth2: "):
		return "The token URL's response contains no usable access token."
	}
	return ""
}

// standardError contains the errors of a token URL (RFC 6749, section 5.2).
var standardError = map[string]bool{
	"invalid_request": true, "invalid_client": true, "invalid_grant": true,
	"unauthorized_client": true, "unsupported_grant_type": true, "invalid_scope": true,
}
