package quota

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestOf_theNarrowestSetDecides(t *testing.T) {
	account, server := Set{Endpoints: 0}, Set{Endpoints: 7, Jobs: 3}
	if got := Of(Endpoints, account, server); got != 0 {
		t.Errorf("the account's own limit: %d", got)
	}
	if got := Of(Jobs, account, server); got != 3 {
		t.Errorf("the server's limit: %d", got)
	}
	if got := Of(Tails, account, server); got != limits[Tails].Default || got == 0 {
		t.Errorf("the default: %d", got)
	}
}

func TestParse_readsString(t *testing.T) {
	s, err := Parse("jobs=5, endpoints=2000")
	if err != nil || s.String() != "endpoints=2000,jobs=5" {
		t.Errorf("%s %v", s, err)
	}
	for text, want := range map[string]string{
		"nope=1":       "Unknown limit 'nope'. The limits are endpoints, event_types",
		"jobs=-1":      "The limit jobs must be 0 to 10000 jobs that run at the same time",
		"jobs":         `"jobs" is not a limit such as endpoints=2000`,
		"endpoints=1m": `"endpoints=1m" is not a limit`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestLimits_haveDefaultsThatAreOn(t *testing.T) {
	for _, l := range Limits() {
		if l.Default <= 0 || l.Default > l.Max || l.What == "" {
			t.Errorf("%+v", l)
		}
	}
}

func TestErrors_nameTheQuota(t *testing.T) {
	full, busy := Full(Endpoints, 5), Busy(Tails, 1, "x")
	if !fault.Is(full, fault.Invalid) || !strings.HasPrefix(full.Error(), "endpoints: ") {
		t.Error(full)
	}
	if !fault.Is(busy, fault.RateLimited) || !strings.HasPrefix(busy.Error(), "tails: ") {
		t.Error(busy)
	}
}

func TestLimits_areThoseOfTheReference(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	for _, l := range Limits() {
		if want := fmt.Sprintf("| `%s` | %d | %s |", l.Name, l.Default, l.What); !strings.Contains(string(text), want) {
			t.Errorf("the reference lacks %s", want)
		}
	}
	if rows != len(Limits()) {
		t.Errorf("the reference has %d limits of %d", rows, len(Limits()))
	}
}
