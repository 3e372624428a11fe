// Package job owns what a job is: work on many events or deliveries that was asked for once,
// goes on in steps beside the traffic, and survives restarts.
//
// It does no I/O.
package job

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Job resends deliveries of a period: failed ones and, with [Recovery], missed ones. After a
// restart it continues from its cursor.
type Job struct {
	ID         string
	Kind       Kind
	Space      event.Space
	Endpoint   int64  // store number; 0: all, with [BulkRetry] only
	EndpointID string // public identifier
	Pattern    string // of event types; empty: all. With [BulkRetry] only
	From       event.Key
	Until      event.Key // exclusive
	Missed     bool      // events without a delivery too, with [Recovery] only
	Actor      string    // identifier of who started it: its revocation ends the job

	State    State
	Cursor   delivery.ID // what is up to this one is done; of [Recovery], the event alone counts
	Total    int         // events in the stretch or, with [BulkRetry], failed deliveries; or [NotCounted]
	Scanned  int         // of these
	Requeued int         // deliveries that are pending because of it
	Error    string      // why it failed, for the user
	Created  time.Time
	Finished time.Time // zero while running
}

// NotCounted is the total of a job that has more to look at than is worth counting.
const NotCounted = -1

// Kind is what a job sends again.
type Kind string

// The kinds.
const (
	// Recovery is what failed for one endpoint and, if asked for, what it
	// subscribes to and never had.
	Recovery Kind = "recovery"
	// BulkRetry is what failed, of one endpoint or all, by type.
	BulkRetry Kind = "bulk_retry"
)

// State is where a job stands.
type State string

// The states. All but the first are final.
const (
	Running   State = "running"
	Succeeded State = "succeeded"
	Canceled  State = "canceled"
	Failed    State = "failed"
)
