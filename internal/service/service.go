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
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
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
	*call.Calls
	Auth   *auth.Auth
	Bodies *quota.Bodies // of the requests of all surfaces that are under way
	engine Engine

	places quota.Places

	processor *quota.Processor // for events: filters, schemas and transformations
	compiler  *quota.Processor // for edits and previews, apart, so that a dear filter can be mended
	parser    *quota.Processor // the turns of large bodies; it charges nothing
	tally     tally.Tally
	filters   filters

	adoptions  adoptions
	catchUp    catchUp
	publishing sync.Mutex // held while an endpoint in memory is given its process state and put
	types      *event.Definitions

	listening listening
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
	s := &Service{Config: c, types: event.NewDefinitions(), consents: meter{perMinute: consentsAMinute}, jobs: make(chan job.Job), stopped: make(chan struct{}), erasing: make(chan struct{}, 1)}
	s.Calls = call.New(c.Store, c.IDs, c.Now, c.EventsKept)
	s.Auth = auth.New(auth.Config{Store: c.Store, IDs: c.IDs, Now: c.Now, Log: c.Log, Passwords: c.Passwords, Limits: c.Limits, RateLimit: c.RateLimit, CatchUp: s.CatchUp, Suspension: s.suspension}, s.Calls)
	s.processor = quota.NewProcessor(time.Now, 0)
	s.compiler = quota.NewProcessor(time.Now, 0)
	s.parser = quota.NewProcessor(time.Now, 0)
	s.Bodies = quota.NewBodies(quota.DefaultBodies, max(MaxBatch, s.MaxRequest()))
	return s
}

// Load reads accounts, keys and endpoints into memory. engine is woken from then on.
func (s *Service) Load(ctx context.Context, engine Engine) error {
	s.engine = engine
	if s.Settings != nil {
		version, err := s.Settings.Version(ctx) // before all that is read: what changes meanwhile is read again
		if err != nil {
			return fmt.Errorf("load the version of the settings: %w", err)
		}
		s.catchUp.version.Store(version)
	}
	if err := s.Auth.Load(ctx); err != nil {
		return err
	}
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

// Ready returns nil when events can be accepted.
func (s *Service) Ready(ctx context.Context) error { return s.Store.Ready(ctx) }
