package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// viewEvent writes the event object around the stored bytes of its data.
func viewEvent(e *event.Event) jsontext.Value { return viewEventWith(e, "", 0) }

// viewEventWith is viewEvent with one more field, unless its name is empty.
func viewEventWith[V any](e *event.Event, name string, value V) jsontext.Value {
	b := make([]byte, 0, len(e.Body)+len(e.Headers)+80)
	b = append(b, `{"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","object":"event","type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, e.Created, 10)
	b = append(b, `,"livemode":`...)
	b = strconv.AppendBool(b, e.Space.Live())
	b = append(b, `,"data":`...)
	if e.HasPayload() {
		b = append(b, e.Data()...)
	} else {
		b = append(b, `null,"erased":`...)
		b = strconv.AppendInt(b, e.Erased.Unix(), 10)
	}
	if len(e.Headers) > 0 {
		b = append(append(b, `,"headers":`...), e.Headers...)
	}
	if len(e.Warnings) > 0 {
		if list, err := encode(viewWarnings(e)); err == nil {
			b = append(append(b, `,"warnings":`...), list...)
		}
	}
	if name != "" {
		if more, err := encode(value); err == nil {
			b = append(append(append(append(b, `,"`...), name...), `":`...), more...)
		}
	}
	return append(b, '}')
}

// warningView is a problem with an event that was accepted nevertheless.
type warningView struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param"`
}

func viewWarnings(e *event.Event) (out []warningView) {
	for _, w := range e.Warnings {
		out = append(out, warningView{string(w.Reason), clip(w.Message, maxMessage), clip(w.Param, maxParam)})
	}
	return out
}

func eventAnswer(e *event.Event) (answer, error) { return answer{body: viewEvent(e)}, nil }

func sendEvent(rq *request) (answer, error) {
	raw, err := rq.eventJSON()
	if err != nil {
		return answer{}, err
	}
	return rq.send(raw)
}

// sendRaw accepts the delivered bytes as its body, and the other parameters as headers.
func sendRaw(rq *request) (answer, error) {
	in := struct {
		Type        string `json:"type"`
		ID          string `json:"id,omitzero"`
		Created     *int64 `json:"created,omitzero"`
		ContentType string `json:"content_type,omitzero"`
		Raw         []byte `json:"raw"` // as base64

		Headers map[string]string `json:"headers,omitzero"`
	}{Type: rq.Header.Get("Event-Type"), ID: rq.Header.Get("Event-Id"), ContentType: rq.Header.Get("Content-Type"), Raw: rq.body}
	for name, values := range rq.Header {
		if name, ok := strings.CutPrefix(name, "Event-Header-"); ok {
			if in.Headers == nil {
				in.Headers = map[string]string{}
			}
			in.Headers[name] = strings.Join(values, ", ")
		}
	}
	if created := rq.Header.Get("Event-Created"); created != "" {
		seconds, err := strconv.ParseInt(created, 10, 64)
		if err != nil {
			seconds = 0 // this is refused
		}
		in.Created = &seconds
	}
	if err := rq.intake.Charge(2 * len(rq.body)); err != nil { // for the base64
		return answer{}, err
	}
	leave := rq.service().Turn(rq.call, len(rq.body))
	raw, err := json.Marshal(in, json.Deterministic(true))
	leave()
	if err != nil {
		return answer{}, &fault.Error{Code: fault.Invalid, Reason: "parameter_invalid", Message: "The headers of an event must be UTF-8.", Err: err}
	}
	rq.body = raw // so that an idempotency key covers the headers too
	sent, err := rq.send(raw)
	return sent, inHeaders(err)
}

// inHeaders names the header of a parameter that was sent in one.
func inHeaders(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	header, ok := map[string]string{"type": "Event-Type", "id": "Event-Id", "created": "Event-Created", "content_type": "Content-Type"}[f.Param]
	if !ok {
		return err
	}
	named := *f
	named.Param = header
	return &named
}

// send accepts an event as JSON.
func (rq *request) send(raw []byte) (answer, error) {
	if err := repeatable(rq, eventAnswer, false); err != nil {
		return answer{}, err
	}
	e, err := rq.service().SendEvent(rq.Context(), rq.call, raw)
	if err != nil {
		return answer{}, err
	}
	return eventAnswer(e)
}

// sentView is the result of one event of a batch.
type sentView struct {
	Status int        `json:"status"`
	ID     string     `json:"id,omitzero"`
	Error  *errorView `json:"error,omitzero"`
	// Warnings is for an event that was accepted.
	Warnings []warningView `json:"warnings,omitzero"`
}

// batchView is the response to a batch, in its order.
type batchView struct {
	Object   string           `json:"object"`
	Accepted int              `json:"accepted"`
	Refused  int              `json:"refused"`
	Data     []jsontext.Value `json:"data"`
}

// viewSent is the result of an event in a batch, and its receipt.
func viewSent(e *event.Event) sentView {
	return sentView{Status: http.StatusOK, ID: e.ID, Warnings: viewWarnings(e)}
}

func sendEvents(rq *request) (answer, error) {
	leave := rq.service().Turn(rq.call, len(rq.body))
	raws, err := rq.batch()
	leave()
	if err != nil {
		return answer{}, err
	}
	if len(raws) > 1 { // the request itself was already counted
		limit, err := rq.service().Auth.Admit(rq.Context(), rq.call, len(raws)-1)
		showLimit(rq.header, limit)
		if err != nil {
			return answer{}, err
		}
	}
	if err := repeatable(rq, shown(viewSent), false); err != nil {
		return answer{}, err
	}
	sent, err := rq.service().SendEvents(rq.Context(), rq.call, raws)
	if err != nil {
		return answer{}, err
	}
	out := batchView{Object: "event_batch", Data: make([]jsontext.Value, len(sent))}
	unavailable, replayed := 0, 0
	for i := range sent {
		switch s := &sent[i]; {
		case s.Err != nil:
			out.Refused++
			if fault.Is(s.Err, fault.Unavailable) {
				unavailable++
			}
			status, view := viewError(s.Err)
			out.Data[i], err = encode(sentView{Status: status, Error: &view})
		case s.Replayed != nil:
			out.Accepted++
			replayed++
			out.Data[i] = s.Replayed.Body
		default:
			out.Accepted++
			out.Data[i], err = encode(viewSent(s.Event))
		}
		if err != nil {
			return answer{}, err
		}
	}
	switch {
	case unavailable == len(sent): // an error that applies to all is the response
		return answer{}, sent[0].Err
	case replayed == len(sent):
		rq.header.Set("Idempotent-Replayed", "true")
	}
	return inJSON(out)
}

// batch returns the events of a body {"events":[…]}, each as written.
func (rq *request) batch() ([][]byte, error) {
	if isForm, err := rq.bodyIsForm(); err != nil {
		return nil, err
	} else if isForm {
		return nil, &fault.Error{Code: fault.Invalid, Reason: "content_type_unsupported", Param: "Content-Type", Message: "Send a batch as application/json."}
	}
	// An error within an event concerns that event only.
	dec := jsontext.NewDecoder(bytes.NewReader(rq.body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var raws [][]byte
	open, err := dec.ReadToken()
	if err != nil || open.Kind() != '{' {
		return nil, rq.notBatch(err)
	}
	for seen := false; dec.PeekKind() != '}'; seen = true {
		name, err := dec.ReadToken()
		switch {
		case err != nil:
			return nil, rq.notBatch(err)
		case name.String() != "events":
			return nil, fault.Param(name.String(), "parameter_unknown", `A batch must be {"events":[…]} without other parameters.`)
		case seen:
			return nil, fault.Param("events", "duplicate_key", "Duplicate parameter.")
		}
		if raws, err = rq.items(dec); err != nil {
			return nil, err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, rq.notBatch(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, rq.notBatch(err)
	}
	if len(raws) == 0 {
		return nil, badEvents()
	}
	return raws, nil
}

// items reads a list and returns the part of the body of each of its values.
func (rq *request) items(dec *jsontext.Decoder) (raws [][]byte, err error) {
	if dec.PeekKind() != '[' {
		return nil, badEvents()
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, rq.notBatch(err)
	}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, rq.notBatch(err)
		}
		if len(raws) == service.MaxEvents {
			return nil, fault.Param("events", "parameter_invalid", "A batch can have at most %d events. Send the rest in another batch.", service.MaxEvents)
		}
		end := dec.InputOffset()
		raws = append(raws, rq.body[end-int64(len(value)):end])
	}
	_, err = dec.ReadToken()
	if err != nil {
		err = rq.notBatch(err)
	}
	return raws, err
}

func badEvents() error {
	return fault.Param("events", "parameter_invalid", `Send a list of 1 to %d events: {"events":[{"type":"payment.succeeded","data":{"object":{…}}}]}.`, service.MaxEvents)
}

// notBatch returns the fault for a body that is not a batch; err is nil if it is JSON.
func (rq *request) notBatch(err error) error {
	if err != nil && !(errors.Is(err, io.EOF) && len(bytes.TrimSpace(rq.body)) == 0) {
		return malformed(rq.body, err)
	}
	return &fault.Error{Code: fault.Invalid, Reason: "json_invalid", Message: `The request body must be a JSON object such as {"events":[…]}.`, Err: err}
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

// lists converts a form's maps with the keys 0, 1, 2 and so on to lists, at all levels below
// the first.
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

func getEvent(rq *request) (answer, error) {
	return one(rq, rq.service().Event, func(e *event.Event) (answer, error) {
		unwritten, err := rq.service().Unwritten(rq.Context(), e)
		if err != nil || unwritten == 0 {
			return answer{body: viewEvent(e)}, err
		}
		return answer{body: viewEventWith(e, "deliveries_to_create", unwritten)}, nil
	})
}

func eraseEvent(rq *request) (answer, error) {
	return actOnIt(rq, eventAnswer, rq.service().EraseEvent)
}

func eraseEvents(rq *request) (answer, error) {
	p := rq.params()
	k := p.searchKey()
	return act(rq, p, jobAnswer, func() (job.Job, error) { return rq.service().EraseEvents(rq.Context(), rq.call, k) })
}

func listEvents(rq *request) (answer, error) {
	p := rq.query()
	f := service.EventFilter{Type: p.given("type"), Types: deref(p.texts("types")), Delivered: p.boolean("delivery_success"), Status: p.given("status"), Text: p.given("text"), Key: p.searchKey()}
	f.From, f.Until = p.created()
	return pageTo(rq, p, viewEvent, func(ctx context.Context, c *call.Call, page call.Page) ([]event.Event, string, error) {
		return rq.service().ListEvents(ctx, c, f, page)
	})
}

func listEventDeliveries(rq *request) (answer, error) {
	return pageTo(rq, rq.query(), viewDelivery, func(ctx context.Context, c *call.Call, page call.Page) ([]delivery.View, string, error) {
		if _, err := rq.service().Event(ctx, c, rq.id()); err != nil {
			return nil, "", err
		}
		return rq.service().ListDeliveries(ctx, c, service.DeliveryFilter{Event: rq.id()}, page)
	})
}

func resendEvent(rq *request) (answer, error) {
	wait, err := rq.wait()
	if err != nil {
		return answer{}, err
	}
	p := rq.params()
	to := p.given("endpoint")
	sent := func(views []delivery.View) (answer, error) { return list(rq, views, false, viewDelivery) }
	awaited := func(views []delivery.View) (answer, error) {
		if wait == 0 {
			return sent(views)
		}
		all, err := rq.service().AwaitAttempts(rq.Context(), rq.call, views, wait)
		if err != nil {
			return answer{}, err
		}
		return list(rq, all, false, viewAttempted)
	}
	return perform(rq, p, awaited, sent, false, func() ([]delivery.View, error) {
		return rq.service().Resend(rq.Context(), rq.call, rq.id(), to)
	})
}

// retryEvent is resendEvent in the form of Stripe's API: with another parameter, and the event
// as response.
func retryEvent(rq *request) (answer, error) {
	p := rq.params()
	to, listeners := p.given("webhook_endpoint"), deref(p.boolean("for_stripecli"))
	if err := p.done(); err != nil {
		return answer{}, err
	}
	e, err := rq.service().Event(rq.Context(), rq.call, rq.id())
	if err != nil {
		return answer{}, err
	}
	resend := rq.service().Resend
	if listeners && to == "" {
		resend = rq.service().ResendToListeners
	}
	resent := func([]delivery.View) (answer, error) { return eventAnswer(e) }
	return act(rq, p, resent, func() ([]delivery.View, error) { return resend(rq.Context(), rq.call, rq.id(), to) })
}
