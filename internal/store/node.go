package store

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Nodes are the operations of a store that several nodes share.
type Nodes interface {
	// Join assigns this process the number of a node, with a lease of this length. It owns no
	// endpoint before Enter, but all of its writes to the store from then on fail with [ErrFenced]
	// once another node has removed it.
	Join(ctx context.Context, lease time.Duration) (Membership, error)
	// Enter makes this node a member, which can own endpoints.
	Enter(ctx context.Context) error
	// Beat renews the lease, records this node's part, and returns the other nodes. It returns ErrFenced if this node was
	// removed. No transaction of another node blocks it.
	Beat(ctx context.Context, part Part, lease time.Duration) (Membership, error)
	// Remove removes a node that has not renewed its lease since it was seen as m, and reports
	// whether it did. It does not wait: it ends open transactions of the node, and must then be
	// called again.
	Remove(ctx context.Context, m Member) (removed bool, err error)
	// Clock returns the time by the store's clock.
	Clock(ctx context.Context) (time.Time, error)
	// Alone runs fn while no other process runs a function by Alone.
	Alone(ctx context.Context, fn func(context.Context) error) error
	// Leave ends this node's membership.
	Leave(ctx context.Context) error
	// Version returns the version of the settings: of accounts, API keys, event types and
	// endpoints. Each committed change increments it.
	Version(ctx context.Context) (int64, error)
	// Changes returns the changes after a version. They are no older than the version that is
	// returned with them.
	Changes(ctx context.Context, version int64) (Changes, error)
	// Load returns the pending ones of some deliveries, with the data to send them, in no order.
	Load(ctx context.Context, deliveries []delivery.ID) ([]delivery.Outgoing, error)
	// LastKey returns the highest key of all stored events, 0 if there are none.
	LastKey(ctx context.Context) (event.Key, error)
	// HealthOf returns the stored health of some endpoints.
	HealthOf(ctx context.Context, endpoints []int64) ([]Health, error)
	// Tell sends messages to other nodes. They may be lost.
	Tell(ctx context.Context, messages ...Message) error
	// Hear calls hear with each message until ctx ends or the connection breaks, and returns the
	// reason. A store without notifications returns nil at once.
	Hear(ctx context.Context, hear func(message string)) error
}

// ErrFenced is the error of a node that was removed: the others have taken over its work.
var ErrFenced = fencedError{}

type fencedError struct{}

func (fencedError) Error() string {
	return "this node's lease has ended, and others have taken over its work"
}

// Message is a message between nodes. Its text has at most 7,999 bytes.
type Message struct {
	To   int // number of a node, or AllNodes, including the sender
	Text string
}

// AllNodes is the recipient of a [Message] to every node.
const AllNodes = -1

// Membership is the set of nodes.
type Membership struct {
	Self       int
	Generation int64    // of the members
	Members    []Member // which can own endpoints
	Joining    []Member // which own no endpoint yet
}

// Member is one node.
type Member struct {
	No       int
	Instance string        // of its process
	Beats    int64         // renewals of its lease so far
	Lease    time.Duration // it may be removed if it has not renewed it for this long
	Part
}

// Part is a node's progress in following the changes of the members.
type Part struct {
	Acked    int64  // the generation that it works by
	Follows  int64  // the latest generation that it knows
	Released []byte // slots whose endpoints it has released by that generation; see package cluster
}

// Settled reports whether all members work by this view.
func (v *Membership) Settled() bool {
	for _, m := range v.Members {
		if m.Acked < v.Generation {
			return false
		}
	}
	return true
}

// Changes are the changes of the settings that nodes keep in memory.
type Changes struct {
	Version   int64
	Accounts  []account.Account
	Keys      []account.Key
	Endpoints []endpoint.Endpoint
	Deleted   []int64 // endpoints, by number

	Types        []event.Definition
	DeletedTypes []int64 // by number
}
