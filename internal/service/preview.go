package service

import (
	"context"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// PreviewParams are an endpoint's filter, transformation and format, to try on a stored event
// or on the sample of a type.
type PreviewParams struct {
	Filter, Format, Transform string
	Event, Type               string   // one of them
	Events                    []string // the subscription; empty: ignored
}

// Preview is the delivery that an endpoint would receive for an event.
type Preview struct {
	Event         *event.Event
	Matched       bool             // it would be sent
	Unsubscribed  bool             // it would not be sent, because the subscription lacks its type
	FilterFailure string           // why the filter could not be evaluated; empty if it could
	Failure       string           // why the transformation failed, so that nothing would be sent
	Payload       endpoint.Payload // if the event matched and the transformation succeeded
}

// Shown returns the event whose payload the preview shows.
func (p *Preview) Shown() *event.Event { return p.Event }

// PreviewEndpoint returns the delivery that an endpoint would receive for an event. Nothing is
// stored or sent. Errors: fault.Invalid, also if an endpoint with these parameters would be
// refused.
func (s *Service) PreviewEndpoint(ctx context.Context, c *call.Call, p PreviewParams) (*Preview, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	return call.Answer(ctx, s.Calls, c, func() (*Preview, error) { return s.preview(ctx, c, p) })
}

func (s *Service) preview(ctx context.Context, c *call.Call, p PreviewParams) (*Preview, error) {
	leave, err := s.compiling(c, len(p.Filter)+len(p.Transform))
	if err != nil {
		return nil, err
	}
	defer leave()
	w := &endpoint.Endpoint{Space: c.Space, Config: endpoint.Config{Settings: endpoint.Settings{Filter: p.Filter}}}
	if err := s.apply(c, endpoint.Params{"payload_format": p.Format, "transform": p.Transform}, w, s.Now()); err != nil {
		return nil, err
	}
	if err := w.CheckPayload(); err != nil {
		return nil, err
	}
	e, err := s.previewed(ctx, c, p)
	if err != nil {
		return nil, err
	}
	out := &Preview{Event: e}
	if len(p.Events) > 0 && !endpoint.Subscribes(p.Events, e.Type) {
		out.Unsubscribed = true
		return out, nil
	}
	in := endpoint.InputOf(e)
	defer func() {
		s.compiler.Charge(c.Owner().Account, s.Auth.LimitOn(c, quota.ProcessorTime), in.Cost()+out.Payload.Cost)
	}()
	out.Matched, err = w.Accepts(in)
	if err != nil {
		out.FilterFailure = err.Error()
	}
	if out.Matched {
		if out.Payload, err = w.Payload(e.Key, e.ID, e.Type, e.Body); err != nil {
			out.Failure = err.Error()
		}
	}
	return out, nil
}

func (s *Service) previewed(ctx context.Context, c *call.Call, p PreviewParams) (*event.Event, error) {
	switch {
	case p.Event != "" && p.Type != "":
		return nil, fault.Param("type", "parameter_invalid", "Use event or type, not both.")
	case p.Event != "":
		e, err := s.Store.Event(ctx, c.Space, p.Event)
		if err == nil && !e.HasPayload() {
			err = call.Erased(&e, "event")
		}
		return &e, call.CursorFault(err, "event", p.Event)
	case !event.ValidType(p.Type):
		return nil, fault.Param("type", "event_type_invalid", `Set type, such as "payment.succeeded", or event.`)
	}
	e := s.sampleEvent(c.Space, p.Type)
	return &e, nil
}

// checkTransform refuses a transformation that fails for the sample of a type in the endpoint's
// event types: it would fail for its events too.
func (s *Service) checkTransform(e *endpoint.Endpoint) error {
	if e.Transform() == "" {
		return nil
	}
	w := &endpoint.Endpoint{Space: e.Space}
	if err := w.SetShape("transform", endpoint.Shape{Format: e.Format(), Transform: e.Transform()}); err != nil {
		return err
	}
	for _, typ := range e.Events {
		known := slices.ContainsFunc(event.Catalogue(), func(t event.TypeInfo) bool { return t.Name == typ })
		if !known && s.types.Get(e.Space, typ).Sample() == nil {
			continue
		}
		sample := s.sampleEvent(e.Space, typ)
		if _, err := w.Payload(sample.Key, sample.ID, typ, sample.Body); err != nil {
			return fault.Param("transform", "expression_invalid", "The transformation fails for the sample of %s: %s.", typ, err)
		}
	}
	return nil
}

// sampleEvent returns the sample of a type as an event, which is not stored.
func (s *Service) sampleEvent(space event.Space, typ string) event.Event {
	now := s.Now().Unix()
	return s.newEvent(space, event.Input{Type: typ, Created: now, HasCreated: true, Data: s.sample(space, typ, now)})
}
