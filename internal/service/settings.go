package service

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Settings reads the settings that several nodes share: accounts, API keys, event types and
// endpoints. A node keeps them in memory.
type Settings interface {
	Version(ctx context.Context) (int64, error)
	Changes(ctx context.Context, version int64) (store.Changes, error)
}

const (
	// lookFor bounds one query for the changes of other nodes.
	lookFor = 5 * time.Second
	// staleTries bounds how often an event is matched again. A further try is needed only if the
	// account's settings were changed within the milliseconds between the match and the
	// transaction.
	staleTries = 50
)

// catchUp reads the changes of other nodes: one query at a time, for all waiting calls.
type catchUp struct {
	version atomic.Int64 // memory contains all changes up to it

	mu      sync.Mutex
	next    *look // not started yet
	looking bool
}

// look is one query for the changes of other nodes.
type look struct {
	done chan struct{}
	err  error // once done is closed
}

// CatchUp returns when this node's memory contains every change of the settings that was
// committed on any node before the call. Without other nodes it does nothing. Errors:
// fault.Unavailable, and ctx's.
func (s *Service) CatchUp(ctx context.Context) error {
	if s.Settings == nil {
		return nil
	}
	c := &s.catchUp
	c.mu.Lock()
	if c.next == nil {
		c.next = &look{done: make(chan struct{})}
	}
	mine := c.next
	if !c.looking {
		c.looking = true
		go s.look()
	}
	c.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look runs queries for all waiting calls, until none waits.
func (s *Service) look() {
	c := &s.catchUp
	for {
		c.mu.Lock()
		l := c.next
		c.next, c.looking = nil, l != nil
		c.mu.Unlock()
		if l == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), lookFor)
		l.err = s.refresh(ctx)
		cancel()
		close(l.done)
	}
}

// Reach returns when this node's memory contains the settings of a version, or later ones.
func (s *Service) Reach(ctx context.Context, version int64) error {
	if s.Settings == nil || s.catchUp.version.Load() >= version {
		return nil
	}
	return s.CatchUp(ctx)
}

// SettingsVersion returns the version of the settings up to which this node's memory is
// complete; 0 without other nodes.
func (s *Service) SettingsVersion() int64 { return s.catchUp.version.Load() }

// refresh applies the changes of other nodes. Only look calls it.
func (s *Service) refresh(ctx context.Context) error {
	version := s.catchUp.version.Load()
	c, err := s.Settings.Changes(ctx, version)
	if err != nil || c.Version == version {
		return err
	}
	for _, a := range c.Accounts {
		s.Auth.LearnAccount(a)
	}
	for _, k := range c.Keys {
		s.Auth.LearnKey(k)
	}
	for i := range c.Types {
		s.types.Put(&c.Types[i])
	}
	for _, no := range c.DeletedTypes {
		s.types.Remove(no)
	}
	for i := range c.Endpoints {
		e := c.Endpoints[i] // a copy, so that one endpoint does not keep all of them
		old := s.Endpoints.Get(e.No)
		switch {
		case !s.publish(&e):
		case old != nil && e.EnabledSince.After(old.EnabledSince):
			s.engine.Forgive(e.No)
		default:
			s.engine.Wake(e.No)
		}
	}
	for _, no := range c.Deleted {
		known := s.Endpoints.Get(no) != nil
		s.Endpoints.Remove(no)
		if known {
			s.filters.forget(no)
			s.engine.Wake(no)
		}
	}
	s.catchUp.version.Store(c.Version)
	return nil
}

// Recheck checks again whether a call is allowed, by the latest settings on all nodes: its key
// may have been revoked, its account suspended, or the account's limit changed since it began.
// Without other nodes it does nothing. Errors: fault.Unauthenticated, fault.Forbidden,
// fault.RateLimited, and CatchUp's.
func (s *Service) Recheck(ctx context.Context, c *call.Call) error {
	if s.Settings == nil {
		return nil
	}
	if err := s.CatchUp(ctx); err != nil {
		return err
	}
	_, err := s.settled(c)
	return err
}

// settled returns the version of the settings in memory, and the error of a call that is not
// allowed by these or later ones: a change may have arrived after the call was admitted.
func (s *Service) settled(c *call.Call) (version int64, err error) {
	version = s.SettingsVersion() // read first: the settings used below may be newer
	if s.Settings == nil {
		return version, nil
	}
	return version, s.Auth.Recheck(c)
}

// Lanes wraps the store from which an engine reads deliveries: a delivery is returned only once
// this node has the settings that it was accepted under, so that it is not sent by older ones.
func (s *Service) Lanes(next dispatch.Store) dispatch.Store {
	if s.Settings == nil {
		return next
	}
	return &lanes{next, s}
}

type lanes struct {
	dispatch.Store
	service *Service
}

func (l *lanes) LoadLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error) {
	outgoing, err := l.Store.LoadLane(ctx, r)
	return l.reached(ctx, outgoing, err)
}

func (l *lanes) Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error) {
	outgoing, err := l.Store.Load(ctx, deliveries)
	return l.reached(ctx, outgoing, err)
}

// reached returns outgoing once this node has the settings that they were accepted under.
func (l *lanes) reached(ctx context.Context, outgoing []delivery.Outgoing, err error) ([]delivery.Outgoing, error) {
	if err != nil || len(outgoing) == 0 {
		return outgoing, err
	}
	if err := l.service.Reach(ctx, outgoing[len(outgoing)-1].Version); err != nil { // the last query has the highest version
		return nil, err
	}
	return outgoing, nil
}

// again calls do until the object was not changed since do read it.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, store.ErrRaced) {
			return err
		}
	}
}

// afresh calls do. While do returns [store.ErrStale], having stored nothing because another
// node has changed the settings, it catches up, checks the call again, and repeats do.
func (s *Service) afresh(ctx context.Context, c *call.Call, do func() error) error {
	for range staleTries {
		err := do()
		if !errors.Is(err, store.ErrStale) {
			return err
		}
		if err := s.Recheck(ctx, c); err != nil {
			return err
		}
	}
	return &fault.Error{Code: fault.Unavailable, Reason: "overloaded", RetryAfter: time.Second,
		Message: "The account's settings change faster than the event can be matched. Retry later."}
}
