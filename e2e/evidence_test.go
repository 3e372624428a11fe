package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The log of each attempt, in the API and on its page, has the URL, headers and bytes that the
// receiver got, with every setting of an endpoint, and also after the endpoint was changed and
// deleted. The command on the page sends the same again.
func TestEvidence(t *testing.T) {
	t.Parallel()
	s := serve(t, "", "--test-schedule", "10ms")
	password := s.out.await(t, `Password +(\S+)`)[1]
	account := s.must("GET", "/v1/account", nil)["account"].(map[string]any)["id"].(string)
	for _, tt := range []struct {
		name string
		more []any
	}{
		{"standard", nil},
		{"thin", []any{"payload_format", "thin"}},
		{"CloudEvent", []any{"payload_format", "cloudevents_structured"}},
		{"CloudEvent in headers", []any{"payload_format", "cloudevents_binary"}},
		{"transformed", []any{"transform", `{"object": {"who": data.object.name, "note": "it's <b>"}}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := receive(t, answers(http.StatusInternalServerError))
			e := s.register(r.URL+"/hook?név=É", append(tt.more, "headers", object{"X-Api-Key": "confidential"})...)
			sent := s.must("POST", "/v1/events", `{"type":"payment.succeeded","data":{"object":{"id":"pay_1","name":"Zoë & \"co\""}}}`)
			d := s.settled(sent.text("id"))
			delivery := ""
			for _, one := range d {
				if one.text("endpoint") == e.text("id") {
					delivery = one.text("id")
				}
			}
			check := func(when string) {
				t.Helper()
				attempts := s.must("GET", "/v1/deliveries/"+delivery+"/attempts", nil).list()
				if len(attempts) != r.count() || len(attempts) != 2 {
					t.Fatalf("%s: %d attempts of %d requests", when, len(attempts), r.count())
				}
				for i, a := range attempts { // newest first
					request, body := r.requests[1-i], r.bodies[1-i]
					if a.text("request_body") != string(body) || a.text("request_body_sha256") != fmt.Sprintf("%x", sha256.Sum256(body)) {
						t.Errorf("%s: attempt %d shows %v\nthe receiver got %s", when, i, a["request_body"], body)
					}
					if a.text("request_method") != request.Method || a.text("request_url") != r.URL+request.RequestURI || !strings.HasSuffix(a.text("request_url"), "/hook?n%C3%A9v=%C3%89") {
						t.Errorf("%s: attempt %d shows %s %s", when, i, a.text("request_method"), a.text("request_url"))
					}
					shown := http.Header{}
					for _, h := range a["request_headers"].([]any) {
						shown.Add(object(h.(map[string]any)).text("name"), object(h.(map[string]any)).text("value"))
					}
					for name := range request.Header {
						want := request.Header.Get(name)
						switch name {
						case "Content-Length":
							continue
						case "X-Api-Key":
							want = "(hidden)"
						}
						if shown.Get(name) != want {
							t.Errorf("%s: attempt %d shows %s as %q, sent was %q", when, i, name, shown.Get(name), want)
						}
					}
				}
			}
			check("at once")
			admin, _ := s.signIn("admin", password)
			resp, err := admin.Get(s.base + "/admin/" + account + "/test/deliveries/" + delivery)
			if err != nil {
				t.Fatal(err)
			}
			page, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			body := between(t, string(page), `<pre id="body" class="exact" tabindex="0">`, "</pre>")
			if html.UnescapeString(body) != string(r.bodies[1]) {
				t.Errorf("the page shows %s\nthe receiver got %s", body, r.bodies[1])
			}
			curl := html.UnescapeString(between(t, string(page), `<pre id="curl" tabindex="0">`, "</pre>"))
			if code := start(t, nil, "sh", "-c", curl+" --silent").exit(); code != 0 {
				t.Errorf("exit code %d of %s", code, curl)
			}
			if last := r.count() - 1; last != 2 || !bytes.Equal(r.bodies[last], r.bodies[1]) || r.requests[last].Header.Get("Webhook-Signature") != r.requests[1].Header.Get("Webhook-Signature") {
				t.Errorf("%s\nsent %s", curl, r.bodies[last])
			}
			r.requests, r.bodies = r.requests[:2], r.bodies[:2]
			s.must("PATCH", "/v1/webhooks/"+e.text("id"), object{"payload_format": "standard", "transform": `{"object": {}}`, "url": r.URL + "/elsewhere"})
			check("after the endpoint changed")
			s.must("DELETE", "/v1/webhooks/"+e.text("id"), nil)
			check("after the endpoint was deleted")
			resp, err = admin.Get(s.base + "/admin/" + account + "/test/deliveries?outcome=succeeded&endpoint=" + e.text("id"))
			if err != nil {
				t.Fatal(err)
			}
			page, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(page), "/deliveries/"+delivery) || !strings.Contains(string(page), e.text("id")+", deleted") {
				t.Errorf("the page of its deliveries: %d, %v\n%s", resp.StatusCode, err, page)
			}
			if list := s.must("GET", "/v1/deliveries?outcome=succeeded&endpoint="+e.text("id"), nil).list(); len(list) != 1 {
				t.Errorf("found by outcome and deleted endpoint: %v", list)
			}
			if list := s.must("GET", "/v1/deliveries/"+delivery+"/attempts?outcome=server", nil).list(); len(list) != 1 || list[0]["number"] != 1.0 {
				t.Errorf("found by outcome: %v", list)
			}
		})
	}
}

func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, from)
	text, _, ended := strings.Cut(text, to)
	if !ok || !ended {
		t.Fatalf("%s not found", from)
	}
	return text
}
