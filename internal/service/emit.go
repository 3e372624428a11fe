package service

import (
	"context"
	"errors"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Emission is an event to be made.
type Emission struct {
	Type string
	Data []byte // the value of "data", JSON
}

// Emit accepts events in the transaction of a change that the caller makes: write
// gets what goes with it, and the receipt of result; it is called again when another node
// has changed the account's settings meanwhile. Nothing is written when it returns an error. Errors: fault.Invalid, those of idempotency, and write's.
func (s *Service) Emit(ctx context.Context, c *Call, result any, emit []Emission, write func(store.Trail) error) error {
	end, err := s.edit(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	var trail store.Trail
	if err := s.afresh(ctx, c, func() error {
		now := s.Now()
		trail = store.Trail{Receipt: s.receipt(c, result, now)}
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

// emission makes what is to be stored of an event that goes with a change.
func (s *Service) emission(c *Call, m Emission, now time.Time) (*store.Append, error) {
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
	a := appendOf(e, s.wanting(&e), version)
	return &a, nil
}

// wake starts what was written in the transaction of a change.
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

// answer returns the result of a call that changes nothing. Under an idempotency key it is
// the same for as long as the key lives, like that of any other call.
func answer[T any](ctx context.Context, s *Service, c *Call, find func() (T, error)) (result T, err error) {
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return result, err
	}
	defer end()
	if result, err = find(); err != nil || c.Idem == nil {
		return result, err
	}
	return result, s.Store.Audit(ctx, nil, s.receipt(c, result, s.Now()))
}

// Answered returns [Replayed] when the call was answered before, and
// fault.IdempotencyMismatch when another was under its key. It is for checks that
// must not be made again.
func (s *Service) Answered(ctx context.Context, c *Call) error {
	if c.Idem == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	earlier, err := s.Store.Receipt(ctx, c.Space, c.Idem.Key)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !earlier.Live(s.past()):
		return nil
	case err == nil:
		return s.replay(ctx, c, &earlier)
	}
	return err
}

// OrAnswered returns the error of a call, or [Replayed] when another node has answered the
// call's request since it began: what that stored is why the call failed.
func (s *Service) OrAnswered(ctx context.Context, c *Call, err error) error {
	if err == nil || errors.As(err, new(*Replayed)) {
		return err
	}
	if earlier := s.Answered(ctx, c); errors.As(earlier, new(*Replayed)) {
		return earlier
	}
	return err
}
