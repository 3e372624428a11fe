// Package endpoint owns the receivers of events: what an [Endpoint] is, which
// events it wants, how it is signed to, and the in-memory [Registry] that answers
// "who wants this" without a look-up in the store.
//
// It does no I/O and must not know deliveries, SQL or HTTP handlers.
package endpoint

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

// Status says whether new events are sent to an endpoint.
type Status string

// The statuses.
const (
	Enabled  Status = "enabled"
	Disabled Status = "disabled"
)

// Why an endpoint is disabled.
const (
	DisabledByUser = "requested" // by an API call or a person
	DisabledGone   = "gone"      // it answered 410
	DisabledFailed = "failing"   // it acknowledged nothing for too long
)

// Ordering says in which order an endpoint gets its events.
type Ordering string

// The orderings.
const (
	Unordered Ordering = "none" // as fast as possible; a retry lets later events pass
	FIFO      Ordering = "fifo" // strictly in order of acceptance; a retry holds the rest back
)

// Endpoint is one registered receiver. A value handed out by a [Registry] is
// shared and must not be changed.
type Endpoint struct {
	No          int64  // store number; 0 until stored
	ID          string // public identifier
	Space       event.Space
	URL         string
	Events      []string // patterns: exact types, "payment.*" or "*"
	Status      Status
	Description string
	Metadata    map[string]string
	Secrets     []Secret // oldest first
	Settings    Settings

	Created        time.Time
	Updated        time.Time
	EnabledSince   time.Time // when it last became enabled
	DisabledReason string    // empty while enabled
}

// Settings are the per-endpoint departures from the server's defaults; a zero
// field means the default.
type Settings struct {
	Ordering    Ordering        `json:"ordering,omitempty"`
	Timeout     time.Duration   `json:"timeout,omitempty"`         // for one attempt
	Concurrency int             `json:"max_concurrency,omitempty"` // attempts at a time
	Rate        float64         `json:"rate,omitempty"`            // attempts a second
	Schedule    []time.Duration `json:"schedule,omitzero"`         // delays before the retries
}

// Live reports whether the endpoint receives live events.
func (e *Endpoint) Live() bool { return e.Space.Live() }

// Wants reports whether the endpoint subscribes to events of type t.
func (e *Endpoint) Wants(t string) bool {
	for _, p := range e.Events {
		if Selects(p, t) {
			return true
		}
	}
	return false
}

// Selects reports whether the pattern selects the event type.
func Selects(pattern, eventType string) bool {
	if pattern == "*" || pattern == eventType {
		return true
	}
	p, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(eventType, p)
}

// Secret is one signing secret. The string is its whole value, "whsec_" included:
// Payment-Signature is keyed with all of it, Standard Webhooks with the bytes
// that the part after the prefix encodes.
type Secret struct {
	Value   string    `json:"value"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: does not expire
}

// SecretPrefix starts every signing secret (Standard Webhooks, "Signature scheme").
const SecretPrefix = "whsec_"

// NewSecret returns a fresh secret: 32 random bytes in standard base64, because
// the official libraries decode nothing else.
func NewSecret(now time.Time) Secret {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return Secret{Value: SecretPrefix + base64.StdEncoding.EncodeToString(b[:]), Created: now}
}

// LiveSecrets returns the values of the secrets that have not expired at now,
// oldest first.
func (e *Endpoint) LiveSecrets(now time.Time) []string {
	live := make([]string, 0, len(e.Secrets))
	for _, s := range e.Secrets {
		if s.Expires.IsZero() || now.Before(s.Expires) {
			live = append(live, s.Value)
		}
	}
	return live
}
