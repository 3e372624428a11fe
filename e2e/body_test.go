package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/posthaste-hq/posthaste/webhook"
)

// services are the requirements of the recipes' services for a message, by the hosts of their
// URLs: an error as the service would answer it.
var services = map[string]func(object) error{
	// docs.slack.dev, "Sending messages using incoming webhooks": "no_text" and "invalid_payload".
	"hooks.slack.com": func(m object) error {
		if m.text("text") == "" || len(m.text("text")) > 40_000 {
			return fmt.Errorf("no_text: %v", m)
		}
		return nil
	},
	// learn.microsoft.com, "Create incoming webhooks with Workflows for Microsoft Teams": a message with Adaptive Cards.
	"logic.azure.com": func(m object) error {
		cards := object{"data": m["attachments"]}.list()
		if m.text("type") != "message" || len(cards) == 0 {
			return fmt.Errorf("not a message with attachments: %v", m)
		}
		for _, c := range cards {
			card := object(c["content"].(map[string]any))
			body := object{"data": card["body"]}.list()
			if c.text("contentType") != "application/vnd.microsoft.card.adaptive" || card.text("type") != "AdaptiveCard" || card.text("version") == "" || len(body) == 0 ||
				slices.ContainsFunc(body, func(b object) bool { return b.text("type") != "TextBlock" || b.text("text") == "" }) {
				return fmt.Errorf("not an Adaptive Card: %v", c)
			}
		}
		return nil
	},
	// docs.discord.com, "Execute Webhook": one of content, embeds and others; their limits.
	"discord.com": func(m object) error {
		embeds := object{"data": m["embeds"]}.list()
		if m.text("content") == "" && len(embeds) == 0 || len([]rune(m.text("content"))) > 2000 || len(embeds) > 10 {
			return fmt.Errorf("50006 Cannot send an empty message: %v", m)
		}
		for _, e := range embeds {
			if len([]rune(e.text("title"))) > 256 || len([]rune(e.text("description"))) > 4096 || e.text("title")+e.text("description") == "" {
				return fmt.Errorf("an embed is out of its limits: %v", e)
			}
		}
		return nil
	},
	// developer.pagerduty.com, "Send an Alert Event".
	"events.pagerduty.com": func(m object) error {
		p, _ := m["payload"].(map[string]any)
		alert := object(p)
		if len(m.text("routing_key")) != 32 || !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, m.text("event_action")) || len(m.text("dedup_key")) > 255 ||
			alert.text("summary") == "" || len(alert.text("summary")) > 1024 || alert.text("source") == "" || !slices.Contains([]string{"critical", "warning", "error", "info"}, alert.text("severity")) {
			return fmt.Errorf("invalid event: %v", m)
		}
		return nil
	},
}

// The services accept the output of the page's recipes, which are verbatim except for the URL.
func TestRecipes(t *testing.T) {
	t.Parallel()
	const page = "docs/how-to/post-to-slack-teams-discord-and-pagerduty.md"
	text, err := os.ReadFile("../" + page)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := snippets(page, string(text))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	wrong, taken := map[string]string{}, 0
	s := serve(t, "", "--test-schedule", "")
	payload := regexp.MustCompile(`(?s)-d '(.*)'`)
	for host, demands := range services {
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			raw, err := io.ReadAll(r.Body)
			var m object
			switch {
			case err != nil || r.Header.Get("Content-Type") != "application/json":
				err = fmt.Errorf("%v, a body of the type %s", err, r.Header.Get("Content-Type"))
			default:
				if err = json.Unmarshal(raw, &m); err == nil {
					err = demands(m)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			taken++
			if err != nil {
				wrong[host] = err.Error()
				w.WriteHeader(http.StatusBadRequest)
			}
		}))
		t.Cleanup(receiver.Close)
		i := slices.IndexFunc(blocks, func(b snippet) bool { return strings.Contains(b.text, host) })
		if i < 0 {
			t.Fatalf("the page has no recipe for %s", host)
		}
		var e object
		if err := json.Unmarshal([]byte(payload.FindStringSubmatch(blocks[i].text)[1]), &e); err != nil {
			t.Fatal(err)
		}
		e["url"] = receiver.URL
		s.must("POST", "/v1/webhooks", e)
	}
	if len(blocks) != len(services) {
		t.Errorf("%d recipes, of which %d are checked", len(blocks), len(services))
	}
	const odd = "größer \"✓\" \\ & <!channel>"
	sent := s.send("payment.failed", object{"id": odd, "amount": 2999, "currency": "usd", "customer": object{"email": "customer@example.com"}})
	for _, d := range s.settled(sent.text("id")) {
		if d.text("status") != "succeeded" {
			t.Errorf("%v", d)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(wrong) > 0 || taken != len(services) {
		t.Errorf("%d messages; refused: %v", taken, wrong)
	}
}

// Raw bytes are delivered and signed unchanged in each attempt; an endpoint in the standard
// format receives them as base64 in the event.
func TestRawBytes(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--test-schedule", "10ms")
	raw, plain := receive(t, answers(http.StatusInternalServerError)), receive(t, answers())
	e := s.register(raw.URL, "payload_format", "raw")
	s.register(plain.URL)
	bodies := []string{"", "<a>é</a>\r\n", `{"n":9007199254740993,"n":1,"s":"\ud800","u":"\u003c"}`, "\x00\x01\xff\xfe{", strings.Repeat("\x80", 200_000)}
	for i, body := range bodies {
		media := fmt.Sprintf("application/vnd.acme.v%d+xml; charset=utf-8", i)
		sent := s.must("POST", "/v1/events/raw", body, "Event-Type", "raw.made", "Content-Type", media, "Event-Header-X-Tenant", "acme")
		s.settled(sent.text("id"))
		raw.mu.Lock()
		attempts := 1
		if i == 0 { // the first attempt of all fails
			attempts = 2
		}
		for n := range attempts {
			at := len(raw.bodies) - 1 - n
			header := raw.requests[at].Header
			if string(raw.bodies[at]) != body || header.Get("Content-Type") != media || header.Get("webhook-id") != sent.text("id") || header.Get("X-Tenant") != "acme" {
				t.Errorf("attempt %d: %.100q as %q, want %.100q", n, raw.bodies[at], header.Get("Content-Type"), body)
			}
			if err := must(webhook.NewVerifier(e.text("secret"))).Verify(header, raw.bodies[at]); err != nil {
				t.Errorf("attempt %d: %v", n, err)
			}
		}
		raw.mu.Unlock()
		plain.mu.Lock()
		var got struct {
			Data struct{ Raw struct{ Base64 []byte } }
		}
		if err := json.Unmarshal(plain.bodies[len(plain.bodies)-1], &got); err != nil || string(got.Data.Raw.Base64) != body {
			t.Errorf("in the standard format: %v, %.100q", err, got.Data.Raw.Base64)
		}
		plain.mu.Unlock()
	}
}
