package httpapi_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata from what the server answers")

// Each file of testdata is a conversation: requests and, below a line of dashes, their
// responses; a line of equals signs separates the exchanges. Values that differ between runs
// have a name in braces: {we_1} is the first endpoint's id. Bodies are compared byte for byte,
// including the order of fields.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := converse(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(text) {
				t.Errorf("%s\n\ngot:\n%s", firstDifference(string(text), got), got)
			}
		})
	}
}

var (
	between = regexp.MustCompile(`(?m)^=+\n`)
	below   = regexp.MustCompile(`(?m)^-+$`)
	unnamed = regexp.MustCompile(`\{[a-z_]+(_\d+)?\}`)
)

func converse(t *testing.T, text string) string {
	w := newWorld(t)
	n := names{values: map[string]string{
		"{test_key}": testKey, "{live_key}": liveKey, "{admin_key}": adminKey, "{account}": w.account.ID,
	}}
	var out []string
	for _, exchange := range between.Split(text, -1) {
		request := strings.TrimRight(below.Split(exchange, 2)[0], "\n")
		filled := n.fill(request)
		if name := unnamed.FindString(filled); name != "" {
			t.Fatalf("nothing has the name %s yet, in:\n%s", name, filled)
		}
		head, body, _ := strings.Cut(filled, "\n\n")
		lines := strings.Split(head, "\n")
		method, path, ok := strings.Cut(lines[0], " ")
		if !ok {
			t.Fatalf("bad request line %q", lines[0])
		}
		header := []string{"Authorization", "", "Content-Type", ""}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			header = append(header, name, value)
		}
		a := w.call(method, path, body, header...)
		out = append(out, request+"\n----------\n"+n.hide(show(a))+"\n")
	}
	return strings.Join(out, "==========\n")
}

// show formats a response as it is stored: status, headers by name, body.
func show(a answer) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%d %s\n", a.status, http.StatusText(a.status))
	lines := make([]string, 0, len(a.header))
	for name, values := range a.header {
		if name != "Date" && name != "Content-Length" {
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n\n" + a.body)
	return strings.TrimRight(b.String(), "\n")
}

// names replaces each random value by a name, the same one each time.
type names struct {
	values map[string]string // by name
	count  map[string]int
}

var random = regexp.MustCompile(`\b(?:(we|evt|dlv|att|acct|key|sec|job|aud|req)_[0-9a-hjkmnp-tv-z]{20,24}|(whsec)_[A-Za-z0-9+/]{43}=|(sk_test|sk_live)_[A-Za-z0-9]{32}|(sk_(?:test|live)_…)[A-Za-z0-9]{4})`)

func (n *names) fill(text string) string {
	for name, value := range n.values {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

func (n *names) hide(text string) string {
	return random.ReplaceAllStringFunc(text, func(found string) string {
		for name, value := range n.values {
			if value == found {
				return name
			}
		}
		m := random.FindStringSubmatch(found)
		kind := m[1] + m[2] + m[3] + m[4]
		if kind == "req" {
			return "{req}"
		}
		if n.count == nil {
			n.count = map[string]int{}
		}
		n.count[kind]++
		name := fmt.Sprintf("{%s_%d}", kind, n.count[kind])
		n.values[name] = found
		return name
	})
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d\nwant %s\n got %s", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
