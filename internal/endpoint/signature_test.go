package endpoint

import (
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/signature"
)

// A scheme is refused with secrets that it cannot sign with, without its template, and with a
// custom header that it sets itself.
func TestEndpoint_signature(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(e *Endpoint)
		param  string // at fault; empty is none
	}{
		{"stripe", func(e *Endpoint) { e.Settings.Profile = "stripe" }, ""},
		{"stripe with any text as its secret", func(e *Endpoint) { e.Settings.Profile, e.Secrets = "stripe", []Secret{{Value: "0123456789abcdef"}} }, ""},
		{"standard with such a secret", func(e *Endpoint) { e.Secrets = []Secret{{Value: "0123456789abcdef"}} }, "signature_schemes"},
		{"svix with such a secret", func(e *Endpoint) { e.Settings.Profile, e.Secrets = "svix", []Secret{{Value: "0123456789abcdef"}} }, "signature_schemes"},
		{"an unknown scheme", func(e *Endpoint) { e.Settings.Profile = "pigeon" }, "signature_schemes"},
		{"custom without a template", func(e *Endpoint) { e.Settings.Profile = SchemeCustom }, "signature_template[header]"},
		{"custom", func(e *Endpoint) { e.Settings.Profile, e.Settings.Template.Header = SchemeCustom, "X-Acme-Signature" }, ""},
		{"a template that waits for its scheme", func(e *Endpoint) { e.Settings.Template = signature.Template{Content: "{timestamp}{body}"} }, ""},
		{"a template without the body", func(e *Endpoint) { e.Settings.Template = signature.Template{Content: "{timestamp}"} }, "signature_template[content]"},
		{"a template in a header of the connection", func(e *Endpoint) { e.Settings.Template.Header = "Content-Length" }, "signature_template[header]"},
		{"an id in a header of the connection", func(e *Endpoint) { e.Settings.Template.IDHeader = "transfer-encoding" }, "signature_template[id_header]"},
		{"a type in no header", func(e *Endpoint) { e.Settings.Template.TypeHeader = "a:b" }, "signature_template[type_header]"},
		{"a template in the header of the authentication", func(e *Endpoint) {
			e.Settings.Template.Header, e.Auth = "Authorization", Authentication{Type: AuthBasic, Username: "u", Password: "p"}
		}, "signature_template[header]"},
		{"a template in no header", func(e *Endpoint) { e.Settings.Template.Header = "a b" }, "signature_template[header]"},
		{"a header of the scheme", func(e *Endpoint) {
			e.Settings.Profile, e.Headers = "github", map[string]string{"X-Hub-Signature-256": "x"}
		}, "headers[X-Hub-Signature-256]"},
		{"a header of the type", func(e *Endpoint) { e.Settings.Profile, e.Headers = "github", map[string]string{"X-Github-Event": "x"} }, "headers[X-Github-Event]"},
		{"a header of another scheme", func(e *Endpoint) {
			e.Settings.Profile, e.Headers = "stripe", map[string]string{"X-Hub-Signature-256": "x"}
		}, ""},
	} {
		e := &Endpoint{Space: space, Config: Config{URL: "https://a.example/hooks", Events: []string{"*"}}, Secrets: []Secret{NewSecret("sec_1", noon)}}
		tt.change(e)
		if err := e.Check(Rules{Signature: "Payment-Signature"}); (err == nil) != (tt.param == "") || err != nil && paramOf(err) != tt.param {
			t.Errorf("%s: %v, want a fault of %q", tt.name, err, tt.param)
		}
	}
}

// The schemes of an endpoint are the last ones set, and v1a keys are added and removed with
// v1a.
func TestEndpoint_schemes(t *testing.T) {
	e := &Endpoint{Secrets: []Secret{NewSecret("sec_1", time.Now())}}
	for _, schemes := range [][]string{{"v1"}, {"v1", "v1a"}, {"stripe"}, {"custom"}, {"v1a", "v1"}, {"v1"}} {
		if err := (Params{"signature_schemes": schemes}).Apply(e, Edit{}); err != nil {
			t.Fatal(err)
		}
		if got := e.schemes(); len(got) != len(schemes) || (e.Secrets[0].Signing != "") != (len(schemes) == 2) || (e.Signature() == nil) != (got[0] == SchemeHMAC) {
			t.Errorf("%v becomes %v, with %v", schemes, got, e.Signature())
		}
	}
	for _, schemes := range [][]string{nil, {"v1a"}, {"v1", "stripe"}, {"stripe", "github"}, {"pigeon"}} {
		if err := (Params{"signature_schemes": schemes}).Apply(e, Edit{}); paramOf(err) != "signature_schemes" {
			t.Errorf("%v: %v", schemes, err)
		}
	}
}
