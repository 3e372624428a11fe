package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

const (
	maxDevice   = 100            // length of a listener's name, in bytes
	listenerTTL = 24 * time.Hour // after this time without a connection a listener is deleted
	maxReplay   = 10_000         // events that a listener can replay
)

// connection is whether a listener is connected to this node, and since when.
type connection struct {
	on    bool
	since time.Time
}

// connection returns the connection of a listener that is or was connected to this node.
func (s *Service) connection(no int64) (c connection, known bool) {
	v, known := s.listeners.Load(no)
	if known {
		c = v.(connection)
	}
	return c, known
}

// publish makes a written endpoint known to matching and the engine. It reports whether that
// changed anything: a later state may already be known.
func (s *Service) publish(e *endpoint.Endpoint) bool {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return s.put(e)
}

// republish updates the process state of an endpoint in memory. It returns nil if the endpoint is
// not in memory.
func (s *Service) republish(no int64) *endpoint.Registered {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if current := s.Endpoints.Get(no); current != nil {
		s.put(current.Endpoint)
	}
	return s.Endpoints.Get(no)
}

// put stores e in the registry with its process state. The caller holds s.publishing.
func (s *Service) put(e *endpoint.Endpoint) bool {
	here, _ := s.connection(e.No)
	p := endpoint.Process{Paused: e.Kind().Connects && !here.on, Suspended: s.Auth.Suspended(e.Space.Account()), Remote: s.remote(e)}
	old := s.Endpoints.Get(e.No)
	if !s.Endpoints.Put(e, p) {
		return false
	}
	if p.Remote {
		delete(s.adopted, e.No)
	} else if old != nil && old.Remote {
		s.adopted[e.No] = true
	}
	return true
}

// suspension pauses the deliveries to the endpoints of a suspended account, or resumes those of an
// account that is active again.
func (s *Service) suspension(account int64) {
	s.Endpoints.Each(func(e *endpoint.Registered) {
		if e.Space.Account() == account && s.republish(e.No) != nil {
			s.engine.Wake(e.No)
		}
	})
}

// Listen returns the listener of a device and creates it if it is new: an endpoint that keeps
// its secret and, while the device is disconnected for less than a day, its deliveries. The
// caller must call Connect next. Errors: fault.Invalid.
func (s *Service) Listen(ctx context.Context, c *call.Call, device string, events []string) (*endpoint.Endpoint, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	if device == "" || len(device) > maxDevice || strings.ContainsFunc(device, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fault.Param("device", "parameter_invalid", "A listener's name must have 1 to %d printable ASCII characters without spaces.", maxDevice)
	}
	url := endpoint.ListenerURL(device)
	begin := func(e *endpoint.Endpoint, now time.Time) (store.Trail, error) {
		e.Events, e.Updated, e.EnabledSince = endpoint.Unique(events), now, now
		e.Status, e.DisabledReason = endpoint.Enabled, ""
		return s.Trail(c, nil, now, account.ListenerConnected, e.ID, "device", device), e.Check(s.Rules)
	}
	for ctx.Err() == nil {
		id, err := s.Store.EndpointAt(ctx, c.Space, url)
		switch {
		case err == nil:
			var e *endpoint.Endpoint
			if e, err = s.editEndpoint(ctx, c, c.Space, id, begin); err == nil {
				return e, nil
			}
		case fault.Is(err, fault.NotFound):
			now := s.Now()
			e := &endpoint.Endpoint{ID: s.IDs.New(event.PrefixEndpoint), Space: c.Space, Config: endpoint.Config{URL: url, Description: "Listener " + device}, Created: now,
				Secrets: []endpoint.Secret{endpoint.NewSecret(s.IDs.New(event.PrefixSecret), now)}}
			var trail store.Trail
			if trail, err = begin(e, now); err == nil {
				trail.Room = s.Auth.Room(c, quota.Listeners, s.Endpoints.Count(c.Space).Listeners)
				err = s.Store.CreateEndpoint(ctx, e, trail)
			}
			if err == nil {
				s.publish(e)
				return e, nil
			}
		}
		if !errors.Is(err, store.ErrRaced) && !fault.Is(err, fault.NotFound) { // otherwise it was just created or deleted
			return nil, err
		}
	}
	return nil, ctx.Err()
}

// Connect starts deliveries to a listener, or pauses them.
func (s *Service) Connect(ctx context.Context, e *endpoint.Endpoint, connected bool) {
	s.listeners.Store(e.No, connection{connected, s.Now()}) // the day without a connection begins
	switch {
	case s.republish(e.No) == nil: // it was deleted
		return
	case connected:
		s.engine.Forgive(e.No)
		return
	}
	s.engine.Wake(e.No)
	if _, err := s.editEndpoint(ctx, call.ByItself(e.Space), e.Space, e.ID, func(e *endpoint.Endpoint, now time.Time) (store.Trail, error) {
		e.Updated = now
		return store.Trail{}, nil
	}); err != nil && !fault.Is(err, fault.NotFound) {
		s.Log.Error("record that a listener disconnected", "endpoint", e.ID, "err", err)
	}
}

// Replay resends to a listener the latest subscribed events, and all since a time, in any state
// of their deliveries. It returns their number.
func (s *Service) Replay(ctx context.Context, e *endpoint.Endpoint, latest int, since time.Time) (int, error) {
	keys := map[event.Key]bool{}
	var ds []delivery.Delivery
	now := s.Now()
	wants := func(o *store.Occasion) bool { return e.Wants(o.Type) }
	add := func(k event.Key, typ string) {
		if e.Wants(typ) && !keys[k] {
			keys[k] = true
			d := delivery.New(delivery.ID{Event: k, Endpoint: e.No}, e.Space)
			d.Requeue(now)
			ds = append(ds, d)
		}
	}
	if latest > 0 {
		events, _, err := s.Store.ListEvents(ctx, e.Space, store.EventFilter{}, store.Page[event.Key]{Limit: min(latest, maxReplay)})
		if err != nil {
			return 0, err
		}
		for i := range events {
			if ev := &events[i]; e.Wants(ev.Type) && s.accepts(e, ev, endpoint.InputOf(ev)) {
				add(ev.Key, ev.Type)
			}
		}
	}
	for after, until := max(keyAt(since), 1)-1, s.IDs.Keys.Next(); !since.IsZero() && len(ds) < maxReplay; {
		occasions, err := s.Store.Occasions(ctx, e.Space, e.No, after, until, jobSlice)
		if err != nil {
			return 0, err
		}
		refused, err := s.refused(ctx, e, occasions, wants)
		if err != nil {
			return 0, err
		}
		for _, o := range occasions {
			if !refused[o.Key] {
				add(o.Key, o.Type)
			}
			after = o.Key
		}
		if len(occasions) < jobSlice {
			break
		}
	}
	for len(ds) > 0 {
		slice := ds[:min(len(ds), jobSlice)]
		if err := s.Store.Requeue(ctx, slice, store.Trail{}); err != nil {
			return 0, err
		}
		ds = ds[len(slice):]
	}
	s.engine.Wake(e.No)
	return len(keys), nil
}

// dropListeners deletes listeners that were not connected for a day.
func (s *Service) dropListeners(ctx context.Context) error {
	var gone []*endpoint.Endpoint
	now := s.Now()
	s.Endpoints.Each(func(e *endpoint.Registered) {
		last, known := s.connection(e.No)
		if s.Owns != nil && !known {
			return // it may be connected to another node
		}
		if e.Paused && now.Sub(last.since) >= listenerTTL && now.Sub(e.Updated) >= listenerTTL {
			gone = append(gone, e.Endpoint)
		}
	})
	for _, e := range gone {
		if err := s.DeleteEndpoint(ctx, call.ByItself(e.Space), e.ID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}
