package call

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// lookFor bounds the query for an earlier response to a request.
const lookFor = 5 * time.Second

// Calls starts calls and creates their receipts and audit entries. It is safe for concurrent
// use.
type Calls struct {
	EventsKept time.Duration // without pending deliveries; 0: for ever

	store store.Store
	ids   *event.IDs
	clock func() time.Time

	once    sync.Map // of keyInUse: the idempotency keys of running requests
	offsets offsets
}

// New returns the calls of a server. Steps of the clock are detected from then on.
func New(st store.Store, ids *event.IDs, now func() time.Time, eventsKept time.Duration) *Calls {
	c := &Calls{EventsKept: eventsKept, store: st, ids: ids, clock: now}
	c.Past()
	return c
}

// Idempotency identifies a request that can be repeated but is executed once.
type Idempotency struct {
	Key         string
	Fingerprint [32]byte // of method, path and body
	// encode returns the response for a result, so that it can be stored in the transaction of the
	// request's effect.
	encode func(result any) (status int, body []byte)
	// Private means that the response contains a secret.
	Private bool

	event bool // the result is an event, from which the response can be rendered again
	brief bool // the response contains no payload
}

// Repeatable returns the idempotency of a request whose result is a T.
func Repeatable[T any](key string, encode func(T) (status int, body []byte)) *Idempotency {
	_, isEvent := any(*new(T)).(*event.Event)
	return &Idempotency{Key: key, event: isEvent, encode: func(result any) (int, []byte) { return encode(result.(T)) }}
}

// MaxIdempotencyKey is the longest idempotency key, in bytes.
const MaxIdempotencyKey = 255

// Replayed is the error of a request that was answered before: the surface responds with the
// receipt.
type Replayed struct{ Receipt store.Receipt }

func (r *Replayed) Error() string { return "request was answered before" }

// Receipt returns the receipt to store for a call with this result, nil without a key.
func (s *Calls) Receipt(c *Call, result any, now time.Time) *store.Receipt {
	if c.Idem == nil {
		return nil
	}
	r := &store.Receipt{Space: c.Space, Key: c.Idem.Key, Fingerprint: c.Idem.Fingerprint, Private: c.Idem.Private, Created: now, Spare: s.offsets.spare(s.clock())}
	e, shown := eventOf(result)
	lives := s.EventsKept == 0 || s.EventsKept >= 2*store.ReceiptLife // longer than the receipt, even if clocks are stepped
	if c.Idem.event && shown && lives {
		r.Event = e.Key
		if len(e.Warnings) == 0 {
			return r
		}
	}
	if r.Status, r.Body = c.Idem.encode(result); shown && len(r.Body) > 0 && (!c.Idem.brief || len(e.Warnings) > 0) {
		r.Event = e.Key
	}
	return r
}

// eventOf returns the event whose payload the response to a result may contain.
func eventOf(result any) (e *event.Event, shown bool) {
	switch v := result.(type) {
	case *event.Event:
		return v, true
	case interface{ Shown() *event.Event }:
		return v.Shown(), true
	case []delivery.View: // of one event
		if len(v) > 0 {
			return &event.Event{Key: v[0].ID.Event}, true
		}
	}
	return nil, false
}

// Trail returns the records of a call that changed an object: its receipt and an entry in the
// audit log. detail contains pairs of names and values.
func (s *Calls) Trail(c *Call, result any, now time.Time, action account.Action, object string, detail ...string) store.Trail {
	return store.Trail{Receipt: s.Receipt(c, result, now), Audit: s.Entry(c, now, action, object, detail...)}
}

// Entry returns an entry for the audit log about a call and an object.
func (s *Calls) Entry(c *Call, now time.Time, action account.Action, object string, detail ...string) *account.Entry {
	e := &account.Entry{ID: s.ids.New(event.PrefixAudit), Space: c.Space, Time: now, Actor: c.Key.ID, Action: action,
		Object: object, Request: c.Request, Remote: c.Remote}
	if len(detail) > 0 {
		e.Detail = make(map[string]string, len(detail)/2)
		for i := 0; i < len(detail); i += 2 {
			e.Detail[detail[i]] = detail[i+1]
		}
	}
	return e
}

// Earlier converts an earlier receipt of the call's key into the error to return. A response
// that is not in the receipt is rendered again from its event.
func (s *Calls) Earlier(ctx context.Context, c *Call, earlier *store.Receipt) error {
	if earlier.Fingerprint != c.Idem.Fingerprint {
		return &fault.Error{Code: fault.IdempotencyMismatch, Reason: "idempotency_key_reused",
			Message: "This Idempotency-Key was used with another request. Use a new key for a new request."}
	}
	again := *earlier
	if again.Event != 0 && len(again.Body) == 0 {
		e, err := s.store.EventAt(ctx, c.Space, again.Event)
		if err != nil {
			return err
		}
		if !c.Idem.event {
			return Erased(&e, "Idempotency-Key")
		}
		again.Status, again.Body = c.Idem.encode(&e)
	}
	return &Replayed{Receipt: again}
}

// Begin starts every call that changes data or returns a secret: it refuses read-only callers,
// and reserves the call's idempotency key until end is called. With look it also returns
// [Replayed] if the call was answered before.
func (s *Calls) Begin(ctx context.Context, c *Call, look bool) (end func(), err error) {
	if c.Key.Role == account.Viewer {
		return nil, &fault.Error{Code: fault.Forbidden, Reason: "read_only", Message: "You have read-only access."}
	}
	if c.Idem == nil {
		return func() {}, nil
	}
	id := keyInUse{c.Space, c.Idem.Key}
	if _, running := s.once.LoadOrStore(id, nil); running {
		return nil, &fault.Error{Code: fault.IdempotencyConflict, Reason: "idempotency_key_in_use",
			Message: "The first request with this Idempotency-Key is still running. Retry later.", RetryAfter: time.Second}
	}
	end = func() { s.once.Delete(id) }
	if !look {
		return end, nil
	}
	if err := s.Answered(ctx, c); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// BeginEdit starts a call that changes an account's data: it requires an account, and calls Begin.
func (s *Calls) BeginEdit(ctx context.Context, c *Call) (end func(), err error) {
	if err := c.MustAccount(); err != nil {
		return nil, err
	}
	return s.Begin(ctx, c, true)
}

// BeginAdmin starts a call that changes accounts, keys or users: it requires an operator, and
// calls Begin.
func (s *Calls) BeginAdmin(ctx context.Context, c *Call) (end func(), err error) {
	if err := c.MustOperator(); err != nil {
		return nil, err
	}
	return s.Begin(ctx, c, true)
}

type keyInUse struct {
	space event.Space
	key   string
}

// Answer returns the result of a call that changes nothing. Under an idempotency key, the
// result is the same for the life of the key, as for any other call.
func Answer[T any](ctx context.Context, s *Calls, c *Call, find func() (T, error)) (result T, err error) {
	end, err := s.Begin(ctx, c, true)
	if err != nil {
		return result, err
	}
	defer end()
	if result, err = find(); err != nil || c.Idem == nil {
		return result, err
	}
	return result, s.store.Audit(ctx, nil, s.Receipt(c, result, s.clock()))
}

// Answered returns [Replayed] if the call was answered before, and fault.IdempotencyMismatch if
// its key was used for another request. It is for checks that must not be repeated.
func (s *Calls) Answered(ctx context.Context, c *Call) error {
	if c.Idem == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	earlier, err := s.store.Receipt(ctx, c.Space, c.Idem.Key)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !earlier.Live(s.Past()):
		return nil
	case err == nil:
		return s.Earlier(ctx, c, &earlier)
	}
	return err
}

// OrAnswered returns the error of a call, or [Replayed] if another node has answered the same
// request since the call began, which then caused the error.
func (s *Calls) OrAnswered(ctx context.Context, c *Call, err error) error {
	if err == nil || errors.As(err, new(*Replayed)) {
		return err
	}
	if earlier := s.Answered(ctx, c); errors.As(earlier, new(*Replayed)) {
		return earlier
	}
	return err
}

// Erased returns the error of a call that needs the payload of an erased event.
func Erased(e *event.Event, param string) error {
	return fault.Param(param, "event_erased", "The payload of the event %s was erased.", e.ID)
}

// maxDetail bounds each value in the audit log, in bytes.
const maxDetail = 300

// Difference collects the values that an edit changed, for the audit log. None may be a secret.
type Difference []string

// Of adds a value before and after the edit.
func (d *Difference) Of(name string, old, is any) {
	before, after := fmt.Sprint(old), fmt.Sprint(is)
	if before == after {
		return
	}
	*d = append(*d, "old_"+name, shortened(before), "new_"+name, shortened(after))
}

func shortened(text string) string {
	if len(text) > maxDetail {
		text = text[:maxDetail] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
