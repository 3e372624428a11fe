package docsite_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/net/html"

	"github.com/posthaste-hq/posthaste/docs"
	"github.com/posthaste-hq/posthaste/internal/docsite"
)

const source = "https://source.example/blob/main/"

func newSite(c docsite.Config) http.Handler {
	if c.Files == nil {
		c.Files = docs.Files
	}
	c.Source, c.Log, c.HasAdmin = source, slog.New(slog.DiscardHandler), true
	return docsite.New(c)
}

func get(t *testing.T, h http.Handler, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// visited is a visited page: its links and its anchors.
type visited struct {
	links, ids []string
}

func look(t *testing.T, body string) (v visited) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			switch a.Key {
			case "href", "src", "action":
				v.links = append(v.links, a.Val)
			case "id":
				v.ids = append(v.ids, a.Val)
			}
		}
	}
	return v
}

// Every page can be reached by links from the contents, and no link is broken.
func TestSite_linksLeadSomewhere(t *testing.T) {
	h := newSite(docsite.Config{})
	seen := map[string]visited{}
	type step struct{ from, to string }
	todo := []step{{"", "/docs/"}}
	fragments := 0
	var anchors []step
	for len(todo) > 0 {
		s := todo[0]
		todo = todo[1:]
		u, err := url.Parse(s.to)
		if err != nil {
			t.Errorf("%s: %v", s.from, err)
			continue
		}
		base, err := url.Parse(s.from)
		if err != nil {
			t.Fatal(err)
		}
		u = base.ResolveReference(u)
		switch {
		case u.Scheme != "":
			if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
				t.Errorf("%s links to %s", s.from, s.to)
			}
			if in, ok := strings.CutPrefix(u.String(), source); ok {
				in, _, _ = strings.Cut(in, "#")
				if _, err := os.Stat(filepath.Join("../..", filepath.FromSlash(path.Clean(in)))); err != nil {
					t.Errorf("%s links to %s, which is not in the repository", s.from, in)
				}
			}
			continue
		case !strings.HasPrefix(u.Path, "/docs"):
			if u.Path != "/admin" && u.Path != "/openapi.yaml" {
				t.Errorf("%s links to %s", s.from, s.to)
			}
			continue
		}
		if u.Fragment != "" {
			fragments++
			anchors = append(anchors, step{s.from, u.Path + "#" + u.Fragment})
		}
		if _, done := seen[u.Path]; done {
			continue
		}
		r := get(t, h, u.Path)
		body := text(t, r)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s links to %s: %d", s.from, s.to, r.StatusCode)
		}
		v := visited{}
		if strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
			v = look(t, body)
		}
		seen[u.Path] = v
		for _, to := range v.links {
			todo = append(todo, step{u.Path, to})
		}
	}
	for _, a := range anchors {
		page, id, _ := strings.Cut(a.to, "#")
		if !slices.Contains(seen[page].ids, id) {
			t.Errorf("%s links to %s: there is no such heading", a.from, a.to)
		}
	}
	pages := 0
	for _, name := range files(t) {
		if inside, ok := strings.CutPrefix(name, "docs/"); ok {
			pages++
			if _, ok := seen["/docs/"+strings.TrimSuffix(inside, ".md")]; !ok {
				t.Errorf("no way leads to %s", name)
			}
		}
	}
	if pages < 20 || fragments < 20 {
		t.Errorf("only %d pages and %d links to headings", pages, fragments)
	}
	t.Logf("%d addresses, %d pages, %d links to headings", len(seen), pages, fragments)
}

// The files of swagger-ui are the version that its README states, so that it can be compared
// with security advisories.
func TestSwagger_isTheVersionNamed(t *testing.T) {
	readme, err := os.ReadFile("swagger/README.md")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile("swagger/swagger-ui-bundle.js")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`version (\d+\.\d+\.\d+),`).FindSubmatch(readme)
	is := regexp.MustCompile(`PACKAGE_VERSION:"(\d+\.\d+\.\d+)"`).FindSubmatch(bundle)
	if named == nil || is == nil || string(named[1]) != string(is[1]) {
		t.Errorf("the README names %q, the file is %q", named, is)
	}
}

// Statements about other projects have links to a commit, because files change and a commit
// does not.
func TestComparison_linksNameCommits(t *testing.T) {
	text, err := os.ReadFile("../../docs/comparison.md")
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`^https://github\.com/[\w-]+/[\w-]+/(?:blob|tree)/[0-9a-f]{40}/?[^\s]*$`)
	links := regexp.MustCompile(`https?://[^\s)>]+`).FindAllString(string(text), -1)
	for _, l := range links {
		if !pinned.MatchString(l) {
			t.Errorf("%s names no commit", l)
		}
	}
	if len(links) < 50 {
		t.Errorf("only %d links", len(links))
	}
	labels := regexp.MustCompile(`(?m)^\[([a-z0-9-]+)\]: `).FindAllStringSubmatch(string(text), -1)
	for _, m := range labels {
		if !strings.Contains(string(text), "]["+m[1]+"]") {
			t.Errorf("nothing is said with [%s]", m[1])
		}
	}
}

// files returns the Markdown files of the documentation, by path in the repository.
func files(t *testing.T) (out []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "webhook/*.md", "clients/*/*.md"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			out = append(out, strings.TrimPrefix(filepath.ToSlash(f), "../../"))
		}
	}
	return out
}

var (
	fence     = regexp.MustCompile("(?ms)^ *```.*?^ *```$|`[^`\n]*`")
	linkTo    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingOf = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	spaces    = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// The links also work within the repository.
func TestFiles_linksLeadSomewhere(t *testing.T) {
	checked := 0
	for _, name := range files(t) {
		body, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range linkTo.FindAllStringSubmatch(fence.ReplaceAllString(string(body), ""), -1) {
			u, err := url.Parse(m[1])
			if err != nil || u.Scheme != "" && (u.Scheme != "https" || u.Host == "") {
				t.Errorf("%s: bad link %s", name, m[1])
				continue
			}
			if u.Scheme != "" {
				continue
			}
			checked++
			target := name
			if u.Path != "" {
				target = path.Join(path.Dir(name), u.Path)
			}
			if _, err := os.Stat("../../" + target); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if u.Fragment != "" && !slices.Contains(headings(t, target), u.Fragment) {
				t.Errorf("%s links to %s: there is no such heading", name, m[1])
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d links", checked)
	}
	t.Logf("%d links between files", checked)
}

// headings returns the anchors of a file as GitHub makes them.
func headings(t *testing.T, name string) (out []string) {
	t.Helper()
	body, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range headingOf.FindAllStringSubmatch(string(body), -1) {
		out = append(out, strings.ReplaceAll(spaces.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return out
}

func TestSite_loadsNothingFromElsewhere(t *testing.T) {
	h := newSite(docsite.Config{})
	for _, target := range []string{"/docs/", "/docs/delivery", "/docs/api", "/docs/search?q=retry", "/docs/nothing"} {
		r := get(t, h, target)
		csp := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("%s: %s", target, csp)
		}
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", target, r.Header)
		}
		if body := text(t, r); strings.Contains(body, "style=\"") || regexp.MustCompile(`(src|stylesheet" href)="(https?:)?//`).MatchString(body) {
			t.Errorf("%s has styles of its own or loads from elsewhere", target)
		}
	}
}

func TestSite_missing(t *testing.T) {
	h := newSite(docsite.Config{})
	for target, want := range map[string]int{
		"/docs/nothing": 404, "/docs/../etc/passwd": 307, "/docs/docs.go": 404, "/docs/delivery.md": 301, "/docs/delivery/": 301, "/docs/api/": 301, "/docs/nothing/": 301, "/docs//evil.example/": 307, "/docs": 301, "/docs/static/x/static/nothing.css": 404,
		"/docs/static/x/../../docsite.go": 307, "/docs/images/nothing.webp": 404,
	} {
		if r := get(t, h, target); r.StatusCode != want {
			t.Errorf("%s: %d, want %d", target, r.StatusCode, want)
		}
	}
}

func TestSite_followsTheFiles(t *testing.T) {
	h := newSite(docsite.Config{Files: fstest.MapFS{
		"how-to/b.md":          {Data: []byte("# Do a thing\n\nHow. It goes.\n\n## A `step`, twice\n\n## A `step`, twice\n\n[there](../reference/a.md#x) [code](../../webhook)\n")},
		"reference/a.md":       {Data: []byte("# Facts\n\n## X\n\nSet `POSTHASTE_<LONG>_NAME`.\n\n```json norun why not\n{\"a\": \"<b>\"}\n```\n")},
		"runbooks/disk.md":     {Data: []byte("# Disk full\n")},
		"top.md":               {Data: []byte("<!-- section: tutorials -->\n# Begin\n\n![states](diagrams/d.svg)\n")},
		"diagrams/d.svg":       {Data: []byte("<svg><rect fill=\"var(--card, #fff)\"/></svg>")},
		"decisions/0001-it.md": {Data: []byte("# It\n")},
	}})
	contents := text(t, get(t, h, "/docs/"))
	at := -1
	for _, want := range []string{"Tutorials", "How-to guides", "Reference", "Decisions", "Runbooks"} {
		next := strings.Index(contents, ">"+want+"<")
		if next <= at {
			t.Errorf("%s is at %d, after %d", want, next, at)
		}
		at = next
	}
	for target, wants := range map[string][]string{
		"/docs/how-to/b":       {`<h1 id="do-a-thing">Do a thing</h1>`, `id="a-step-twice"`, `id="a-step-twice-1"`, `href="/docs/reference/a#x"`, `href="` + source + `webhook"`},
		"/docs/reference/a":    {"<code>POSTHASTE_<wbr>&lt;LONG&gt;_NAME</code>", `<pre tabindex="0"><code>{<span class="k">&#34;a&#34;:</span> <span class="s">&#34;&lt;b&gt;&#34;</span>}`},
		"/docs/top":            {`role="img" aria-label="states"><svg><rect fill="var(--card, #fff)"/></svg>`},
		"/docs/search?q=step":  {`2 results`, `href="/docs/how-to/b#a-step-twice-1"`},
		"/docs/search?q=%3Cb>": {`for “&lt;b&gt;”`},
		"/docs/runbooks/disk":  {"Disk full"},
		"/docs/search?q=İİİİa": {"0 results"},
		"/docs/":               {"How."},
	} {
		body := text(t, get(t, h, target))
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %s:\n%s", target, want, body)
			}
		}
	}
}

func TestSite_compressesLargeResponses(t *testing.T) {
	h := newSite(docsite.Config{})
	script := regexp.MustCompile(`/docs/static/\w+/swagger/swagger-ui-bundle\.js`).FindString(text(t, get(t, h, "/docs/api")))
	plain, packed := get(t, h, script), get(t, h, script, "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if packed.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" || string(unpacked) != text(t, plain) {
		t.Error("the compressed script differs")
	}
	if !strings.Contains(plain.Header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(plain.Header.Get("Content-Type"), "text/javascript") {
		t.Error(fmt.Sprint(plain.Header))
	}
}
