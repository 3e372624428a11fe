package service

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	eraseSlice = 100 // deliveries in one transaction, with all of their attempts
	erasures   = 100 // that are read at a time
)

// erased is the error for what needs the payload of an erased event.
func erased(e *event.Event, param string) error {
	return fault.Param(param, "event_erased", "The payload of the event %s was erased.", e.ID)
}

// EraseEvent erases the payload of an event, and what its attempts kept of requests and
// responses, and cancels its pending deliveries. An attempt under way ends by itself; of what
// comes of it, only outcome and status are stored. The event stays with its id, type and times.
// An event that is erased already stays as it is. When the call is interrupted after the payload
// is gone, [Service.RunErasures] does the rest.
func (s *Service) EraseEvent(ctx context.Context, c *Call, id string) (*event.Event, error) {
	end, err := s.edit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	now := s.Now()
	e, err := s.Store.EraseEvent(ctx, c.Space, id, now, func(e *event.Event) (store.Trail, error) {
		return s.trail(c, e, now, account.EventErased, e.ID), nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.eraseAttempts(ctx, e.Key); err != nil {
		return nil, err
	}
	select {
	case s.erasing <- struct{}{}:
	default: // it will look anyway
	}
	return &e, nil
}

// eraseAttempts erases what is left of an event whose payload is gone.
func (s *Service) eraseAttempts(ctx context.Context, key event.Key) error {
	for after := int64(0); ; {
		canceled, next, err := s.Store.EraseAttempts(ctx, key, after, s.Now(), eraseSlice)
		if err != nil {
			return err
		}
		for _, endpoint := range canceled {
			s.engine.Recall(endpoint)
		}
		if after = next; next == 0 {
			return nil
		}
	}
}

// RunErasures finishes erasures until ctx ends: those that were interrupted, and what they have
// left in the files of the store.
func (s *Service) RunErasures(ctx context.Context) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		if s.owns(0) {
			if err := s.FinishErasures(ctx); err != nil && ctx.Err() == nil {
				s.Log.Error("finish erasures", "err", err)
			}
		}
		select {
		case <-s.erasing:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// FinishErasures finishes the erasures that have begun.
func (s *Service) FinishErasures(ctx context.Context) error {
	for {
		all, err := s.Store.Erasures(ctx, erasures)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, e := range all {
			if err := s.eraseAttempts(ctx, e.Event); err != nil {
				return err
			}
		}
		if err := s.Store.Overwrite(ctx); err != nil {
			return err
		}
		if err := s.Store.EndErasures(ctx, all); err != nil {
			return err
		}
		s.Log.Info("erasures finished", "events", len(all))
	}
}
