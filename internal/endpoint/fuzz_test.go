package endpoint

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/webhook"
)

// Every accepted URL is delivered to as written.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://example.com/a?b=c", "http://a", "https://a:b@c/", "https://a#b", "https://a:/", "https://[::1]:1", "https:a", "HTTPS://a", "https://a\x00", "https://a/%zz"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, raw string, plain bool) {
		if err := checkURL("url", raw, plain); err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.User != nil || u.Fragment != "" || u.Hostname() == "" || len(raw) > MaxURLLength || u.Scheme != "https" && (u.Scheme != "http" || !plain) {
			t.Errorf("%q was accepted: %+v %v", raw, u, err)
		}
	})
}

// Every accepted header is transferred unchanged, and none is one that a signature or the
// connection uses.
func FuzzHeader(f *testing.F) {
	for _, s := range [][2]string{{"X-Api-Key", "a b"}, {"webhook-id", "x"}, {"payment-signature", ""}, {"a b", "\r\n"}, {"Content-length", " 1"}, {"x-ü", "ü"}, {"", "\x7f"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		canonical, ok := HeaderName(name, "Payment-Signature")
		if ok && (http.CanonicalHeaderKey(name) != canonical || strings.HasPrefix(strings.ToLower(name), "webhook-") || strings.EqualFold(name, "Payment-Signature") || strings.ContainsAny(name, " :\r\n\x00")) {
			t.Errorf("the name %q was accepted as %q", name, canonical)
		}
		if HeaderValue(value) && strings.ContainsAny(value, "\r\n\x00") {
			t.Errorf("the value %q was accepted", value)
		}
	})
}

// Every accepted secret signs, and the error about a refused secret does not repeat it.
func FuzzCheckSecret(f *testing.F) {
	for _, s := range []string{"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_-_"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := CheckSecret(s)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid || len(s) > 20 && strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if _, err := webhook.ParseSecret(s); err != nil {
			t.Errorf("%q was accepted and does not sign: %v", s, err)
		}
	})
}

// For every pattern and type, the registry matches the endpoint's subscription.
func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"payment.*", "payment.succeeded"}, {"payment-*", "payment-method.added"}, {"/a/*", "/a/b"}, {"iam:*", "iam:user:created"}, {"a_*", "a_"}, {"*", "a..b"}, {"a.*", "a"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, typ string) {
		if !event.ValidPattern(pattern) || !event.ValidType(typ) {
			return
		}
		r, e := NewRegistry(), on(1, pattern)
		r.Put(e, Process{})
		if matched := len(r.Match(space, typ)) == 1; matched != e.Wants(typ) {
			t.Errorf("of %q and %q the registry says %t", pattern, typ, matched)
		}
		if r.Remove(1); len(r.Match(space, typ)) != 0 {
			t.Errorf("%q matches %q after it was removed", pattern, typ)
		}
	})
}
