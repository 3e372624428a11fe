package httpapi

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// endpointView is the webhook_endpoint object. Its first eight fields are the
// documented ones, in their order; secret is there on creation only.
type endpointView struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	URL            string            `json:"url"`
	EnabledEvents  []string          `json:"enabled_events"`
	Status         endpoint.Status   `json:"status"`
	Description    *string           `json:"description"`
	Secret         string            `json:"secret,omitzero"`
	Created        int64             `json:"created"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Ordering       endpoint.Ordering `json:"ordering"`
	Timeout        *int              `json:"timeout"`
	MaxConcurrency *int              `json:"max_concurrency"`
	RateLimit      *float64          `json:"rate_limit"`
	RetrySchedule  *[]int            `json:"retry_schedule"`
	DisabledReason *string           `json:"disabled_reason"`
	Updated        int64             `json:"updated"`
}

func viewEndpoint(e *endpoint.Endpoint) endpointView {
	v := endpointView{
		ID: e.ID, Object: "webhook_endpoint", URL: e.URL, EnabledEvents: e.Events, Status: e.Status, Description: orNull(e.Description),
		Created: e.Created.Unix(), Livemode: e.Live(), Metadata: e.Metadata, Ordering: e.Settings.Ordering,
		Timeout: orNull(int(e.Settings.Timeout / time.Second)), MaxConcurrency: orNull(e.Settings.Concurrency),
		RateLimit: orNull(e.Settings.Rate), DisabledReason: orNull(e.DisabledReason), Updated: e.Updated.Unix(),
	}
	if v.Ordering == "" {
		v.Ordering = endpoint.Unordered
	}
	if e.Settings.Schedule != nil {
		delays := make([]int, len(e.Settings.Schedule))
		for i, d := range e.Settings.Schedule {
			delays[i] = int(d / time.Second)
		}
		v.RetrySchedule = &delays
	}
	return v
}

// viewNewEndpoint shows the secret, this once.
func viewNewEndpoint(e *endpoint.Endpoint) endpointView {
	v := viewEndpoint(e)
	v.Secret = e.Secrets[len(e.Secrets)-1].Value
	return v
}

// endpointParams reads what a request says of an endpoint.
func endpointParams(p *params) (service.EndpointParams, error) {
	out := service.EndpointParams{
		URL: p.text("url"), Events: p.texts("enabled_events"), Description: p.text("description"), Metadata: p.textMap("metadata"),
		Disabled: p.truth("disabled"), Ordering: p.text("ordering"), Timeout: p.seconds("timeout"),
		Concurrency: p.integer("max_concurrency"), Rate: p.number("rate_limit"), Schedule: p.durations("retry_schedule"),
	}
	if status := p.text("status"); status != nil {
		off := *status == string(endpoint.Disabled)
		if !off && *status != string(endpoint.Enabled) {
			p.fail("status", "The status is enabled or disabled.")
		}
		if out.Disabled != nil && *out.Disabled != off {
			p.fail("disabled", "The parameters status and disabled contradict each other.")
		}
		out.Disabled = &off
	}
	return out, p.done()
}

func createEndpoint(rq *request) (any, error) {
	in, err := endpointParams(rq.params())
	if err != nil {
		return nil, err
	}
	view := func(v any) any { return viewNewEndpoint(v.(*endpoint.Endpoint)) }
	if err := rq.repeatable(view); err != nil {
		return nil, err
	}
	e, err := rq.service().CreateEndpoint(rq.Context(), rq.call, in)
	if err != nil {
		return nil, err
	}
	return view(e), nil
}

func updateEndpoint(rq *request) (any, error) {
	in, err := endpointParams(rq.params())
	if err != nil {
		return nil, err
	}
	return changeEndpoint(rq, in)
}

func changeEndpoint(rq *request, in service.EndpointParams) (any, error) {
	view := func(v any) any { return viewEndpoint(v.(*endpoint.Endpoint)) }
	if err := rq.repeatable(view); err != nil {
		return nil, err
	}
	e, err := rq.service().UpdateEndpoint(rq.Context(), rq.call, rq.id(), in)
	if err != nil {
		return nil, err
	}
	return view(e), nil
}

func enableEndpoint(rq *request) (any, error)  { return switchEndpoint(rq, false) }
func disableEndpoint(rq *request) (any, error) { return switchEndpoint(rq, true) }

func switchEndpoint(rq *request, disabled bool) (any, error) {
	if err := rq.params().done(); err != nil {
		return nil, err
	}
	return changeEndpoint(rq, service.EndpointParams{Disabled: &disabled})
}

func getEndpoint(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	e, err := rq.service().Endpoint(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return viewEndpoint(e), nil
}

func listEndpoints(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListEndpoints(rq.Context(), rq.call, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, viewEndpoint), nil
}

type deletedView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Deleted bool   `json:"deleted"`
}

func deleteEndpoint(rq *request) (any, error) {
	if err := rq.service().DeleteEndpoint(rq.Context(), rq.call, rq.id()); err != nil {
		return nil, err
	}
	return deletedView{rq.id(), "webhook_endpoint", true}, nil
}

func testEndpoint(rq *request) (any, error) {
	p := rq.params()
	typ := p.given("type")
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := rq.repeatable(eventResult); err != nil {
		return nil, err
	}
	e, err := rq.service().SendTest(rq.Context(), rq.call, rq.id(), typ)
	if err != nil {
		return nil, err
	}
	return eventResult(e), nil
}
