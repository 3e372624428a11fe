package endpoint

import (
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func TestEndpoint_request(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(e *Endpoint)
		param  string // at fault; empty is none
	}{
		{"PUT", func(e *Endpoint) { e.Settings.Method = MethodPut }, ""},
		{"another method", func(e *Endpoint) { e.Settings.Method = "DELETE" }, "method"},
		{"PUT to a broker", func(e *Endpoint) { e.Settings.Method, e.URL = MethodPut, "broker://orders/a" }, "method"},
		{"a charset", func(e *Endpoint) { e.Settings.ContentType = "application/json; charset=utf-8" }, ""},
		{"a type of a vendor", func(e *Endpoint) { e.Settings.ContentType = "application/vnd.acme.v1+json" }, ""},
		{"no media type", func(e *Endpoint) { e.Settings.ContentType = "json" }, "content_type"},
		{"a line break", func(e *Endpoint) { e.Settings.ContentType = "application/json\r\nX: y" }, "content_type"},
		{"a line break in a parameter", func(e *Endpoint) { e.Settings.ContentType = "application/json; a=\"b\r\nX: y\"" }, "content_type"},
		{"a form of another type", func(e *Endpoint) {
			e.Settings.ContentType, e.Settings.Shapes = "application/json", []Shape{{Format: Form}}
		}, "content_type"},
		{"a form with a charset", func(e *Endpoint) {
			e.Settings.ContentType, e.Settings.Shapes = "application/x-www-form-urlencoded; charset=utf-8", []Shape{{Format: Form}}
		}, ""},
		{"raw and a transformation", func(e *Endpoint) { e.Settings.Shapes = []Shape{{Format: Raw, Transform: "data"}} }, "transform"},
		{"no transformation", func(e *Endpoint) { e.Settings.Shapes = []Shape{{Format: Transformed}} }, "transform"},
		{"a text", func(e *Endpoint) { e.Settings.Shapes = []Shape{{Format: Transformed, Transform: "type"}} }, ""},
		{"a text for the data", func(e *Endpoint) { e.Settings.Shapes = []Shape{{Format: Data, Transform: "type"}} }, "transform"},
		{"a number", func(e *Endpoint) { e.Settings.Shapes = []Shape{{Format: Transformed, Transform: "created"}} }, "transform"},
		{"not ASCII", func(e *Endpoint) { e.Settings.ContentType = "application/json; a=\"é\"" }, "content_type"},
		{"long", func(e *Endpoint) { e.Settings.ContentType = "application/" + strings.Repeat("x", event.MaxContentType) }, "content_type"},
	} {
		e := &Endpoint{Space: space, Config: Config{URL: "https://a.example/hooks", Events: []string{"*"}}}
		tt.change(e)
		if err := e.Check(Rules{Brokers: func(string) bool { return true }}); (err == nil) != (tt.param == "") || err != nil && paramOf(err) != tt.param {
			t.Errorf("%s: %v, want a fault of %q", tt.name, err, tt.param)
		}
	}
}

// The content type of an endpoint replaces that of each format.
func TestEndpoint_Payload_contentType(t *testing.T) {
	const own = "application/json; charset=utf-8"
	for _, format := range []Format{Standard, Structured, Binary, Thin} {
		e := &Endpoint{}
		for _, want := range []string{"", own} {
			e.Settings.ContentType = want
			if err := e.SetShape("payload_format", Shape{Format: format}); err != nil {
				t.Fatal(err)
			}
			p, err := e.Payload(1, "evt_1", "a.b", []byte(`{"id":"evt_1","type":"a.b","created":1,"data":{"object":{}}}`))
			if want == "" && format == Structured {
				want = "application/cloudevents+json"
			}
			if err != nil || p.ContentType != want {
				t.Errorf("%s: %q %v, want %q", format, p.ContentType, err, want)
			}
		}
	}
}
