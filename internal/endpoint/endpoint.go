// Package endpoint owns the receivers of events: the [Endpoint] with its subscriptions and
// signatures, and the in-memory [Registry] that finds the endpoints of an event without a
// query.
//
// It does no I/O and must not know deliveries, SQL or HTTP handlers.
package endpoint

import (
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/signature"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// Status is whether new events are sent to an endpoint.
type Status string

// The statuses.
const (
	Enabled  Status = "enabled"
	Disabled Status = "disabled"
)

// Reasons for which an endpoint is disabled.
const (
	DisabledByUser = "requested" // by an API call or in the Admin UI
	DisabledGone   = "gone"      // it responded with 410
	DisabledFailed = "failing"   // it acknowledged nothing for too long

	DisabledNoConsent = "no_consent" // its receiver was asked for consent and did not grant it
)

// Ordering is the order in which an endpoint receives its events.
type Ordering string

// The orderings.
const (
	Unordered Ordering = "none" // as fast as possible; later events overtake a retry
	FIFO      Ordering = "fifo" // strictly in order of acceptance; a retry holds back the later events
)

// Endpoint is one receiver of events, as it is stored. A value returned by a [Registry] is shared
// and must not be changed.
type Endpoint struct {
	No       int64  // store number; 0 until stored
	ID       string // public identifier
	Space    event.Space
	Secrets  []Secret // oldest first; at least one
	Created  time.Time
	Updated  time.Time
	Revision int64 // of the stored row; each write increases it

	Config
	State
}

// Config is the settings of an endpoint; see [Fields].
type Config struct {
	URL         string
	Events      []string // patterns: exact types, "payment.*" or "*"; see [Subscribes]
	Description string
	Metadata    map[string]string
	Settings    Settings
	Auth        Authentication
	Headers     map[string]string // custom headers, by canonical name; values may be credentials
	TLS         TLS
}

// State says whether events are sent to an endpoint, and why. Users and the server change it.
type State struct {
	Status         Status
	DisabledReason string    // empty while enabled
	EnabledSince   time.Time // when it last became enabled

	Consent *Consent // replaced as a whole, never changed; nil: not needed, or not asked yet
	// ConsentKey seals the receiver's callback while its consent is pending. The server generates
	// it and reveals it to no caller.
	ConsentKey []byte
}

// ValidBroker reports whether a broker's name is valid: 1 to 40 lower-case letters, digits and
// hyphens.
func ValidBroker(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= 40
}

// Active reports whether the endpoint is enabled and waits for no consent.
func (e *Endpoint) Active() bool { return e.Status == Enabled && !e.AwaitsConsent() }

// RespellURLs normalizes the endpoint's URLs (see package weburl). An invalid URL is left
// unchanged, for [Endpoint.Check] to refuse.
func (e *Endpoint) RespellURLs() {
	spelled := weburl.Respell(e.URL)
	if c := e.Consent; c != nil && c.URL == e.URL && spelled != e.URL { // the URL is normalized, but the receiver is the same
		consent := *c
		consent.URL = spelled
		e.Consent = &consent
	}
	e.URL, e.Auth.TokenURL = spelled, weburl.Respell(e.Auth.TokenURL)
}

// Settings are the endpoint's deviations from the server's defaults; a zero field means the
// default.
type Settings struct {
	Ordering    Ordering           `json:"ordering,omitempty"`
	Timeout     time.Duration      `json:"timeout,omitempty"`           // for one attempt
	Concurrency int                `json:"max_concurrency,omitempty"`   // attempts at a time
	Rate        float64            `json:"rate,omitempty"`              // attempts a second
	Schedule    []time.Duration    `json:"schedule,omitzero"`           // delays before the retries
	Ed25519     bool               `json:"ed25519,omitempty"`           // also sign with v1a
	Profile     string             `json:"signature_profile,omitempty"` // empty: v1
	Template    signature.Template `json:"signature_template,omitzero"` // of the profile SchemeCustom
	Shapes      []Shape            `json:"shapes,omitempty"`            // oldest first; none: all events have the Standard format
	Method      string             `json:"method,omitempty"`            // of requests; empty: POST
	ContentType string             `json:"content_type,omitempty"`      // instead of the payload's
	Filter      string             `json:"filter,omitempty"`            // an expression; empty: all events that Events select
	Validation  Validation         `json:"validation,omitempty"`
	ExternalID  string             `json:"external_id,omitempty"` // the account's own id of the endpoint; empty: none
}

// Live reports whether the endpoint receives live events.
func (e *Endpoint) Live() bool { return e.Space.Live() }

// Wants reports whether the endpoint subscribes to events of type t.
func (e *Endpoint) Wants(t string) bool { return Subscribes(e.Events, t) }

// Subscribes reports whether a subscription to the patterns includes events of type t. The
// pattern "*" covers the account's own events: the server's notices require a pattern that
// names them, exactly or by a prefix.
func Subscribes(patterns []string, t string) bool {
	notice := event.Operational(t)
	for _, p := range patterns {
		if Selects(p, t) && (p != "*" || !notice) {
			return true
		}
	}
	return false
}

// SelectsNotices reports whether the pattern subscribes to any of the server's notices.
func SelectsNotices(pattern string) bool {
	return pattern != "*" && slices.ContainsFunc(event.Notices, func(t string) bool { return Selects(pattern, t) })
}

// Selects reports whether the pattern selects the event type, as in the filter of a list.
func Selects(pattern, eventType string) bool {
	if pattern == "*" || pattern == eventType {
		return true
	}
	p, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(eventType, p)
}

// SetStatus enables or disables the endpoint on request.
func (e *Endpoint) SetStatus(status Status, now time.Time) {
	switch {
	case status == e.Status:
	case status == Disabled:
		e.Status, e.DisabledReason = Disabled, DisabledByUser
	default:
		e.Status, e.DisabledReason, e.EnabledSince = Enabled, "", now
		if !e.Consent.IsGranted() {
			e.Consent = nil // the wait starts again
		}
	}
}
