package sender

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// For every response, the delay of a retry is bounded, and the stored header is text of bounded
// size.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "99999999999999999999", "-99999999999999999999", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "\xff\x00\n"} {
		f.Add(s)
	}
	now := time.Unix(1_700_000_000, 0)
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(v, now); d < 0 || d > maxRetryAfter {
			t.Errorf("Retry-After %q puts a retry off by %s", v, d)
		}
		text := headerText(nil, http.Header{"Retry-After": {v, v}, v: {"a"}})
		if len(text) > 3*keepHeader || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			t.Errorf("%q is kept as %q", v, text)
		}
	})
}

// Every URL that registration accepts has a host that can be dialled, and no forbidden address.
func FuzzCheckTarget(f *testing.F) {
	for _, s := range []string{
		"https://example.com/", "http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://[::ffff:10.0.0.1]/", "http://[::1%25lo]/", "https://１２７.0.0.1/",
		"https://example.com:0/", "https://a..b/", "https://metadata.internal./", "https://user@example.com/", "http://0177.0.0.1/", "https://[64:ff9b::7f00:1]/", "://", "https://%00/", "https://169.254.169.254/",
	} {
		f.Add(s)
	}
	s := New(Config{Brand: "Payment", Version: "test", Timeout: time.Second, Now: time.Now})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, raw string) {
		err := s.CheckTarget("url", raw)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		u, err := parseTarget(raw)
		if err != nil {
			t.Fatalf("%q was accepted and cannot be read: %v", raw, err)
		}
		host := u.Hostname()
		if host == "" {
			t.Fatalf("%q was accepted and names no host", raw)
		}
		if a, perr := netip.ParseAddr(host); perr == nil && (a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()) {
			t.Errorf("%q was accepted", raw)
		}
	})
}
