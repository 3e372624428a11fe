package delivery

import "time"

// Outcome classifies how an attempt ended. Values are stored; never renumber.
type Outcome uint8

// The outcomes. Any 2xx is a success, everything else a failure.
const (
	OutcomeNone          Outcome = 0 // not attempted
	OutcomeSucceeded     Outcome = 1 // 2xx
	OutcomeRejected      Outcome = 2 // 4xx other than 410 and 429
	OutcomeServerError   Outcome = 3 // 5xx
	OutcomeRedirected    Outcome = 4 // 3xx; never followed
	OutcomeThrottled     Outcome = 5 // 429, or 503 with Retry-After
	OutcomeGone          Outcome = 6 // 410: the endpoint wants no more
	OutcomeTimeout       Outcome = 7 // no complete answer in time
	OutcomeDNS           Outcome = 8
	OutcomeTLS           Outcome = 9
	OutcomeConnection    Outcome = 10 // refused, reset, unreachable, not HTTP
	OutcomeForbidden     Outcome = 11 // the target's address is not allowed
	OutcomeExpired       Outcome = 12 // never tried: the retry window ended while the breaker was open
	OutcomeMisconfigured Outcome = 13 // the request could not be built
	OutcomeNoToken       Outcome = 14 // the endpoint's token URL gave no access token
)

var outcomeNames = [...]string{
	OutcomeNone: "none", OutcomeSucceeded: "succeeded", OutcomeRejected: "rejected",
	OutcomeServerError: "server_error", OutcomeRedirected: "redirected",
	OutcomeThrottled: "throttled", OutcomeGone: "gone", OutcomeTimeout: "timeout",
	OutcomeDNS: "dns_error", OutcomeTLS: "tls_error", OutcomeConnection: "connection_error",
	OutcomeForbidden: "forbidden_target", OutcomeExpired: "expired",
	OutcomeMisconfigured: "misconfigured", OutcomeNoToken: "token_error",
}

// String returns the outcome's name in the API.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// Attempt is one try to hand an event to an endpoint, as it went.
type Attempt struct {
	Number         int // 1 is the first
	Started        time.Time
	Duration       time.Duration
	Outcome        Outcome
	StatusCode     int           // 0 when no answer came
	RetryAfter     time.Duration // what a 429 or 503 asked for; 0 is none
	Error          string        // why, in plain words, when no answer came
	RemoteAddr     string        // the address that was dialled
	Timing         Timing
	RequestHeader  string // "Name: value" lines as sent, credentials left out
	ResponseHeader string // "Name: value" lines, capped
	ResponseBody   []byte // the first bytes, capped
}

// Timing is where an attempt's time went. A step that did not happen, such as a
// look-up for a connection that was open already, is 0.
type Timing struct {
	DNS     time.Duration // to look up the name
	Connect time.Duration // to open the connection
	TLS     time.Duration // to agree on keys
	Answer  time.Duration // from the request being sent to the first byte of the answer
}

// Succeeded reports whether the receiver acknowledged the event.
func (a *Attempt) Succeeded() bool { return a.Outcome == OutcomeSucceeded }
