package service

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// TypeParams are the event type parameters of a request; nil means absent.
type TypeParams struct {
	Name        string // on creation only
	Description *string
	Validation  *string
	Deprecated  *bool
	Schema      *[]byte // empty: removed
	Samples     *[]json.RawMessage
}

func (p *TypeParams) apply(d *event.Definition) {
	call.Set(&d.Description, p.Description)
	call.Set(&d.Deprecated, p.Deprecated)
	if p.Validation != nil {
		d.Validation = event.Validation(*p.Validation)
	}
	call.Set(&d.Schema, p.Schema)
	if p.Samples != nil {
		d.Samples = slices.Clone(*p.Samples)
	}
}

// builtIn returns the built-in definition of a type, nil for others.
func builtIn(space event.Space, name string) *event.Definition {
	for _, t := range event.Catalogue() {
		if t.Name == name {
			return &event.Definition{Space: space, Name: t.Name, Description: t.Description, Validation: event.ValidateOff,
				Samples: []json.RawMessage{event.Sample(t.Name, 1699564800)}, Schema: event.Schema(t.Name)}
		}
	}
	return nil
}

// CreateType defines an event type. A type of the sandbox can be redefined; types that the
// server itself announces cannot. Errors: fault.Invalid, and those of idempotency.
func (s *Service) CreateType(ctx context.Context, c *call.Call, p TypeParams) (*event.Definition, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	now := s.Now()
	d := &event.Definition{Space: c.Space, Name: p.Name, Validation: event.ValidateOff, Created: now, Updated: now}
	p.apply(d)
	leave, err := s.compiling(c, len(d.Schema))
	if err != nil {
		return nil, err
	}
	err = d.Check()
	leave()
	if err != nil {
		return nil, err
	}
	if len(d.Schema) > 0 {
		d.Version = 1
	}
	trail := s.Trail(c, d, now, account.TypeCreated, d.Name)
	trail.Room = &store.Room{Quota: quota.EventTypes, Space: c.Space, Limit: s.Auth.LimitOn(c, quota.EventTypes)}
	if err := s.Store.CreateType(ctx, d, trail); err != nil {
		return nil, err
	}
	s.types.Put(d)
	return d, nil
}

// UpdateType changes the given parameters. Another schema is a new version.
func (s *Service) UpdateType(ctx context.Context, c *call.Call, name string, p TypeParams) (*event.Definition, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	d, err := s.Store.EditType(ctx, c.Space, name, func(d *event.Definition) (store.Trail, error) {
		if err := c.MustMatch(d.Revision); err != nil {
			return store.Trail{}, err
		}
		was, old := *d, d.Schema
		p.apply(d)
		leave, err := s.compiling(c, len(d.Schema)) // samples are validated too
		if err != nil {
			return store.Trail{}, err
		}
		err = d.Check()
		leave()
		if err != nil {
			return store.Trail{}, err
		}
		if !bytes.Equal(old, d.Schema) {
			if d.Version++; d.Version > event.MaxSchemaVersions {
				return store.Trail{}, fault.Param("schema", "too_many_versions", "The event type has had %d schemas; define a new type.", event.MaxSchemaVersions)
			}
		}
		now := s.Now()
		d.Updated = now
		var changed call.Difference
		changed.Of("description", was.Description, d.Description)
		changed.Of("validation", was.Validation, d.Validation)
		changed.Of("deprecated", was.Deprecated, d.Deprecated)
		changed.Of("samples", len(was.Samples), len(d.Samples))
		changed.Of("schema_version", was.Version, d.Version)
		return s.Trail(c, d, now, account.TypeUpdated, d.Name, changed...), nil
	})
	if err != nil {
		return nil, ownOnly(c, name, err)
	}
	s.types.Put(&d)
	return &d, nil
}

// ownOnly replaces the error about a type that the account has not defined by one that says
// that the type is built in, if it is.
func ownOnly(c *call.Call, name string, err error) error {
	if fault.Is(err, fault.NotFound) && builtIn(c.Space, name) != nil {
		return fault.Param("id", "event_type_read_only", "The event type %s is built in and cannot be changed.", name)
	}
	return err
}

// DeleteType deletes an account's definition of a type. Its events are kept.
func (s *Service) DeleteType(ctx context.Context, c *call.Call, name string) error {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	var d event.Definition
	if err := again(func() error {
		if d, err = s.Store.Type(ctx, c.Space, name); err != nil {
			return ownOnly(c, name, err)
		}
		if err := c.MustMatch(d.Revision); err != nil {
			return err
		}
		now := s.Now()
		return s.Store.DeleteType(ctx, d.No, d.Revision, now, s.Trail(c, nil, now, account.TypeDeleted, d.Name))
	}); err != nil {
		return err
	}
	s.types.Remove(d.No)
	return nil
}

// Type returns the definition of a type. A built-in one has no number.
func (s *Service) Type(ctx context.Context, c *call.Call, name string) (*event.Definition, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	d, err := s.Store.Type(ctx, c.Space, name)
	if fault.Is(err, fault.NotFound) {
		if known := builtIn(c.Space, name); known != nil {
			return known, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return &d, nil
}

// Types returns all defined types: the account's own, newest first, then the built-in ones.
func (s *Service) Types(ctx context.Context, c *call.Call) ([]event.Definition, error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	all, err := s.Store.ListTypes(ctx, c.Space)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for i := range all {
		own[all[i].Name] = true
	}
	for _, t := range event.Catalogue() {
		if !own[t.Name] {
			all = append(all, *builtIn(c.Space, t.Name))
		}
	}
	return all, nil
}

// ListTypes lists the types that Types returns.
func (s *Service) ListTypes(ctx context.Context, c *call.Call, p call.Page) ([]event.Definition, bool, error) {
	all, err := s.Types(ctx, c)
	if err != nil {
		return nil, false, err
	}
	return cutPage(all, p, func(d *event.Definition) string { return d.Name })
}

// TypeVersions returns the current and earlier schemas of a type, newest first.
func (s *Service) TypeVersions(ctx context.Context, c *call.Call, name string) ([]event.SchemaVersion, error) {
	d, err := s.Type(ctx, c, name)
	if err != nil || d.No == 0 {
		return nil, err
	}
	return s.Store.TypeVersions(ctx, d.No)
}

// cutPage returns a page of a list in memory.
func cutPage[T any](all []T, p call.Page, id func(*T) string) ([]T, bool, error) {
	page, err := call.ResolvePage(p, func(param, name string) (int, error) {
		i := slices.IndexFunc(all, func(v T) bool { return id(&v) == name })
		if i < 0 {
			return 0, fault.Param(param, "resource_missing", "No such object: '%s'.", name)
		}
		return i, nil
	})
	if err != nil {
		return nil, false, err
	}
	if page.Before != nil {
		first := max(*page.Before-page.Limit, 0)
		return all[first:*page.Before], first > 0, nil
	}
	if page.After != nil {
		all = all[*page.After+1:]
	}
	return all[:min(page.Limit, len(all))], len(all) > page.Limit, nil
}

// rejection is the error of an event that the account's own settings refuse: another node may
// have changed them.
type rejection struct{ error }

func (r rejection) Unwrap() error { return r.error }

// validate checks an event against the account's definition of its type. It adds to the event's
// warnings, or returns a fault.Invalid if the event is to be refused.
func (s *Service) validate(e *event.Event) error {
	d := s.types.Get(e.Space, e.Type)
	if d == nil {
		return nil
	}
	if d.Deprecated {
		e.Warnings = append(e.Warnings, fault.Param("type", "event_type_deprecated", "The event type %s is deprecated.", d.Name))
	}
	if d.Validation == event.ValidateOff {
		return nil
	}
	wrong, cost := d.Fits(e.Body)
	s.Charge(e.Space, cost)
	switch {
	case wrong == nil:
		s.Validated(Fits)
	case d.Validation == event.ValidateReject:
		s.Validated(Rejected)
		return rejection{wrong}
	default:
		s.Validated(Warned)
		e.Warnings = append(e.Warnings, wrong)
	}
	return nil
}

// Verdict is the result of validating an event against its type's schema.
type Verdict string

// The verdicts.
const (
	Fits     Verdict = "fits"
	Warned   Verdict = "warned"   // it does not match, and is accepted
	Rejected Verdict = "rejected" // it does not match, and is refused
)

// Verdicts lists all verdicts.
var Verdicts = []Verdict{Fits, Warned, Rejected}

// sample returns the data of an example of a type, from the account's definition if there is
// one.
func (s *Service) sample(space event.Space, typ string, created int64) []byte {
	if data := s.types.Get(space, typ).Sample(); data != nil {
		return data
	}
	return event.Sample(typ, created)
}
