package sender

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// TestEffects_documented compares the table of outcomes in docs/delivery.md with the code: each
// outcome has one row, which matches [delivery.EffectOf], and each status is in the row of its
// outcome.
func TestEffects_documented(t *testing.T) {
	text, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ answer, breaker, streak string }
	rows := map[string]row{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = row{m[2], m[3], m[4]}
	}
	effects := map[delivery.Effect]row{
		delivery.NoEffect:        {breaker: "nothing", streak: "nothing"},
		delivery.Acknowledged:    {breaker: "closes, and resets its interval", streak: "ends"},
		delivery.EventRefused:    {breaker: "closes, and keeps its interval", streak: "counts"},
		delivery.EventUnsendable: {breaker: "nothing", streak: "counts"},
		delivery.EndpointDown:    {breaker: "counts, unless only this type fails", streak: "counts"},
	}
	for o := delivery.OutcomeNone + 1; o.String() != "unknown"; o++ {
		got, ok := rows[o.String()]
		delete(rows, o.String())
		breaker, _, _ := strings.Cut(got.breaker, ";")
		want := effects[delivery.EffectOf(o)]
		if !ok || breaker != want.breaker || got.streak != want.streak {
			t.Errorf("%s has the row %+v, want %+v", o, got, want)
		}
		for status := 200; status < 600; status++ {
			in := inAnswer(t, got.answer, status)
			if is := outcome(&http.Response{StatusCode: status}) == o; is != in {
				t.Errorf("%d is %s: %t; its row %q says %t", status, o, is, got.answer, in)
			}
		}
	}
	for name := range rows {
		t.Errorf("unknown outcome %s", name)
	}
}

// inAnswer reports whether a cell such as "400–499, except 410 and 429" names a status.
func inAnswer(t *testing.T, cell string, status int) bool {
	t.Helper()
	all, exceptions, _ := strings.Cut(cell, ", except ")
	all, _, _ = strings.Cut(all, ", 503 with")
	for _, except := range strings.Split(exceptions, " and ") {
		if strconv.Itoa(status) == except {
			return false
		}
	}
	from, to, isRange := strings.Cut(all, "–")
	low, err := strconv.Atoi(from)
	if err != nil { // none
		return false
	}
	high := low
	if isRange {
		if high, err = strconv.Atoi(to); err != nil {
			t.Fatalf("%q is not a range of statuses", cell)
		}
	}
	return low <= status && status <= high
}
