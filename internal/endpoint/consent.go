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

// Validation is the method by which a receiver is asked for its consent before anything is sent
// to it.
type Validation string

// The validations.
const (
	NotValidated Validation = ""
	// Handshake is that of CloudEvents: an OPTIONS request to which the receiver responds with its
	// consent (HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4).
	Handshake Validation = "cloudevents"
)

const (
	// ConsentWithin is the time for which deliveries wait for consent; then the endpoint is
	// disabled with [DisabledNoConsent].
	ConsentWithin = 24 * time.Hour

	consentKeySize = 32 // bytes

	askAgainAfter  = time.Minute // after the first request, and twice as long after each
	askAgainAtMost = time.Hour
)

// Consent is the state of a validated endpoint's consent. It applies to one URL: with another
// URL, the receiver is asked again.
type Consent struct {
	URL    string    `json:"url"`
	Origin string    `json:"origin"` // the server's public name, sent with the request
	Since  time.Time `json:"since"`  // when the wait began

	Granted time.Time `json:"granted,omitzero"` // zero: not granted yet
	Rate    int       `json:"rate,omitempty"`   // allowed deliveries per minute; 0: no limit

	Asked  time.Time `json:"asked,omitzero"`   // time of the last request
	Asks   int       `json:"asks,omitempty"`   // number of requests during the wait
	Answer string    `json:"answer,omitempty"` // why the last response does not grant consent, for people
}

// IsGranted reports whether consent is granted; nil is not.
func (c *Consent) IsGranted() bool { return c != nil && !c.Granted.IsZero() }

// String returns the contents of c, because its address would be useless in a message.
func (c *Consent) String() string { return fmt.Sprintf("%+v", *c) }

// ConsentRequest contains the parameters of a request for consent.
type ConsentRequest struct {
	Origin   string // a DNS name
	Callback string // URL to consent at later, or by hand; empty: none
}

// ConsentAnswer is the result of a request for consent.
type ConsentAnswer struct {
	Answered bool // the receiver responded
	Granted  bool
	Rate     int    // deliveries per minute; 0: no limit
	Reason   string // why it is not granted, a sentence
}

// AwaitsConsent reports whether deliveries wait for the receiver's consent.
func (e *Endpoint) AwaitsConsent() bool {
	return e.Settings.Validation == Handshake && e.Status == Enabled && !e.Consent.IsGranted()
}

// AskedFor returns the consent that deliveries wait for, nil if they do not wait.
func (e *Endpoint) AskedFor() *Consent {
	if !e.AwaitsConsent() {
		return nil
	}
	return e.Consent
}

// SeekConsent starts a validated and enabled endpoint's wait for its receiver's consent to the
// current URL, unless that is granted or a wait is running, and removes state that is no longer
// needed. It reports whether a wait began: the receiver is to be asked.
func (e *Endpoint) SeekConsent(origin string, now time.Time) bool {
	if c := e.Consent; c != nil && (e.Settings.Validation == NotValidated || c.URL != e.URL) {
		e.Consent = nil
	}
	if e.Settings.Validation == NotValidated || e.Status != Enabled || e.Consent != nil {
		return false
	}
	e.Consent = &Consent{URL: e.URL, Origin: origin, Since: now}
	e.ConsentKey = make([]byte, consentKeySize) // a new slice: readers may use the old one
	rand.Read(e.ConsentKey)                     // never fails (crypto/rand)
	return true
}

// Origin returns the public name that the receiver has consented to, empty if it was not asked.
func (e *Endpoint) Origin() string {
	if !e.Consent.IsGranted() {
		return ""
	}
	return e.Consent.Origin
}

// Rate returns the maximum number of attempts per second: the lower of the setting and the
// receiver's limit; 0 is no limit.
func (e *Endpoint) Rate() float64 {
	set := e.Settings.Rate
	if c := e.Consent; c != nil && c.Rate > 0 {
		if allowed := float64(c.Rate) / 60; set <= 0 || allowed < set {
			return allowed
		}
	}
	return set
}

// AskAgain reports whether the receiver should be asked again at now.
func (c *Consent) AskAgain(now time.Time) bool {
	wait := askAgainAtMost
	if n := c.Asks - 1; n < 6 {
		wait = min(wait, askAgainAfter<<max(n, 0))
	}
	last := c.Asked
	if last.IsZero() { // it may be being asked right now
		last = c.Since
	}
	return now.Sub(last) >= wait || now.Before(last) // or the clock was stepped back
}

// Consents parses the receiver's response to a validation request (section 4.2): the values of
// WebHook-Allowed-Origin and WebHook-Allowed-Rate. Errors complete the sentence "The receiver
// answered 200 …".
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

// checkValidation refuses unknown validations and those that the endpoint's kind does not
// support.
func (e *Endpoint) checkValidation() error {
	switch v := e.Settings.Validation; {
	case v != NotValidated && v != Handshake:
		return fault.Param("validation", "parameter_invalid", `The validation is "none" or %q.`, Handshake)
	case v == Handshake && !e.Kind().Consent:
		return fault.Param("validation", "parameter_invalid", "Only endpoints with an https:// URL can be validated.")
	}
	return nil
}
