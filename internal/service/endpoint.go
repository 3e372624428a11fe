package service

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// apply applies parameters to an endpoint for a call. The source of its CloudEvents
// distinguishes accounts and modes, because their ids may be equal.
func (s *Service) apply(c *call.Call, p endpoint.Params, e *endpoint.Endpoint, now time.Time) error {
	mode := "test"
	if c.Space.Live() {
		mode = "live"
	}
	return p.Apply(e, endpoint.Edit{By: c.Setter(), Now: now, Signature: s.Rules.Signature, Shape: endpoint.Shape{
		Source: "/accounts/" + s.Auth.AccountID(c.Space.Account()) + "/" + mode,
		// The time comes from the keys, not the clock, which may have been stepped back behind them.
		Since: event.KeyAt(s.IDs.Keys.Next().Time().Add(endpoint.ShapeDelay)),
	}})
}

// changed returns the names of a request's parameters, for the audit log: no values.
func changed(p endpoint.Params) []string {
	if len(p) == 0 {
		return nil
	}
	return []string{"changed", strings.Join(p.Names(), ", ")}
}

func (s *Service) check(e *endpoint.Endpoint) error {
	if err := e.Check(s.Rules); err != nil {
		return err
	}
	if !e.Kind().Called {
		return nil
	}
	if e.Auth.TokenURL != "" {
		if err := s.Targets.CheckTarget("authentication[token_url]", e.Auth.TokenURL); err != nil {
			return err
		}
	}
	return s.Targets.CheckTarget("url", e.URL)
}

// compile compiles the expressions of a request beforehand, so that their later check under the
// edit is quick. The check reports their errors.
func compile(p endpoint.Params) {
	if filter := p.Text("filter"); filter != "" {
		_, _ = expression.Compile("filter", filter)
	}
	if transform := p.Text("transform"); transform != "" {
		_, _ = expression.CompileTransform("transform", transform, p.Text("payload_format") == string(endpoint.Transformed))
	}
}

// sizeOf returns the total size of a request's expressions, in bytes.
func sizeOf(p endpoint.Params) int { return len(p.Text("filter")) + len(p.Text("transform")) }

// CreateEndpoint registers an endpoint. The result contains its first secret. Errors:
// fault.Invalid, and those of idempotency.
func (s *Service) CreateEndpoint(ctx context.Context, c *call.Call, p endpoint.Params) (*endpoint.Endpoint, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	leave, err := s.compiling(c, sizeOf(p))
	if err != nil {
		return nil, err
	}
	compile(p)
	leave()
	now := s.Now()
	e := &endpoint.Endpoint{
		ID: s.IDs.New(event.PrefixEndpoint), Space: c.Space, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now},
		Secrets: []endpoint.Secret{endpoint.NewSecret(s.IDs.New(event.PrefixSecret), now)},
		Created: now, Updated: now,
	}
	if err := s.apply(c, p, e, now); err != nil {
		return nil, err
	}
	if own := p.Text("secret"); own != "" {
		if e.Secrets[0].Value, err = e.FitSecret(own); err != nil {
			return nil, err
		}
	}
	if err := e.Kind().RefuseTo(c.Setter()); err != nil {
		return nil, err
	}
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
	trail := s.Trail(c, e, now, account.EndpointCreated, e.ID)
	trail.Room = s.Auth.Room(c, quota.Endpoints, s.Endpoints.Count(c.Space).Endpoints)
	if err := s.Store.CreateEndpoint(ctx, e, trail); err != nil {
		return nil, err
	}
	s.publish(e)
	if ask {
		e = s.askConsent(context.WithoutCancel(ctx), c, e)
	}
	return e, nil
}

// UpdateEndpoint changes the given parameters. Enabling an endpoint closes its breaker.
func (s *Service) UpdateEndpoint(ctx context.Context, c *call.Call, id string, p endpoint.Params) (*endpoint.Endpoint, error) {
	return s.updateEndpoint(ctx, c, id, p, true)
}

// PutEndpoint creates an endpoint with an external id, or changes the given parameters of the one
// that has it; created tells which. Any number of calls at the same time, on any node, result in
// one endpoint; a call that changes nothing writes nothing.
func (s *Service) PutEndpoint(ctx context.Context, c *call.Call, externalID string, p endpoint.Params) (e *endpoint.Endpoint, created bool, err error) {
	var given *string
	if p.Mentions("external_id") {
		given = new(p.Text("external_id"))
	}
	if err := call.CheckPut(externalID, given, event.PrefixEndpoint, "preview"); err != nil {
		return nil, false, err
	}
	change := maps.Clone(p)
	delete(change, "external_id")
	delete(change, "secret")
	secret := p.Text("secret")
	p["external_id"] = externalID
	e, err = call.Put(func() (*endpoint.Endpoint, error) {
		if secret != "" {
			old, err := s.Endpoint(ctx, c, externalID)
			if err != nil {
				return nil, err
			}
			if kept, err := old.FitSecret(secret); err != nil || kept != old.Newest().Value {
				return nil, fault.Param("secret", "parameter_invalid", "The endpoint exists and has another secret. Use POST …/rotate_secret.")
			}
		}
		return s.updateEndpoint(ctx, c, externalID, change, false)
	}, func() (*endpoint.Endpoint, error) {
		made, err := s.CreateEndpoint(ctx, c, p)
		created = err == nil
		return made, err
	})
	return e, created, err
}

// updateEndpoint is UpdateEndpoint; always says that an edit without a change is written too.
func (s *Service) updateEndpoint(ctx context.Context, c *call.Call, id string, p endpoint.Params, always bool) (*endpoint.Endpoint, error) {
	var was endpoint.Status
	var ask bool
	leave, err := s.compiling(c, sizeOf(p))
	if err != nil {
		return nil, err
	}
	compile(p)
	leave()
	e, err := s.change(ctx, c, id, func(e *endpoint.Endpoint, now time.Time) (account.Action, []string, *announcement, error) {
		if p.Mentions("secret") {
			return "", nil, nil, fault.Param("secret", "parameter_unknown", "An update cannot change the secret. Use POST …/rotate_secret.")
		}
		was = e.Status
		old := *e
		if err := s.apply(c, p, e, now); err != nil {
			return "", nil, nil, err
		}
		if err := s.bindCredentials(c, p, &old, e); err != nil {
			return "", nil, nil, err
		}
		if old.URL != e.URL {
			if old.Kind().Connects || e.Kind().Connects {
				return "", nil, nil, fault.Param("url", "parameter_invalid", "The URL of a listener cannot be changed, and no other endpoint can become a listener.")
			}
			if err := e.Kind().RefuseTo(c.Setter()); err != nil {
				return "", nil, nil, err
			}
		}
		if !always && reflect.DeepEqual(old, *e) {
			return "", nil, nil, store.ErrUnchanged
		}
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
		if p.Mentions("transform") || p.Mentions("enabled_events") {
			if err := s.checkTransform(e); err != nil {
				return "", nil, nil, err
			}
		}
		var err error
		ask, err = s.seekConsent(e, now)
		return action, append(changed(p), differences(&old, e)...), a, err
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

// editEndpoint edits an endpoint for a call by the rules of [store.Store], and publishes it. It
// returns the endpoint as it is then, also if edit changes nothing.
func (s *Service) editEndpoint(ctx context.Context, c *call.Call, space event.Space, id string,
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

// change edits an endpoint for a call, and writes the audit entry and the announcement that
// edit returns. The announcement may be nil.
func (s *Service) change(ctx context.Context, c *call.Call, id string,
	edit func(e *endpoint.Endpoint, now time.Time) (action account.Action, detail []string, a *announcement, err error),
) (*endpoint.Endpoint, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	var a *announcement
	var trail store.Trail
	e, err := s.editEndpoint(ctx, c, c.Space, id, func(e *endpoint.Endpoint, now time.Time) (_ store.Trail, err error) {
		if err := c.MustMatch(e.Revision); err != nil {
			return trail, err
		}
		var action account.Action
		var detail []string
		if action, detail, a, err = edit(e, now); err != nil {
			return trail, err
		}
		e.Updated = now
		trail = s.Trail(c, e, now, action, e.ID, detail...)
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

// DeleteEndpoint deletes an endpoint and cancels its pending deliveries.
func (s *Service) DeleteEndpoint(ctx context.Context, c *call.Call, id string) error {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	var e endpoint.Endpoint
	if err := again(func() error {
		if e, err = s.Store.Endpoint(ctx, c.Space, id); err != nil {
			return err
		}
		if err := c.MustMatch(e.Revision); err != nil {
			return err
		}
		now := s.Now()
		return s.Store.DeleteEndpoint(ctx, e.No, e.Revision, now, s.Trail(c, nil, now, account.EndpointDeleted, e.ID))
	}); err != nil {
		return err
	}
	s.Endpoints.Remove(e.No)
	s.filters.forget(e.No)
	s.engine.Wake(e.No)
	return nil
}

// Endpoint returns one endpoint.
func (s *Service) Endpoint(ctx context.Context, c *call.Call, id string) (*endpoint.Endpoint, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	e, err := s.Store.Endpoint(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// ListEndpoints lists endpoints, newest first.
func (s *Service) ListEndpoints(ctx context.Context, c *call.Call, p call.Page) ([]endpoint.Endpoint, bool, error) {
	if err := c.MustAccount(); err != nil {
		return nil, false, err
	}
	page, err := call.ResolvePage(p, func(param, id string) (int64, error) {
		e, err := s.Store.PastEndpoint(ctx, c.Space, id) // it may be deleted during paging
		return e.No, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListEndpoints(ctx, c.Space, page)
}

// disable disables an endpoint because of its failures and notifies the account, with the names
// and values of cause. It does nothing if the endpoint is already disabled or deleted, or if
// still, when given, reports that the reason no longer applies.
func (s *Service) disable(ctx context.Context, no int64, reason string, cause []any, still func(*endpoint.Endpoint) bool) error {
	current := s.Endpoints.Get(no)
	if current == nil || current.Status != endpoint.Enabled || current.Space == OperatorSpace {
		return nil
	}
	by := call.ByItself(current.Space)
	var a *announcement
	var trail store.Trail
	_, err := s.editEndpoint(ctx, by, current.Space, current.ID, func(e *endpoint.Endpoint, now time.Time) (_ store.Trail, err error) {
		if a = nil; e.Status != endpoint.Enabled || e.EnabledSince.After(current.EnabledSince) || still != nil && !still(e) {
			return trail, store.ErrUnchanged
		}
		e.Status, e.DisabledReason, e.Updated = endpoint.Disabled, reason, now
		a = &announcement{about: e, typ: event.TypeEndpointDisabled, others: true, object: endpointObject(e, append(cause, "disabled_reason", reason)...),
			text: disabledText[reason] + " It was disabled; nothing is sent to it until a user enables it."}
		trail = store.Trail{Audit: s.Entry(by, now, account.EndpointDisabled, e.ID, "reason", reason)}
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

// disabledText explains the reasons for which endpoints are disabled.
var disabledText = map[string]string{
	endpoint.DisabledGone:   "The endpoint responded with 410 Gone.",
	endpoint.DisabledFailed: "The endpoint has acknowledged no delivery for too long.",

	endpoint.DisabledNoConsent: "The endpoint's receiver did not grant consent within a day.",
}

// mustBeOn refuses to send to a disabled endpoint; param is the parameter that named it.
func mustBeOn(e *endpoint.Endpoint, param string) error {
	if e.Status == endpoint.Enabled {
		return nil
	}
	return fault.Param(param, "endpoint_disabled", "The endpoint %s is disabled; enable it first.", e.ID)
}

// WhoseEndpoint returns the account and mode of an endpoint, for users, who have access to all.
func (s *Service) WhoseEndpoint(id string) (accountID string, live, ok bool) {
	s.Endpoints.Each(func(e *endpoint.Registered) {
		if e.ID == id && e.Space != OperatorSpace {
			accountID, live, ok = s.Auth.AccountID(e.Space.Account()), e.Live(), true
		}
	})
	return accountID, live, ok
}
