// Package job owns jobs: work on many events or deliveries that is requested once, runs in
// steps, and continues after a restart.
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
	Actor      string    // identifier of the user or key that started it: its revocation ends the job

	// Path and Sum are the searchable key of an [Erasure]. Sum is forgotten when the job ends.
	Path string
	Sum  event.SearchSum

	State    State
	Cursor   delivery.ID // the last delivery that is done; for [Recovery], only its event is compared
	Total    int         // events in the period or, with [BulkRetry], failed deliveries; or [NotCounted]
	Scanned  int         // of these
	Requeued int         // deliveries that were made pending by the job
	Error    string      // why the job failed, for the user
	Created  time.Time
	Finished time.Time // zero while running
}

// NotCounted is the total of a job with too many objects to count.
const NotCounted = -1

// Kind is the scope of a job.
type Kind string

// The kinds.
const (
	// Recovery resends the failed deliveries of one endpoint and, optionally, creates deliveries
	// of missed events that it subscribes to.
	Recovery Kind = "recovery"
	// Erasure erases the payloads of the events with a searchable key.
	Erasure Kind = "erasure"
	// BulkRetry resends the failed deliveries of one endpoint or of all, by type.
	BulkRetry Kind = "bulk_retry"
)

// State is the state of a job.
type State string

// The states. All but the first are final.
const (
	Running   State = "running"
	Succeeded State = "succeeded"
	Canceled  State = "canceled"
	Failed    State = "failed"
)
