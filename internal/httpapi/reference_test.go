package httpapi_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
)

const errorReference = "../../docs/reference/errors.md"

// The reference has every code that the sources have, with its status.
func TestErrors_referenceIsUpToDate(t *testing.T) {
	want := writeErrors(t)
	if *update {
		if err := os.WriteFile(errorReference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(errorReference)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the sources say (%v); run make docs", errorReference, err)
	}
	for _, code := range []string{"parameter_unknown", "resource_missing", "rate_limit_exceeded", "url_target_forbidden", "request_too_large"} {
		if !strings.Contains(want, "| `"+code+"` |") {
			t.Errorf("%s is not found in the sources", code)
		}
	}
}

// found is one code of the API's errors.
type found struct {
	code    fault.Code
	message string
}

var kinds = map[string]fault.Code{
	"Invalid": fault.Invalid, "Unauthenticated": fault.Unauthenticated, "Forbidden": fault.Forbidden, "NotFound": fault.NotFound,
	"IdempotencyConflict": fault.IdempotencyConflict, "IdempotencyMismatch": fault.IdempotencyMismatch,
	"RateLimited": fault.RateLimited, "Unavailable": fault.Unavailable, "Unsure": fault.Unsure, "Internal": fault.Internal,
}

func writeErrors(t *testing.T) string {
	t.Helper()
	codes := map[string]found{}
	for _, pkg := range []string{"event", "endpoint", "account", "service", "sandbox", "sender", "broker", "fault", "httpapi"} {
		files, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				readFaults(t, file, codes)
			}
		}
	}
	var b strings.Builder
	b.WriteString("# Errors\n\nAn answer that is not 2xx is `{\"error\": {\"type\", \"code\", \"message\", \"param\"?}}`. Decide by `type` and `code`; `message` is for people and may " +
		"change. `param` names the parameter at fault. Every answer has a `Request-Id`, which the server's log has too.\n\n" +
		"| status | code | type | for instance |\n|---|---|---|---|\n")
	names := slices.SortedFunc(maps.Keys(codes), func(x, y string) int {
		return cmp.Or(cmp.Compare(statusOf(x, codes[x]), statusOf(y, codes[y])), cmp.Compare(x, y))
	})
	for _, name := range names {
		_, typ := httpapi.WireOf(codes[name].code)
		_, _ = fmt.Fprintf(&b, "| %d | `%s` | `%s` | %s |\n", statusOf(name, codes[name]), name, typ, strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(codes[name].message))
	}
	b.WriteString("| 500 | `outcome_unknown` | `api_error` | It is not known whether this was stored. Repeat it, with the same id or Idempotency-Key, when the server is well again. |\n")
	b.WriteString("| 500 | `internal_error` | `api_error` | Something went wrong on our side. The Request-Id helps us to find it. |\n" +
		"| 503 | `unavailable` | `api_error` | The server cannot accept this at the moment; nothing was done. Try again. |\n\n" +
		"A declined card of [the sandbox](../sandbox.md) is a 402 of type `payment_error`, with `decline_code` and the failed `payment`.\n\n" +
		"## Trying again\n\n429 and 503 come with `Retry-After`, in seconds. A request with an `Idempotency-Key` can be repeated after any error: what was done is not done again.\n" +
		"After `outcome_unknown`, which only a file system that breaks down brings about, and after an answer that never came, nobody else knows whether it was done.\n" +
		"A 409 says that the first request with the key is still running. Other 4xx stay what they are until the request is changed.\n")
	return b.String()
}

func statusOf(name string, f found) int {
	switch name {
	case "request_too_large":
		return 413
	case "content_encoding_unsupported":
		return 415
	case "method_not_allowed":
		return 405
	}
	status, _ := httpapi.WireOf(f.code)
	return status
}

// verbs stand in a message for what is filled in.
var verbs = regexp.MustCompile(`%(\[\d\])?[-+.0-9]*[a-zA-Z]`)

// readFaults adds the codes of one file.
func readFaults(t *testing.T, file string, to map[string]found) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := func(code fault.Code, reason, message string) {
		message = verbs.ReplaceAllString(message, "…")
		if have, ok := to[reason]; reason != "" && code != fault.Internal && code != fault.Unavailable && (!ok || have.message == "" || have.code == fault.Invalid && code != fault.Invalid) {
			to[reason] = found{code, message}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if strings.HasSuffix(nameOf(n.Type), "Error") {
				var code fault.Code
				var reason, message string
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						switch nameOf(kv.Key) {
						case "Code":
							code = kinds[nameOf(kv.Value)]
						case "Reason":
							reason = textOf(kv.Value)
						case "Message":
							message = textOf(kv.Value)
						}
					}
				}
				if code != "" {
					note(code, reason, message)
				}
			}
		case *ast.CallExpr:
			if nameOf(n.Fun) == "Param" && len(n.Args) >= 3 {
				note(fault.Invalid, textOf(n.Args[1]), textOf(n.Args[2]))
			}
		}
		return true
	})
}

// nameOf is an identifier without its package.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// textOf is the text of an expression as far as it is written there.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err == nil {
			return s
		}
	case *ast.BinaryExpr:
		left, right := textOf(e.X), textOf(e.Y)
		return cmp.Or(left, "…") + cmp.Or(right, "…")
	case *ast.CallExpr: // of Sprintf
		if len(e.Args) > 0 {
			return textOf(e.Args[0])
		}
	case *ast.Ident:
		switch e.Name {
		case "reasonTooLarge":
			return "request_too_large"
		case "reasonEncoding":
			return "content_encoding_unsupported"
		}
	}
	return ""
}
