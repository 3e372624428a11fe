package docsite

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// book has all pages.
type book struct {
	pages    map[string]*page // by path without .md
	sections []section
}

// section is a part of the navigation.
type section struct {
	Name  string
	Pages []*page
}

// page is one file, rendered.
type page struct {
	Path    string // in docs/, without .md
	Title   string
	Summary string // its first paragraph, as text
	Section string
	HTML    template.HTML
	Parts   []part
}

// Short is the summary's first sentence or, where that is long, its beginning.
func (p *page) Short() string {
	s := p.Summary
	if end := strings.Index(s, ". "); end >= 0 {
		s = s[:end+1]
	}
	if len(s) <= maxShort {
		return s
	}
	return s[:strings.LastIndexByte(s[:maxShort], ' ')] + " …"
}

const maxShort = 160 // bytes

// part is a heading and its text up to the next heading.
type part struct {
	ID, Heading string
	Level       int
	Text        string
}

// folders lists the parts of the navigation in order, with the folder of each. Other folders
// become parts at the end.
var folders = []struct{ folder, name string }{
	{"tutorials", "Tutorials"},
	{"how-to", "How-to guides"},
	{"reference", "Reference"},
	{"explanation", "Explanation"},
	{"decisions", "Decisions"},
}

// A page can name the folder whose part it belongs to.
var marker = regexp.MustCompile(`(?m)^<!-- section: ([a-z-]+) -->$`)

const unmarked = "explanation"

func folderOf(file string, text []byte) string {
	if m := marker.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	if dir := path.Dir(file); dir != "." {
		return strings.Split(dir, "/")[0]
	}
	return unmarked
}

// render makes pages of all Markdown files.
func render(files fs.FS, source string) (*book, error) {
	b := &book{pages: map[string]*page{}}
	byFolder := map[string][]*page{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".md" {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		p, err := renderPage(files, source, name, text)
		if err != nil {
			return fmt.Errorf("render %s: %w", name, err)
		}
		folder := folderOf(name, text)
		p.Section = sectionName(folder)
		b.pages[p.Path] = p
		byFolder[folder] = append(byFolder[folder], p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	add := func(folder string) {
		if pages := byFolder[folder]; len(pages) > 0 {
			b.sections = append(b.sections, section{sectionName(folder), pages}) // in the order of the file names
			delete(byFolder, folder)
		}
	}
	for _, f := range folders {
		add(f.folder)
	}
	rest := make([]string, 0, len(byFolder))
	for folder := range byFolder {
		rest = append(rest, folder)
	}
	slices.Sort(rest)
	for _, folder := range rest {
		add(folder)
	}
	return b, nil
}

func sectionName(folder string) string {
	for _, f := range folders {
		if f.folder == folder {
			return f.name
		}
	}
	return strings.ToUpper(folder[:1]) + strings.ReplaceAll(folder[1:], "-", " ")
}

func renderPage(files fs.FS, source, name string, src []byte) (*page, error) {
	p := &page{Path: strings.TrimSuffix(name, ".md")}
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM),
		goldmark.WithParserOptions(parser.WithAutoHeadingID(), parser.WithASTTransformers(util.Prioritized(linker{files, source, name}, 100))),
		goldmark.WithRendererOptions(html.WithUnsafe(), renderer.WithNodeRenderers(util.Prioritized(blocks{files, name}, 100))), // the files are ours
	)
	doc := md.Parser().Parse(text.NewReader(src), parser.WithContext(parser.NewContext(parser.WithIDs(&anchors{}))))
	p.read(doc, src)
	p.Title = cmp.Or(p.Title, p.Path)
	var out bytes.Buffer
	if err := md.Renderer().Render(&out, src, doc); err != nil {
		return nil, err
	}
	p.HTML = template.HTML(out.String())
	return p, nil
}

// read extracts the data for the navigation and the search from a page.
func (p *page) read(doc ast.Node, src []byte) {
	p.Parts = []part{{}}
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		last := &p.Parts[len(p.Parts)-1]
		switch n := n.(type) {
		case *ast.Heading:
			heading := plain(n, src)
			if n.Level == 1 && p.Title == "" {
				p.Title = heading
			}
			id, _ := n.AttributeString("id")
			anchor, _ := id.([]byte)
			p.Parts = append(p.Parts, part{ID: string(anchor), Heading: heading, Level: n.Level})
		case *ast.Paragraph:
			words := plain(n, src)
			if p.Summary == "" {
				p.Summary = words
			}
			last.Text += words + " "
		default:
			last.Text += plain(n, src) + " "
		}
	}
}

// plain returns the text of a node without markup.
func plain(n ast.Node, src []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			if n.Type() == ast.TypeBlock {
				b.WriteByte(' ')
			}
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Segment.Value(src))
			if n.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(src))
		case *ast.FencedCodeBlock:
			b.Write(n.Lines().Value(src))
		}
		return ast.WalkContinue, nil
	})
	return strings.Join(strings.Fields(b.String()), " ")
}

// anchors generates the identifiers of a page's headings like GitHub, so that a link works in
// both places.
type anchors struct{ used map[string]int }

// Generate returns the identifier of a heading.
func (a *anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	id := anchor(string(value))
	if a.used == nil {
		a.used = map[string]int{}
	}
	n := a.used[id]
	a.used[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return []byte(id)
}

// Put would record an existing identifier; there are none.
func (a *anchors) Put([]byte) {}

var (
	link  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	noise = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

func anchor(heading string) string {
	heading = link.ReplaceAllString(heading, "$1")
	return strings.ReplaceAll(noise.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-")
}
