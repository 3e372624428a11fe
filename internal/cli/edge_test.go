package cli

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/config"
)

// The address of a request is the client's if trusted proxies report it, and cannot be forged
// by others.
func TestClientAddresses(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		want      string
	}{
		{"203.0.113.1:9", nil, "203.0.113.1:9"},
		{"203.0.113.1:9", []string{"198.51.100.1"}, "203.0.113.1:9"}, // any client can send it
		{"10.0.0.1:9", nil, "10.0.0.1"},
		{"10.0.0.1:9", []string{"198.51.100.1"}, "198.51.100.1"},
		{"10.0.0.1:9", []string{"192.0.2.7, 198.51.100.1"}, "198.51.100.1"}, // the client forged the first one
		{"10.0.0.1:9", []string{"192.0.2.7", "198.51.100.1, 10.2.3.4"}, "198.51.100.1"},
		{"10.0.0.1:9", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"10.0.0.1:9", []string{"198.51.100.1, garbage"}, "10.0.0.1"},
		{"10.0.0.1:9", []string{"198.51.100.1, , 10.0.0.2"}, "10.0.0.2"},
		{"[::ffff:10.0.0.1]:9", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"[fd00::1]:9", []string{"2001:db8::1"}, "2001:db8::1"},
		{"[fd00::1]:9", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"10.0.0.1:9", []string{"10.9.9.9"}, "10.9.9.9"}, // all are proxies: the first one
		{"pipe", []string{"198.51.100.1"}, "pipe"},
	} {
		var got string
		h := clientAddresses(trusted, slog.New(slog.DiscardHandler), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != c.want {
			t.Errorf("from %s, forwarded for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

func TestStrictTransport(t *testing.T) {
	for public, want := range map[string]string{"": "", "http://a.example": "", "https://a.example/hooks": "max-age=31536000"} {
		s := &server{Config: &config.Config{PublicURL: public}, log: slog.New(slog.DiscardHandler)}
		w := httptest.NewRecorder()
		s.edge(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if got := w.Header().Get("Strict-Transport-Security"); got != want {
			t.Errorf("reached at %q: %q, want %q", public, got, want)
		}
	}
}

func TestServerURL(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:8080": "http://127.0.0.1:8080", "https://Example.com/hooks/": "https://example.com/hooks",
		"localhost:8080": "!has no scheme: use https://localhost:8080", "127.0.0.1:8080": "!has no scheme", "example.com": "!has no scheme",
		"ftp://example.com": "!invalid", "http://": "!invalid", "": "!invalid",
	} {
		got, err := serverURL(raw)
		if fail, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), fail) {
				t.Errorf("%q: %s, %v, want an error with %q", raw, got, err, fail)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", raw, got, err, want)
		}
	}
}
