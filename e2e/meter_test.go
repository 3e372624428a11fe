package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// All kinds of requests count against the account's limit of requests and events: the API,
// batches, tails, listeners, the Stripe CLI and the customer portal.
func TestRateLimit_everyWayIn(t *testing.T) {
	const limit = 6
	for name, ask := range map[string]func(s *server, portal string) (*http.Request, error){
		"the API": func(s *server, _ string) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, s.base+"/v1/webhooks", nil)
		},
		"batches": func(s *server, _ string) (*http.Request, error) {
			event := `{"type":"a.b","data":{"object":{}}}`
			r, err := http.NewRequest(http.MethodPost, s.base+"/v1/events/batch", strings.NewReader(`{"events":[`+event+","+event+`]}`))
			if err == nil {
				r.Header.Set("Content-Type", "application/json")
			}
			return r, err
		},
		"a tail": func(s *server, _ string) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, s.base+"/v1/logs/tail?status=unknown", nil)
		},
		"a listener": func(s *server, _ string) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, s.base+"/v1/listen?device=x", nil)
		},
		"the Stripe CLI": func(s *server, _ string) (*http.Request, error) {
			return http.NewRequest(http.MethodPost, s.base+"/v1/stripecli/sessions", strings.NewReader(""))
		},
		"the portal": func(_ *server, portal string) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, portal, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, t.TempDir(), "--rate-limit", "6")
			do := func(r *http.Request, err error) (int, map[string]any) {
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+testKey)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = answer.Body.Close() }()
				var said map[string]any
				_ = json.NewDecoder(answer.Body).Decode(&said)
				return answer.StatusCode, said
			}
			status, opened := do(http.NewRequest(http.MethodPost, s.base+"/v1/portal_sessions", strings.NewReader("{}")))
			portal, _ := opened["url"].(string)
			if status != http.StatusOK || portal == "" {
				t.Fatalf("open a portal: %d %v", status, opened)
			}
			for i := range 3 * limit {
				if status, _ := do(ask(s, portal)); status == http.StatusTooManyRequests {
					if i == 0 {
						t.Error("the first request is refused")
					}
					return
				}
			}
			t.Errorf("%d requests of an account with a limit of %d a minute are all admitted", 3*limit, limit)
		})
	}
}
