package adminui

import (
	"regexp"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// Whatever colour a brand has, its links and buttons can be read in light and dark.
func TestBrandColours(t *testing.T) {
	hex := regexp.MustCompile("#[0-9a-f]{6}")
	for _, brand := range []string{"#000000", "#ffffff", "#ffff00", "#eeeeee", "#8a2be2", "#1d4ed8", "#ff0000", "#00ff00", "#0000ff", "#777777", "#123456"} {
		light, dark := brandColours(brand)
		for properties, pages := range map[string][]string{light: {"#ffffff", "#f6f7f9", "#eef2f7"}, dark: {"#0f141b", "#171e28", "#1e2733"}} {
			c := hex.FindAllString(properties, -1)
			accent, on := parseColour(c[0]), parseColour(c[1])
			if accent.contrast(on) < readable {
				t.Errorf("%s: %s, a contrast of %.2f", brand, properties, accent.contrast(on))
			}
			for _, page := range pages {
				if got := accent.contrast(parseColour(page)); got < readable {
					t.Errorf("%s: %s on %s has a contrast of %.2f", brand, properties, page, got)
				}
			}
		}
	}
	if light, _ := brandColours("#8a2be2"); hex.FindString(light) != "#8a2be2" {
		t.Errorf("a readable colour became %s", light)
	}
}

// Steps have the colour of their kind, and an attempt without a response has a bar too.
func TestViewAttempt_steps(t *testing.T) {
	steps := func(a delivery.Attempt) (out string) {
		for _, s := range viewAttempt(&service.Attempt{Attempt: a}).Steps {
			out += s.Class + " "
		}
		return out
	}
	for _, c := range []struct {
		name string
		a    delivery.Attempt
		want string
	}{
		{"open connection", delivery.Attempt{StatusCode: 200, Duration: time.Second, Timing: delivery.Timing{Answer: time.Second}}, "answer "},
		{"new connection", delivery.Attempt{StatusCode: 200, Duration: 4, Timing: delivery.Timing{DNS: 1, Connect: 1, TLS: 1, Answer: 1}}, "dns connect tls answer "},
		{"timeout", delivery.Attempt{Outcome: delivery.OutcomeTimeout, Duration: 15 * time.Second}, "none "},
		{"timeout after connecting", delivery.Attempt{Outcome: delivery.OutcomeTimeout, Duration: 15 * time.Second, Timing: delivery.Timing{Connect: time.Second}}, "connect none "},
	} {
		if got := steps(c.a); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
