// Package mount owns the path of --public-url, under which a proxy serves the server. Handlers
// are written as if the server were at the root of its host: [Path.Handler] removes the path
// from requests and adds it to the addresses in responses.
//
// It must not know the content of responses.
package mount

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
)

// Path is the path of the server behind its proxy, such as "/hooks"; empty for the root of the
// host. It begins with a slash and does not end with one.
type Path string

// To returns the public path of a path of the server.
func (p Path) To(path string) string { return string(p) + path }

// Of removes the path from a public path: it reverses To.
func (p Path) Of(public string) string {
	path, _ := p.cut(public)
	return path
}

// Cookie returns the path for a cookie of the server.
func (p Path) Cookie() string {
	if p == "" {
		return "/"
	}
	return string(p)
}

// Handler returns next as it is served to clients. It accepts requests with and without the
// path, because some proxies remove it. In responses, it adds the path to the Location header
// and to the addresses in HTML that begin with a slash.
func (p Path) Handler(next http.Handler) http.Handler {
	if p == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &response{ResponseWriter: w, path: p}
		next.ServeHTTP(out, p.strip(r))
		out.finish()
	})
}

// strip returns the request without the path. A duplicated path is removed twice: Stripe's
// libraries append the url of a list, which contains it, to a base that contains it too.
func (p Path) strip(r *http.Request) *http.Request {
	for {
		path, has := p.cut(r.URL.Path)
		raw, hasRaw := p.cut(r.URL.RawPath)
		if !has || r.URL.RawPath != "" && !hasRaw {
			return r
		}
		u := *r.URL
		u.Path, u.RawPath = path, ""
		if r.URL.RawPath != "" {
			u.RawPath = raw
		}
		next := *r
		next.URL = &u
		r = &next
	}
}

func (p Path) cut(path string) (rest string, ok bool) {
	if path == string(p) {
		return "/", true
	}
	if rest, ok = strings.CutPrefix(path, string(p)+"/"); ok {
		return "/" + rest, true
	}
	return path, false
}

// addresses matches attributes of HTML whose value is an address on this host. Templates escape
// quotes in text, so text cannot match.
var addresses = regexp.MustCompile(`(\s(?:href|src|action|formaction|poster|hx-(?:get|post|put|patch|delete)|data-tail)=")(/(?:[^/"][^"]*)?")`)

// HTML returns a page with the path added to its addresses.
func (p Path) HTML(page []byte) []byte {
	return addresses.ReplaceAll(page, []byte("${1}"+string(p)+"${2}"))
}

// response adds the path to the output of a handler. A page is buffered until it is complete;
// anything else is passed on at once.
type response struct {
	http.ResponseWriter
	path    Path
	started bool
	page    *bytes.Buffer // nil: not HTML
	status  int           // of the page
}

// Unwrap lets [http.ResponseController] reach the connection.
func (o *response) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func (o *response) WriteHeader(status int) {
	if o.started || status < 200 && status != http.StatusSwitchingProtocols {
		if !o.started {
			o.ResponseWriter.WriteHeader(status)
		}
		return
	}
	o.started = true
	h := o.Header()
	if to := h.Get("Location"); strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
		h.Set("Location", o.path.To(to))
	}
	if strings.HasPrefix(h.Get("Content-Type"), "text/html") && h.Get("Content-Encoding") == "" {
		o.page, o.status = new(bytes.Buffer), status
		return
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *response) Write(b []byte) (int, error) {
	if !o.started {
		if o.Header().Get("Content-Type") == "" {
			o.Header().Set("Content-Type", http.DetectContentType(b))
		}
		o.WriteHeader(http.StatusOK)
	}
	if o.page != nil {
		return o.page.Write(b)
	}
	return o.ResponseWriter.Write(b)
}

// finish writes the buffered page.
func (o *response) finish() {
	if o.page == nil {
		return
	}
	o.Header().Del("Content-Length")
	o.ResponseWriter.WriteHeader(o.status)
	_, _ = o.ResponseWriter.Write(o.path.HTML(o.page.Bytes()))
}
