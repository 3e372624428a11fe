package service

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/weburl"
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
	Format      *string
	Filter      *string
	Transform   *string
	Validation  *string

	Secret      *string // on creation only
	Ed25519     *bool
	Auth        *endpoint.Authentication
	Headers     map[string]*string // nil values delete headers
	Certificate *ClientCertificate
	RootCAs     *string
}

// ClientCertificate is a certificate with its key, both PEM; empty is none.
type ClientCertificate struct{ Chain, PrivateKey string }

func (s *Service) apply(p *EndpointParams, e *endpoint.Endpoint) {
	if p.URL != nil {
		e.URL = weburl.Respell(*p.URL)
	}
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
	set(&e.Settings.Filter, p.Filter)
	if p.Validation != nil {
		e.Settings.Validation = endpoint.Validation(*p.Validation)
		if *p.Validation == "none" {
			e.Settings.Validation = endpoint.NotValidated
		}
	}
	if p.Ed25519 != nil && *p.Ed25519 != e.Settings.Ed25519 {
		signWith(e, *p.Ed25519)
	}
	if p.Auth != nil {
		auth := *p.Auth
		auth.TokenURL = weburl.Respell(auth.TokenURL)
		auth.InheritSecrets(&e.Auth)
		e.Auth = auth
	}
	if len(p.Headers) > 0 {
		headers := make(map[string]string, len(e.Headers)+len(p.Headers))
		maps.Copy(headers, e.Headers)
		for name, v := range p.Headers {
			if canonical, ok := endpoint.HeaderName(name, s.Rules.Signature); ok {
				name = canonical
			}
			if v == nil || *v == "" {
				delete(headers, name)
			} else {
				headers[name] = *v
			}
		}
		e.Headers = headers
	}
	if p.Certificate != nil {
		e.TLS.Certificate, e.TLS.PrivateKey = p.Certificate.Chain, p.Certificate.PrivateKey
	}
	set(&e.TLS.RootCAs, p.RootCAs)
}

// setShape gives e the format and the transformation that p names. The source of its
// CloudEvents tells one account and mode from another, in which ids may be the same.
func (s *Service) setShape(c *Call, p *EndpointParams, e *endpoint.Endpoint) error {
	if p.Format == nil && p.Transform == nil {
		return nil
	}
	shape, param := endpoint.Shape{Format: e.Format(), Transform: e.Transform()}, "transform"
	if p.Format != nil {
		shape.Format, param = cmp.Or(endpoint.Format(*p.Format), endpoint.Standard), "payload_format"
	}
	set(&shape.Transform, p.Transform)
	mode := "test"
	if c.Space.Live() {
		mode = "live"
	}
	shape.Source = "/accounts/" + s.keys.accountID(c.Space.Account()) + "/" + mode
	// Keys, not the clock, which may have been stepped back behind them.
	shape.Since = event.KeyAt(s.IDs.Keys.Next().Time().Add(endpoint.ShapeDelay))
	return e.SetShape(param, shape)
}

// changed names what a request mentions, for the audit log: no values.
func (p *EndpointParams) changed() []string {
	var names []string
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"url", p.URL != nil}, {"enabled_events", p.Events != nil}, {"description", p.Description != nil}, {"metadata", p.Metadata != nil},
		{"status", p.Disabled != nil}, {"ordering", p.Ordering != nil}, {"timeout", p.Timeout != nil}, {"max_concurrency", p.Concurrency != nil},
		{"rate_limit", p.Rate != nil}, {"retry_schedule", p.Schedule != nil}, {"signature_schemes", p.Ed25519 != nil}, {"authentication", p.Auth != nil},
		{"payload_format", p.Format != nil}, {"filter", p.Filter != nil}, {"transform", p.Transform != nil}, {"validation", p.Validation != nil},
		{"headers", p.Headers != nil}, {"client_certificate", p.Certificate != nil}, {"ca_certificates", p.RootCAs != nil},
	} {
		if field.given {
			names = append(names, field.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"changed", strings.Join(names, ", ")}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
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
	if err := e.Check(s.Rules); err != nil {
		return err
	}
	if _, _, atBroker := endpoint.AtBroker(e.URL); e.Listener() || atBroker {
		return nil // nobody is called
	}
	if e.Auth.TokenURL != "" {
		if err := s.Targets.CheckTarget("authentication[token_url]", e.Auth.TokenURL); err != nil {
			return err
		}
	}
	return s.Targets.CheckTarget("url", e.URL)
}

// compile compiles the expressions of a request, so that this is done when they are checked
// while the endpoint is being changed. What is wrong with them is said then.
func (p *EndpointParams) compile() {
	if p.Filter != nil && *p.Filter != "" {
		_, _ = expression.Compile("filter", *p.Filter)
	}
	if p.Transform != nil && *p.Transform != "" {
		_, _ = expression.CompileTransform("transform", *p.Transform)
	}
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
	release, err := s.reserve(c, quota.Endpoints, func() (int, error) { return s.Endpoints.Count(c.Space).Endpoints, nil })
	if err != nil {
		return nil, err
	}
	defer release()
	now := s.Now()
	secret, err := s.newSecret(deref(p.Secret), false, now)
	if err != nil {
		return nil, err
	}
	e := &endpoint.Endpoint{
		ID: s.IDs.New(event.PrefixEndpoint), Space: c.Space, Status: endpoint.Enabled,
		Secrets: []endpoint.Secret{secret},
		Created: now, Updated: now, EnabledSince: now,
	}
	s.apply(&p, e)
	if err := s.setShape(c, &p, e); err != nil {
		return nil, err
	}
	if e.Listener() {
		return nil, fault.Param("url", "url_invalid", "The URL must be absolute and start with https://.")
	}
	if err := c.mayName(e.URL); err != nil {
		return nil, err
	}
	setStatus(e, p.Disabled, now)
	if err := s.check(e); err != nil {
		return nil, err
	}
	if err := s.checkTransform(e); err != nil {
		return nil, err
	}
	ask, err := s.seekConsent(e, now)
	if err != nil {
		return nil, err
	}
	if err := s.Store.CreateEndpoint(ctx, e, s.trail(c, e, now, account.EndpointCreated, e.ID)); err != nil {
		return nil, err
	}
	s.publish(e)
	if ask {
		e = s.askConsent(context.WithoutCancel(ctx), c, e)
	}
	return e, nil
}

// mayName refuses addresses at the operator's brokers to all others.
func (c *Call) mayName(url string) error {
	if _, _, atBroker := endpoint.AtBroker(url); atBroker && !c.Operator() {
		return fault.Param("url", "broker_forbidden", "Only the operator can make endpoints at a broker; use an operator key and name the account.")
	}
	return nil
}

// setStatus enables or disables e as a person asked for; nil changes nothing.
func setStatus(e *endpoint.Endpoint, disabled *bool, now time.Time) {
	switch {
	case disabled == nil:
	case *disabled && e.Status == endpoint.Enabled:
		e.Status, e.DisabledReason = endpoint.Disabled, endpoint.DisabledByUser
	case !*disabled && e.Status == endpoint.Disabled:
		e.Status, e.DisabledReason, e.EnabledSince = endpoint.Enabled, "", now
		if !e.Settings.Consent.IsGranted() {
			e.Settings.Consent = nil // the wait begins anew
		}
	}
}

// UpdateEndpoint changes what p mentions. Enabling an endpoint closes its breaker.
func (s *Service) UpdateEndpoint(ctx context.Context, c *Call, id string, p EndpointParams) (*endpoint.Endpoint, error) {
	var was endpoint.Status
	var ask bool
	p.compile()
	e, err := s.change(ctx, c, id, func(e *endpoint.Endpoint, now time.Time) (account.Action, []string, *announcement, error) {
		if p.Secret != nil {
			return "", nil, nil, fault.Param("secret", "parameter_unknown", "A secret is changed by POST …/rotate_secret.")
		}
		was = e.Status
		listener, url, old := e.Listener(), e.URL, *e
		s.apply(&p, e)
		if err := s.bindCredentials(c, &p, &old, e); err != nil {
			return "", nil, nil, err
		}
		if err := s.setShape(c, &p, e); err != nil {
			return "", nil, nil, err
		}
		if url != e.URL {
			if err := c.mayName(e.URL); err != nil {
				return "", nil, nil, err
			}
		}
		if listener != e.Listener() {
			return "", nil, nil, fault.Param("url", "parameter_invalid", "The URL of a listener stays, and that of another endpoint cannot become one's.")
		}
		setStatus(e, p.Disabled, now)
		action, a := account.EndpointUpdated, (*announcement)(nil)
		switch {
		case was == e.Status:
		case e.Status == endpoint.Enabled:
			action, a = account.EndpointEnabled, &announcement{about: e, typ: event.TypeEndpointEnabled, object: endpointObject(e)}
		default:
			action, a = account.EndpointDisabled, &announcement{about: e, typ: event.TypeEndpointDisabled, others: true,
				object: endpointObject(e, "disabled_reason", e.DisabledReason)}
		}
		if err := s.check(e); err != nil {
			return "", nil, nil, err
		}
		if p.Transform != nil || p.Events != nil {
			if err := s.checkTransform(e); err != nil {
				return "", nil, nil, err
			}
		}
		var err error
		ask, err = s.seekConsent(e, now)
		return action, append(p.changed(), differences(&old, e)...), a, err
	})
	if err != nil {
		return nil, err
	}
	if was == endpoint.Disabled && e.Status == endpoint.Enabled {
		s.engine.Forgive(e.No)
	} else {
		s.engine.Wake(e.No)
	}
	if ask {
		e = s.askConsent(context.WithoutCancel(ctx), c, e)
	}
	return e, nil
}

// editEndpoint edits an endpoint as [store.Store] says, for a call, and makes it known. It
// returns the endpoint as it is then, also when edit finds nothing to change.
func (s *Service) editEndpoint(ctx context.Context, c *Call, space event.Space, id string,
	edit func(e *endpoint.Endpoint, now time.Time) (store.Trail, error),
) (*endpoint.Endpoint, error) {
	e := new(endpoint.Endpoint)
	err := s.afresh(ctx, c, func() (err error) {
		*e, err = s.Store.EditEndpoint(ctx, space, id, func(e *endpoint.Endpoint) (store.Trail, error) { return edit(e, s.Now()) })
		return err
	})
	switch {
	case errors.Is(err, store.ErrUnchanged):
		return e, nil
	case err != nil:
		return nil, err
	}
	s.publish(e)
	return e, nil
}

// change edits an endpoint for a call, and leaves the audit entry and the announcement that
// edit returns. The announcement may be nil.
func (s *Service) change(ctx context.Context, c *Call, id string,
	edit func(e *endpoint.Endpoint, now time.Time) (action account.Action, detail []string, a *announcement, err error),
) (*endpoint.Endpoint, error) {
	end, err := s.edit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	var a *announcement
	var trail store.Trail
	e, err := s.editEndpoint(ctx, c, c.Space, id, func(e *endpoint.Endpoint, now time.Time) (_ store.Trail, err error) {
		if err := c.mustMatch(e.Revision); err != nil {
			return trail, err
		}
		var action account.Action
		var detail []string
		if action, detail, a, err = edit(e, now); err != nil {
			return trail, err
		}
		e.Updated = now
		trail = s.trail(c, e, now, action, e.ID, detail...)
		if a != nil {
			trail.Announce, err = s.compose(a, now)
		}
		return trail, err
	})
	if err != nil {
		return nil, err
	}
	if a != nil {
		s.announced(a, trail.Announce)
	}
	return e, nil
}

// DeleteEndpoint removes an endpoint; what is pending for it is cancelled.
func (s *Service) DeleteEndpoint(ctx context.Context, c *Call, id string) error {
	end, err := s.edit(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	var e endpoint.Endpoint
	if err := again(func() error {
		if e, err = s.Store.Endpoint(ctx, c.Space, id); err != nil {
			return err
		}
		if err := c.mustMatch(e.Revision); err != nil {
			return err
		}
		now := s.Now()
		return s.Store.DeleteEndpoint(ctx, e.No, e.Revision, now, s.trail(c, nil, now, account.EndpointDeleted, e.ID))
	}); err != nil {
		return err
	}
	s.Endpoints.Remove(e.No)
	s.filters.forget(e.No)
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
	page, err := ResolvePage(p, func(param, id string) (int64, error) {
		e, err := s.Store.PastEndpoint(ctx, c.Space, id) // it may be deleted while somebody pages
		return e.No, CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListEndpoints(ctx, c.Space, page)
}

// disable switches an endpoint off because of how it behaved, and tells the
// account, with the names and values of cause. It does nothing when the endpoint is off or
// deleted already, or when still, if given, says that the reason does not hold any more.
func (s *Service) disable(ctx context.Context, no int64, reason string, cause []any, still func(*endpoint.Endpoint) bool) error {
	current := s.Endpoints.Get(no)
	if current == nil || current.Status != endpoint.Enabled || current.Space == OperatorSpace {
		return nil
	}
	by := byItself(current.Space)
	var a *announcement
	var trail store.Trail
	_, err := s.editEndpoint(ctx, by, current.Space, current.ID, func(e *endpoint.Endpoint, now time.Time) (_ store.Trail, err error) {
		if a = nil; e.Status != endpoint.Enabled || e.EnabledSince.After(current.EnabledSince) || still != nil && !still(e) {
			return trail, store.ErrUnchanged
		}
		e.Status, e.DisabledReason, e.Updated = endpoint.Disabled, reason, now
		a = &announcement{about: e, typ: event.TypeEndpointDisabled, others: true, object: endpointObject(e, append(cause, "disabled_reason", reason)...),
			text: disabledText[reason] + " It was disabled; nothing is sent to it until somebody enables it."}
		trail = store.Trail{Audit: s.entry(by, now, account.EndpointDisabled, e.ID, "reason", reason)}
		trail.Announce, err = s.compose(a, now)
		return trail, err
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case a == nil:
		return nil
	}
	s.engine.Wake(no)
	s.GivenUp(reason)
	s.announced(a, trail.Announce)
	return nil
}

// disabledText says for people why an endpoint was disabled.
var disabledText = map[string]string{
	endpoint.DisabledGone:   "The endpoint answered 410 Gone.",
	endpoint.DisabledFailed: "The endpoint has acknowledged nothing for too long.",

	endpoint.DisabledNoConsent: "The endpoint's receiver was asked whether it wants to be sent to, and did not agree within a day.",
}

// mustBeOn refuses to send to an endpoint that is off; param is what named it.
func mustBeOn(e *endpoint.Endpoint, param string) error {
	if e.Status == endpoint.Enabled {
		return nil
	}
	return fault.Param(param, "endpoint_disabled", "The endpoint %s is disabled; enable it first.", e.ID)
}

// WhoseEndpoint returns the account and mode that an endpoint belongs to, for users,
// who see them all.
func (s *Service) WhoseEndpoint(id string) (accountID string, live, ok bool) {
	s.Endpoints.Each(func(e *endpoint.Endpoint) {
		if e.ID == id && e.Space != OperatorSpace {
			accountID, live, ok = s.keys.accountID(e.Space.Account()), e.Live(), true
		}
	})
	return accountID, live, ok
}
