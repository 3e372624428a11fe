package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// snippet is a fenced block of a page.
type snippet struct {
	page     string
	line     int
	language string
	text     string
	exempt   string // the reason why it is not run
	schema   string // the schema that the page names for it
	file     string // the file name that the page gives it
}

func (s snippet) place() string { return fmt.Sprintf("%s:%d", s.page, s.line) }

var (
	fence     = regexp.MustCompile("^( *)```(.*)$")
	exemption = regexp.MustCompile(`^ *<!-- not run: (.+) -->$`)
	schemaOf  = regexp.MustCompile(`^ *<!-- schema: (.+) -->$`)
	saveAs    = regexp.MustCompile("Save this as `([^`]+)`")
)

// snippets returns a page's blocks, without their indentation.
func snippets(page, text string) (out []snippet, err error) {
	var open *snippet
	var indent, exempt, schema, file string
	for i, line := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(line)
		switch {
		case open != nil && m != nil:
			out, open = append(out, *open), nil
			exempt, schema, file = "", "", ""
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case m != nil:
			indent = m[1]
			open = &snippet{page: page, line: i + 1, language: m[2], exempt: exempt, schema: schema, file: file}
		case exemption.MatchString(line):
			exempt = exemption.FindStringSubmatch(line)[1]
		case schemaOf.MatchString(line):
			schema = schemaOf.FindStringSubmatch(line)[1]
		case saveAs.MatchString(line):
			file = saveAs.FindStringSubmatch(line)[1]
		case exempt+schema != "" && strings.TrimSpace(line) != "":
			return nil, fmt.Errorf("%s:%d: the comment about a block must be right before it", page, i+1)
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s: the block is not closed", open.place())
	}
	return out, nil
}

// shells are the languages that are executed. The blocks of a page share a session.
var shells = []string{"bash", "sh", "console"}

// substitutions replace texts of pages that the tests cannot use verbatim. The first match
// counts, and everything else is verbatim. Values with @ are variables of the page, which
// follow sets.
var substitutions = []struct{ page, old, new string }{
	{"docs/running.md", "/var/lib/posthaste", "@ROOT/var"}, // a server for the page
	{"docs/how-to/manage-webhooks-in-the-admin-ui.md", "--data /var/lib/posthaste", "--data @DATA --addr @ADDR"},
	// The key of the page's server, not the one that the line before creates.
	{"docs/security.md", "--master-key-file /etc/posthaste/master-key", "--master-key-file @DATA/master-key"},
	// Ports that may be in use, and packages that are already installed.
	{"docs/tutorial.md", "http://127.0.0.1:3000", "http://127.0.0.1:@PORT"},
	{"docs/tutorial.md", "app.listen(3000,", "app.listen(@PORT,"},
	{"docs/tutorial.md", "npm init -y >/dev/null && npm install express@5", "ln -s @MODULES node_modules"},
	{"docs/tutorial.md", " node receiver.js", " background listening node receiver.js"},
	{"docs/how-to/receive-events-on-your-machine.md", "localhost:3000", "@RECEIVER"},
	{"docs/how-to/ask-a-receiver-for-its-consent.md", "127.0.0.1:3000", "127.0.0.1:@PORT"},
	{"docs/how-to/ask-a-receiver-for-its-consent.md", "listen(3000,", "listen(@PORT,"},
	{"docs/how-to/ask-a-receiver-for-its-consent.md", "node receiver.mjs", "background listening node receiver.mjs"},
	{"", "../posthaste", "@CHECKOUT"},
	{"", "http://127.0.0.1:8080", "http://@ADDR"},
	{"", "--addr 127.0.0.1:8080", "--addr @ADDR"},
	{"", "https://sandbox-api.payment.com", "http://@ADDR"},
	{"", "/etc/posthaste", "@ROOT/etc"},
	{"", "/backups/posthaste-2026-11-24.db", "@ROOT/backups/*.db"}, // today's
	{"", "/backups", "@ROOT/backups"},
	{"", "/safe/master-key", "@DATA/master-key"},
	{"", "/var/lib/posthaste-restored", "@ROOT/restored"},
	{"", "/var/lib/posthaste", "@DATA"},
	// An id of an earlier response.
	{"", "'whsec_…'", `"$(last whsec_)"`},
	{"docs/how-to/connect-a-message-broker.md", "acct_0d1…", "acct_0d1"},
}

// idPlaceholder is an id that the reader takes from an earlier response.
var idPlaceholder = regexp.MustCompile(`\b(pay|dlv|evt|acct)_…`)

func substitute(page, text string) string {
	var pairs []string
	for _, s := range substitutions {
		if s.page == "" || s.page == page {
			pairs = append(pairs, s.old, s.new)
		}
	}
	return idPlaceholder.ReplaceAllString(strings.NewReplacer(pairs...).Replace(text), "$$(last ${1}_)")
}

// prelude runs in a session before its page: the variables that the pages mention, and commands
// that fail where a reader would see an error.
const prelude = `
set -eE -o pipefail
trap 'kill $BACKGROUND 2>/dev/null || true' EXIT
BACKGROUND=
exec < /dev/null

# An answer of 4xx or 5xx is a failure, and later commands find ids in what was answered.
curl() { command curl -sS --fail-with-body --max-time 20 "$@" | tee -a "$ROOT/answers"; echo; }
last() { grep -oE "\"$1[A-Za-z0-9+/=]+\"" "$ROOT/answers" | tail -1 | tr -d '"'; }
field() { grep -oE "\"$1\": ?\"[^\"]+\"" "$ROOT/answers" | tail -1 | cut -d'"' -f4; }

# What does not end by itself goes on until the page ends.
background() {
  local ready=$1; shift
  "$@" >"$ROOT/background" 2>&1 &
  BACKGROUND="$BACKGROUND $!"
  for _ in $(seq 400); do
    if grep -qE "$ready" "$ROOT/background"; then return 0; fi
    if ! kill -0 $! 2>/dev/null; then break; fi
    sleep 0.05
  done
  cat "$ROOT/background" >&2
  return 1
}
posthaste() {
  case $1 in
  serve) background 'msg=listening' "$BINARY" "$@" --addr 127.0.0.1:0 ;;
  listen) background '^Your webhook signing secret' "$BINARY" "$@"; cat "$ROOT/background" ;;
  # A machine of tests may resolve no public names; all else has to be right.
  doctor) "$BINARY" "$@" >"$ROOT/doctor" || ! grep WRONG "$ROOT/doctor" | grep -qv '^WRONG  names'; cat "$ROOT/doctor" ;;
  login) echo "$KEY" | "$BINARY" "$@" ;;
  *) "$BINARY" "$@" ;;
  esac
}
make() { test "$*" = run; } # the page's server runs already
`

// sessions are the further preconditions of a page, in commands like its own.
var sessions = map[string]string{
	"webhook/README.md":                             goProject,
	"docs/how-to/send-events-from-go.md":            goProject,
	"clients/node/README.md":                        `npm init -y >/dev/null`,
	"docs/how-to/receive-events-on-your-machine.md": `echo '{"object": {"amount": 1}}' > invoice.json`,
	"docs/how-to/back-up-and-restore.md":            `mkdir "$ROOT/backups"`,
	"docs/how-to/upgrade.md":                        `mkdir "$ROOT/backups"`,
}

// results are checks after the commands of a page.
var results = map[string]string{
	"webhook/README.md":                  `printf 'package main\n\nimport _ "github.com/posthaste-hq/posthaste/webhook"\n\nfunc main() {}\n' > main.go && go build ./...`,
	"docs/how-to/send-events-from-go.md": `printf 'package main\n\nimport (\n\t_ "github.com/posthaste-hq/posthaste/client"\n\t_ "github.com/posthaste-hq/posthaste/client/outbox"\n)\n\nfunc main() {}\n' > main.go && go build ./...`,
	"clients/node/README.md":             `node -e 'if (typeof require("@posthaste-hq/webhook").Verifier !== "function") process.exit(1)'`,
}

// goProject creates a Go module for the commands of a page, with the caches of the tests.
const goProject = `export GOPATH=@GOPATH GOCACHE=@GOCACHE; go mod init example.com/reader`

// asides are actions of the reader between two commands, before the one with the prefix.
var asides = []struct{ page, before, do string }{
	{"docs/how-to/retrieve-an-anonymous-shoppers-orders.md", "curl -X POST \"http://127.0.0.1:8080/oauth20", `SHOPPER=$(grep -oE '"shopper": ?\{"id": ?"[0-9]+' "$ROOT/answers" | grep -oE '[0-9]+$'); PRODUCT=$(grep -oE '"product": ?\{"id": ?"[0-9]+' "$ROOT/answers" | grep -oE '[0-9]+$'); test -n "$SHOPPER$PRODUCT"`},
	{"docs/how-to/retrieve-an-anonymous-shoppers-orders.md", "curl http://127.0.0.1:8080/v1/shoppers", "TOKEN=$(field access_token)"},
	{"docs/how-to/recover-after-an-outage.md", "curl http://127.0.0.1:8080/v1/jobs/", "JOB=$(last job_)"},
	{"docs/how-to/ask-a-receiver-for-its-consent.md", "curl -X POST", "grep -q '\"status\": *\"granted\"' $ROOT/answers; ENDPOINT=$(last we_)"},
	{"docs/how-to/erase-data.md", "curl -X DELETE -u", `command curl -sS -u $KEY: http://@ADDR/v1/events -d type=a.b -d 'data[object][id]=1' >> $ROOT/answers`},
	{"docs/how-to/erase-data.md", "curl -X DELETE http", `command curl -sS http://@ADDR/v1/accounts -H "Authorization: Bearer $ADMIN_KEY" -d name=Old >> $ROOT/answers`},
	{"docs/tutorial.md", "curl -u sk_test_1234567890abcdef: http://127.0.0.1:8080/v1/deliveries\n", "command curl -sS -u $KEY: http://@ADDR/v1/events >> $ROOT/answers"},
	{"docs/tutorial.md", "curl http://127.0.0.1:8080/v1/refunds", "until grep -q 'Received event: payment.succeeded' $ROOT/background; do sleep 0.05; done"},
}

// Every command of the documentation runs, and all its code is valid. Exemptions state their
// reason on the page.
func TestSnippets(t *testing.T) {
	t.Parallel()
	pages := map[string][]snippet{}
	for _, pattern := range []string{"README.md", "docs", "clients/node/README.md", "clients/python/README.md", "client", "webhook/README.md", "bench/README.md"} {
		err := filepath.WalkDir(filepath.Join("..", pattern), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			page := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
			pages[page], err = snippets(page, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	counts := map[string]int{}
	for page, blocks := range pages {
		for _, b := range blocks {
			switch {
			case b.exempt != "":
				counts["not run: "+b.exempt]++
			case slices.Contains(shells, b.language):
				counts["run"]++
			default:
				counts[b.language]++
			}
		}
		if len(blocks) > 0 {
			t.Run(page, func(t *testing.T) { follow(t, page, blocks) })
		}
	}
	if counts["run"] < 30 {
		t.Errorf("only %d blocks of commands were found", counts["run"])
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%3d %s", counts[what], what)
	}
}

// follow executes a page, from top to bottom.
func follow(t *testing.T, page string, blocks []snippet) {
	var script strings.Builder
	for _, b := range blocks {
		if b.exempt != "" {
			continue
		}
		if b.file != "" {
			fmt.Fprintf(&script, "cat > %s <<'END OF FILE'\n%sEND OF FILE\n", b.file, substitute(page, b.text))
		}
		switch b.language {
		case "bash", "sh", "console":
			for _, a := range asides {
				if a.page == page && strings.HasPrefix(b.text, a.before) {
					script.WriteString(a.do + "\n")
				}
			}
			fmt.Fprintf(&script, "echo '# %s' >&2\n%s", b.place(), substitute(page, commands(b)))
		case "text": // sample output
		default:
			if err := parse(t, b); err != nil {
				t.Errorf("%s: %v", b.place(), err)
			}
		}
	}
	if script.Len() == 0 {
		return
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	s := serve(t, "")
	endpoint := s.register(receiver.URL)
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"etc", "var"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	values := strings.NewReplacer("@ADDR", strings.TrimPrefix(s.base, "http://"), "@RECEIVER", strings.TrimPrefix(receiver.URL, "http://"),
		"@ROOT", root, "@DATA", s.data, "@PORT", freePort(t), "@MODULES", nodeModules(t), "@CHECKOUT", checkout(t), "@GOPATH", goEnv(t, "GOPATH"), "@GOCACHE", goEnv(t, "GOCACHE"))
	cmd := exec.Command("bash", "-c", prelude+values.Replace(sessions[page]+"\n"+script.String()+results[page]))
	cmd.Dir = root
	p := startCommand(t, []string{"S=" + s.base, "ROOT=" + root, "HOME=" + root, "BINARY=" + binary, "KEY=" + testKey, "ADMIN_KEY=" + adminKey,
		"POSTHASTE_ADMIN_KEY=" + adminKey, "ENDPOINT=" + endpoint.text("id")}, cmd)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, b := range blocks {
		if b.exempt == "" && b.language == "console" {
			expect(t, b, p.out.String())
		}
	}
}

// checkout returns the directory of the repository.
func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// commands returns the commands of a block: all of it, or the text after each prompt.
func commands(b snippet) string {
	if b.language != "console" {
		return b.text
	}
	var out strings.Builder
	for line := range strings.Lines(b.text) {
		if command, is := strings.CutPrefix(line, "$ "); is {
			out.WriteString(command)
		}
	}
	return out.String()
}

// expect looks for the lines that a block shows after its commands. Ids, secrets and numbers
// differ each time, and lines about an event appear when there is one.
func expect(t *testing.T, b snippet, output string) {
	for line := range strings.Lines(b.text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "$ ") || strings.Contains(line, "[evt_") {
			continue
		}
		pattern := regexp.MustCompile(`(acct|we|whsec)_[\w+/]+=*`).ReplaceAllString(regexp.QuoteMeta(line), `${1}_\S+`)
		pattern = strings.ReplaceAll(pattern, `\+`, `.`)
		if !regexp.MustCompile(pattern).MatchString(output) {
			t.Errorf("%s shows %q, which was not printed", b.place(), line)
		}
	}
}

// wrapped are the lines around code that is part of a function or a file.
var wrapped = map[string][2]string{
	"webhook/README.md": {`package main
import ("net/http"; "os"; "time"; "github.com/posthaste-hq/posthaste/webhook")
func main() { _ = receive }
func receive(handler http.Handler, page func(int)) {
`, "}\n"},
}

// parse checks a block that does not contain commands.
func parse(t *testing.T, b snippet) error {
	dir := t.TempDir()
	check := func(name, text string, command ...string) error {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		out, err := exec.Command(command[0], append(command[1:], file)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	switch b.language {
	case "json":
		return parseJSON(t, b)
	case "yaml":
		return yaml.Unmarshal([]byte(b.text), new(any))
	case "go run", "go":
		around := wrapped[b.page]
		text := strings.ReplaceAll(b.text, "{ … }", "{ panic(err) }")
		return check("main.go", around[0]+text+around[1], "go", "vet")
	case "js", "javascript":
		name := "script.js"
		if strings.Contains(b.text, "import ") {
			name = "script.mjs"
		}
		return check(name, b.text, "node", "--check")
	case "python":
		return check("script.py", b.text, "python3", "-m", "py_compile")
	}
	return fmt.Errorf("nothing checks blocks of %q: name a language that is checked, or say why it is not run", b.language)
}

// parseJSON reads all values of a block, and compares each with the API's description. Events
// are sent.
func parseJSON(t *testing.T, b snippet) error {
	dec := json.NewDecoder(strings.NewReader(b.text))
	for {
		var o object
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := described(t, b.schema, o); err != nil {
			return err
		}
		if o.text("type") != "" && o["data"] != nil {
			serve(t, "").must("POST", "/v1/events", o)
		}
	}
}

// freePort returns an unused port, for a program that cannot choose one.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
