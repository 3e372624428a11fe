// Package docsite owns the pages under /docs: the documentation, rendered from its Markdown
// files, and the page to try the API.
//
// The list of pages and the navigation follow from the files. All pages but the API page work
// without JavaScript, and none loads anything from another host. The package must not depend on
// the contents of the documentation.
package docsite

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
)

// Config is the configuration of the site.
type Config struct {
	Files    fs.FS    // Markdown pages and their pictures, by path in docs/
	Source   string   // URL of the repository's other files, with a slash at its end
	Styles   []string // URLs of style sheets that come before the site's own
	Scripts  []Script // optional improvements of the pages
	Icon     string   // URL
	Version  string
	Log      *slog.Logger
	HasAdmin bool // there is an Admin UI at /admin
}

// Script is a script of another surface that the pages use too.
type Script struct {
	URL      string
	Deferred bool // it runs after the page was parsed
}

//go:embed templates
var templates embed.FS

//go:embed static swagger/*.js swagger/*.css
var static embed.FS

type site struct {
	Config
	assets string // version of the static files
	book   func() (*book, error)
	pages  *template.Template
	packed sync.Map // compressed static files, by name
}

// New returns the handler of /docs. The pages are rendered at the first request, so that they
// cost nothing if the documentation is not read.
func New(c Config) http.Handler {
	s := &site{Config: c, assets: hashOf(static), pages: template.Must(template.ParseFS(templates, "templates/*.html"))}
	s.book = sync.OnceValues(func() (*book, error) { return render(c.Files, c.Source) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /docs/{$}", s.contents)
	mux.HandleFunc("GET /docs/search", s.search)
	mux.HandleFunc("GET /docs/api", s.api)
	mux.HandleFunc("GET /docs/static/{file...}", s.static)
	mux.HandleFunc("GET /docs/{path...}", s.page)
	mux.Handle("GET /docs", http.RedirectHandler("/docs/", http.StatusMovedPermanently))
	return guard(mux)
}

// guard allows a page to load files of this server only.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Security-Policy", policy("'self'"))
		next.ServeHTTP(w, r)
	})
}

func policy(images string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src " + images +
		"; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

// view is the data of the templates.
type view struct {
	*site
	Assets  string // prefix of the paths of static files
	Path    string // of the page
	Title   string
	Nav     []section
	Page    *page // nil: the page is not made from a file
	Query   string
	Results []result
}

func (s *site) show(w http.ResponseWriter, status int, name string, v view) {
	b, err := s.book()
	if err != nil {
		s.Log.Error("documentation cannot be rendered", "err", err)
		http.Error(w, "The documentation cannot be shown.", http.StatusInternalServerError)
		return
	}
	v.site, v.Assets, v.Nav = s, "/docs/static/"+s.assets+"/", b.sections
	var out bytes.Buffer
	if err := s.pages.ExecuteTemplate(&out, name, v); err != nil {
		s.Log.Error("page cannot be shown", "page", name, "err", err)
		http.Error(w, "This page cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func (s *site) contents(w http.ResponseWriter, _ *http.Request) {
	s.show(w, http.StatusOK, "contents.html", view{Title: "Documentation"})
}

// api serves the page to try the API. Its style sheet has embedded pictures.
func (s *site) api(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", policy("'self' data:"))
	s.show(w, http.StatusOK, "api.html", view{Path: "api", Title: "API"})
}

func (s *site) search(w http.ResponseWriter, r *http.Request) {
	v := view{Path: "search", Title: "Search", Query: strings.TrimSpace(r.URL.Query().Get("q"))}
	if b, err := s.book(); err == nil {
		v.Results = b.search(v.Query)
	}
	s.show(w, http.StatusOK, "search.html", v)
}

// page serves a page, or a picture of a page.
func (s *site) page(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("path")
	if b, err := s.book(); err == nil && b.pages[name] != nil {
		s.show(w, http.StatusOK, "page.html", view{Path: name, Title: b.pages[name].Title, Page: b.pages[name]})
		return
	}
	bare := strings.TrimSuffix(strings.TrimSuffix(name, "/"), ".md")
	if bare != name {
		to := url.URL{Path: "/docs/" + bare, RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.RequestURI(), http.StatusMovedPermanently)
		return
	}
	if ext := path.Ext(name); ext == ".webp" || ext == ".svg" {
		http.ServeFileFS(w, r, s.Files, name)
		return
	}
	s.show(w, http.StatusNotFound, "missing.html", view{Title: "Page not found"})
}

// static serves a file of the site. The path contains a version, so that browsers can cache it
// for ever.
func (s *site) static(w http.ResponseWriter, r *http.Request) {
	_, name, _ := strings.Cut(r.PathValue("file"), "/")
	text, err := static.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	h.Set("Content-Type", contentTypes[path.Ext(name)])
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = s.pack(name, text)
	}
	_, _ = w.Write(text)
}

var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}

// pack compresses a file, once.
func (s *site) pack(name string, text []byte) []byte {
	if done, ok := s.packed.Load(name); ok {
		return done.([]byte)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(text) // into memory: cannot fail
	_ = z.Close()
	s.packed.Store(name, out.Bytes())
	return out.Bytes()
}

func hashOf(files fs.FS) string {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, p)
		_, _ = fmt.Fprintf(h, "%s %d\n%s", p, len(text), text)
		return err
	})
	if err != nil {
		panic(err) // the files are embedded
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
