// Package service owns the operations that all surfaces share: check, store, wake the engine.
// The API, the Admin UI, the sandbox and the command line all use it, so each rule applies to
// all of them. One file per resource.
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
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/service/jobs"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Appender writes events durably (commit.Committer).
type Appender interface {
	Append(ctx context.Context, a *store.Append) error
	AppendAll(ctx context.Context, all []*store.Append) []error
	// FanOut reports that a space has deferred events that were not stored through the Appender.
	FanOut(space event.Space)
}

// Engine is woken when the deliveries that it sends change (dispatch.Engine).
type Engine interface {
	Wake(endpoint int64)
	// Expedite attempts pending deliveries at once, before others and through an open breaker.
	Expedite(deliveries ...delivery.ID)
	Forgive(endpoint int64)
	// Recall returns an endpoint's deliveries in memory to the store, because some of them must no
	// longer be sent.
	Recall(endpoint int64)
	Breaker(endpoint int64) delivery.Breaker
}

// Targets checks at registration whether a URL is allowed, and asks its receiver for consent
// (sender.Sender).
type Targets interface {
	// CheckTarget returns a fault.Invalid for param if url is not allowed.
	CheckTarget(param, url string) error
	// AskConsent asks an endpoint's receiver whether it consents to deliveries.
	AskConsent(ctx context.Context, e *endpoint.Endpoint, ask endpoint.ConsentRequest) endpoint.ConsentAnswer
}

// Note is an immediate notification for the operator.
type Note struct {
	Type     string // of the corresponding event
	Account  string // identifier
	Live     bool
	Endpoint string // identifier
	URL      string // of the endpoint, without its query
	Text     string // a sentence or two
}

// Config contains the dependencies and settings of a Service.
type Config struct {
	Store     store.Store
	Events    Appender
	Endpoints *endpoint.Registry
	Targets   Targets
	IDs       *event.IDs
	Now       func() time.Time
	Log       *slog.Logger
	Notify    func(Note) // must not block; nil: no notifications
	// PublicURL returns the URL by which receivers reach the server, without a trailing slash;
	// empty if unknown. Nil: unknown.
	PublicURL func() string
	// Validated receives the result of each validation of an event against its type's schema; nil:
	// not counted.
	Validated func(Verdict)
	// GivenUp receives the reason for which the server disabled an endpoint; nil: not counted.
	GivenUp func(reason string)
	// Forgotten receives the number of objects of a kind that retention deleted; nil: not counted.
	Forgotten func(kind Kind, n int)
	// Owns reports whether this node sends to an endpoint; 0 stands for work that one node does
	// for all. Nil: there is one node, which does everything.
	Owns func(endpoint int64) bool
	// Settings reads the changes of other nodes; nil: there is one node.
	Settings Settings
	// RotateMaster generates a new master key and re-encrypts every record with it; nil: not
	// possible while the server runs.
	RotateMaster func(context.Context) (MasterRotation, error)

	Rules        endpoint.Rules
	MaxBody      int           // bytes of a delivered body; default DefaultMaxBody
	EventsKept   time.Duration // of events without pending deliveries; 0: for ever
	AccountGrace time.Duration // during which a deleted account can be restored; 0: not at all
	SecretMaxAge time.Duration // accounts are reminded to rotate older secrets; 0: never
	Limits       quota.Set     // of accounts without their own limits
	RateLimit    int           // API requests and events per minute of an account without its own limit; 0: none
	Passwords    account.Passwords
}

// DefaultMaxBody is the default maximum size of a delivered body, in bytes.
const DefaultMaxBody = 256 << 10

// Service is safe for concurrent use. Use [New], then Load.
type Service struct {
	Config
	*call.Calls
	Auth   *auth.Auth
	Jobs   *jobs.Runner
	Bodies *quota.Bodies // of the concurrent requests of all surfaces
	engine Engine

	places quota.Places

	processor *quota.Processor // for events: filters, schemas and transformations
	compiler  *quota.Processor // for edits and previews, separately, so that an expensive filter can be corrected
	parser    *quota.Processor // the turns of large bodies; it charges no time
	tally     tally.Tally
	filters   filters

	catchUp    catchUp
	publishing sync.Mutex     // held while an endpoint in memory receives its process state and is stored
	adopted    map[int64]bool // guarded by publishing: the endpoints that this node began to send to and Adopted has not returned
	types      *event.Definitions

	listeners sync.Map // of connection, by store number
	consents  meter

	erasing chan struct{} // receives a value when an erasure has begun
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
	s := &Service{Config: c, adopted: map[int64]bool{}, types: event.NewDefinitions(), consents: meter{perMinute: consentsAMinute}, erasing: make(chan struct{}, 1)}
	s.Calls = call.New(c.Store, c.IDs, c.Now, c.EventsKept)
	s.Auth = auth.New(auth.Config{Store: c.Store, IDs: c.IDs, Now: c.Now, Log: c.Log, Passwords: c.Passwords, Limits: c.Limits, RateLimit: c.RateLimit, CatchUp: s.CatchUp, Suspension: s.suspension}, s.Calls)
	s.Jobs = jobs.New(jobs.Config{Store: c.Store, Now: c.Now, Log: c.Log, Owns: c.Owns, Slice: s.advance})
	s.processor = quota.NewProcessor(time.Now, 0)
	s.compiler = quota.NewProcessor(time.Now, 0)
	s.parser = quota.NewProcessor(time.Now, 0)
	s.Bodies = quota.NewBodies(quota.DefaultBodies, max(MaxBatch, s.MaxRequest()))
	return s
}

// Load reads accounts, keys and endpoints into memory. From then on it wakes engine.
func (s *Service) Load(ctx context.Context, engine Engine) error {
	s.engine = engine
	if s.Settings != nil {
		version, err := s.Settings.Version(ctx) // read before the settings: changes made meanwhile are read again
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
		if e.Kind().Connects && s.Owns == nil {
			s.listeners.Store(e.No, connection{since: s.Now()}) // connected listeners may come back
		}
		s.publish(e)
		return nil
	}); err != nil {
		return fmt.Errorf("load endpoints: %w", err)
	}
	return nil
}

// owns reports whether this node does the work for an endpoint.
func (s *Service) owns(endpoint int64) bool { return s.Owns == nil || s.Owns(endpoint) }

// Ready returns nil if events can be accepted.
func (s *Service) Ready(ctx context.Context) error { return s.Store.Ready(ctx) }
