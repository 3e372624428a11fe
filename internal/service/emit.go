package service

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Emission is an event to be created as part of a change.
type Emission struct {
	Type string
	Data []byte // the value of "data", JSON
}

// Emit accepts events in the transaction of a change: write receives the events and the receipt of result, and is
// called again if another node has changed the account's settings meanwhile. If it returns an error, nothing is
// written. Errors: fault.Invalid, those of idempotency, and write's.
func (s *Service) Emit(ctx context.Context, c *call.Call, result any, emit []Emission, write func(store.Trail) error) error {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	var trail store.Trail
	if err := s.afresh(ctx, c, func() error {
		now := s.Now()
		trail = store.Trail{Receipt: s.Receipt(c, result, now)}
		for _, m := range emit {
			a, err := s.emission(c, m, now)
			if err != nil {
				return err
			}
			trail.Announce = append(trail.Announce, a)
		}
		return write(trail)
	}); err != nil {
		return err
	}
	s.wake(trail.Announce)
	return nil
}

// emission returns an event of a change as it is to be stored.
func (s *Service) emission(c *call.Call, m Emission, now time.Time) (*store.Append, error) {
	version := s.SettingsVersion()
	data, err := event.AppendStable(nil, m.Data, "data")
	if err != nil {
		return nil, err
	}
	e := s.newEvent(c.Space, event.Input{Type: m.Type, Created: now.Unix(), HasCreated: true, Data: data})
	if len(e.Body) > s.MaxBody {
		return nil, fault.Param("data", "payload_too_large", "The body to deliver would be %d bytes; the limit is %d.", len(e.Body), s.MaxBody)
	}
	if err := s.validate(&e); err != nil {
		return nil, err
	}
	a := s.appendOf(e, s.wanting(&e), version)
	return &a, nil
}

// wake starts the deliveries of events that were written in the transaction of a change.
func (s *Service) wake(all []*store.Append) {
	for _, a := range all {
		s.tally.Event(a)
		if a.Deferred {
			s.Events.FanOut(a.Event.Space)
			continue
		}
		for i := range a.Deliveries {
			s.engine.Wake(a.Deliveries[i].ID.Endpoint)
		}
	}
}
