package store

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Recovery is a job that sends an endpoint again what it missed in a stretch of
// time: what failed and, if asked for, what it subscribes to and never had. It
// goes on where it stood after a restart.
type Recovery struct {
	ID         string
	Space      event.Space
	Endpoint   int64  // store number
	EndpointID string // public identifier
	From       event.Key
	Until      event.Key // exclusive
	Missed     bool      // events without a delivery too

	State    RecoveryState
	Cursor   event.Key // events up to this one are done
	Total    int       // events in the stretch
	Scanned  int       // of these
	Requeued int       // deliveries that are pending because of it
	Error    string    // why it failed, for the user
	Created  time.Time
	Finished time.Time // zero while running
}

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
