package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Packages that start goroutines or hold locks run with the race detector.
func TestRaceless(t *testing.T) {
	for _, dir := range raceless {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no Go files: %v", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				if i.Path.Value == `"sync"` || i.Path.Value == `"sync/atomic"` {
					t.Errorf("%s imports %s: take its package off raceless", name, i.Path.Value)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s starts a goroutine: take its package off raceless", name)
				}
				return true
			})
		}
	}
}

// Every package runs in at least one stage of the suite.
func TestStages_coverEveryPackage(t *testing.T) {
	t.Chdir("../..")
	var run []string
	for _, group := range suite {
		for _, s := range group {
			if s.shell == "" {
				packages, err := s.packages()
				if err != nil {
					t.Fatal(err)
				}
				run = append(run, packages...)
			}
		}
	}
	all, err := modulePackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if !slices.Contains(run, p) {
			t.Errorf("no stage tests %s", p)
		}
	}
}

// The output of go test -json is converted to results, reasons and output.
func TestReport_follow(t *testing.T) {
	events := `{"Action":"start","Package":"example.com/m/p"}
{"Action":"run","Package":"example.com/m/p","Test":"TestA"}
{"Action":"output","Package":"example.com/m/p","Test":"TestA","Output":"    a_test.go:7: needs root: to mount\n"}
{"Action":"skip","Package":"example.com/m/p","Test":"TestA","Elapsed":0.5}
{"Action":"pass","Package":"example.com/m/p","Test":"TestB","Elapsed":1.5}
{"Action":"fail","Package":"example.com/m/p","Test":"TestC","Elapsed":2}
{"Action":"fail","Package":"example.com/m/p","Elapsed":4}
`
	r := &report{}
	if err := r.follow("plain", strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if len(r.failures) != 1 || len(r.Tests) != 3 {
		t.Fatalf("failures %q, tests %v", r.failures, r.Tests)
	}
	var end bytes.Buffer
	r.close(&end)
	for _, want := range []string{"example.com/m/p TestA: needs root: to mount", "\n1 passed, 1 failed, 1 skipped\n"} {
		if !strings.Contains(end.String(), want) {
			t.Errorf("no %q in:\n%s", want, end.String())
		}
	}
	file := filepath.Join(t.TempDir(), "bin", "times.json")
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := printTimes(&table, file); err != nil || !strings.Contains(table.String(), "TestC") {
		t.Errorf("%v:\n%s", err, table.String())
	}
}

// The processor time of a test binary includes its children's.
func TestMeasure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "used")
	if code := measure(file, []string{"sh", "-c", "exit 3"}); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `"wall":`) {
		t.Errorf("%v: %s", err, text)
	}
}
