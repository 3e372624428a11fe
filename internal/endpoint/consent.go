package endpoint

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Validation says how a receiver is asked, before anything is sent to it, whether it
// wants to be sent to.
type Validation string

// The validations.
const (
	NotValidated Validation = ""
	// Handshake is the one of CloudEvents: an OPTIONS request that the receiver answers
	// with its consent (HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4).
	Handshake Validation = "cloudevents"
)

const (
	// ConsentWithin is for how long deliveries wait for consent; then the endpoint is
	// disabled with [DisabledNoConsent].
	ConsentWithin = 24 * time.Hour

	consentKeySize = 32 // bytes

	askAgainAfter  = time.Minute // after the first request, and twice as long after each
	askAgainAtMost = time.Hour
)

// Consent is where an endpoint that is validated stands with its receiver. It is of one
// URL: under another, the receiver is asked anew.
type Consent struct {
	URL    string    `json:"url"`
	Origin string    `json:"origin"` // who asks: the server's public name
	Since  time.Time `json:"since"`  // when the wait for it began

	Granted time.Time `json:"granted,omitzero"` // zero: it is waited for
	Rate    int       `json:"rate,omitempty"`   // deliveries a minute that are allowed; 0: as many as there are

	Asked  time.Time `json:"asked,omitzero"`   // when last
	Asks   int       `json:"asks,omitempty"`   // how often while it was waited for
	Answer string    `json:"answer,omitempty"` // why the last answer is no consent, for people
}

// IsGranted reports whether there is consent; nil is none.
func (c *Consent) IsGranted() bool { return c != nil && !c.Granted.IsZero() }

// String returns what c holds, where its address would say nothing.
func (c *Consent) String() string { return fmt.Sprintf("%+v", *c) }

// ConsentRequest is how a receiver is asked.
type ConsentRequest struct {
	Origin   string // a DNS name
	Callback string // where to consent later, or by hand; empty: nowhere
}

// ConsentAnswer is what came of it.
type ConsentAnswer struct {
	Answered bool // there was an answer
	Granted  bool
	Rate     int    // deliveries a minute; 0: as many as there are
	Reason   string // why it is not granted, a sentence
}

// AwaitsConsent reports whether deliveries wait for the receiver's consent.
func (e *Endpoint) AwaitsConsent() bool {
	return e.Settings.Validation == Handshake && e.Status == Enabled && !e.Settings.Consent.IsGranted()
}

// AskedFor returns the consent that deliveries wait for, nil if they wait for none.
func (e *Endpoint) AskedFor() *Consent {
	if !e.AwaitsConsent() {
		return nil
	}
	return e.Settings.Consent
}

// SeekConsent makes an endpoint that is validated and enabled wait for its receiver's
// consent to the URL that it has, unless it has that or waits already, and drops what is
// needed no more. It reports whether a wait began: the receiver is to be asked.
func (e *Endpoint) SeekConsent(origin string, now time.Time) bool {
	if c := e.Settings.Consent; c != nil && (e.Settings.Validation == NotValidated || c.URL != e.URL) {
		e.Settings.Consent = nil
	}
	if e.Settings.Validation == NotValidated || e.Status != Enabled || e.Settings.Consent != nil {
		return false
	}
	e.Settings.Consent = &Consent{URL: e.URL, Origin: origin, Since: now}
	e.ConsentKey = make([]byte, consentKeySize) // a new slice: others hold the old one
	rand.Read(e.ConsentKey)                     // never fails (crypto/rand)
	return true
}

// Origin returns who the receiver agreed to be sent to by, empty if it was not asked.
func (e *Endpoint) Origin() string {
	if !e.Settings.Consent.IsGranted() {
		return ""
	}
	return e.Settings.Consent.Origin
}

// Rate returns how many attempts a second may start: the lower of what was set and what
// the receiver allows; 0 is no limit.
func (e *Endpoint) Rate() float64 {
	set := e.Settings.Rate
	if c := e.Settings.Consent; c != nil && c.Rate > 0 {
		if allowed := float64(c.Rate) / 60; set <= 0 || allowed < set {
			return allowed
		}
	}
	return set
}

// AskAgain reports whether the receiver should be asked once more at now.
func (c *Consent) AskAgain(now time.Time) bool {
	wait := askAgainAtMost
	if n := c.Asks - 1; n < 6 {
		wait = min(wait, askAgainAfter<<max(n, 0))
	}
	last := c.Asked
	if last.IsZero() { // it may be asked just now
		last = c.Since
	}
	return now.Sub(last) >= wait || now.Before(last) // the clock was stepped back
}

// Consents reads the receiver's answer to a validation request (section 4.2): the values
// of WebHook-Allowed-Origin and WebHook-Allowed-Rate. Errors say what is amiss with them.
func Consents(origin, allowedOrigin, allowedRate string) (perMinute int, err error) {
	switch {
	case allowedOrigin == "":
		return 0, errors.New("without WebHook-Allowed-Origin")
	case allowedOrigin != "*" && !strings.EqualFold(allowedOrigin, origin):
		return 0, errors.New("with a WebHook-Allowed-Origin that is neither * nor " + origin)
	case allowedRate == "" || allowedRate == "*":
		return 0, nil
	}
	n, err := strconv.ParseUint(allowedRate, 10, 31)
	if errors.Is(err, strconv.ErrRange) {
		return 0, nil
	}
	if err != nil || n == 0 {
		return 0, errors.New("with a WebHook-Allowed-Rate that is neither * nor a positive number")
	}
	return int(n), nil
}

// checkValidation refuses validations that do not exist or that the endpoint's kind
// cannot have.
func (e *Endpoint) checkValidation() error {
	switch v := e.Settings.Validation; {
	case v != NotValidated && v != Handshake:
		return fault.Param("validation", "parameter_invalid", `The validation is "none" or %q.`, Handshake)
	case v == Handshake && !e.Kind().Consent:
		return fault.Param("validation", "parameter_invalid", "Only endpoints with an https:// URL can be validated.")
	}
	return nil
}
