package service

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// EndpointParams is what a request says of an endpoint; nil is "not mentioned".
type EndpointParams struct {
	URL         *string
	Events      *[]string
	Description *string
	Metadata    map[string]*string // nil values delete keys
	Disabled    *bool
	Ordering    *string
	Timeout     *time.Duration
	Concurrency *int
	Rate        *float64
	Schedule    *[]time.Duration
}

func (p *EndpointParams) apply(e *endpoint.Endpoint) {
	set(&e.URL, p.URL)
	set(&e.Description, p.Description)
	if p.Events != nil {
		e.Events = unique(*p.Events)
	}
	if p.Metadata != nil {
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		for k, v := range p.Metadata {
			if v == nil || *v == "" {
				delete(e.Metadata, k)
			} else {
				e.Metadata[k] = *v
			}
		}
	}
	if p.Ordering != nil {
		e.Settings.Ordering = endpoint.Ordering(*p.Ordering)
	}
	set(&e.Settings.Timeout, p.Timeout)
	set(&e.Settings.Concurrency, p.Concurrency)
	set(&e.Settings.Rate, p.Rate)
	set(&e.Settings.Schedule, p.Schedule)
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// unique returns the patterns without repetitions, in their order.
func unique(patterns []string) []string {
	out := make([]string, 0, len(patterns))
	for _, p := range patterns {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func (s *Service) check(e *endpoint.Endpoint) error {
	if err := e.Check(s.AllowPlainLive); err != nil {
		return err
	}
	return s.Targets.CheckTarget(e.URL, e.Live())
}

// CreateEndpoint registers an endpoint. The result holds its first secret.
// Errors: fault.Invalid, and those of idempotency.
func (s *Service) CreateEndpoint(ctx context.Context, c *Call, p EndpointParams) (*endpoint.Endpoint, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return nil, err
	}
	defer end()
	now := s.Now()
	e := &endpoint.Endpoint{
		ID: s.IDs.New(event.PrefixEndpoint), Space: c.Space, Status: endpoint.Enabled,
		Secrets: []endpoint.Secret{endpoint.NewSecret(now)},
		Created: now, Updated: now, EnabledSince: now,
	}
	p.apply(e)
	setStatus(e, p.Disabled, now)
	if err := s.check(e); err != nil {
		return nil, err
	}
	if err := s.Store.CreateEndpoint(ctx, e, c.receipt(e, now)); err != nil {
		return nil, err
	}
	s.Endpoints.Put(e)
	return e, nil
}

// setStatus enables or disables e as a person asked for; nil changes nothing.
func setStatus(e *endpoint.Endpoint, disabled *bool, now time.Time) {
	switch {
	case disabled == nil:
	case *disabled && e.Status == endpoint.Enabled:
		e.Status, e.DisabledReason = endpoint.Disabled, endpoint.DisabledByUser
	case !*disabled && e.Status == endpoint.Disabled:
		e.Status, e.DisabledReason, e.EnabledSince = endpoint.Enabled, "", now
	}
}

// UpdateEndpoint changes what p mentions. Enabling an endpoint closes its breaker.
func (s *Service) UpdateEndpoint(ctx context.Context, c *Call, id string, p EndpointParams) (*endpoint.Endpoint, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return nil, err
	}
	defer end()
	s.edits.Lock()
	defer s.edits.Unlock()
	e, err := s.Store.Endpoint(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	was, now := e.Status, s.Now()
	p.apply(&e)
	setStatus(&e, p.Disabled, now)
	e.Updated = now
	if err := s.check(&e); err != nil {
		return nil, err
	}
	if err := s.Store.UpdateEndpoint(ctx, &e, c.receipt(&e, now)); err != nil {
		return nil, err
	}
	s.Endpoints.Put(&e)
	if was == endpoint.Disabled && e.Status == endpoint.Enabled {
		s.engine.Forgive(e.No)
	} else {
		s.engine.Wake(e.No)
	}
	return &e, nil
}

// DeleteEndpoint removes an endpoint; what is pending for it is cancelled.
func (s *Service) DeleteEndpoint(ctx context.Context, c *Call, id string) error {
	if err := c.mustAccount(); err != nil {
		return err
	}
	s.edits.Lock()
	defer s.edits.Unlock()
	e, err := s.Store.Endpoint(ctx, c.Space, id)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteEndpoint(ctx, e.No, s.Now()); err != nil {
		return err
	}
	s.Endpoints.Remove(e.No)
	s.engine.Wake(e.No)
	return nil
}

// Endpoint returns one endpoint.
func (s *Service) Endpoint(ctx context.Context, c *Call, id string) (*endpoint.Endpoint, error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	e, err := s.Store.Endpoint(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// ListEndpoints lists endpoints, newest first.
func (s *Service) ListEndpoints(ctx context.Context, c *Call, p Page) ([]endpoint.Endpoint, bool, error) {
	if err := c.mustAccount(); err != nil {
		return nil, false, err
	}
	page, err := resolvePage(p, func(param, id string) (int64, error) {
		e, err := s.Store.Endpoint(ctx, c.Space, id)
		return e.No, cursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListEndpoints(ctx, c.Space, page)
}

// disable switches an endpoint off because of how it behaved, and tells the
// account. It does nothing when the endpoint is off or gone already.
func (s *Service) disable(ctx context.Context, no int64, reason string) error {
	s.edits.Lock()
	defer s.edits.Unlock()
	current := s.Endpoints.Get(no)
	if current == nil || current.Status != endpoint.Enabled {
		return nil
	}
	e, err := s.Store.Endpoint(ctx, current.Space, current.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := s.Now()
	e.Status, e.DisabledReason, e.Updated = endpoint.Disabled, reason, now
	if err := s.Store.UpdateEndpoint(ctx, &e, nil); err != nil {
		return err
	}
	s.Endpoints.Put(&e)
	s.engine.Wake(no)
	return s.announce(ctx, &e, event.TypeEndpointDisabled, map[string]any{
		"id": e.ID, "object": "webhook_endpoint", "url": e.URL, "status": e.Status, "disabled_reason": reason,
	}, now)
}

// mustBeOn refuses to send to an endpoint that is off; param is what named it.
func mustBeOn(e *endpoint.Endpoint, param string) error {
	if e.Status == endpoint.Enabled {
		return nil
	}
	return fault.Param(param, "endpoint_disabled", "The endpoint %s is disabled; enable it first.", e.ID)
}
