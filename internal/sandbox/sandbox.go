// Package sandbox owns the Payment sandbox: a small Payment API in test mode that sends events
// like a real one, to test receivers.
//
// It uses the event service like any other sender. It must not know HTTP, SQL or how events are
// delivered. A card's number and CVC are passed to [Card.check] only: no object that this
// package creates contains them.
package sandbox

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Kinds of objects.
const (
	kindPayment      = "payment"
	kindRefund       = "refund"
	kindSubscription = "subscription"
	kindProduct      = "product"
	kindOrder        = "order"
	kindToken        = "shopper_token"
)

// Config is the configuration of a Sandbox.
type Config struct {
	Store   store.Sandbox
	Events  *service.Service
	BaseURL func() string // of receipts, without a slash at its end
}

// Sandbox is safe for concurrent use.
type Sandbox struct{ Config }

// New returns a sandbox.
func New(c Config) *Sandbox { return &Sandbox{c} }

// Customer is the customer of a payment.
type Customer struct {
	Email string `json:"email,omitzero"`
	Name  string `json:"name,omitzero"`
}

// Limits of parameters, in characters.
const (
	maxText        = 500
	maxDescription = 1000
)

func (c *Customer) check() error {
	switch {
	case utf8.RuneCountInString(c.Name) > maxText:
		return fault.Param("customer[name]", "parameter_invalid", "The name is longer than %d characters.", maxText)
	case c.Email != "" && (len(c.Email) > maxText || !plausibleEmail(c.Email)):
		return fault.Param("customer[email]", "parameter_invalid", "This is not an e-mail address.")
	}
	return nil
}

func plausibleEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && strings.Contains(domain, ".") && !strings.ContainsAny(s, " \r\n\t") && !strings.Contains(domain, "@")
}

// testMode refuses calls outside an account's test data.
func testMode(c *call.Call) error {
	if err := c.MustAccount(); err != nil {
		return err
	}
	if c.Space.Live() {
		return &fault.Error{Code: fault.Forbidden, Reason: "sandbox_test_mode", Message: "The sandbox accepts test keys (sk_test_…) only; it moves no money."}
	}
	return nil
}

// object returns the stored form of an object of the sandbox.
func (s *Sandbox) object(space event.Space, kind, id, parent string, v any) (store.SandboxObject, error) {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return store.SandboxObject{}, fmt.Errorf("encode %s %s: %w", kind, id, err)
	}
	return store.SandboxObject{Space: space, Kind: kind, ID: id, Parent: parent, Body: body, Updated: s.now()}, nil
}

// load reads one object.
func load[T any](ctx context.Context, s *Sandbox, space event.Space, kind, id string) (T, error) {
	o, err := s.Store.SandboxObject(ctx, space, kind, id)
	if err != nil {
		var none T
		return none, err
	}
	return decode[T](&o)
}

func decode[T any](o *store.SandboxObject) (v T, err error) {
	if err := json.Unmarshal(o.Body, &v); err != nil {
		return v, fmt.Errorf("decode %s %s: %w", o.Kind, o.ID, err)
	}
	return v, nil
}

// list reads a page of objects, newest first.
func list[T any](ctx context.Context, s *Sandbox, space event.Space, kind, parent string, p call.Page) ([]T, bool, error) {
	page, err := call.ResolvePage(p, func(param, id string) (string, error) {
		_, err := s.Store.SandboxObject(ctx, space, kind, id)
		return id, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	objects, more, err := s.Store.ListSandbox(ctx, space, kind, parent, page)
	if err != nil {
		return nil, false, err
	}
	out := make([]T, len(objects))
	for i := range objects {
		if out[i], err = decode[T](&objects[i]); err != nil {
			return nil, false, err
		}
	}
	return out, more, nil
}

// emission is an event to be stored with the objects that it is about.
type emission struct {
	typ    string
	object any
}

// write stores objects together with their events and the receipt of the request.
func (s *Sandbox) write(ctx context.Context, c *call.Call, result any, objects []store.SandboxObject, emit ...emission) error {
	all := make([]service.Emission, len(emit))
	for i, e := range emit {
		data, err := json.Marshal(map[string]any{"object": e.object}, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("encode %s: %w", e.typ, err)
		}
		all[i] = service.Emission{Type: e.typ, Data: data}
	}
	return s.Events.Emit(ctx, c, result, all, func(t store.Trail) error { return s.Store.PutSandbox(ctx, objects, t) })
}

func (s *Sandbox) now() time.Time { return s.Events.Now() }

func (s *Sandbox) id(prefix string) string { return s.Events.IDs.New(prefix) }
