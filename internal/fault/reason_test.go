package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

const faultPath = "github.com/posthaste-hq/posthaste/internal/fault"

// entries is the table by reason.
func entries(t *testing.T) map[fault.Reason]fault.Entry {
	t.Helper()
	all := map[fault.Reason]fault.Entry{}
	for _, e := range fault.Reasons {
		if _, twice := all[e.Reason]; twice || e.Reason == "" || len(e.Codes) == 0 || !strings.HasSuffix(e.Meaning, ".") || !strings.HasSuffix(e.Action, ".") {
			t.Errorf("the entry of %q is there twice, or lacks a kind, a meaning or an action", e.Reason)
		}
		all[e.Reason] = e
	}
	return all
}

// Every reason in the sources is in the table, with the kinds that it is used with, and every
// entry is used. The type checker finds all constants that become a [fault.Reason], also
// through function parameters.
func TestReasons_areThoseOfTheSources(t *testing.T) {
	table, used := entries(t), map[fault.Reason]bool{}
	for _, p := range load(t) {
		for _, u := range p.uses() {
			e, known := table[u.reason]
			used[u.reason] = true
			switch {
			case u.computed:
				t.Errorf("%s: a reason is computed; write it as a constant", u.at)
			case u.reason == "":
				t.Errorf("%s: a fault of kind %q has no reason", u.at, u.code)
			case !known:
				t.Errorf("%s: fault.Reasons lacks %q", u.at, u.reason)
			case u.code != "" && !slices.Contains(e.Codes, u.code):
				t.Errorf("%s: %q comes with the kind %q, which its entry in fault.Reasons lacks", u.at, u.reason, u.code)
			}
		}
	}
	for r := range table {
		if !used[r] {
			t.Errorf("fault.Reasons has %q, which nothing uses", r)
		}
	}
}

// source is a package that can create faults.
type source struct {
	path  string
	fset  *token.FileSet
	files []*ast.File
	info  types.Info
}

// load type-checks the packages that import fault, against the compiler's export data.
func load(t *testing.T) (all []*source) {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports,DepOnly", "./internal/...")
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles, Imports        []string
		DepOnly                 bool
	}
	export := map[string]string{}
	var mine []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		export[p.ImportPath] = p.Export
		if !p.DepOnly && (p.ImportPath == faultPath || slices.Contains(p.Imports, faultPath)) {
			mine = append(mine, p)
		}
	}
	for _, p := range mine {
		s := &source{path: p.ImportPath, fset: token.NewFileSet(), info: types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			s.files = append(s.files, f)
		}
		imports := importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(export[path]) })
		if _, err := (&types.Config{Importer: imports}).Check(p.ImportPath, s.fset, s.files, &s.info); err != nil {
			t.Fatalf("check %s: %v", p.ImportPath, err)
		}
		all = append(all, s)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages import fault", len(all))
	}
	return all
}

// use is a place in the sources that contains a reason.
type use struct {
	at       string
	reason   fault.Reason
	code     fault.Code // of the fault; "": not written beside the reason
	computed bool
}

func (s *source) uses() (all []use) {
	for _, f := range s.files {
		if s.path == faultPath && strings.HasSuffix(s.fset.Position(f.Pos()).Filename, "reason.go") {
			continue // the table itself
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if s.named(n) == "Error" {
					all = append(all, s.literal(n)...)
				}
			case *ast.CallExpr:
				if s.info.Types[n.Fun].IsType() && s.named(n) == "Reason" && s.info.Types[n].Value == nil {
					all = append(all, use{at: s.at(n), computed: true})
				}
				// If the argument is a parameter of a wrapper, the wrapper's callers contain the constant.
				if id, ok := selected(n.Fun); ok && s.isFault(id, "Param") && s.info.Types[n.Args[1]].Value != nil {
					all = append(all, use{at: s.at(n), reason: s.constant(n.Args[1]), code: fault.Invalid})
				}
			case ast.Expr:
				if s.info.Types[n].Value != nil && s.named(n) == "Reason" && s.constant(n) != "" {
					all = append(all, use{at: s.at(n), reason: s.constant(n)})
				}
			}
			return true
		})
	}
	return all
}

// withoutReason lists packages whose faults need no reason: they are shown to people only.
var withoutReason = []string{"/cli", "/adminui", "/store/postgres"}

// literal returns the use of a reason in a fault.Error literal.
func (s *source) literal(n *ast.CompositeLit) []use {
	u := use{at: s.at(n)}
	written := false
	for _, e := range n.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch key, _ := kv.Key.(*ast.Ident); key.Name {
		case "Code":
			u.code = fault.Code(s.constant(kv.Value))
		case "Reason":
			written, u.reason = true, s.constant(kv.Value)
			if s.info.Types[kv.Value].Value == nil {
				return nil // a wrapper's parameter
			}
		}
	}
	optional := u.code == fault.Unavailable || u.code == fault.Internal || u.code == "" ||
		slices.ContainsFunc(withoutReason, func(p string) bool { return strings.HasSuffix(s.path, p) })
	if !written && optional {
		return nil
	}
	return []use{u}
}

func (s *source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s/%s:%d", s.path, filepath.Base(p.Filename), p.Line)
}

func (s *source) constant(e ast.Expr) fault.Reason {
	if v := s.info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return fault.Reason(constant.StringVal(v))
	}
	return ""
}

// named returns the name of an expression's type, if the type is of package fault.
func (s *source) named(e ast.Expr) string {
	n, ok := s.info.Types[e].Type.(*types.Named)
	if !ok || n.Obj().Pkg() == nil || n.Obj().Pkg().Path() != faultPath {
		return ""
	}
	return n.Obj().Name()
}

func (s *source) isFault(id *ast.Ident, name string) bool {
	o := s.info.Uses[id]
	return o != nil && o.Pkg() != nil && o.Pkg().Path() == faultPath && o.Name() == name
}

func selected(e ast.Expr) (*ast.Ident, bool) {
	switch e := e.(type) {
	case *ast.Ident:
		return e, true
	case *ast.SelectorExpr:
		return e.Sel, true
	}
	return nil, false
}
