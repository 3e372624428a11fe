package sender_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/signature"
)

// lines returns the header lines of one request, sorted.
func lines(t *testing.T, send func(url string)) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := make(chan []string, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		var all []string
		for r := bufio.NewScanner(c); r.Scan() && r.Text() != ""; {
			all = append(all, r.Text())
		}
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		slices.Sort(all)
		got <- all
	}()
	send("http://" + l.Addr().String() + "/hook")
	return <-got
}

// A request with a signature profile has the headers of that profile, with its sender's
// capitalization, instead of those of Standard Webhooks and of the brand.
func TestSend_profiles(t *testing.T) {
	for i := range signature.Profiles {
		p := &signature.Profiles[i]
		t.Run(p.Name, func(t *testing.T) {
			got := lines(t, func(url string) {
				r := request(url)
				r.EventType, r.Signature = "payment.succeeded", p
				if a := newSender(t, nil).Send(context.Background(), r); !a.Succeeded() {
					t.Error(a.Error)
				}
			})
			var names []string
			for _, line := range got {
				name, value, _ := strings.Cut(line, ": ")
				if names = append(names, name); value == "" || strings.Contains(value, "{") {
					if name != "POST /hook HTTP/1.1" {
						t.Errorf("the line %q", line)
					}
				}
			}
			want := []string{"Accept-Encoding", "Content-Length", "Content-Type", "Host", "POST /hook HTTP/1.1", "User-Agent"}
			for _, h := range p.Headers {
				want = append(want, h.Name)
			}
			slices.Sort(want)
			slices.Sort(names)
			if !slices.Equal(names, want) {
				t.Errorf("got the lines\n%s\nwant those of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// A request has the endpoint's method and content type, also when it is repeated.
func TestSend_methodAndContentType(t *testing.T) {
	got := lines(t, func(url string) {
		r := request(url)
		r.Method, r.ContentType = http.MethodPut, "application/json; charset=utf-8"
		if a := newSender(t, nil).Send(context.Background(), r); !a.Succeeded() || !strings.Contains(a.RequestHeader.Lines(r.EventID, a.Started), "Content-Type: application/json; charset=utf-8") {
			t.Errorf("%s: %s", a.Error, a.RequestHeader)
		}
	})
	if !slices.Contains(got, "PUT /hook HTTP/1.1") || !slices.Contains(got, "Content-Type: application/json; charset=utf-8") {
		t.Errorf("got %q", got)
	}
}

// During a rotation, the request to a receiver with one of the secrets is repeated only if its
// profile has no signature with the other.
func TestSend_profileRotates(t *testing.T) {
	for name, want := range map[string]int{"github": 2, "stripe": 1} {
		n := 0
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			n++
			w.WriteHeader(http.StatusUnauthorized)
		})
		r := request(srv.URL)
		r.Secrets, r.Signature = secrets(secret, newer), signature.Named(name)
		if newSender(t, nil).Send(context.Background(), r); n != want {
			t.Errorf("%s: %d requests, want %d", name, n, want)
		}
	}
}
