package mount_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/mount"
)

func TestHandler_requests(t *testing.T) {
	for target, want := range map[string]string{
		"/hooks/v1/events?a=%2F":   "/v1/events?a=%2F",
		"/v1/events":               "/v1/events",
		"/hooks":                   "/",
		"/hooks/":                  "/",
		"/hooks/hooks/v1/webhooks": "/v1/webhooks", // a base and the url of a list, joined
		"/hooksmith":               "/hooksmith",
		"/hooks/docs/a%2Fb":        "/docs/a%2Fb",
		"/h%6Foks/docs/a%2Fb":      "/h%6Foks/docs/a%2Fb",
		"/hooks//admin":            "//admin",
	} {
		var got string
		h := mount.Path("/hooks").Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = r.URL.EscapedPath()
			if r.URL.RawQuery != "" {
				got += "?" + r.URL.RawQuery
			}
		}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
		if got != want {
			t.Errorf("%s is served as %s, want %s", target, got, want)
		}
	}
}

func TestHandler_responses(t *testing.T) {
	page := `<a href="/">a</a> <a class="b" href="/admin/x">b</a> <form action="/admin"> <img src="//cdn.example/x"> <a href="#c">c</a>` +
		` <p>&#34; href=&#34;/text</p> <div hx-get="/admin/y" data-tail="/tail"> <a href="https://other.example/">d</a> <input placeholder="/path">`
	want := `<a href="/hooks/">a</a> <a class="b" href="/hooks/admin/x">b</a> <form action="/hooks/admin"> <img src="//cdn.example/x"> <a href="#c">c</a>` +
		` <p>&#34; href=&#34;/text</p> <div hx-get="/hooks/admin/y" data-tail="/hooks/tail"> <a href="https://other.example/">d</a> <input placeholder="/path">`
	for _, c := range []struct {
		kind, body, to   string
		wantBody, wantTo string
		status           int
	}{
		{kind: "text/html; charset=utf-8", body: page, wantBody: want, status: 404},
		{kind: "", body: "<!doctype html>" + page, wantBody: "<!doctype html>" + want, status: 200},
		{kind: "application/json", body: `{"a":" href=\"/x\""}`, wantBody: `{"a":" href=\"/x\""}`, status: 200},
		{to: "/admin/sign-in?next=%2Fadmin", wantTo: "/hooks/admin/sign-in?next=%2Fadmin", status: 303},
		{to: "https://other.example/", wantTo: "https://other.example/", status: 303},
		{to: "//other.example/", wantTo: "//other.example/", status: 303},
	} {
		h := mount.Path("/hooks").Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.kind != "" {
				w.Header().Set("Content-Type", c.kind)
			}
			if c.to != "" {
				w.Header().Set("Location", c.to)
			}
			if c.kind != "" || c.to != "" {
				w.WriteHeader(c.status)
			}
			_, _ = io.WriteString(w, c.body[:len(c.body)/2])
			_, _ = io.WriteString(w, c.body[len(c.body)/2:])
		}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != c.status || w.Header().Get("Location") != c.wantTo || w.Body.String() != c.wantBody {
			t.Errorf("%+v: answered %d, to %q:\n%s", c, w.Code, w.Header().Get("Location"), w.Body)
		}
	}
}

// A stream is not buffered until its end.
func TestHandler_streams(t *testing.T) {
	more := make(chan struct{})
	web := httptest.NewServer(mount.Path("/hooks").Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "first\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-more
	})))
	defer web.Close()
	defer close(more)
	r, err := http.Get(web.URL + "/hooks/tail")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	line := make([]byte, 6)
	if _, err := io.ReadFull(r.Body, line); err != nil || string(line) != "first\n" {
		t.Errorf("read %q, %v", line, err)
	}
}
