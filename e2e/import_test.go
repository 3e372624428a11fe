package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	svix "github.com/svix/svix-webhooks/go"
)

// The endpoints of another server's export are registered once, however often it is imported,
// and a receiver with only its old secret verifies the deliveries.
func TestImport(t *testing.T) {
	t.Parallel()
	const secret = "whsec_b3dub3dub3dub3dub3dub3dub3dub3du"
	s := serve(t, "")
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	export := filepath.Join(t.TempDir(), "export.json")
	text, err := json.Marshal(object{"data": []object{
		{"id": "ep_main", "url": r.URL + "?token=hush", "description": "Main", "eventTypes": []string{"payment.succeeded", "payment-method.added"}, "throttleRate": 50, "metadata": object{"tier": "gold"},
			"secret": object{"key": secret}, "headers": object{"headers": object{"X-Tenant": "hush-acme"}, "sensitive": []string{}}},
		{"id": "ep_other", "url": r.URL, "eventTypes": []string{"payment.failed"}, "disabled": true},
		{"id": "ep_wrong", "url": "ftp://a.example"},
		{"id": "ep_typed", "url": r.URL, "eventTypes": []string{"payment.succeeded", "größe"}, "secret": object{"key": secret}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(export, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(code int, args ...string) string {
		t.Helper()
		p := start(t, []string{"POSTHASTE_API_KEY=" + testKey, "POSTHASTE_SERVER=" + s.base}, binary, append([]string{"import", "--from", "svix"}, args...)...)
		if got := p.exit(); got != code {
			t.Errorf("import %v: exit code %d, want %d", args, got, code)
		}
		out := p.out.String()
		if strings.Contains(out, "b3du") || strings.Contains(out, "hush") {
			t.Errorf("import %v prints a credential: %s", args, out)
		}
		return out
	}

	if out := run(1, export, "--dry-run"); strings.Count(out, "would create") != 4 || !strings.Contains(out, "event type größe") {
		t.Errorf("dry run: %s", out)
	}
	if n := len(s.must("GET", "/v1/webhooks", nil).list()); n != 0 {
		t.Fatalf("a dry run made %d endpoints", n)
	}
	if out := run(1, export); strings.Count(out, "created we_") != 3 || !strings.Contains(out, "ep_wrong refused: the server answered 400") {
		t.Errorf("import: %s", out)
	}
	if out := run(1, export, "--json"); strings.Count(out, `"result": "exists"`) != 3 || !strings.Contains(out, `"result": "refused"`) {
		t.Errorf("second import: %s", out)
	}
	made := s.must("GET", "/v1/webhooks", nil).list()
	if len(made) != 3 {
		t.Fatalf("there are %d endpoints: %v", len(made), made)
	}
	main, other, typed := made[2], made[1], made[0] // newest first
	if types := main["enabled_events"]; main.text("status") != "enabled" || !reflect.DeepEqual(types, []any{"payment.succeeded", "payment-method.added"}) {
		t.Errorf("main is %s and takes %v", main.text("status"), types)
	}
	if typed.text("status") != "disabled" { // it would not receive all of the same events
		t.Errorf("an endpoint without one of its types is %s", typed.text("status"))
	}
	if main["rate_limit"] != 50.0 || main.text("description") != "Main" || object(main["metadata"].(map[string]any)).text("tier") != "gold" || other.text("status") != "disabled" {
		t.Errorf("got %v and %v", main, other)
	}

	if d := s.settled(s.send("payment.succeeded", object{"amount": 7}).text("id")); len(d) != 1 || d[0].text("status") != "succeeded" {
		t.Fatalf("deliveries: %v", d)
	}
	verifier, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := verifier.Verify(r.bodies[0], r.requests[0].Header); err != nil || r.requests[0].Header.Get("X-Tenant") != "hush-acme" || r.requests[0].URL.RawQuery != "token=hush" {
		t.Errorf("the receiver got %v %v: %v", r.requests[0].URL, r.requests[0].Header, err)
	}
	if p := start(t, []string{"POSTHASTE_API_KEY=" + testKey, "POSTHASTE_SERVER=" + s.base}, binary, "import", "--from", "pigeon", export); p.exit() != 2 {
		t.Errorf("an unknown format: %s", p.out)
	}
}
