// Package service owns what every surface shares: check, store, wake the engine.
// The API, the Admin UI, the sandbox and the command line all come through here,
// so a rule that holds for one holds for all. A file a resource.
//
// It must not know net/http or SQL.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Appender writes events durably (commit.Committer).
type Appender interface {
	Append(ctx context.Context, a *store.Append) error
}

// Engine is woken when what it sends changes (dispatch.Engine).
type Engine interface {
	Wake(endpoint int64)
	Forgive(endpoint int64)
}

// Targets says at registration whether a URL can be allowed (sender.Sender).
type Targets interface {
	CheckTarget(url string, live bool) error
}

// Config is what a Service is made of.
type Config struct {
	Store     store.Store
	Events    Appender
	Endpoints *endpoint.Registry
	Targets   Targets
	IDs       *event.IDs
	Now       func() time.Time
	Log       *slog.Logger

	MaxBody        int  // bytes of a delivered body; default DefaultMaxBody
	AllowPlainLive bool // live endpoints may use http
}

// DefaultMaxBody is the largest body that is accepted by default, in bytes.
const DefaultMaxBody = 256 << 10

// Service is safe for concurrent use. Use [New], then Load.
type Service struct {
	Config
	engine Engine

	keys keyring
	once inflight

	edits sync.Mutex // held while an endpoint is read, changed and written back
}

// New returns a service that knows no accounts, keys or endpoints until Load.
func New(c Config) *Service {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	return &Service{Config: c}
}

// Load reads accounts, keys and endpoints into memory. engine is woken from then on.
func (s *Service) Load(ctx context.Context, engine Engine) error {
	s.engine = engine
	accounts, err := s.Store.AllAccounts(ctx)
	if err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	keys, err := s.Store.AllKeys(ctx)
	if err != nil {
		return fmt.Errorf("load keys: %w", err)
	}
	s.keys.set(accounts, keys)
	if err := s.Store.AllEndpoints(ctx, func(e *endpoint.Endpoint) error {
		s.Endpoints.Put(e)
		return nil
	}); err != nil {
		return fmt.Errorf("load endpoints: %w", err)
	}
	return nil
}

// Call is one request by somebody: in whose data it works and under which
// idempotency key.
type Call struct {
	Key   account.Key
	Space event.Space
	Idem  *Idempotency // nil without a key
}

// Operator reports whether the caller may manage accounts and keys.
func (c *Call) Operator() bool { return c.Key.Role == account.Operator }

// InAccount reports whether the call works in an account's data; an operator's
// call does only when it names one.
func (c *Call) InAccount() bool { return c.Space.Account() != 0 }

// Idempotency is a request that can be repeated without being done twice.
type Idempotency struct {
	Key         string
	Fingerprint [32]byte // of method, path and body
	// Encode returns the response for a result, so that it can be kept in the
	// transaction of the request's own effect.
	Encode func(result any) (status int, body []byte)
}

// MaxIdempotencyKey is the longest idempotency key, in bytes.
const MaxIdempotencyKey = 255

// Replayed is the error for a request that was answered before: the surface
// answers with the receipt again.
type Replayed struct{ Receipt store.Receipt }

func (r *Replayed) Error() string { return "request was answered before" }

// receipt returns what to keep for a call that led to result, nil without a key.
func (c *Call) receipt(result any, now time.Time) *store.Receipt {
	if c.Idem == nil {
		return nil
	}
	r := &store.Receipt{Space: c.Space, Key: c.Idem.Key, Fingerprint: c.Idem.Fingerprint, Created: now}
	r.Status, r.Body = c.Idem.Encode(result)
	return r
}

// replay turns an earlier receipt of the call's key into the error to return.
func (c *Call) replay(earlier *store.Receipt) error {
	if earlier.Fingerprint != c.Idem.Fingerprint {
		return &fault.Error{Code: fault.IdempotencyMismatch, Reason: "idempotency_key_reused",
			Message: "This Idempotency-Key was used with another request. Use a new key for a new request."}
	}
	return &Replayed{Receipt: *earlier}
}

// begin reserves the call's idempotency key until end is called. With look it
// also returns [Replayed] when the call was answered before.
func (s *Service) begin(ctx context.Context, c *Call, look bool) (end func(), err error) {
	if c.Idem == nil {
		return func() {}, nil
	}
	id := keyInUse{c.Space, c.Idem.Key}
	if !s.once.reserve(id) {
		return nil, &fault.Error{Code: fault.IdempotencyConflict, Reason: "idempotency_key_in_use",
			Message: "The first request with this Idempotency-Key is still running. Try again in a moment.", RetryAfter: time.Second}
	}
	end = func() { s.once.release(id) }
	if !look {
		return end, nil
	}
	earlier, err := s.Store.Receipt(ctx, c.Space, c.Idem.Key)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !earlier.Live(s.Now()):
		return end, nil
	case err == nil:
		err = c.replay(&earlier)
	}
	end()
	return nil, err
}

type keyInUse struct {
	space event.Space
	key   string
}

// inflight is the idempotency keys of requests that run.
type inflight struct {
	mu   sync.Mutex
	keys map[keyInUse]struct{}
}

func (f *inflight) reserve(k keyInUse) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, running := f.keys[k]; running {
		return false
	}
	if f.keys == nil {
		f.keys = map[keyInUse]struct{}{}
	}
	f.keys[k] = struct{}{}
	return true
}

func (f *inflight) release(k keyInUse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, k)
}

// Ready returns nil when events can be accepted.
func (s *Service) Ready(ctx context.Context) error { return s.Store.Ready(ctx) }

// mustAccount refuses calls that work in no account's data.
func (c *Call) mustAccount() error {
	if c.InAccount() {
		return nil
	}
	return &fault.Error{Code: fault.Invalid, Reason: "account_missing", Param: "account",
		Message: "An operator key acts for one account: name it in the account header."}
}

func (c *Call) mustOperator() error {
	if c.Operator() {
		return nil
	}
	return &fault.Error{Code: fault.Forbidden, Reason: "operator_key_required", Message: "Only an operator key (sk_admin_…) may do this."}
}
