package posthaste_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuarantees_nameTestsThatExist checks that the tests named in docs/guarantees.md exist:
// a renamed or removed test would leave a guarantee unverified.
func TestGuarantees_nameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)` in `(\\./[\\w/]+)`")
	tests := named.FindAllStringSubmatch(string(text), -1)
	for _, m := range tests {
		files, err := filepath.Glob(filepath.Join(m[2], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			code, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(code), "\nfunc "+m[1]+"(t *testing.T)") || strings.Contains(string(code), "\nfunc "+m[1]+"(f *testing.F)")
		}
		if !found {
			t.Errorf("%s is not in %s", m[1], m[2])
		}
	}
	targets := regexp.MustCompile("`make ([\\w/-]+)`").FindAllStringSubmatch(string(text), -1)
	for _, m := range targets {
		if !strings.Contains(string(rules), "\n"+m[1]+":") {
			t.Errorf("make %s does not exist", m[1])
		}
	}
	if len(tests) < 50 || len(targets) < 8 {
		t.Errorf("only %d tests and %d targets were found", len(tests), len(targets))
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Guarantee") && !named.MatchString(line) {
			t.Errorf("a guarantee without a test: %s", line)
		}
	}
}
