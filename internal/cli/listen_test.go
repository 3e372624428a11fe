package cli

import (
	"strings"
	"testing"
)

func TestListen_forwardTo(t *testing.T) {
	for given, want := range map[string]string{
		"localhost:3000/webhooks":          "http://localhost:3000/webhooks",
		"localhost:3000/café?q=José|[":     "http://localhost:3000/caf%C3%A9?q=Jos%C3%A9%7C%5B",
		"https://BÜCHER.test/%c3%a9":       "https://xn--bcher-kva.test/%c3%a9",
		"http://user:secret@localhost:80/": "http://user:secret@localhost:80/",
	} {
		l := &listener{forward: given, format: "text"}
		if err := l.prepare("here", "", false); err != nil || l.forward != want {
			t.Errorf("%s: forwards to %q, %v; want %q", given, l.forward, err, want)
		}
	}
	for given, says := range map[string]string{"localhost:3000/a b": "space", "ftp://localhost/": "https://", "http://a..b/": "is empty"} {
		l := &listener{forward: given, format: "text"}
		if err := l.prepare("here", "", false); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", given, err)
		}
	}
}
