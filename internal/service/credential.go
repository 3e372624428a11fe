package service

import (
	"maps"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// bindCredentials refuses an edit that would send stored credentials to another receiver: if
// the origin of the endpoint's URL or token URL changes, the edit must set them again. A
// customer in a portal must for any change of the URLs, because one host may serve many
// receivers. old is the endpoint before the edit p, e after it.
func (s *Service) bindCredentials(c *call.Call, p endpoint.Params, old, e *endpoint.Endpoint) error {
	moved := func(from, to string) bool {
		if c.Portal != nil {
			return from != to
		}
		return endpoint.Origin(from) != endpoint.Origin(to)
	}
	url, token := moved(old.URL, e.URL), e.Auth.Type == endpoint.AuthOAuth && old.Auth.Type == endpoint.AuthOAuth && old.Auth.TokenURL != e.Auth.TokenURL
	if !url && !token {
		return nil
	}
	what, given := "url", p.Group("authentication")
	if !url {
		what = "token_url"
	}
	again := func(param, name string) error {
		return fault.Param(param, "credential_required", "The edit changes the origin of %s. Set the %s again in the same edit, or remove it: "+
			"a credential is sent only to the origin that it was set for.", what, name)
	}
	if e.Auth.Type == old.Auth.Type {
		switch {
		case old.Auth.Password != "" && given.Text("password") == "" && (e.Auth.Password != "" || token):
			return again("authentication[password]", "password")
		case old.Auth.ClientSecret != "" && given.Text("client_secret") == "" && (e.Auth.ClientSecret != "" || token):
			return again("authentication[client_secret]", "client secret")
		}
	}
	if e.TLS.PrivateKey != "" && !p.Mentions("client_certificate") { // token URLs receive it too
		return again("client_certificate", "client certificate")
	}
	if !url {
		return nil
	}
	named := map[string]bool{}
	headers, _ := p["headers"].(map[string]*string)
	for name := range headers {
		canonical, ok := endpoint.HeaderName(name, s.Rules.Signature)
		named[canonical] = ok
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		if !named[name] {
			return again("headers["+name+"]", "header "+name)
		}
	}
	return nil
}

// moves describes for the audit log the old and new origins of an edited endpoint.
func moves(old, e *endpoint.Endpoint) (detail []string) {
	add := func(name, from, to string) {
		if from, to = endpoint.Origin(from), endpoint.Origin(to); from != to {
			detail = append(detail, "old_"+name, from, "new_"+name, to)
		}
	}
	add("origin", old.URL, e.URL)
	if old.Auth.TokenURL != "" || e.Auth.TokenURL != "" {
		add("token_origin", old.Auth.TokenURL, e.Auth.TokenURL)
	}
	return detail
}

// differences returns the changes of an edit of an endpoint, without values that may be
// credentials.
func differences(old, e *endpoint.Endpoint) []string {
	var d call.Difference
	endpoint.Differences(old, e, d.Of)
	return append(d, moves(old, e)...)
}
