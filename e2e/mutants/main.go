// Mutants breaks the guarantees of the program one after the other, in a copy of a file that
// only the compiler sees, and runs the tests that should fail. It prints the test that did, and
// fails if none did.
//
//	go run ./e2e/mutants [-run REGEXP]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// patience limits the tests of one mutant. Some of them never end.
const patience = 5 * time.Minute

func main() {
	only := flag.String("run", "", "only mutations whose text matches")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	survived, broken := 0, 0
	fmt.Println("| what was broken | noticed by | in |")
	fmt.Println("|---|---|---|")
	for _, m := range mutations {
		if !wanted.MatchString(m.what) {
			continue
		}
		began := time.Now()
		tests, err := m.run()
		switch {
		case err != nil:
			broken++
			fmt.Printf("| %s | **cannot be tried**: %v | |\n", m.what, err)
		case len(tests) == 0:
			survived++
			fmt.Printf("| %s | **no test** | %s |\n", m.what, time.Since(began).Round(time.Second))
		default:
			fmt.Printf("| %s | %s | %s |\n", m.what, strings.Join(tests, ", "), time.Since(began).Round(time.Second))
		}
	}
	if survived+broken > 0 {
		fmt.Fprintf(os.Stderr, "mutants: %d survived, %d could not be tried\n", survived, broken)
		os.Exit(1)
	}
}

// mutation is one guarantee and a change that breaks it.
type mutation struct {
	what  string
	file  string
	edits []edit
	tests []run // tried in turn, until one fails
}

// edit replaces text that occurs exactly once.
type edit struct{ from, to string }

// run is tests of one package.
type run struct {
	pkg, tests string
	args       []string
}

// run returns the tests that failed because of the mutation.
func (m *mutation) run() ([]string, error) {
	dir, err := os.MkdirTemp("", "mutant-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.write(dir)
	if err != nil {
		return nil, err
	}
	var noticed []string
	for _, r := range m.tests {
		failed, err := r.run(overlay)
		if err != nil {
			return nil, err
		}
		noticed = append(noticed, failed...)
	}
	return noticed, nil
}

// write writes the mutated file into dir and returns the overlay file for the compiler.
func (m *mutation) write(dir string) (overlay string, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	for _, e := range m.edits {
		if n := bytes.Count(text, []byte(e.from)); n != 1 {
			return "", fmt.Errorf("%s holds %q %d times, want once", m.file, e.from, n)
		}
		text = bytes.Replace(text, []byte(e.from), []byte(e.to), 1)
	}
	mutant := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(mutant, text, 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutant}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// run returns the tests that failed.
func (r *run) run(overlay string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-count=1", "-failfast", "-vet=off", "-timeout", "2m", "-run", "^(" + r.tests + ")$", r.pkg}, r.args...)
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return nil, fmt.Errorf("%s has no test %s", r.pkg, r.tests)
	case err == nil:
		return nil, nil
	case !errors.As(err, &exit):
		return nil, err
	case bytes.Contains(out, []byte("[build failed]")), bytes.Contains(out, []byte("[setup failed]")):
		return nil, fmt.Errorf("the mutant does not build: %s", bytes.ReplaceAll(out[:min(len(out), 400)], []byte("\n"), []byte(" ")))
	}
	var names []string
	for _, found := range failedTest.FindAllSubmatch(out, -1) {
		names = append(names, string(found[1]))
	}
	if len(names) == 0 { // it panicked or hung
		names = append(names, r.tests+" (crashed or hung)")
	}
	return names, nil
}
