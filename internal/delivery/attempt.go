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
	OutcomeTimeout       Outcome = 7 // no complete response in time
	OutcomeDNS           Outcome = 8
	OutcomeTLS           Outcome = 9
	OutcomeConnection    Outcome = 10 // refused, reset, unreachable, not HTTP
	OutcomeForbidden     Outcome = 11 // the target's address is not allowed
	OutcomeExpired       Outcome = 12 // no attempt: the delivery was given up because of its age
	OutcomeMisconfigured Outcome = 13 // the request could not be built
	OutcomeNoToken       Outcome = 14 // the endpoint's token URL gave no access token
)

// outcomes contains all outcomes, by value: the name in the API, and a short one that filters
// accept too.
var outcomes = [...]struct{ name, short string }{
	OutcomeNone: {"none", ""}, OutcomeSucceeded: {"succeeded", ""}, OutcomeRejected: {"rejected", ""},
	OutcomeServerError: {"server_error", "server"}, OutcomeRedirected: {"redirected", ""},
	OutcomeThrottled: {"throttled", ""}, OutcomeGone: {"gone", ""}, OutcomeTimeout: {"timeout", ""},
	OutcomeDNS: {"dns_error", "dns"}, OutcomeTLS: {"tls_error", "tls"}, OutcomeConnection: {"connection_error", "connection"},
	OutcomeForbidden: {"forbidden_target", "forbidden"}, OutcomeExpired: {"expired", ""},
	OutcomeMisconfigured: {"misconfigured", ""}, OutcomeNoToken: {"token_error", "token"},
}

// String returns the outcome's name in the API.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o].name
	}
	return "unknown"
}

// Short returns the outcome's short name, empty if it has none.
func (o Outcome) Short() string { return outcomes[o].short }

// Outcomes returns all outcomes, in order of their values.
func Outcomes() []Outcome {
	all := make([]Outcome, len(outcomes))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// ParseOutcome returns the outcome with this name or short name.
func ParseOutcome(name string) (Outcome, bool) {
	for i, o := range outcomes {
		if name != "" && (name == o.name || name == o.short) {
			return Outcome(i), true
		}
	}
	return 0, false
}

// Attempt is one attempt to deliver an event to an endpoint, with its result.
type Attempt struct {
	Number         int // 1 is the first
	Started        time.Time
	Duration       time.Duration
	Outcome        Outcome
	StatusCode     int           // 0 without a response
	RetryAfter     time.Duration // of a 429 or 503; 0 is none
	Error          string        // reason for a missing response, for people
	URL            string        // URL of the request; empty: the attempt was made before it was recorded
	Shortage       bool          // with [OutcomeNone]: this server lacked a resource for sending. Not stored
	RemoteAddr     string        // the address that was dialled
	Peer           Peer          // TLS peer; zero: no TLS
	Timing         Timing
	RequestHeader  Header    // as sent, without credentials; empty: no request was made
	BodySum        []byte    // SHA-256 of the sent body; nil: the event's own body
	Refused        []Refusal // earlier requests of the attempt that the receiver refused
	ResponseHeader string    // "Name: value" lines, capped
	ResponseBody   []byte    // the first bytes, capped
}

// WithoutEvidence returns a copy of the attempt without the recorded payload and responses.
// Outcome, status code and times are kept.
func (a *Attempt) WithoutEvidence() *Attempt {
	bare := *a
	bare.Error, bare.RequestHeader, bare.BodySum, bare.Refused, bare.ResponseHeader, bare.ResponseBody = "", "", nil, nil, "", nil
	return &bare
}

// Peer is the other end of a TLS connection.
type Peer struct {
	Version string `json:"version,omitempty"` // such as "TLS 1.3"; empty: the handshake did not agree on one
	Subject string `json:"subject,omitempty"` // of the certificate
	Issuer  string `json:"issuer,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of the certificate, in hexadecimal
}

// Refusal is a request that a receiver refused because of its credentials, and that was
// repeated within the attempt with others: the next live secret, or a new access token.
type Refusal struct {
	StatusCode     int    `json:"status"`
	RequestHeader  Header `json:"request"`
	ResponseHeader string `json:"header,omitempty"`
	ResponseBody   []byte `json:"body,omitempty"`
}

// Timing contains the duration of each step of an attempt. A step that did not happen, such as
// a look-up for an open connection, is 0.
type Timing struct {
	DNS     time.Duration // to look up the name
	Connect time.Duration // to open the connection
	TLS     time.Duration // for the TLS handshake
	Answer  time.Duration // from the end of the request to the first byte of the response
}

// Succeeded reports whether the receiver acknowledged the event.
func (a *Attempt) Succeeded() bool { return a.Outcome == OutcomeSucceeded }
