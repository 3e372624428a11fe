package docsite

import (
	"fmt"
	"html"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"
)

// blocks renders elements differently from goldmark: code with colours, headings with links to
// themselves, diagrams in the colours of the page.
type blocks struct {
	files fs.FS
	page  string
}

// RegisterFuncs registers the kinds of nodes that blocks renders.
func (b blocks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindFencedCodeBlock, b.code)
	r.Register(ast.KindCodeSpan, b.span)
	r.Register(ast.KindHeading, b.heading)
	r.Register(ast.KindImage, b.image)
}

func (b blocks) code(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	block := n.(*ast.FencedCodeBlock)
	// A long line is scrollable, also with the keyboard.
	_, _ = fmt.Fprintf(w, "<pre tabindex=\"0\"><code>%s</code></pre>\n", paint(string(block.Language(src)), string(block.Lines().Value(src))))
	return ast.WalkSkipChildren, nil
}

// joints are the places where a name may be broken into two lines. Without them, a browser
// breaks names anywhere in a narrow column, or not at all.
var joints = regexp.MustCompile(`[\w}][_.,:/=-]+`)

func (b blocks) span(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	var text strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		text.WriteString(strings.ReplaceAll(string(c.(*ast.Text).Segment.Value(src)), "\n", " "))
	}
	_, _ = fmt.Fprintf(w, "<code>%s</code>", joints.ReplaceAllString(html.EscapeString(text.String()), "$0<wbr>"))
	return ast.WalkSkipChildren, nil
}

func (b blocks) heading(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	h := n.(*ast.Heading)
	id, _ := h.AttributeString("id")
	name, _ := id.([]byte)
	if entering {
		_, _ = fmt.Fprintf(w, "<h%d id=\"%s\">", h.Level, html.EscapeString(string(name)))
		return ast.WalkContinue, nil
	}
	if h.Level > 1 {
		_, _ = fmt.Fprintf(w, ` <a class="anchor" href="#%s" aria-label="Link to this heading">#</a>`, html.EscapeString(string(name)))
	}
	_, _ = fmt.Fprintf(w, "</h%d>\n", h.Level)
	return ast.WalkContinue, nil
}

func (b blocks) image(w util.BufWriter, src []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	to, alt := string(n.(*ast.Image).Destination), plain(n, src)
	if inside, ok := strings.CutPrefix(to, "/docs/"); ok && path.Ext(inside) == ".svg" {
		svg, err := fs.ReadFile(b.files, inside)
		if err != nil {
			return ast.WalkStop, err
		}
		_, _ = fmt.Fprintf(w, "<span class=\"diagram\" role=\"img\" aria-label=\"%s\">%s</span>", html.EscapeString(alt), svg)
		return ast.WalkSkipChildren, nil
	}
	_, _ = fmt.Fprintf(w, `<a href="%[1]s"><img src="%[1]s" alt="%[2]s" loading="lazy"></a>`, html.EscapeString(to), html.EscapeString(alt))
	return ast.WalkSkipChildren, nil
}

// The parts of code with colours: comments, strings and, in data, names. More would need a
// grammar for each language and helps little in a few lines.
var painted = map[string]*regexp.Regexp{
	"bash":       regexp.MustCompile(`(?m)(?P<c>(?:^|\s)#.*$)|(?P<s>'[^']*'|"(?:[^"\\]|\\.)*")`),
	"console":    regexp.MustCompile(`(?m)(?P<c>\s#.*$)|(?P<k>^\$ )`),
	"json":       regexp.MustCompile(`(?P<k>"(?:[^"\\]|\\.)*"\s*:)|(?P<s>"(?:[^"\\]|\\.)*")`),
	"yaml":       regexp.MustCompile(`(?m)(?P<c>(?:^|\s)#.*$)|(?P<k>^\s*[\w.-]+:)|(?P<s>'[^']*'|"(?:[^"\\]|\\.)*")`),
	"javascript": regexp.MustCompile(`(?m)(?P<c>//.*$)|(?P<s>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|` + "`[^`]*`" + `)`),
	"python":     regexp.MustCompile(`(?m)(?P<c>#.*$)|(?P<s>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")`),
	"go":         regexp.MustCompile(`(?m)(?P<c>//.*$)|(?P<s>"(?:[^"\\\n]|\\.)*"|` + "`[^`]*`" + `)`),
	"sql":        regexp.MustCompile(`(?m)(?P<c>--.*$)|(?P<s>'[^']*')`),
}

// paint returns code as HTML.
func paint(language, code string) string {
	re := painted[language]
	if re == nil {
		return html.EscapeString(code)
	}
	var b strings.Builder
	at := 0
	for _, m := range re.FindAllStringSubmatchIndex(code, -1) {
		b.WriteString(html.EscapeString(code[at:m[0]]))
		for i, name := range re.SubexpNames() {
			if name != "" && m[2*i] >= 0 {
				_, _ = fmt.Fprintf(&b, `<span class="%s">%s</span>`, name, html.EscapeString(code[m[0]:m[1]]))
			}
		}
		at = m[1]
	}
	b.WriteString(html.EscapeString(code[at:]))
	return b.String()
}
