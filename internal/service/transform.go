package service

import (
	"slices"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

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
