package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const description = "../api/openapi.yaml"

// A linter finds no mistakes in the API's description.
func TestDescription_lint(t *testing.T) {
	t.Parallel()
	p := node(t, []string{"REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true"},
		filepath.Join(nodeModules(t), "@redocly", "cli", "bin", "cli.js"), "lint", "--config", "../api/redocly.yaml", description)
	code := p.exit()
	if out := p.out.String(); code != 0 || strings.Contains(out, "Warning was generated") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// A client that is generated from the description compiles in strict mode, and a real server
// behaves as its types state.
func TestDescription_typescript(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	s := serve(t, "")
	modules, dir := nodeModules(t), t.TempDir()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("node/generated.mts")
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "generated.mts")
	if err := os.WriteFile(source, program, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{filepath.Join(modules, "openapi-typescript", "bin", "cli.js"), description, "--output", filepath.Join(dir, "description.d.ts")},
		{filepath.Join(modules, "typescript", "bin", "tsc"), "--strict", "--module", "nodenext", "--target", "es2022", "--typeRoots", filepath.Join(modules, "@types"), "--types", "node", "--skipLibCheck", source},
		{filepath.Join(dir, "generated.mjs")},
	} {
		p := node(t, []string{"BASE=" + s.base, "KEY=" + testKey, "RECEIVER=" + receiver.URL + "/hook"}, args...)
		if code := p.exit(); code != 0 {
			t.Fatalf("%s: exit code %d", filepath.Base(args[0]), code)
		}
	}
}

// generator generates a Go client from the description.
const generator = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

// A Go client that is generated from the description compiles, and works with a real server.
func TestDescription_go(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	s := serve(t, "")
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} { // the files have other names here, so that their module is not part of the repository
		text, err := os.ReadFile(filepath.Join("testdata", "generated", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "api"), 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"BASE=" + s.base, "KEY=" + testKey, "RECEIVER=" + receiver.URL + "/hook"}
	for _, args := range [][]string{
		{"run", generator, "-generate", "types,client", "-package", "api", "-o", filepath.Join(dir, "api", "api.go"), description},
		{"-C", dir, "run", "."},
	} {
		if code := start(t, env, "go", args...).exit(); code != 0 {
			t.Fatalf("go %s: exit code %d", strings.Join(args[:2], " "), code)
		}
	}
}
