package store

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Nodes is what a store offers that several nodes share.
type Nodes interface {
	// Join gives this process the number of a node, with a lease of that length. It takes no
	// part before Enter, but all that the store writes for it from then on is refused with
	// [ErrFenced] once another node has removed it.
	Join(ctx context.Context, lease time.Duration) (View, error)
	// Enter makes this node one of the members that endpoints fall to.
	Enter(ctx context.Context) error
	// Beat renews the lease, tells this node's part, and returns which other nodes there are. It returns ErrFenced when this node was removed. No transaction of another
	// node holds it up.
	Beat(ctx context.Context, part Part, lease time.Duration) (View, error)
	// Remove removes a node that has not renewed its lease since it was seen as m, and reports
	// whether it did. It does not wait: transactions of the node that are open are ended, and
	// Remove must be called again.
	Remove(ctx context.Context, m Member) (removed bool, err error)
	// Clock returns the time by the store's clock.
	Clock(ctx context.Context) (time.Time, error)
	// Alone runs fn while no other process that calls Alone does.
	Alone(ctx context.Context, fn func(context.Context) error) error
	// Leave ends this node's membership.
	Leave(ctx context.Context) error
	// Version returns the version of the settings: of accounts, API keys, event types and
	// endpoints. Each change that is committed counts it up.
	Version(ctx context.Context) (int64, error)
	// Changes returns what changed after a version. What it returns is no older than the
	// version in it.
	Changes(ctx context.Context, version int64) (Changes, error)
	// Load returns those of some deliveries that are pending, with what is needed to send
	// them, in no order.
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)
	// LastKey returns the highest key of all stored events, 0 if there are none.
	LastKey(ctx context.Context) (event.Key, error)
	// HealthOf returns the health of those of some endpoints that have any.
	HealthOf(ctx context.Context, endpoints []int64) ([]Health, error)
	// Tell sends messages. They may be lost.
	Tell(ctx context.Context, messages ...Message) error
	// Hear calls hear with each message until ctx ends or the connection breaks, and returns
	// why. A store that cannot hear returns nil at once.
	Hear(ctx context.Context, hear func(message string)) error
}

// ErrFenced is the error of a node that is none any more: others took it for dead,
// and do its work.
var ErrFenced = fencedError{}

type fencedError struct{}

func (fencedError) Error() string {
	return "this node's lease has ended, and others have taken over its work"
}

// Message is what nodes tell each other. Its text has at most 7,999 bytes.
type Message struct {
	To   int // number of a node, or AllNodes, the sender too
	Text string
}

// AllNodes is whom a [Message] is to that is for each node.
const AllNodes = -1

// View is which nodes there are.
type View struct {
	Self       int
	Generation int64    // of the members
	Members    []Member // endpoints fall to them
	Joining    []Member // no endpoint does yet
}

// Member is one node.
type Member struct {
	No       int
	Instance string        // of its process
	Beats    int64         // renewals of its lease so far
	Lease    time.Duration // it may be removed when it has not renewed it for that long
	Part
}

// Part is how far a node is with the changes of the members.
type Part struct {
	Acked    int64  // the generation that it works by
	Follows  int64  // the latest generation that it knows
	Released []byte // slots of the endpoints that it has released by that; see package cluster
}

// Settled reports whether all members work by this view.
func (v *View) Settled() bool {
	for _, m := range v.Members {
		if m.Acked < v.Generation {
			return false
		}
	}
	return true
}

// Changes is what changed of what nodes hold in memory.
type Changes struct {
	Version   int64
	Accounts  []account.Account
	Keys      []account.Key
	Endpoints []endpoint.Endpoint
	Deleted   []int64 // endpoints, by number

	Types        []event.Definition
	DeletedTypes []int64 // by number
}
