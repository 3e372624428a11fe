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
	OutcomeExpired       Outcome = 12 // not an attempt: the delivery was given up for its age
	OutcomeMisconfigured Outcome = 13 // the request could not be built
	OutcomeNoToken       Outcome = 14 // the endpoint's token URL gave no access token
)

// outcomes is all of them, by value: the name in the API, and a shorter one that filters
// take too.
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

// Short returns the outcome's shorter name, empty if it has none.
func (o Outcome) Short() string { return outcomes[o].short }

// Outcomes returns all outcomes, in order of their values.
func Outcomes() []Outcome {
	all := make([]Outcome, len(outcomes))
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// ParseOutcome returns the outcome of that name, the shorter one included.
func ParseOutcome(name string) (Outcome, bool) {
	for i, o := range outcomes {
		if name != "" && (name == o.name || name == o.short) {
			return Outcome(i), true
		}
	}
	return 0, false
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
	URL            string        // that was sent to; empty: the attempt is older than the record of it
	Shortage       bool          // with [OutcomeNone]: this server lacked what it needs to send. Not stored
	RemoteAddr     string        // the address that was dialled
	Peer           Peer          // who answered over TLS; zero: no TLS
	Timing         Timing
	RequestHeader  Header    // as sent, credentials left out; empty: no request was made
	BodySum        []byte    // SHA-256 of the body as sent; nil: it is the event's own
	Refused        []Refusal // requests of the attempt that the receiver refused before the one that counts
	ResponseHeader string    // "Name: value" lines, capped
	ResponseBody   []byte    // the first bytes, capped
}

// WithoutEvidence returns a copy of the attempt without what it kept of the payload and of the
// responses. Outcome, status code and times stay.
func (a *Attempt) WithoutEvidence() *Attempt {
	bare := *a
	bare.Error, bare.RequestHeader, bare.BodySum, bare.Refused, bare.ResponseHeader, bare.ResponseBody = "", "", nil, nil, "", nil
	return &bare
}

// Peer is the other end of a TLS connection.
type Peer struct {
	Version string `json:"version,omitempty"` // such as "TLS 1.3"; empty: none was agreed on
	Subject string `json:"subject,omitempty"` // of the certificate
	Issuer  string `json:"issuer,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of the certificate, in hexadecimal
}

// Refusal is a request that a receiver refused for its credentials, and that was made
// again within the attempt with others: the next live secret, or a new access token.
type Refusal struct {
	StatusCode     int    `json:"status"`
	RequestHeader  Header `json:"request"`
	ResponseHeader string `json:"header,omitempty"`
	ResponseBody   []byte `json:"body,omitempty"`
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
