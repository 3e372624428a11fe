package docsite

import (
	"io/fs"
	"path"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// linker turns links between files into links between pages.
type linker struct {
	files  fs.FS
	source string
	page   string // path of the rendered file
}

// Transform converts the links of one page.
func (l linker) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link:
			n.Destination = []byte(l.target(string(n.Destination)))
		case *ast.Image:
			n.Destination = []byte(l.target(string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
}

// target returns the destination of a link on the site: a page, the description of the API, or
// a file of the repository that is not on the site.
func (l linker) target(to string) string {
	if to == "" || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "/") || strings.Contains(to, ":") {
		return to
	}
	file, fragment, _ := strings.Cut(to, "#")
	if fragment != "" {
		fragment = "#" + fragment
	}
	full := path.Join("docs", path.Dir(l.page), file) // in the repository
	inside, within := strings.CutPrefix(full, "docs/")
	switch {
	case full == "api/openapi.yaml":
		return "/docs/api"
	case full == "docs":
		return "/docs/" + fragment
	case within && path.Ext(inside) == ".md":
		return "/docs/" + strings.TrimSuffix(inside, ".md") + fragment
	case within && l.has(inside):
		return "/docs/" + inside + fragment
	}
	return l.source + strings.TrimPrefix(full, "../") + fragment
}

// has reports whether the site has a file.
func (l linker) has(name string) bool {
	info, err := fs.Stat(l.files, name)
	return err == nil && !info.IsDir()
}
