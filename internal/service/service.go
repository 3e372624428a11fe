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
	"net"
	"slices"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Appender writes events durably (commit.Committer).
type Appender interface {
	Append(ctx context.Context, a *store.Append) error
	AppendAll(ctx context.Context, all []*store.Append) []error
	// FanOut tells that a space has deferred events which were stored by other means.
	FanOut(space event.Space)
}

// Engine is woken when what it sends changes (dispatch.Engine).
type Engine interface {
	Wake(endpoint int64)
	// Expedite attempts pending deliveries at once, before others and through an open breaker.
	Expedite(deliveries ...delivery.ID)
	Forgive(endpoint int64)
	// Recall gives deliveries that wait in memory back to the store, because some of them are
	// to be sent no more.
	Recall(endpoint int64)
	Breaker(endpoint int64) delivery.Breaker
}

// Targets says at registration whether a URL can be allowed, and asks its receiver
// (sender.Sender).
type Targets interface {
	// CheckTarget returns a fault.Invalid for param when url cannot be allowed.
	CheckTarget(param, url string) error
	// AskConsent asks an endpoint's receiver whether it wants to be sent to.
	AskConsent(ctx context.Context, e *endpoint.Endpoint, ask endpoint.ConsentRequest) endpoint.ConsentAnswer
}

// Note is something that the operator may want to hear of at once.
type Note struct {
	Type     string // of the event that says the same
	Account  string // identifier
	Live     bool
	Endpoint string // identifier
	URL      string // of the endpoint, without its query
	Text     string // a sentence or two for people
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
	Notify    func(Note) // must not block; nil: nobody listens
	// PublicURL returns where receivers reach the server, without a slash at its end, empty
	// if that is not known. Nil: it is not.
	PublicURL func() string
	// Validated is told what a look at an event by its type's schema found; nil: nobody counts.
	Validated func(Verdict)
	// GivenUp is told why the server disabled an endpoint; nil: nobody counts.
	GivenUp func(reason string)
	// Forgotten is told how many of a kind were deleted because of their age; nil: nobody counts.
	Forgotten func(kind Kind, n int)
	// Owns says whether this node sends to an endpoint; 0 stands for what is done once for
	// all. Nil: there is one node, which does everything.
	Owns func(endpoint int64) bool
	// Settings is what other nodes change; nil: there is one node.
	Settings Settings
	// RotateMaster makes a new master key and re-seals everything; nil: it cannot be
	// done while the server runs.
	RotateMaster func(context.Context) (MasterRotation, error)

	Rules        endpoint.Rules
	MaxBody      int           // bytes of a delivered body; default DefaultMaxBody
	EventsKept   time.Duration // without pending deliveries; 0: for ever
	AccountGrace time.Duration // for which a deleted account can be restored; 0: not at all
	SecretMaxAge time.Duration // the account is reminded to rotate older secrets; 0: never
	Limits       quota.Set     // of accounts that have no limits of their own
	RateLimit    int           // API requests and events a minute of an account that has no limit of its own; 0: none
	Passwords    account.Passwords
}

// DefaultMaxBody is the largest body that is accepted by default, in bytes.
const DefaultMaxBody = 256 << 10

// Service is safe for concurrent use. Use [New], then Load.
type Service struct {
	Config
	Bodies *quota.Bodies // of the requests of all surfaces that are under way
	engine Engine

	keys   keyring
	once   inflight
	limits limits
	places quota.Places

	processor *quota.Processor // for events: filters, schemas and transformations
	compiler  *quota.Processor // for edits and previews, apart, so that a dear filter can be mended
	parser    *quota.Processor // the turns of large bodies; it charges nothing
	tally     tally.Tally
	filters   filters
	offsets   offsets

	adoptions  adoptions
	catchUp    catchUp
	publishing sync.Mutex // held while an endpoint in memory is given its process state and put
	types      *event.Definitions

	guesses guesses
	signIns *comparisons

	listening listening
	leases    leases
	refusals  refusals
	consents  meter

	jobs    chan job.Job
	stopped chan struct{} // closed when nobody takes jobs any more
	erasing chan struct{} // holds one when an erasure has begun
}

// New returns a service that knows no accounts, keys or endpoints until Load.
func New(c Config) *Service {
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Validated == nil {
		c.Validated = func(Verdict) {}
	}
	if c.GivenUp == nil {
		c.GivenUp = func(string) {}
	}
	if c.Forgotten == nil {
		c.Forgotten = func(Kind, int) {}
	}
	s := &Service{Config: c, types: event.NewDefinitions(), signIns: newComparisons(), consents: meter{perMinute: consentsAMinute}, jobs: make(chan job.Job), stopped: make(chan struct{}), erasing: make(chan struct{}, 1)}
	s.processor = quota.NewProcessor(time.Now, 0)
	s.compiler = quota.NewProcessor(time.Now, 0)
	s.parser = quota.NewProcessor(time.Now, 0)
	s.Bodies = quota.NewBodies(quota.DefaultBodies, max(MaxBatch, s.MaxRequest()))
	return s
}

// Load reads accounts, keys and endpoints into memory. engine is woken from then on.
func (s *Service) Load(ctx context.Context, engine Engine) error {
	s.engine = engine
	s.offsets.spare(s.Now()) // steps are noticed from here on
	if s.Settings != nil {
		version, err := s.Settings.Version(ctx) // before all that is read: what changes meanwhile is read again
		if err != nil {
			return fmt.Errorf("load the version of the settings: %w", err)
		}
		s.catchUp.version.Store(version)
	}
	accounts, err := s.Store.AllAccounts(ctx)
	if err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	keys, err := s.Store.AllKeys(ctx)
	if err != nil {
		return fmt.Errorf("load keys: %w", err)
	}
	s.keys.set(accounts, keys)
	types, err := s.Store.AllTypes(ctx)
	if err != nil {
		return fmt.Errorf("load event types: %w", err)
	}
	for i := range types {
		s.types.Put(&types[i])
	}
	if err := s.Store.AllEndpoints(ctx, func(e *endpoint.Endpoint) error {
		if e.Kind().Connects {
			e.Updated = s.Now() // whoever was connected may come back
		}
		s.publish(e)
		return nil
	}); err != nil {
		return fmt.Errorf("load endpoints: %w", err)
	}
	return nil
}

// owns reports whether this node is the one that does what is done for an endpoint.
func (s *Service) owns(endpoint int64) bool { return s.Owns == nil || s.Owns(endpoint) }

// Call is one request by somebody: in whose data it works and under which
// idempotency key.
type Call struct {
	Key     account.Key
	Space   event.Space
	Idem    *Idempotency    // nil without a key
	Request string          // Request-Id
	Remote  string          // the caller's address
	Portal  *account.Portal // of a customer's call; nil otherwise

	AccountHeader string // the header that an operator names an account by; empty where none is read

	// Revisions narrows what is edited to an object that has one of these; nil: any.
	Revisions []int64

	counted int // how many requests it was counted as against the account's limit
	limit   int // which was this many a minute
}

// Operator reports whether the caller may manage accounts and keys.
func (c *Call) Operator() bool { return c.Key.Role == account.Operator }

// Owner is who the call's request is charged to. What an operator does for an account is not
// charged to the account, which must not be able to stop it.
func (c *Call) Owner() quota.Owner {
	o := quota.Owner{Account: c.Space.Account(), Key: c.Key.ID}
	if c.Operator() {
		o.Account = -o.Account
	}
	return o
}

// InAccount reports whether the call works in an account's data; an operator's
// call does only when it names one.
func (c *Call) InAccount() bool { return c.Space.Account() != 0 }

// Idempotency is a request that can be repeated without being done twice.
type Idempotency struct {
	Key         string
	Fingerprint [32]byte // of method, path and body
	// encode returns the response for a result, so that it can be kept in the
	// transaction of the request's own effect.
	encode func(result any) (status int, body []byte)
	// Private says that the response holds a secret.
	Private bool

	event bool // the result is an event, of which the response can be made again
	brief bool // the response shows no payload
}

// Repeatable returns the idempotency of a request whose result is a T.
func Repeatable[T any](key string, encode func(T) (status int, body []byte)) *Idempotency {
	_, isEvent := any(*new(T)).(*event.Event)
	return &Idempotency{Key: key, event: isEvent, encode: func(result any) (int, []byte) { return encode(result.(T)) }}
}

// MaxIdempotencyKey is the longest idempotency key, in bytes.
const MaxIdempotencyKey = 255

// Replayed is the error for a request that was answered before: the surface
// answers with the receipt again.
type Replayed struct{ Receipt store.Receipt }

func (r *Replayed) Error() string { return "request was answered before" }

// receipt returns what to keep for a call that led to result, nil without a key.
func (s *Service) receipt(c *Call, result any, now time.Time) *store.Receipt {
	if c.Idem == nil {
		return nil
	}
	r := &store.Receipt{Space: c.Space, Key: c.Idem.Key, Fingerprint: c.Idem.Fingerprint, Private: c.Idem.Private, Created: now, Spare: s.offsets.spare(s.Now())}
	e, shown := eventOf(result)
	lives := s.EventsKept == 0 || s.EventsKept >= 2*store.ReceiptLife // longer than the receipt, whatever clocks do
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

// eventOf returns the event whose payload the response to a result may show.
func eventOf(result any) (e *event.Event, shown bool) {
	switch v := result.(type) {
	case *event.Event:
		return v, true
	case *Preview:
		return v.Event, true
	case []delivery.View: // of one event
		if len(v) > 0 {
			return &event.Event{Key: v[0].ID.Event}, true
		}
	}
	return nil, false
}

// trail returns what a call leaves that did something to an object: its receipt
// and a line in the audit log. detail is pairs of names and values.
func (s *Service) trail(c *Call, result any, now time.Time, action account.Action, object string, detail ...string) store.Trail {
	return store.Trail{Receipt: s.receipt(c, result, now), Audit: s.entry(c, now, action, object, detail...)}
}

func (s *Service) entry(c *Call, now time.Time, action account.Action, object string, detail ...string) *account.Entry {
	e := &account.Entry{ID: s.IDs.New(event.PrefixAudit), Space: c.Space, Time: now, Actor: c.Key.ID, Action: action,
		Object: object, Request: c.Request, Remote: c.Remote}
	if len(detail) > 0 {
		e.Detail = make(map[string]string, len(detail)/2)
		for i := 0; i < len(detail); i += 2 {
			e.Detail[detail[i]] = detail[i+1]
		}
	}
	return e
}

// byItself is the call of what the server does in a space without being asked.
func byItself(space event.Space) *Call {
	return &Call{Key: account.Key{ID: account.System}, Space: space}
}

// replay turns an earlier receipt of the call's key into the error to return. A response that
// is not in the receipt is made again of the event that it shows.
func (s *Service) replay(ctx context.Context, c *Call, earlier *store.Receipt) error {
	if earlier.Fingerprint != c.Idem.Fingerprint {
		return &fault.Error{Code: fault.IdempotencyMismatch, Reason: "idempotency_key_reused",
			Message: "This Idempotency-Key was used with another request. Use a new key for a new request."}
	}
	again := *earlier
	if again.Event != 0 && len(again.Body) == 0 {
		e, err := s.Store.EventAt(ctx, c.Space, again.Event)
		if err != nil {
			return err
		}
		if !c.Idem.event {
			return erased(&e, "Idempotency-Key")
		}
		again.Status, again.Body = c.Idem.encode(&e)
	}
	return &Replayed{Receipt: again}
}

// begin is how every call starts that changes something or gets a secret: it
// refuses callers who only read, and reserves the call's idempotency key until end is
// called. With look it also returns [Replayed] when the call was answered before.
func (s *Service) begin(ctx context.Context, c *Call, look bool) (end func(), err error) {
	if c.Key.Role == account.Viewer {
		return nil, &fault.Error{Code: fault.Forbidden, Reason: "read_only", Message: "You have read-only access."}
	}
	if c.Idem == nil {
		return func() {}, nil
	}
	id := keyInUse{c.Space, c.Idem.Key}
	if !s.once.reserve(id) {
		return nil, &fault.Error{Code: fault.IdempotencyConflict, Reason: "idempotency_key_in_use",
			Message: "The first request with this Idempotency-Key is still running. Retry later.", RetryAfter: time.Second}
	}
	end = func() { s.once.release(id) }
	if !look {
		return end, nil
	}
	if err := s.Answered(ctx, c); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// edit is how a call starts that changes an account's data: it requires an account, and begins.
func (s *Service) edit(ctx context.Context, c *Call) (end func(), err error) {
	if err := c.mustAccount(); err != nil {
		return nil, err
	}
	return s.begin(ctx, c, true)
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

// host returns the address of a remote without its port, which changes all the time.
func host(remote string) string {
	h, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return h
}

// MustAccount refuses calls that work in no account's data.
func (c *Call) MustAccount() error {
	if c.InAccount() {
		return nil
	}
	if c.AccountHeader == "" {
		return &fault.Error{Code: fault.Invalid, Reason: "account_missing", Param: "Authorization",
			Message: "An operator key belongs to no account. Use an account's API key (sk_test_… or sk_live_…)."}
	}
	return &fault.Error{Code: fault.Invalid, Reason: "account_missing", Param: c.AccountHeader,
		Message: "An operator key needs an account to act for. Name it in a header: " + c.AccountHeader + ": acct_…"}
}

func (c *Call) mustAccount() error { return c.MustAccount() }

// mustMatch refuses to edit an object of a revision that the caller did not expect.
func (c *Call) mustMatch(revision int64) error {
	if c.Revisions == nil || slices.Contains(c.Revisions, revision) {
		return nil
	}
	return &fault.Error{Code: fault.PreconditionFailed, Reason: "precondition_failed", Param: "If-Match",
		Message: "The object was changed since it was read. Read it again, and repeat the edit."}
}

func (c *Call) mustOperator() error {
	if c.Operator() {
		return nil
	}
	return &fault.Error{Code: fault.Forbidden, Reason: "operator_key_required", Message: "Only an operator key (sk_admin_…) may do this."}
}
