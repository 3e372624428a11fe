// Package store owns the contract of durable state: the [Store] interface in terms of the
// domain, and the values that it exchanges.
//
// Implementations are in sqlite and postgres, the only places with SQL. The package must not
// know HTTP, lanes or its callers. Every implementation passes the contract tests in storetest.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// ErrMedium is in the error of a store whose medium cannot be written: a disk that is full,
// read-only or broken, or a database that lacks resources, is shutting down or cannot be
// reached. The written data is not the cause, even if a smaller write still succeeds.
var ErrMedium = errors.New("the medium refuses writes")

// ErrLate is in the error of a store that has waited for the maximum time, such as for a lock.
// The written data is not the cause, and a part of it would take as long.
var ErrLate = errors.New("it has taken too long")

// ErrRaced is in the error of a change that was not made because the object was changed since
// it was read. Read it again.
var ErrRaced = errors.New("it was changed meanwhile")

// ErrUnchanged is returned by an edit that changes nothing. Nothing is written.
var ErrUnchanged = errors.New("there is nothing to change")

// Store contains everything that must outlive the process. All methods are safe for concurrent
// use. When a method returns nil, its writes are on disk; when it returns an error, none of
// them is kept. Getters return a fault.NotFound for a missing object; a store that cannot work
// returns fault.Unavailable.
//
// A change that depends on the current state is made by an Edit method. It reads the object,
// calls edit with it, and writes the result with the trail that edit returns, provided that the
// object was not written since it was read, in this process or another; otherwise it starts
// again. So edit may be called several times. It runs outside of any transaction or lock, and
// must change nothing except its argument. If it returns an error, nothing is written, and the
// method returns that error with the object as edit left it. Otherwise the method returns the
// written object.
type Store interface {
	Hot
	Accounts
	Endpoints
	Types
	History
	Jobs
	Sandbox
	Users
	Statistics
	Upkeep
}

// Hot contains the operations of every event.
type Hot interface {
	// Commit writes a whole batch durably, in one transaction. A refused append
	// (see [Append]) does not fail the batch.
	Commit(ctx context.Context, b *Batch) error

	// FanningOut returns the spaces with deferred events whose keys are below one.
	FanningOut(ctx context.Context, below event.Key) ([]event.Space, error)

	// LoadLane returns a part of the pending deliveries of an endpoint in order of rank, due or
	// not, with the data to send them. Those of erased events are left out until
	// [History.EraseAttempts] has canceled them, so the list may be shorter than the limit.
	LoadLane(ctx context.Context, r LaneScan) ([]delivery.Outgoing, error)

	// Load returns the pending ones of some deliveries, with the data to send them, in no order.
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)

	// Lanes returns the endpoints with a store number above after that have pending deliveries, in
	// order of number, at most limit. Its cost does not depend on the number of deliveries.
	Lanes(ctx context.Context, after int64, limit int) ([]Lane, error)

	// CancelPending cancels up to limit pending deliveries of a deleted endpoint and returns their
	// number. It cancels none of an endpoint that is not deleted: another node may know an
	// endpoint that the caller does not.
	CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error)
}

// Batch is the content of one transaction.
type Batch struct {
	Appends     []*Append
	FanOuts     []*FanOut // each of another space
	Settlements []Settlement
	Health      []Health
}

// Append is one accepted event with a pending delivery per matching endpoint and the receipt of
// its request.
//
// Commit refuses it, and gives the reason in one of the last three fields, if the receipt's key
// was used before, the sender's id is taken, or the settings that it was matched by are stale.
type Append struct {
	Event      event.Event
	Deliveries []delivery.Delivery
	Receipt    *Receipt // nil without an idempotency key
	Packed     []byte   // result of [Pack] for the event's body; nil: the store packs it
	Search     []int64  // hashes of the event's search keys

	// Version is that of the settings by which the deliveries were matched, as counted by [Nodes];
	// 0: no other process changes settings, and nothing is checked.
	Version int64

	// Deferred means that the deliveries are not written with the event: Commit stores the list of
	// their endpoints, and they are written in slices (see [FanOut]). Commit also sets it for an
	// Ordered event while earlier events of its space are deferred, so that none is overtaken.
	Deferred bool
	Ordered  bool // one of the endpoints receives its events in order

	Replay *Receipt     // set by Commit: the earlier receipt of the same key
	Taken  *event.Event // set by Commit: the earlier event of the same id
	Stale  bool         // set by Commit: another process has changed the account's settings since Version
}

// Refused reports whether Commit wrote nothing for a.
func (a *Append) Refused() bool { return a.Replay != nil || a.Taken != nil || a.Stale }

// Settlement is a delivery after an attempt, or after it was given up without one (Attempt is
// nil). Its state is written only if the stored one is still pending, so that it never undoes a
// user's change; the attempt is always recorded.
type Settlement struct {
	Delivery delivery.Delivery
	Attempt  *delivery.Attempt
}

// Health is the stored state of an endpoint's breaker.
type Health struct {
	Endpoint int64
	Breaker  delivery.Breaker
}

// Place is the position of a pending delivery among those of its endpoint. The zero value is
// before all of them.
type Place struct {
	Millis int64 // of the rank, as stored: Unix milliseconds
	Event  event.Key
}

// PlaceOf returns the place of a pending delivery.
func PlaceOf(d *delivery.Delivery) Place {
	p := PlaceBefore(d.Rank)
	p.Millis, p.Event = p.Millis+1, d.ID.Event
	return p
}

// PlaceBefore returns the place before all deliveries with this or a later rank, to the
// millisecond.
func PlaceBefore(rank time.Time) Place { return Place{Millis: rank.UnixMilli() - 1} }

// Before reports whether p comes before q.
func (p Place) Before(q Place) bool {
	return p.Millis < q.Millis || p.Millis == q.Millis && p.Event < q.Event
}

// LaneScan is a part of an endpoint's pending deliveries: those after a place, in
// order; or, with Until set, those up to that rank, in the opposite order.
type LaneScan struct {
	Endpoint int64
	After    Place
	Until    time.Time
	Limit    int
	MaxBytes int // no further delivery once the bodies exceed it; at least one is returned
}

// Lane is an endpoint with pending deliveries.
type Lane struct {
	Endpoint int64
	Rank     time.Time // the lowest rank among them
}

// Receipt is the outcome of a request with an idempotency key. It is written in the transaction
// of the request's effect.
type Receipt struct {
	Space       event.Space
	Key         string
	Fingerprint [32]byte // of method, path and body
	Status      int
	Body        []byte // the response body
	Private     bool   // Body contains a secret and is encrypted at rest

	// Event is the event in the response, 0: none. With an empty Body, the response is rendered
	// from the event again, so that the payload is stored once.
	Event   event.Key
	Created time.Time

	// Spare extends ReceiptLife for earlier receipts of the same key, because the clock was
	// stepped forward. It is not stored.
	Spare time.Duration
}

// ReceiptLife is the time for which a request can be repeated under its idempotency key.
const ReceiptLife = 24 * time.Hour

// Live reports whether r still applies to its key at now.
func (r *Receipt) Live(now time.Time) bool { return now.Sub(r.Created) < ReceiptLife }

// Trail contains the records of a change, written in the same transaction. The zero value has
// none.
type Trail struct {
	Receipt  *Receipt       // of the request; nil without an idempotency key
	Audit    *account.Entry // the caller and the action
	Announce []*Append      // events that announce it. Their names must be new
	Room     *Room          // limit that a creation counts against; nil: none
}

// Room is the limit of an account's objects of a kind. They are counted in the transaction that
// creates one more, so that all nodes together never exceed it. At the limit, the creation is
// refused by [quota.Full].
type Room struct {
	Quota quota.Name
	Space event.Space // the counted mode; for API keys, which both modes share, the account
	Limit int
	At    time.Time // objects that have expired by then do not count
}

// ErrStale is in the error of a change of which nothing was written, because an event that
// announces it was matched by settings that another process has changed since.
var ErrStale = errors.New("another node has changed the settings since")

// Time returns the time of the change, from its audit entry.
func (t *Trail) Time() time.Time {
	if t.Audit == nil {
		return time.Now()
	}
	return t.Audit.Time
}

// Page selects a part of a list, newest first. At most one of After and Before is set.
type Page[C any] struct {
	Limit  int
	After  *C // only objects older than this
	Before *C // only objects newer than this, the nearest ones

	// Scan is the approximate number of index entries that a list may examine; 0: [MostScanned].
	Scan int
}

// MostScanned is the approximate number of index entries that one list examines.
const MostScanned = 20_000

// Budget returns the number of index entries that a list of this page may examine.
func (p Page[C]) Budget() int {
	if p.Scan > 0 {
		return p.Scan
	}
	return MostScanned
}

// Accounts contains accounts, API keys and the audit log.
type Accounts interface {
	CreateAccount(ctx context.Context, a *account.Account, t Trail) error // sets a.No
	Account(ctx context.Context, id string) (account.Account, error)
	AllAccounts(ctx context.Context) ([]account.Account, error)
	ListAccounts(ctx context.Context, p Page[int64]) (items []account.Account, more bool, err error)
	EditAccount(ctx context.Context, id string, edit func(*account.Account) (Trail, error)) (account.Account, error) // also ends the jobs of a suspended account, and starts the erasure of both spaces of an erased one

	CreateKey(ctx context.Context, k *account.Key, t Trail) error // fault.Invalid if the secret is in use
	AllKeys(ctx context.Context) ([]account.Key, error)           // including revoked ones
	ListKeys(ctx context.Context, f KeyFilter, p Page[string]) (items []account.Key, more bool, err error)
	// RevokeKey also ends the portals and jobs that were started with it.
	// The last operator key is not revoked (fault.Invalid), even if two nodes revoke two keys at once.
	RevokeKey(ctx context.Context, id string, now time.Time, t Trail) error

	// UseKeys stores when keys were last used, by id. Unknown ones are ignored.
	UseKeys(ctx context.Context, used map[string]time.Time) error

	// Audit writes an entry without another change.
	Audit(ctx context.Context, e *account.Entry, r *Receipt) error
	// VerifyAudit reads the whole audit log and checks that it was not changed.
	VerifyAudit(ctx context.Context) (account.AuditCheck, error)
	ListAudit(ctx context.Context, f account.AuditFilter, p Page[string]) (items []account.Entry, more bool, err error)
}

// KeyFilter narrows a list of API keys to those of an account.
type KeyFilter struct {
	Account  int64
	TestOnly bool // no live keys
}

// Endpoints contains endpoints. A deleted endpoint is not found any more, but its id is kept
// for its deliveries. Secrets, credentials and custom headers are encrypted at rest.
type Endpoints interface {
	// CreateEndpoint sets e.No. It returns [ErrRaced] for a listener if the space has one with the
	// same URL.
	CreateEndpoint(ctx context.Context, e *endpoint.Endpoint, t Trail) error
	EditEndpoint(ctx context.Context, space event.Space, id string, edit func(*endpoint.Endpoint) (Trail, error)) (endpoint.Endpoint, error)
	// DeleteEndpoint deletes an endpoint with this revision; it returns [ErrRaced] if there is
	// none.
	DeleteEndpoint(ctx context.Context, no, revision int64, now time.Time, t Trail) error
	// EndpointAt returns the identifier of an endpoint of the space with the URL.
	EndpointAt(ctx context.Context, space event.Space, url string) (id string, err error)
	Endpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error)
	// PastEndpoint returns an endpoint for its history: also a deleted one, without its secrets,
	// credentials and headers, as long as a delivery or a job refers to it.
	PastEndpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error)
	ListEndpoints(ctx context.Context, space event.Space, p Page[int64]) (items []endpoint.Endpoint, more bool, err error)
	AllEndpoints(ctx context.Context, yield func(*endpoint.Endpoint) error) error
	AllHealth(ctx context.Context) ([]Health, error)
}

// Types contains the accounts' definitions of event types.
type Types interface {
	// CreateType sets d.No. It returns a fault.Invalid if the name is in use.
	CreateType(ctx context.Context, d *event.Definition, t Trail) error
	// EditType edits a definition. A schema with a new version is stored beside the older ones.
	EditType(ctx context.Context, space event.Space, name string, edit func(*event.Definition) (Trail, error)) (event.Definition, error)
	// DeleteType deletes a definition with this revision, and its schemas; it returns [ErrRaced]
	// if there is none.
	DeleteType(ctx context.Context, no, revision int64, now time.Time, t Trail) error
	Type(ctx context.Context, space event.Space, name string) (event.Definition, error)
	ListTypes(ctx context.Context, space event.Space) ([]event.Definition, error) // newest first
	AllTypes(ctx context.Context) ([]event.Definition, error)
	TypeVersions(ctx context.Context, no int64) ([]event.SchemaVersion, error) // newest first
}

// EventFilter narrows a list of events. Zero fields select everything.
type EventFilter struct {
	Pattern string   // a type or a pattern such as "payment.*"
	Types   []string // any of these
	From    event.Key
	Until   event.Key // exclusive

	Delivered *bool           // no delivery is pending or failed, or at least one is
	State     *delivery.State // with a delivery in this state
	Text      string          // with these bytes in the body
	Search    Search
}

// Search narrows a list to events with a search key at a path. The zero value does not narrow.
type Search struct {
	Path string
	Sum  event.SearchSum
}

// DeliveryFilter narrows a list of deliveries. Zero fields select everything.
type DeliveryFilter struct {
	Event    event.Key
	Endpoint int64
	Pattern  string
	State    *delivery.State
	Outcome  *delivery.Outcome // of the last attempt
	Statuses StatusRange       // of the response to the last attempt
	Search   Search            // of the event
	From     event.Key         // events accepted from this key on
	Until    event.Key         // exclusive
}

// StatusRange is a range of HTTP statuses, both ends inclusive. The zero value includes all,
// and deliveries without a response.
type StatusRange struct{ From, To int }

// AttemptFilter narrows a list of attempts. Zero fields do not narrow.
type AttemptFilter struct {
	Outcome *delivery.Outcome
}

// History contains the accepted events with their deliveries and attempts.
type History interface {
	Event(ctx context.Context, space event.Space, id string) (event.Event, error)
	// ListEvents and ListDeliveries examine a bounded number of index entries (see [Page]). next
	// is the position to continue from: the cursor of the next page in the same direction, which
	// need not be an item; nil: nothing is left. A page may be short or empty and still have a
	// next.
	ListEvents(ctx context.Context, space event.Space, f EventFilter, p Page[event.Key]) (items []event.Event, next *event.Key, err error)
	Delivery(ctx context.Context, space event.Space, id delivery.ID) (delivery.View, error)
	ListDeliveries(ctx context.Context, space event.Space, f DeliveryFilter, p Page[delivery.ID]) (items []delivery.View, next *delivery.ID, err error)
	// CountDeliveries counts deliveries. It examines at most about most index entries, and reports
	// whether these were all.
	CountDeliveries(ctx context.Context, space event.Space, f DeliveryFilter, most int) (n int, all bool, err error)
	// OldestPending returns the event of the oldest delivery that is pending or unwritten, 0 if
	// there is none.
	OldestPending(ctx context.Context, space event.Space) (event.Key, error)
	// OldestDeferred returns the oldest event with unwritten deliveries, 0 if there is none.
	OldestDeferred(ctx context.Context, space event.Space) (event.Key, error)
	// Unwritten returns the number of an event's unwritten deliveries.
	Unwritten(ctx context.Context, space event.Space, event event.Key) (int, error)
	ListAttempts(ctx context.Context, id delivery.ID, f AttemptFilter, p Page[int]) (items []delivery.Attempt, next *int, err error)

	// Requeue writes deliveries that a user has made pending again, or that did not exist yet,
	// with any stored state.
	Requeue(ctx context.Context, ds []delivery.Delivery, t Trail) error
	// CancelDelivery cancels a pending delivery; one that is not pending is not changed. trail is
	// called like an edit, with the resulting delivery.
	CancelDelivery(ctx context.Context, space event.Space, id delivery.ID, now time.Time, trail func(*delivery.View) Trail) (delivery.View, error)

	// EventAt returns the event with a key.
	EventAt(ctx context.Context, space event.Space, key event.Key) (event.Event, error)
	// EraseEvent starts to erase an event: from then on its payload is deleted and its deliveries
	// are not read for sending. The event is kept, with the time of the erasure. trail is called
	// like an edit, with the resulting event; an erased event is not changed.
	// [History.EraseAttempts] must follow.
	EraseEvent(ctx context.Context, space event.Space, id string, now time.Time, trail func(*event.Event) (Trail, error)) (event.Event, error)
	// EraseAttempts erases the parts of payload and responses that were stored with the attempts
	// of an erased event, and cancels its pending deliveries: of up to limit deliveries to
	// endpoints with a store number above after. It returns the endpoints whose deliveries were
	// canceled, and the number to pass as after next, or 0 at the end.
	EraseAttempts(ctx context.Context, event event.Key, after int64, now time.Time, limit int) (canceled []int64, next int64, err error)
	// EraseSpace deletes the data of an account in a space, in one step: of up to limit events,
	// with their deliveries and attempts, or of up to limit other objects of a kind. Endpoints,
	// event types and keys are deleted only if they were deleted or revoked before a time. The
	// audit log is kept. It returns more until nothing is left that it may delete, and then
	// whether something remains.
	EraseSpace(ctx context.Context, space event.Space, before time.Time, limit int) (more, stays bool, err error)
	// Erasures returns unfinished erasures, at most limit.
	Erasures(ctx context.Context, limit int) ([]Erasure, error)
	// EndErasures deletes finished erasures.
	EndErasures(ctx context.Context, all []Erasure) error
	// Overwrite removes the remains of erased and deleted rows from the store's files, as far as
	// the store can, in small steps beside the traffic.
	Overwrite(ctx context.Context) error

	// Receipt returns the receipt of a key, fault.NotFound if there is none.
	Receipt(ctx context.Context, space event.Space, key string) (Receipt, error)
}

// Erasure is an unfinished erasure of an event, or of a whole space.
type Erasure struct {
	Space event.Space
	Event event.Key // 0: the whole space
}

// Users contains the users of the Admin UI, and all sessions.
type Users interface {
	CreateUser(ctx context.Context, u *account.User, t Trail) error // fault.Invalid if the name is in use, ignoring case
	// EditUser edits a user, given all the others, and ends the user's sessions except the one of
	// keep, if any. Edits of different users are made one after the other, too.
	EditUser(ctx context.Context, id string, keep account.Hash, edit func(u *account.User, others []account.User) (Trail, error)) (account.User, error)
	UnlockUser(ctx context.Context, id string, now time.Time, t Trail) error // sets Unlocked
	User(ctx context.Context, id string) (account.User, error)
	UserNamed(ctx context.Context, name string) (account.User, error)
	AllUsers(ctx context.Context) ([]account.User, error) // oldest first

	// CreateSession creates a session. For a user, it does so only if the user is not disabled and
	// has the password with this hash, which was compared; otherwise it returns a fault.NotFound.
	CreateSession(ctx context.Context, s *account.Session, password string, t Trail) error
	Session(ctx context.Context, h account.Hash) (account.Session, error) // including expired ones
	// ListSessions lists sessions newest first; the cursor is the ID.
	ListSessions(ctx context.Context, f SessionFilter, p Page[string]) (items []account.Session, more bool, err error)
	// CountHeld returns the number of objects of a kind. It counts up to the limit.
	CountHeld(ctx context.Context, r Room) (int, error)
	EndSession(ctx context.Context, h account.Hash, t Trail) error // and ends the jobs that were started in it
}

// SessionFilter narrows a list of sessions: to those of a user or, without one, to the
// portals of a space.
type SessionFilter struct {
	User  string
	Space event.Space
	ID    string    // empty: all
	At    time.Time // at which they have not ended
}

// Statistics contains counts of events, deliveries and attempts.
type Statistics interface {
	// AddStatistics adds counts to the stored ones of the same space, endpoint, grain and start.
	AddStatistics(ctx context.Context, all []Statistic) error
	// Statistics returns the selected statistics, by endpoint and start.
	Statistics(ctx context.Context, f StatisticFilter) ([]Statistic, error)
}

// Jobs contains the jobs that resend missed or failed events.
type Jobs interface {
	// CreateJob creates a job unless mayRun refuses, given the account's running jobs. No other
	// job is created meanwhile.
	CreateJob(ctx context.Context, r *job.Job, mayRun func(running []job.Job) error, t Trail) error
	// AdvanceJob writes a job's progress from was to r, together with the deliveries that it
	// requeued: of existing ones, only those that are still failed. It returns a fault.NotFound,
	// and writes nothing, if the job is no longer running, or another node has advanced it.
	AdvanceJob(ctx context.Context, was, r *job.Job, requeued []delivery.Delivery, t Trail) error
	// EditJob edits the end of a job, without changing its progress.
	EditJob(ctx context.Context, space event.Space, id string, edit func(*job.Job) (Trail, error)) (job.Job, error)
	Job(ctx context.Context, space event.Space, id string) (job.Job, error)
	ListJobs(ctx context.Context, space event.Space, endpoint int64, p Page[string]) (items []job.Job, more bool, err error)
	RunningJobs(ctx context.Context) ([]job.Job, error) // of all accounts

	// CountEvents returns the number of a space's events in [from, until). It counts up to most.
	CountEvents(ctx context.Context, space event.Space, from, until event.Key, most int) (int, error)
	// Occasions returns events of a space after one key and before another, oldest first, at most
	// limit, each with its delivery to the endpoint.
	Occasions(ctx context.Context, space event.Space, endpoint int64, after, until event.Key, limit int) ([]Occasion, error)
}

// Sandbox contains the objects of the Payment sandbox, which only that package interprets.
type Sandbox interface {
	// PutSandbox adds or replaces objects of the same space, kind and id. It returns [ErrRaced],
	// and writes nothing, if a stored object differs from its Was.
	PutSandbox(ctx context.Context, objects []SandboxObject, t Trail) error
	// SandboxObject returns one object; in [AnySpace], of any space.
	SandboxObject(ctx context.Context, space event.Space, kind, id string) (SandboxObject, error)
	// ListSandbox lists objects of a kind and, unless parent is empty, of one parent,
	// newest first. Identifiers of a kind ascend.
	ListSandbox(ctx context.Context, space event.Space, kind, parent string, p Page[string]) (items []SandboxObject, more bool, err error)
}

// SandboxObject is one object of the sandbox.
type SandboxObject struct {
	Space  event.Space
	Kind   string
	ID     string
	Parent string // what it belongs to, if anything
	Body   []byte // JSON
	Was    []byte // the body that was changed; nil: it is new, or is replaced in any state

	Updated time.Time // time of the last write
}

// AnySpace stands for any space. It is not an account's space.
const AnySpace = event.Space(0)

// Upkeep contains maintenance operations.
type Upkeep interface {
	// LastKey returns the newest event key, 0 in an empty store.
	LastKey(ctx context.Context) (event.Key, error)
	// PurgeReceipts deletes up to limit receipts created before t and returns their number.
	PurgeReceipts(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeSessions deletes up to limit sessions that expired before t and returns their number.
	PurgeSessions(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeStatistics deletes up to limit statistics of a grain that started before t and returns
	// their number.
	PurgeStatistics(ctx context.Context, g Grain, t time.Time, limit int) (int, error)
	// PurgeEvents deletes up to limit events below the key that have no pending or unwritten delivery,
	// with their deliveries and attempts. It returns the key to pass as from next, or 0 at the end.
	PurgeEvents(ctx context.Context, from, below event.Key, limit int) (next event.Key, deleted int, err error)
	// PurgeAudit deletes up to limit entries of the audit log created before t and returns their
	// number.
	PurgeAudit(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeJobs deletes up to limit jobs that ended before t and returns their number.
	PurgeJobs(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeSandbox deletes up to limit objects of the sandbox last written before t and returns
	// their number.
	PurgeSandbox(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeEndpoints deletes the rows of endpoints that were deleted before t, of up to limit with
	// a store number above after, except endpoints that a delivery or a job refers to. It returns
	// the number to pass as after next, or 0 at the end.
	PurgeEndpoints(ctx context.Context, t time.Time, after int64, limit int) (next int64, deleted int, err error)
	// PurgeTypes deletes the rows of up to limit event types that were deleted before t and
	// returns their number.
	PurgeTypes(ctx context.Context, t time.Time, limit int) (int, error)
	// Reseal re-encrypts all records with the current master key, while the store is in use, and
	// returns the number of changed records. When it returns nil, no record needs another key.
	Reseal(ctx context.Context) (changed int, err error)
	// Waiting returns the number of deliveries that are pending or unwritten. It counts up to most.
	Waiting(ctx context.Context, most int) (int, error)
	// Size returns the size of the store on disk, in bytes.
	Size(ctx context.Context) (int64, error)
	// Ready returns nil if the store accepts writes.
	Ready(ctx context.Context) error
	Close() error
}
