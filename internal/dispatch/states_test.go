package dispatch

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// parsePackage returns the package's files without its tests.
func parsePackage(t *testing.T) (files []*ast.File, doc string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			doc = f.Doc.Text()
		}
		files = append(files, f)
	}
	return files, doc
}

// Only methods of lane change a lane, because elsewhere the meaning of a change is not
// declared.
func TestLane_onlyItsMethodsChangeIt(t *testing.T) {
	files, _ := parsePackage(t)
	fields, own := map[string]bool{}, 0
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "lane" {
				for _, field := range spec.Type.(*ast.StructType).Fields.List {
					for _, name := range field.Names {
						fields[name.Name] = true
					}
				}
			}
			return true
		})
	}
	for _, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ofLane := fn.Recv != nil && isLane(fn.Recv.List[0].Type)
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				for _, to := range assigned(n) {
					sel, ok := to.(*ast.SelectorExpr)
					if !ok || !fields[sel.Sel.Name] || !namesLane(sel.X) {
						continue
					}
					if own++; !ofLane {
						t.Errorf("%s assigns to %s of a lane", fn.Name.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if own < 40 {
		t.Errorf("only %d assignments were found: the test looks for the wrong thing", own)
	}
}

func isLane(x ast.Expr) bool {
	star, ok := x.(*ast.StarExpr)
	if !ok {
		return false
	}
	id, ok := star.X.(*ast.Ident)
	return ok && id.Name == "lane"
}

// namesLane reports whether an expression is a lane, by its name.
func namesLane(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "l"
	case *ast.SelectorExpr:
		return x.Sel.Name == "lane"
	}
	return false
}

func assigned(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		return n.Lhs
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	}
	return nil
}

// laneMoves contains the methods that change a lane's states, each called in every way.
var laneMoves = map[string][]func(*lane){
	"follow": {
		func(l *lane) {
			l.follow(&endpoint.Registered{Endpoint: &endpoint.Endpoint{State: endpoint.State{Status: endpoint.Enabled}}})
		},
		func(l *lane) {
			l.breaker.ProbeAt = time.Unix(1, 0)
			l.follow(&endpoint.Registered{Endpoint: &endpoint.Endpoint{State: endpoint.State{Status: endpoint.Enabled}}})
		},
		func(l *lane) {
			l.follow(&endpoint.Registered{Endpoint: &endpoint.Endpoint{State: endpoint.State{Status: endpoint.Disabled}}})
		},
		func(l *lane) { l.follow(nil) },
	},
	"more":       {(*lane).more},
	"beginLoad":  {func(l *lane) { l.beginLoad(true) }, func(l *lane) { l.beginLoad(false) }},
	"noProbe":    {(*lane).noProbe},
	"beginClear": {func(l *lane) { l.beginClear() }},
	"disown":     {(*lane).disown},
	"blocked":    {(*lane).blocked},
	"catchUp":    {(*lane).catchUp},
	"enqueue": {
		func(l *lane) { l.proven = true; l.enqueue() },
		func(l *lane) { l.proven, l.news = false, true; l.enqueue() },
		func(l *lane) { l.proven, l.news = false, false; l.enqueue() },
	},
	"served": {func(l *lane) { l.served() }},
}

// The methods change states exactly as the package comment declares.
func TestLane_states(t *testing.T) {
	names := map[string][]string{
		"mode":    {"sending", "probing", "paused", "gone"},
		"backlog": {"drained", "waiting", "behind"},
		"queue":   {"unqueued", "amongHealthy", "amongFresh", "amongSuspects"},
	}
	set := func(l *lane, machine string, state int) {
		switch machine {
		case "mode":
			l.mode = mode(state)
		case "backlog":
			l.backlog = backlog(state)
		case "queue":
			l.queue = place(state)
		}
	}
	get := func(l *lane, machine string) int {
		return map[string]int{"mode": int(l.mode), "backlog": int(l.backlog), "queue": int(l.queue)}[machine]
	}
	type arrow struct{ machine, from, to, method string }
	drawn := map[arrow]bool{}
	files, doc := parsePackage(t)
	for _, line := range regexp.MustCompile(`(?m)^\s+(mode|backlog|queue) +(\w+) +-> (\w+) +(\w+): `).FindAllStringSubmatch(codeOf(doc), -1) {
		from := []string{line[2]}
		if line[2] == "any" {
			from = names[line[1]]
		}
		for _, f := range from {
			drawn[arrow{line[1], f, line[3], line[4]}] = true
		}
	}
	moved := map[arrow]bool{}
	for method, calls := range laneMoves {
		for machine, states := range names {
			for from := range states {
				for _, call := range calls {
					l := newLane(1, drained, delivery.Breaker{})
					set(l, machine, from)
					call(l)
					a := arrow{machine, states[from], states[get(l, machine)], method}
					if moved[a] = true; a.from != a.to && !drawn[a] {
						t.Errorf("%s: %s goes from %s to %s, which is not drawn", method, machine, a.from, a.to)
					}
				}
			}
		}
	}
	for a := range drawn {
		if !moved[a] {
			t.Errorf("%s: %s does not go from %s to %s, as it is drawn", a.method, a.machine, a.from, a.to)
		}
	}
	for _, f := range files { // no other method changes a state
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil || laneMoves[fn.Name.Name] != nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				for _, to := range assigned(n) {
					if sel, ok := to.(*ast.SelectorExpr); ok && namesLane(sel.X) && slices.Contains([]string{"mode", "backlog", "queue"}, sel.Sel.Name) {
						t.Errorf("%s changes %s, which is not drawn", fn.Name.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// codeOf returns the code blocks of a doc comment.
func codeOf(doc string) (code string) {
	for _, block := range new(comment.Parser).Parse(doc).Content {
		if c, ok := block.(*comment.Code); ok {
			code += "\n " + strings.ReplaceAll(c.Text, "\n", "\n ")
		}
	}
	return code
}
