package httpapi

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// viewEvent writes the event object around the stored bytes of its data.
func viewEvent(e *event.Event) rawJSON {
	b := make([]byte, 0, len(e.Body)+64)
	b = append(b, `{"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","object":"event","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, e.Created, 10)
	b = append(b, `,"livemode":`...)
	b = strconv.AppendBool(b, e.Space.Live())
	b = append(b, `,"data":`...)
	b = append(b, e.Data()...)
	return append(b, '}')
}

func eventResult(v any) any { return viewEvent(v.(*event.Event)) }

func sendEvent(rq *request) (any, error) {
	raw, err := rq.eventJSON()
	if err != nil {
		return nil, err
	}
	if err := rq.repeatable(eventResult); err != nil {
		return nil, err
	}
	e, err := rq.service().SendEvent(rq.Context(), rq.call, raw)
	if err != nil {
		return nil, err
	}
	return viewEvent(e), nil
}

// eventJSON returns the body as JSON; a form becomes an object of strings.
func (rq *request) eventJSON() ([]byte, error) {
	isForm, err := rq.bodyIsForm()
	if err != nil || !isForm {
		return rq.body, err
	}
	p := formParams(string(rq.body))
	if p.err != nil {
		return nil, p.err
	}
	tree := lists(p.values).(map[string]any)
	if created := p.integer("created"); created != nil {
		tree["created"] = *created
	}
	if p.err != nil {
		return nil, p.err
	}
	return json.Marshal(tree, json.Deterministic(true))
}

// lists turns a form's maps with the keys 0, 1, 2 and so on into lists, at all
// levels below the first.
func lists(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		v = lists(v)
		if l, ok := listOf(v); ok && len(l) > 0 {
			v = l
		}
		out[k] = v
	}
	return out
}

func getEvent(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	e, err := rq.service().Event(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return viewEvent(e), nil
}

func listEvents(rq *request) (any, error) {
	p := rq.query()
	page, f := p.page(), service.EventFilter{Type: p.given("type")}
	f.From, f.Until = p.created()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListEvents(rq.Context(), rq.call, f, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, func(e *event.Event) jsontext.Value { return jsontext.Value(viewEvent(e)) }), nil
}

func listEventDeliveries(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	if _, err := rq.service().Event(rq.Context(), rq.call, rq.id()); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListDeliveries(rq.Context(), rq.call, service.DeliveryFilter{Event: rq.id()}, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, viewDelivery), nil
}

func resendEvent(rq *request) (any, error) {
	p := rq.params()
	to := p.given("endpoint")
	if err := p.done(); err != nil {
		return nil, err
	}
	view := func(v any) any { return list(rq, v.([]store.DeliveryView), false, viewDelivery) }
	if err := rq.repeatable(view); err != nil {
		return nil, err
	}
	views, err := rq.service().Resend(rq.Context(), rq.call, rq.id(), to)
	if err != nil {
		return nil, err
	}
	return view(views), nil
}

// retryEvent is resendEvent in Stripe's words: another parameter, and the event in
// return.
func retryEvent(rq *request) (any, error) {
	p := rq.params()
	to, listeners := p.given("webhook_endpoint"), deref(p.truth("for_stripecli"))
	if err := p.done(); err != nil {
		return nil, err
	}
	e, err := rq.service().Event(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	view := func(any) any { return viewEvent(e) }
	if err := rq.repeatable(view); err != nil {
		return nil, err
	}
	resend := rq.service().Resend
	if listeners && to == "" {
		resend = rq.service().ResendToListeners
	}
	if _, err := resend(rq.Context(), rq.call, rq.id(), to); err != nil {
		return nil, err
	}
	return viewEvent(e), nil
}
