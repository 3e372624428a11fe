package delivery

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestHeader(t *testing.T) {
	const id = "evt_1234567890abcdef"
	at := time.UnixMilli(1700000000999)
	lines := []string{
		"Accept-Encoding: identity", "Content-Type: application/json", "Payment-Signature: 00ff", "User-Agent: Payment-Webhooks/1.2.3",
		"Webhook-Id: " + id, "Webhook-Signature: v1,abc= v1,def= v1a,ghi=", "Webhook-Timestamp: 1700000000", "X-Empty: ", "X-Own: (hidden)",
	}
	odd := []string{
		"Accept-Encoding: gzip", "Content-Type: application/cloudevents+json", "Webhook-Id: evt_another", "Webhook-Signature: v1a,only", "Webhook-Timestamp: 1700000001",
	}
	for _, want := range [][]string{lines, odd, lines[:1], lines[4:5], nil} {
		var b []byte
		for _, line := range want {
			name, value, _ := strings.Cut(line, ": ")
			b = AppendHeaderLine(b, name, value, id, at)
		}
		if got := Header(b).Lines(id, at); got != strings.Join(want, "\n") {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	// Headers stored by earlier versions are read unchanged.
	if before := strings.Join(append(lines, odd...), "\n"); Header(before).Lines(id, at) != before {
		t.Errorf("got %q", Header(before).Lines(id, at))
	}
	var b []byte
	for _, line := range lines[:7] {
		name, value, _ := strings.Cut(line, ": ")
		b = AppendHeaderLine(b, name, value, id, at)
	}
	if plain := len(strings.Join(lines[:7], "\n")); len(b) > plain-120 {
		t.Errorf("the usual header takes %d bytes of %d", len(b), plain)
	}
}

// The documentation contains all outcomes.
func TestOutcomes_areDocumented(t *testing.T) {
	for _, page := range []string{"../../docs/delivery.md", "../../docs/reference/metrics.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range Outcomes() {
			row := "`" + o.String() + "`"
			if strings.HasSuffix(page, "delivery.md") {
				row = "| " + row + " | |"
				if short := o.Short(); short != "" {
					row = "| `" + o.String() + "` | `" + short + "` |"
				}
			} else if o == OutcomeNone {
				continue // which is not an attempt
			}
			if !strings.Contains(string(text), row) {
				t.Errorf("%s lacks %s", page, row)
			}
		}
	}
}

// Each outcome is found by its unique name, and by its short name.
func TestOutcomes(t *testing.T) {
	seen := map[string]bool{"": true}
	for _, o := range Outcomes() {
		if o.String() == "unknown" || seen[o.String()] {
			t.Errorf("outcome %d is called %q", o, o)
		}
		seen[o.String()] = true
		for _, name := range []string{o.String(), o.Short()} {
			if got, ok := ParseOutcome(name); name != "" && (!ok || got != o) {
				t.Errorf("%q is read as %s, %v; want %s", name, got, ok, o)
			}
		}
		if short := o.Short(); short != "" && (seen[short] || !strings.HasPrefix(o.String(), short+"_")) {
			t.Errorf("%s is called %q for short", o, short)
		}
	}
	for _, name := range []string{"", "unknown", "Timeout", "error"} {
		if o, ok := ParseOutcome(name); ok {
			t.Errorf("%q is read as %s", name, o)
		}
	}
	if Outcome(200).String() != "unknown" {
		t.Error("an outcome of a later version has a name")
	}
}
