package service

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	eraseSlice      = 100    // deliveries in one transaction, with all of their attempts
	eraseSpaceSlice = 50     // events in one transaction, with all of their deliveries
	erasures        = 10_000 // events and accounts that are read at a time: the files are overwritten once for all of them
)

// EraseEvent erases the payload of an event and the requests and responses stored with its
// attempts, and cancels its pending deliveries. An attempt under way is completed, and only its
// outcome and status are stored. The event keeps its id, type and times. An event that is
// already erased is not changed. If the call is interrupted after the payload was erased,
// [Service.RunErasures] completes it.
func (s *Service) EraseEvent(ctx context.Context, c *call.Call, id string) (*event.Event, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	now := s.Now()
	e, err := s.Store.EraseEvent(ctx, c.Space, id, now, func(e *event.Event) (store.Trail, error) {
		return s.Trail(c, e, now, account.EventErased, e.ID), nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.eraseAttempts(ctx, e.Key); err != nil {
		return nil, err
	}
	s.startErasing()
	return &e, nil
}

// DeleteAccount suspends an account and schedules its erasure after the grace period, during
// which [auth.Auth.UpdateAccount] can restore it with another status. Operators only.
func (s *Service) DeleteAccount(ctx context.Context, c *call.Call, id string) (account.Account, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a, err := s.Store.EditAccount(ctx, id, func(a *account.Account) (store.Trail, error) {
		if !a.EraseAt.IsZero() {
			return store.Trail{}, store.ErrUnchanged
		}
		if err := c.MustMatch(a.Revision); err != nil {
			return store.Trail{}, err
		}
		now := s.Now()
		a.Delete(now, now.Add(s.AccountGrace))
		return s.Trail(c, *a, now, account.AccountDeleted, a.ID, "erase_at", strconv.FormatInt(a.EraseAt.Unix(), 10)), nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	s.Auth.LearnAccount(a)
	if s.AccountGrace > 0 {
		return a, nil
	}
	return s.eraseAccount(ctx, a.ID)
}

// eraseAttempts erases the remaining data of an event whose payload was erased.
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

// RunErasures completes erasures until ctx ends: interrupted ones, and remains in the files of
// the store.
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

// FinishErasures starts to erase the accounts whose grace period has ended, and completes
// running erasures as far as possible.
func (s *Service) FinishErasures(ctx context.Context) error {
	if err := s.eraseDueAccounts(ctx); err != nil {
		return err
	}
	for {
		all, err := s.Store.Erasures(ctx, erasures)
		if err != nil {
			return err
		}
		var ended []store.Erasure
		for _, e := range all {
			done := true
			if e.Event == 0 {
				done, err = s.eraseSpace(ctx, e.Space)
			} else {
				err = s.eraseAttempts(ctx, e.Event)
			}
			if err != nil {
				return err
			}
			if done {
				ended = append(ended, e)
			}
		}
		if len(ended) == 0 {
			return nil
		}
		if err := s.Store.Overwrite(ctx); err != nil {
			return err
		}
		if err := s.Store.EndErasures(ctx, ended); err != nil {
			return err
		}
		s.Log.Info("erasures finished", "count", len(ended))
		if len(all) < erasures { // what began meanwhile has its own signal
			return nil
		}
	}
}

// eraseDueAccounts starts to erase the deleted accounts whose grace period has ended.
func (s *Service) eraseDueAccounts(ctx context.Context) error {
	now := s.Past()
	for _, a := range s.Auth.Accounts() {
		if !a.EraseAt.IsZero() && !a.EraseAt.After(now) {
			if _, err := s.eraseAccount(ctx, a.ID); err != nil && !errors.Is(err, store.ErrUnchanged) {
				return err
			}
		}
	}
	return nil
}

// eraseAccount starts to erase a deleted account: from then on it cannot be restored.
func (s *Service) eraseAccount(ctx context.Context, id string) (account.Account, error) {
	a, err := s.Store.EditAccount(ctx, id, func(a *account.Account) (store.Trail, error) {
		now := s.Now()
		if a.EraseAt.IsZero() || !a.Erased.IsZero() { // it was restored meanwhile
			return store.Trail{}, store.ErrUnchanged
		}
		a.Erase(now)
		return store.Trail{Audit: s.Entry(call.ByItself(0), now, account.AccountErased, a.ID)}, nil
	})
	if err != nil {
		return a, err
	}
	s.Auth.LearnAccount(a)
	s.startErasing()
	return a, nil
}

// eraseSpace erases the data of an erased account in a space, and reports whether none is left.
// Endpoints, types and keys are deleted first in the ordinary way, so that all nodes learn of it;
// rows are deleted when no node can be behind any more.
func (s *Service) eraseSpace(ctx context.Context, space event.Space) (done bool, err error) {
	before := s.Past().Add(-deletedGrace)
	if err := s.dropSettings(ctx, space); err != nil {
		return false, err
	}
	a, err := s.Store.Account(ctx, s.Auth.AccountID(space.Account()))
	if err != nil || a.Erased.After(before) {
		return false, err
	}
	for {
		more, stays, err := s.Store.EraseSpace(ctx, space, before, eraseSpaceSlice)
		if err != nil || !more {
			return !stays, err
		}
	}
}

// dropSettings deletes the endpoints and event types of a space and revokes its keys.
func (s *Service) dropSettings(ctx context.Context, space event.Space) error {
	c := call.ByItself(space)
	for {
		some, more, err := s.Store.ListEndpoints(ctx, space, store.Page[int64]{Limit: call.MaxPage})
		if err != nil {
			return err
		}
		for i := range some {
			if err := s.DeleteEndpoint(ctx, c, some[i].ID); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		if !more {
			break
		}
	}
	types, err := s.Store.ListTypes(ctx, space)
	if err != nil {
		return err
	}
	for i := range types {
		if err := s.DeleteType(ctx, c, types[i].Name); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.Auth.RevokeAll(ctx, space)
}

// startErasing wakes [Service.RunErasures].
func (s *Service) startErasing() {
	select {
	case s.erasing <- struct{}{}:
	default: // it is already awake
	}
}
