package weburl_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/weburl"
)

func TestNormalize(t *testing.T) {
	for raw, want := range map[string]string{
		// Normal URLs are unchanged.
		"https://www.acme.com/webhooks/payment":      "https://www.acme.com/webhooks/payment",
		"https://example.com":                        "https://example.com",
		"https://example.com/?":                      "https://example.com/?",
		"https://example.com?a=b":                    "https://example.com?a=b",
		"https://example.com:8443/a/../b//c;d=e?f&g": "https://example.com:8443/a/../b//c;d=e?f&g",
		"https://example.com/a?u=https://b/c?d":      "https://example.com/a?u=https://b/c?d",
		"https://example.com/%c3%a9%2F%7e?%5B%5d=%":  "https://example.com/%c3%a9%2F%7e?%5B%5d=%25",
		"https://my_service:8080/-._~!$&'()*+,;=:@":  "https://my_service:8080/-._~!$&'()*+,;=:@",
		"http://[2001:db8::1]:80/":                   "http://[2001:db8::1]:80/",

		// Path and query are encoded alike.
		"https://a.example/café?name=José":         "https://a.example/caf%C3%A9?name=Jos%C3%A9",
		"https://a.example/a|b{c}[d]^`\"<>\\":      "https://a.example/a%7Cb%7Bc%7D%5Bd%5D%5E%60%22%3C%3E%5C",
		"https://a.example/?q=a|b{c}[d]^`\"<>\\":   "https://a.example/?q=a%7Cb%7Bc%7D%5Bd%5D%5E%60%22%3C%3E%5C",
		"https://a.example/?q=100%&r=%4&s=%zz&t=%": "https://a.example/?q=100%25&r=%254&s=%25zz&t=%25",
		"https://a.example/\xff?\xc3":              "https://a.example/%FF?%C3",
		"https://a.example/\u00a0\u202e":           "https://a.example/%C2%A0%E2%80%AE",
		"https://a.example/#é#":                    "https://a.example/#%C3%A9%23",

		// The forms of a host have one normal form.
		"HTTPS://Example.COM/A":              "https://example.com/A",
		"https://BÜCHER.test/":               "https://xn--bcher-kva.test/",
		"https://bu\u0308cher.test/":         "https://xn--bcher-kva.test/", // decomposed
		"https://B%C3%BCCHER.test/":          "https://xn--bcher-kva.test/",
		"https://XN--BCHER-KVA.test/":        "https://xn--bcher-kva.test/",
		"https://faß.example/":               "https://xn--fa-hia.example/", // non-transitional
		"https://例え。テスト/":                    "https://xn--r8jz45g.xn--zckzah/",
		"https://example.com./":              "https://example.com/",
		"http://１２７.0.0.1/":                  "http://127.0.0.1/",
		"http://0x7f.1/":                     "http://127.0.0.1/",
		"http://2130706433/":                 "http://127.0.0.1/",
		"http://[2001:DB8:0::0001]/":         "http://[2001:db8::1]/",
		"http://[::FFFF:1.2.3.4]/":           "http://[::ffff:1.2.3.4]/",
		"http://[fe80::1%25eth0]/":           "http://[fe80::1%25eth0]/",
		"https://example.com:0443/":          "https://example.com:443/",
		"https://u:p%C3%BC@example.com/":     "https://u:p%C3%BC@example.com/",
		"https://" + strings.Repeat("a", 63): "https://" + strings.Repeat("a", 63),
	} {
		got, err := weburl.Normalize(raw)
		if err != nil || got != want {
			t.Errorf("Normalize(%q) = %q, %v; want %q", raw, got, err, want)
			continue
		}
		if again, err := weburl.Normalize(got); err != nil || again != got {
			t.Errorf("Normalize(%q), which it returned, = %q, %v", got, again, err)
		}
		if u, err := url.Parse(got); err != nil || u.String() != got {
			t.Errorf("net/url spells %q as %q, %v", got, u, err)
		}
	}
}

func TestNormalize_refuses(t *testing.T) {
	for raw, says := range map[string]string{
		"":                             "absolute",
		"/hooks":                       "absolute",
		"//a.example/":                 "absolute",
		"a.example/hooks":              "absolute",
		"ftp://a.example/":             "absolute",
		"listen:laptop":                "absolute",
		"https:a.example":              "has no host",
		"https://":                     "has no host",
		"https:///path":                "has no host",
		"https://:443/":                "has no host",
		"https://?":                    "has no host",
		"https://a.example:/":          "empty port",
		"https://a.example:0/":         "port",
		"https://a.example:65536/":     "port",
		"https://a.example:x/":         "not a URL",
		"https://[::1/":                "not a URL",
		"https://a b/":                 "space",
		"https://a.example/a b":        "space",
		"https://a.example/\r\nX: y":   "space",
		"https://a.example/\x7f":       "space",
		"https://a.example/%zz":        "begins no escape",
		"https://a.example/%":          "begins no escape",
		"https://a.example/50%?a=b":    "begins no escape",
		"https://a..example/":          "is empty",
		"https://.example/":            "is empty",
		"https://./":                   "is empty",
		"https://a.example../":         "is empty",
		"https://a。。b/":                "is empty",
		"https://a*b.example/":         "other than letters",
		"https://a<b>.example/":        "other than letters",
		"https://a／b.example/":         "other than letters",
		"https://xn--zzzzzzzz99.test/": "not a valid name",
		"https://\u202e.example/":      "not a valid name",
		"https://1.2.3.4.5/":           "neither a name nor an address",
		"https://256.1.1.1/":           "neither a name nor an address",
		"https://0x/":                  "neither a name nor an address",
		"https://" + strings.Repeat("a", 64) + ".example/": "longer than 63",
		"https://" + strings.Repeat("ü", 60) + ".example/": "longer than 63",
		"https://" + strings.Repeat("a.", 126) + "ab/":     "longer than 253",
	} {
		got, err := weburl.Normalize(raw)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Normalize(%q) = %q, %v; want an error that says %q", raw, got, err, says)
		}
		if weburl.Respell(raw) != raw {
			t.Errorf("Respell(%q) = %q", raw, weburl.Respell(raw))
		}
	}
	if _, err := weburl.Normalize("https://" + strings.Repeat("a.", 126) + "a"); err != nil {
		t.Errorf("a name of 253 bytes: %v", err)
	}
}

// A request has the URL in its normal form, at least with Go's client.
func TestNormalize_isSent(t *testing.T) {
	var target, host string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { target, host = r.RequestURI, r.Host }))
	defer srv.Close()
	for _, tail := range []string{"/café?name=José", "//x/[a]?b[]=|", "/a%2Fb%c3?%", "?a", "/%5B[", "/!$&'()*+,;=:@"} {
		u, err := weburl.Parse(srv.URL + tail)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(u.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		want := strings.TrimPrefix(u.String(), srv.URL)
		if !strings.HasPrefix(want, "/") {
			want = "/" + want
		}
		if target != want || host != u.Host {
			t.Errorf("%q: sent %q to %q, want %q", tail, target, host, want)
		}
	}
}

// For any text: an accepted URL is plain ASCII, is unchanged the second time, and is parsed by
// net/url to the same parts.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"https://example.com/a?b=c#d", "http://BÜCHER.test/é|?[%", "https://u:p@[::1%25e]:080/%41", "http://0x7f.1", "https:a", "https://a。b/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := weburl.Normalize(raw)
		if err != nil {
			return
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("Normalize(%q) = %q", raw, got)
		}
		if again, err := weburl.Normalize(got); err != nil || again != got {
			t.Errorf("Normalize(%q) = %q, and of that %q, %v", raw, got, again, err)
		}
		u, err := weburl.Parse(raw)
		if err != nil || u.String() != strings.TrimSuffix(got, "#") || u.Hostname() == "" {
			t.Errorf("Normalize(%q) = %q, which net/url reads as %q, %v", raw, got, u, err)
		}
	})
}
