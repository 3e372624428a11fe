// Package check compares the deployment files with the program: the image, the compose files
// and the chart. It is a module of its own, because the libraries that read those files are
// many times larger than the program's.
package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository.
const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settings returns the environment variables of the server and their defaults, from the page
// that the program generates.
func settings(t *testing.T) map[string]string {
	t.Helper()
	page := read(t, "docs/reference/configuration.md")
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `--[a-z-]+` \\| `(POSTHASTE_[A-Z_]+)` \\| \\w* \\| (?:`([^`]*)`)?").FindAllStringSubmatch(page, -1) {
		out[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(POSTHASTE_[A-Z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		out[m[1]] = ""
	}
	if len(out) < 40 || out["POSTHASTE_ADDR"] != "127.0.0.1:8080" {
		t.Fatalf("the reference names %d settings: %v", len(out), out)
	}
	return out
}

// isSetting reports whether an environment variable is used. The server would silently ignore a
// misspelt one.
func isSetting(t *testing.T, name string) bool {
	_, ours := settings(t)[name]
	return ours || name == "PGPASSWORD" || name == "GOMEMLIMIT" // those of the driver and of the Go runtime
}

// run runs a command and returns what it prints.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
