package store

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Recovery is a job that sends again what was missed in a stretch of time. It goes
// on where it stood after a restart.
type Recovery struct {
	ID         string
	Kind       RecoveryKind
	Space      event.Space
	Endpoint   int64  // store number; 0: all, with [RetryFailed] only
	EndpointID string // public identifier
	Pattern    string // of event types; empty: all. With [RetryFailed] only
	From       event.Key
	Until      event.Key // exclusive
	Missed     bool      // events without a delivery too, with [RecoverEndpoint] only
	Actor      string    // identifier of who started it: its revocation ends the job

	State    RecoveryState
	Cursor   delivery.ID // what is up to this one is done; of [RecoverEndpoint], the event alone counts
	Total    int         // events in the stretch or, with [RetryFailed], failed deliveries; or [NotCounted]
	Scanned  int         // of these
	Requeued int         // deliveries that are pending because of it
	Error    string      // why it failed, for the user
	Created  time.Time
	Finished time.Time // zero while running
}

// NotCounted is the total of a recovery that has more to look at than is worth counting.
const NotCounted = -1

// RecoveryKind is what a recovery sends again.
type RecoveryKind string

// The kinds.
const (
	// RecoverEndpoint is what failed for one endpoint and, if asked for, what it
	// subscribes to and never had.
	RecoverEndpoint RecoveryKind = "recovery"
	// RetryFailed is what failed, of one endpoint or all, by type.
	RetryFailed RecoveryKind = "bulk_retry"
)

// RecoveryState is where a recovery stands.
type RecoveryState string

// The states. All but the first are final.
const (
	RecoveryRunning   RecoveryState = "running"
	RecoverySucceeded RecoveryState = "succeeded"
	RecoveryCanceled  RecoveryState = "canceled"
	RecoveryFailed    RecoveryState = "failed"
)

// Occasion is an event with what became of it at one endpoint.
type Occasion struct {
	Key      event.Key
	Type     string
	Delivery *delivery.Delivery // nil: there never was one
}
