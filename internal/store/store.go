// Package store owns the contract of durable state: the [Store] interface in the
// words of the domain, and the values that cross it.
//
// Implementations live below it (sqlite, postgres) and are the only places with
// SQL. The package must not know HTTP, lanes or who calls it. Every
// implementation passes the contract tests in storetest.
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

// ErrMedium is in the error of a store whose medium refuses to be written: a disk that is
// full, read-only or broken, or a database that lacks what it needs, is shutting down or
// cannot be reached. What was to be written is not at fault, even while something smaller can
// be written still.
var ErrMedium = errors.New("the medium refuses writes")

// ErrLate is in the error of a store that has waited for as long as it may, such as for a
// lock. What was to be written is not at fault, and a part of it would take as long.
var ErrLate = errors.New("it has taken too long")

// ErrRaced is in the error of a change that was not made because the object is not what it
// was changed from any more. Read it again.
var ErrRaced = errors.New("it was changed meanwhile")

// ErrUnchanged is what an edit returns that finds nothing to change. Nothing is written.
var ErrUnchanged = errors.New("there is nothing to change")

// Store keeps everything that must outlive the process. All methods are safe for
// concurrent use. What a method wrote is on disk when it returns nil; when it
// returns an error, nothing of it is kept. Getters return a fault.NotFound for
// what is not there; a store that cannot work returns fault.Unavailable.
//
// What is changed depending on what it was is changed by an Edit method. It reads the
// object, calls edit with it, and writes what edit made of it with the trail that edit
// returns, provided that nobody has written the object since it was read, in this process
// or another; else it starts again. So edit may be called several times. It runs outside of
// any transaction or lock, and must change nothing but its argument. When it returns an
// error, nothing is written, and the method returns that error with the object as edit
// left it. Otherwise it returns the object as it was written.
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

// Hot is what every event costs.
type Hot interface {
	// Commit writes a whole batch durably, in one transaction. A refused append
	// (see [Append]) does not fail the batch.
	Commit(ctx context.Context, b *Batch) error

	// FanningOut returns the spaces with deferred events whose keys are below one.
	FanningOut(ctx context.Context, below event.Key) ([]event.Space, error)

	// LoadLane returns the first pending deliveries of an endpoint in order of
	// rank, due or not, with what is needed to send them: at most limit, and no
	// more once their bodies exceed maxBytes (at least one is returned). Those of erased
	// events are left out, until [History.EraseAttempts] has canceled them: the list may then
	// be shorter than limit.
	LoadLane(ctx context.Context, endpoint int64, limit, maxBytes int) ([]delivery.Outgoing, error)

	// ScanLane returns a part of what LoadLane returns the beginning of.
	ScanLane(ctx context.Context, r LaneScan) ([]delivery.Outgoing, error)

	// Load returns those of some deliveries that are pending, with what is needed to send
	// them, in no order.
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)

	// Lanes returns the endpoints with a store number above after that have pending
	// deliveries, in order of number, at most limit. Its cost does not depend on how
	// many deliveries wait.
	Lanes(ctx context.Context, after int64, limit int) ([]Lane, error)

	// CancelPending cancels up to limit pending deliveries of a deleted endpoint and
	// returns how many there were. It cancels none of an endpoint that is not deleted:
	// another node may know one that the caller does not.
	CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (int, error)
}

// Batch is what one transaction writes.
type Batch struct {
	Appends     []*Append
	FanOuts     []*FanOut // each of another space
	Settlements []Settlement
	Health      []Health
}

// Append is one accepted event with a pending delivery for each match and the
// receipt of its request.
//
// Commit refuses it, and says why in one of the last three fields, when the
// receipt's key was used before, the sender's id is taken, or the settings it was
// matched by are out of date.
type Append struct {
	Event      event.Event
	Deliveries []delivery.Delivery
	Receipt    *Receipt // nil without an idempotency key
	Packed     []byte   // what [Pack] made of the event's body; nil: the store does it

	// Version is that of the settings the deliveries were matched by, as [Nodes] counts
	// them; 0: no other process changes settings, and nothing is checked.
	Version int64

	// Deferred says that the deliveries are not written with the event: Commit keeps the list
	// of their endpoints, and writes them in slices (see [FanOut]). Commit sets it too for an
	// Ordered event as long as earlier events of its space are deferred, so that none is
	// overtaken.
	Deferred bool
	Ordered  bool // one of the endpoints gets its events in order

	Replay *Receipt     // set by Commit: the earlier receipt of the same key
	Taken  *event.Event // set by Commit: the earlier event of the same id
	Stale  bool         // set by Commit: another process has changed the account's settings since Version
}

// Refused reports whether Commit wrote nothing for a.
func (a *Append) Refused() bool { return a.Replay != nil || a.Taken != nil || a.Stale }

// Settlement is a delivery after an attempt, or after it was given up without
// one (Attempt is nil). Its state is written only while the stored one is still
// pending, so that it never undoes what a person decided meanwhile; the attempt is
// always kept.
type Settlement struct {
	Delivery delivery.Delivery
	Attempt  *delivery.Attempt
}

// Health is an endpoint's breaker to remember.
type Health struct {
	Endpoint int64
	Breaker  delivery.Breaker
}

// Place is where a pending delivery stands among those of its endpoint. The zero
// value is before all of them.
type Place struct {
	Millis int64 // of the rank, as stores keep it: Unix milliseconds
	Event  event.Key
}

// PlaceOf returns the place of a pending delivery.
func PlaceOf(d *delivery.Delivery) Place {
	p := PlaceBefore(d.Rank)
	p.Millis, p.Event = p.Millis+1, d.ID.Event
	return p
}

// PlaceBefore returns the place before all deliveries of a rank and later ones, to the
// millisecond.
func PlaceBefore(rank time.Time) Place { return Place{Millis: rank.UnixMilli() - 1} }

// Before reports whether p comes before q.
func (p Place) Before(q Place) bool {
	return p.Millis < q.Millis || p.Millis == q.Millis && p.Event < q.Event
}

// LaneScan is a part of an endpoint's pending deliveries: those after a place, in
// order; or, with Until set, those up to that rank, in the opposite order. Limit and
// MaxBytes are those of [Hot.LoadLane].
type LaneScan struct {
	Endpoint        int64
	After           Place
	Until           time.Time
	Limit, MaxBytes int
}

// Lane is an endpoint with pending deliveries.
type Lane struct {
	Endpoint int64
	Rank     time.Time // the lowest rank among them
}

// Receipt is the outcome of a request with an idempotency key. It is written in
// the transaction of the request's own effect.
type Receipt struct {
	Space       event.Space
	Key         string
	Fingerprint [32]byte // of method, path and body
	Status      int
	Body        []byte // the response body
	Private     bool   // Body holds a secret and is sealed at rest

	// Event is the event that the response shows, 0: it shows none. With an empty Body, the
	// response is made of the event again, so that the payload is stored once.
	Event   event.Key
	Created time.Time

	// Spare is by how much longer than ReceiptLife earlier ones of the same key answer, as
	// the clock was stepped forward. It is not kept.
	Spare time.Duration
}

// ReceiptLife is for how long a request can be repeated under its idempotency key.
const ReceiptLife = 24 * time.Hour

// Live reports whether r still answers for its key at now.
func (r *Receipt) Live(now time.Time) bool { return now.Sub(r.Created) < ReceiptLife }

// Trail is what a change leaves besides itself, in the same transaction. The zero
// value is nothing.
type Trail struct {
	Receipt  *Receipt       // of the request; nil without an idempotency key
	Audit    *account.Entry // who did it
	Announce []*Append      // the events that tell of it. Their names must be new
	Room     *Room          // of a creation: what it counts against; nil: nothing
}

// Room is how many objects of a kind an account may have. They are counted in the transaction
// that creates one more, so that all nodes together create no more than that. With as many, the
// creation is refused by [quota.Full].
type Room struct {
	Quota quota.Name
	Space event.Space // mode that is counted; of API keys, which both modes share, the account
	Limit int
	At    time.Time // what has expired by then does not count
}

// ErrStale is in the error of a change that nothing was written of, because an event that
// tells of it was matched by settings that another process has changed since.
var ErrStale = errors.New("another node has changed the settings since")

// Time returns when the change was made, as its audit entry says.
func (t *Trail) Time() time.Time {
	if t.Audit == nil {
		return time.Now()
	}
	return t.Audit.Time
}

// Page says which part of a list is wanted, newest first. At most one of After
// and Before is set.
type Page[C any] struct {
	Limit  int
	After  *C // only what is older than this
	Before *C // only what is newer than this, the nearest ones

	// Scan is how many entries of an index a list may look at, about; 0: [MostScanned].
	Scan int
}

// MostScanned is how many entries of an index one list looks at, about.
const MostScanned = 20_000

// Budget returns how many entries of an index a list of this page may look at.
func (p Page[C]) Budget() int {
	if p.Scan > 0 {
		return p.Scan
	}
	return MostScanned
}

// Accounts holds accounts, API keys and the audit log.
type Accounts interface {
	CreateAccount(ctx context.Context, a *account.Account, t Trail) error // sets a.No
	Account(ctx context.Context, id string) (account.Account, error)
	AllAccounts(ctx context.Context) ([]account.Account, error)
	ListAccounts(ctx context.Context, p Page[int64]) (items []account.Account, more bool, err error)
	EditAccount(ctx context.Context, id string, edit func(*account.Account) (Trail, error)) (account.Account, error) // of a suspended one, jobs end too; of one that is erased, erasures of both spaces begin

	CreateKey(ctx context.Context, k *account.Key, t Trail) error // fault.Invalid when the secret is in use
	AllKeys(ctx context.Context) ([]account.Key, error)           // revoked ones too
	ListKeys(ctx context.Context, f KeyFilter, p Page[string]) (items []account.Key, more bool, err error)
	// RevokeKey also ends the portals that were opened and the jobs that were started with it.
	RevokeKey(ctx context.Context, id string, now time.Time, t Trail) error

	// UseKeys remembers when keys were last used, by id. Unknown ones are passed over.
	UseKeys(ctx context.Context, used map[string]time.Time) error

	// Audit writes an entry by itself: for what changes nothing else.
	Audit(ctx context.Context, e *account.Entry, r *Receipt) error
	// VerifyAudit reads the whole audit log and tells whether it is as it was written.
	VerifyAudit(ctx context.Context) (AuditCheck, error)
	ListAudit(ctx context.Context, f AuditFilter, p Page[string]) (items []account.Entry, more bool, err error)
}

// KeyFilter narrows a list of API keys to those of an account.
type KeyFilter struct {
	Account  int64
	TestOnly bool // no live keys
}

// AuditCheck is what [Accounts.VerifyAudit] found.
type AuditCheck struct {
	Chains    []AuditChain
	Unchained int            // entries from before the log was chained
	Problems  []AuditProblem // the first ones; none: nothing was changed
}

// AuditChain is the part of the audit log that one node wrote.
type AuditChain struct {
	Node    int64
	Entries int
	First   int64  // sequence of the first entry that retention has left
	Last    int64  // of the last one
	Seal    string // of the last one: who notes it elsewhere notices when the log is put back to an older state
}

// AuditProblem is a place where the audit log was changed.
type AuditProblem struct {
	Chain, Sequence int64
	Entry           string // identifier; empty: it is not there
	Text            string
}

// AuditFilter narrows the audit log. Zero fields, Space apart, do not narrow.
type AuditFilter struct {
	Space  event.Space
	Object string
	Action account.Action
}

// Endpoints holds endpoints. A deleted endpoint is not found any more, but its
// id stays known to its deliveries. Secrets, credentials and an endpoint's own
// headers are sealed at rest.
type Endpoints interface {
	// CreateEndpoint sets e.No. It returns [ErrRaced] for a listener when the space has one of
	// the same URL.
	CreateEndpoint(ctx context.Context, e *endpoint.Endpoint, t Trail) error
	EditEndpoint(ctx context.Context, space event.Space, id string, edit func(*endpoint.Endpoint) (Trail, error)) (endpoint.Endpoint, error)
	// DeleteEndpoint deletes an endpoint that has the revision; it returns [ErrRaced] when there
	// is none of that.
	DeleteEndpoint(ctx context.Context, no, revision int64, now time.Time, t Trail) error
	// EndpointAt returns the identifier of an endpoint of the space with the URL.
	EndpointAt(ctx context.Context, space event.Space, url string) (id string, err error)
	Endpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error)
	// PastEndpoint returns an endpoint for its history: a deleted one too, without its
	// secrets, credentials and headers, as long as a delivery or a job names it.
	PastEndpoint(ctx context.Context, space event.Space, id string) (endpoint.Endpoint, error)
	ListEndpoints(ctx context.Context, space event.Space, p Page[int64]) (items []endpoint.Endpoint, more bool, err error)
	AllEndpoints(ctx context.Context, yield func(*endpoint.Endpoint) error) error
	AllHealth(ctx context.Context) ([]Health, error)
}

// Types holds what accounts say of their events, by type.
type Types interface {
	// CreateType sets d.No. It returns a fault.Invalid when the name is in use.
	CreateType(ctx context.Context, d *event.Definition, t Trail) error
	// EditType edits a definition. A schema of a new version is kept beside the older ones.
	EditType(ctx context.Context, space event.Space, name string, edit func(*event.Definition) (Trail, error)) (event.Definition, error)
	// DeleteType deletes a definition that has the revision, and its schemas; it returns
	// [ErrRaced] when there is none of that.
	DeleteType(ctx context.Context, no, revision int64, now time.Time, t Trail) error
	Type(ctx context.Context, space event.Space, name string) (event.Definition, error)
	ListTypes(ctx context.Context, space event.Space) ([]event.Definition, error) // newest first
	AllTypes(ctx context.Context) ([]event.Definition, error)
	TypeVersions(ctx context.Context, no int64) ([]event.SchemaVersion, error) // newest first
}

// EventFilter narrows a list of events. Zero fields do not narrow.
type EventFilter struct {
	Pattern string   // a type or a pattern such as "payment.*"
	Types   []string // any of these
	From    event.Key
	Until   event.Key // exclusive

	Delivered *bool           // no delivery is pending or failed, or at least one is
	State     *delivery.State // with a delivery in this state
	Text      string          // with these bytes in the body
}

// DeliveryFilter narrows a list of deliveries. Zero fields do not narrow.
type DeliveryFilter struct {
	Event    event.Key
	Endpoint int64
	Pattern  string
	State    *delivery.State
	Outcome  *delivery.Outcome // of the last attempt
	Statuses StatusRange       // of the response to the last attempt
	From     event.Key         // events accepted from this key on
	Until    event.Key         // exclusive
}

// StatusRange is the HTTP statuses from one to another, both included. The zero value is all,
// and no response too.
type StatusRange struct{ From, To int }

// AttemptFilter narrows a list of attempts. Zero fields do not narrow.
type AttemptFilter struct {
	Outcome *delivery.Outcome
}

// History is what was accepted and what became of it.
type History interface {
	Event(ctx context.Context, space event.Space, id string) (event.Event, error)
	// ListEvents and ListDeliveries look at a bounded number of entries of an index (see [Page]).
	// next is where to go on: the cursor of the next page in the same direction, which need not
	// be of an item; nil: there is nothing left. A page may be short, and empty, and have a next.
	ListEvents(ctx context.Context, space event.Space, f EventFilter, p Page[event.Key]) (items []event.Event, next *event.Key, err error)
	Delivery(ctx context.Context, space event.Space, id delivery.ID) (delivery.View, error)
	ListDeliveries(ctx context.Context, space event.Space, f DeliveryFilter, p Page[delivery.ID]) (items []delivery.View, next *delivery.ID, err error)
	// CountDeliveries counts deliveries. It looks at no more than most entries of an index,
	// about, and reports whether these were all.
	CountDeliveries(ctx context.Context, space event.Space, f DeliveryFilter, most int) (n int, all bool, err error)
	// OldestPending returns the event of the oldest delivery that is pending or not written
	// yet, 0 if there is none.
	OldestPending(ctx context.Context, space event.Space) (event.Key, error)
	// OldestDeferred returns the oldest event whose deliveries are not all written yet, 0 if
	// there is none.
	OldestDeferred(ctx context.Context, space event.Space) (event.Key, error)
	// Unwritten returns how many deliveries of an event are not written yet.
	Unwritten(ctx context.Context, space event.Space, event event.Key) (int, error)
	ListAttempts(ctx context.Context, id delivery.ID, f AttemptFilter, p Page[int]) (items []delivery.Attempt, next *int, err error)

	// Requeue writes deliveries that a person brought back to pending, or that did
	// not exist yet, whatever their stored state.
	Requeue(ctx context.Context, ds []delivery.Delivery, t Trail) error
	// CancelDelivery cancels a pending delivery; one that is not pending stays as it is. trail
	// is called, as an edit is, with the delivery as it is afterwards.
	CancelDelivery(ctx context.Context, space event.Space, id delivery.ID, now time.Time, trail func(*delivery.View) Trail) (delivery.View, error)

	// EventAt returns the event with a key.
	EventAt(ctx context.Context, space event.Space, key event.Key) (event.Event, error)
	// EraseEvent begins to erase an event: from then on its payload is gone, and nothing of it
	// is read to be sent. The event itself stays, with the time of the erasure. trail is called,
	// as an edit is, with the event as it is afterwards; one that is erased already stays as it is.
	// [History.EraseAttempts] must follow.
	EraseEvent(ctx context.Context, space event.Space, id string, now time.Time, trail func(*event.Event) (Trail, error)) (event.Event, error)
	// EraseAttempts erases what the attempts at an erased event kept of the payload and of the
	// responses, and cancels its pending deliveries, of up to limit deliveries to endpoints with
	// a store number above after. It returns the endpoints whose deliveries it has canceled, and
	// where to go on: the number to pass as after, or 0 when it is through.
	EraseAttempts(ctx context.Context, event event.Key, after int64, now time.Time, limit int) (canceled []int64, next int64, err error)
	// EraseSpace deletes what an account stored in a space, in one step: of up to limit events,
	// with their deliveries and attempts, or of up to limit other objects of a kind. Endpoints,
	// event types and keys must be deleted or revoked before a time, or they stay. The audit log
	// stays. It returns more until there is nothing left that it may delete, and then whether
	// something stays.
	EraseSpace(ctx context.Context, space event.Space, before time.Time, limit int) (more, stays bool, err error)
	// Erasures returns erasures that have not ended, at most limit.
	Erasures(ctx context.Context, limit int) ([]Erasure, error)
	// EndErasures forgets erasures that have ended.
	EndErasures(ctx context.Context, all []Erasure) error
	// Overwrite removes what erased and deleted rows have left in the files of the store, as far
	// as the store can, in small steps beside the traffic.
	Overwrite(ctx context.Context) error

	// Receipt returns the receipt of a key, fault.NotFound if there is none.
	Receipt(ctx context.Context, space event.Space, key string) (Receipt, error)
}

// Erasure is an erasure of an event, or of all of a space, that has not ended.
type Erasure struct {
	Space event.Space
	Event event.Key // 0: all of the space
}

// Users holds the people who use the Admin UI, and all sessions.
type Users interface {
	CreateUser(ctx context.Context, u *account.User, t Trail) error // fault.Invalid when the name is in use, in whatever case
	// EditUser edits a user, given all the others, and ends the user's sessions but the one of
	// keep, if any. Edits of different users are made one after the other, too.
	EditUser(ctx context.Context, id string, keep account.Hash, edit func(u *account.User, others []account.User) (Trail, error)) (account.User, error)
	UnlockUser(ctx context.Context, id string, now time.Time, t Trail) error // sets Unlocked
	User(ctx context.Context, id string) (account.User, error)
	UserNamed(ctx context.Context, name string) (account.User, error)
	AllUsers(ctx context.Context) ([]account.User, error) // oldest first

	// CreateSession begins a session. One of a user is begun only while the user is not
	// disabled and has the password with this hash, which was compared; else it returns a
	// fault.NotFound.
	CreateSession(ctx context.Context, s *account.Session, password string, t Trail) error
	Session(ctx context.Context, h account.Hash) (account.Session, error) // expired ones too
	// ListSessions lists sessions newest first; the cursor is the ID.
	ListSessions(ctx context.Context, f SessionFilter, p Page[string]) (items []account.Session, more bool, err error)
	// CountHeld returns how many objects of a kind there are. It counts no further than the limit.
	CountHeld(ctx context.Context, r Room) (int, error)
	EndSession(ctx context.Context, h account.Hash, t Trail) error // with the jobs that were started in it
}

// SessionFilter narrows a list of sessions: to those of a user or, without one, to the
// portals of a space.
type SessionFilter struct {
	User  string
	Space event.Space
	ID    string    // empty: all
	At    time.Time // when they have not ended
}

// Statistics holds how often what happened.
type Statistics interface {
	// AddStatistics adds counts to what is there for the same space, endpoint, grain
	// and start.
	AddStatistics(ctx context.Context, all []Statistic) error
	// Statistics returns those asked for that are there, by endpoint and start.
	Statistics(ctx context.Context, f StatisticFilter) ([]Statistic, error)
}

// Jobs holds the jobs that send again what an endpoint missed.
type Jobs interface {
	// CreateJob begins a job unless mayRun refuses, given those of the same account
	// that run. No other begins meanwhile.
	CreateJob(ctx context.Context, r *job.Job, mayRun func(running []job.Job) error, t Trail) error
	// AdvanceJob writes a job's progress from where it was, together with the
	// deliveries that it requeued: of those that exist, the ones that are failed still. It
	// returns a fault.NotFound, and writes nothing, when the job is not running any more,
	// or somebody else has advanced it from there.
	AdvanceJob(ctx context.Context, was, r *job.Job, requeued []delivery.Delivery, t Trail) error
	// EditJob edits how a job ends; its progress it leaves as it is.
	EditJob(ctx context.Context, space event.Space, id string, edit func(*job.Job) (Trail, error)) (job.Job, error)
	Job(ctx context.Context, space event.Space, id string) (job.Job, error)
	ListJobs(ctx context.Context, space event.Space, endpoint int64, p Page[string]) (items []job.Job, more bool, err error)
	RunningJobs(ctx context.Context) ([]job.Job, error) // of all accounts

	// CountEvents returns how many events of a space lie in [from, until). It counts no further
	// than most.
	CountEvents(ctx context.Context, space event.Space, from, until event.Key, most int) (int, error)
	// Occasions returns events of a space after one key and before another, oldest
	// first, at most limit, each with what became of it at the endpoint.
	Occasions(ctx context.Context, space event.Space, endpoint int64, after, until event.Key, limit int) ([]Occasion, error)
}

// Sandbox holds the objects of the Payment sandbox, which it alone understands.
type Sandbox interface {
	// PutSandbox adds objects or replaces those of the same space, kind and id. It returns
	// [ErrRaced], and writes nothing, when one was not as its Was says.
	PutSandbox(ctx context.Context, objects []SandboxObject, t Trail) error
	// SandboxObject returns one object; in [AnySpace], of whatever space.
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
	Was    []byte // the body that it was changed from; nil: it is new, or replaced whatever it was

	Updated time.Time // it was last put
}

// AnySpace stands for no space in particular. No account's space is it.
const AnySpace = event.Space(0)

// Upkeep is what the operator and the calendar ask for.
type Upkeep interface {
	// LastKey returns the newest event key, 0 in an empty store.
	LastKey(ctx context.Context) (event.Key, error)
	// PurgeReceipts deletes up to limit receipts made before t and returns how many.
	PurgeReceipts(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeSessions deletes up to limit sessions that expired before t and returns how many.
	PurgeSessions(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeStatistics deletes up to limit statistics of a grain that started before t
	// and returns how many.
	PurgeStatistics(ctx context.Context, g Grain, t time.Time, limit int) (int, error)
	// PurgeEvents deletes up to limit events below the key that no delivery needs which is
	// pending or not written yet, with their deliveries and attempts. It returns where to go on: the key
	// to pass as from, or 0 when it is through.
	PurgeEvents(ctx context.Context, from, below event.Key, limit int) (next event.Key, deleted int, err error)
	// PurgeAudit deletes up to limit entries of the audit log made before t and returns
	// how many.
	PurgeAudit(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeJobs deletes up to limit jobs that ended before t and returns how many.
	PurgeJobs(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeSandbox deletes up to limit objects of the sandbox that were last put before t
	// and returns how many.
	PurgeSandbox(ctx context.Context, t time.Time, limit int) (int, error)
	// PurgeEndpoints deletes what is left of endpoints that were deleted before t, of up to
	// limit with a store number above after, except endpoints that a delivery or a job
	// refers to. It returns where to go on: the number to pass as after, or 0 when it is through.
	PurgeEndpoints(ctx context.Context, t time.Time, after int64, limit int) (next int64, deleted int, err error)
	// PurgeTypes deletes what is left of up to limit event types that were deleted before
	// t and returns of how many.
	PurgeTypes(ctx context.Context, t time.Time, limit int) (int, error)
	// Reseal brings all that is sealed under the master key that seals now, while
	// the store is in use, and returns how many records it changed. When it returns
	// nil, no record needs any other key.
	Reseal(ctx context.Context) (changed int, err error)
	// Waiting returns how many deliveries are pending or not written yet. It counts no further than most.
	Waiting(ctx context.Context, most int) (int, error)
	// Size returns how many bytes the store takes on disk.
	Size(ctx context.Context) (int64, error)
	// Ready returns nil when the store accepts writes.
	Ready(ctx context.Context) error
	Close() error
}
