package httpapi_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/httpapi"
)

const errorReference = "../../docs/reference/errors.md"

// The reference contains [fault.Reasons], which a test of package fault compares with the
// sources.
func TestErrors_referenceIsUpToDate(t *testing.T) {
	want := writeErrors()
	if *update {
		if err := os.WriteFile(errorReference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(errorReference)
	if err != nil || string(got) != want {
		t.Errorf("%s is outdated (%v); run make docs", errorReference, err)
	}
}

// errorLine is one line of the reference: a code with one status.
type errorLine struct {
	status int
	typ    string
	fault.Entry
}

func writeErrors() string {
	var lines []errorLine
	for _, e := range fault.Reasons {
		for _, code := range e.Codes {
			if status, typ := httpapi.WireOf(code, e.Reason); !e.Pages {
				lines = append(lines, errorLine{status: status, typ: typ, Entry: e})
			}
		}
	}
	slices.SortFunc(lines, func(a, b errorLine) int {
		return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.Reason, b.Reason))
	})
	var b strings.Builder
	b.WriteString("# Errors\n\nA response that is not 2xx is `{\"error\": {\"type\", \"code\", \"message\", \"param\"?}}`. Decide by `type` and `code`; `message` is for people and may " +
		"change. `param` names the parameter or header at fault. Every response has a `Request-Id`, which the server's log has too.\n\n" +
		"| status | code | type | meaning | what to do |\n|---|---|---|---|---|\n")
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, l := range lines {
		_, _ = fmt.Fprintf(&b, "| %d | `%s` | `%s` | %s | %s |\n", l.status, l.Reason, l.typ, escape.Replace(l.Meaning), escape.Replace(l.Action))
	}
	b.WriteString("\n## Retrying\n\n429 and 503 come with `Retry-After`, in seconds. A request with an `Idempotency-Key` can be repeated after any error: a request that was executed is not executed again.\n" +
		"After `outcome_unknown`, which a failing file system causes, or a database that was lost or too slow during a commit, and when no response arrived, the outcome is unknown; repeat the request under the same key or event id.\n" +
		"A 409 says that the first request with the key is still running. Other 4xx responses do not change until the request is changed.\n")
	return b.String()
}
