package httpapi

import (
	"strings"

	"github.com/posthaste-hq/posthaste/internal/service"
)

// previewView is the webhook_endpoint.preview object.
type previewView struct {
	Object         string            `json:"object"`
	Event          string            `json:"event"`
	EventType      string            `json:"event_type"`
	Matched        bool              `json:"matched"`
	FilterError    *string           `json:"filter_error"`
	TransformError *string           `json:"transform_error"`
	Body           *string           `json:"body"`
	Headers        map[string]string `json:"headers"` // headers that depend on the event and its format
}

func previewEndpoint(rq *request) (answer, error) {
	p := rq.params()
	in := service.PreviewParams{Filter: deref(p.text("filter")), Format: deref(p.text("payload_format")), Transform: deref(p.text("transform")), Event: p.given("event"), Type: p.given("type"), Events: deref(p.texts("enabled_events"))}
	return act(rq, p, shown(viewPreview), func() (*service.Preview, error) { return rq.service().PreviewEndpoint(rq.Context(), rq.call, in) })
}

func viewPreview(preview *service.Preview) previewView {
	v := previewView{Object: "webhook_endpoint.preview", Event: preview.Event.ID, EventType: preview.Event.Type, Matched: preview.Matched,
		FilterError: orNull(preview.FilterFailure), TransformError: orNull(preview.Failure), Headers: map[string]string{}}
	if preview.Matched && preview.Failure == "" {
		body := text(preview.Payload.Body)
		v.Body = &body
		custom, _ := preview.Event.Headers.Values() // the service encoded them
		for name, value := range custom {
			v.Headers[strings.ToLower(name)] = value
		}
		v.Headers["content-type"] = preview.Payload.MediaType()
		for name, values := range preview.Payload.Attributes {
			v.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return v
}
