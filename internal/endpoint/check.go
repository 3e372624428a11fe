package endpoint

import (
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// Limits of what an endpoint may hold.
const (
	MaxURLLength      = 2048
	MaxEvents         = 200 // patterns
	MaxDescription    = 1000
	MaxMetadata       = 50 // pairs
	MaxMetadataKey    = 40
	MaxMetadataValue  = 500
	MinTimeout        = time.Second
	MaxTimeout        = 60 * time.Second
	MaxConcurrency    = 1000
	MaxRate           = 10_000
	MaxRetries        = 30
	MaxRetryDelay     = 7 * 24 * time.Hour
	maxPatternMention = 60
)

// Rules are what the operator decides of all endpoints.
type Rules struct {
	AllowPlain bool                   // live ones may use plain http
	Signature  string                 // the brand's signature header, canonical
	Brokers    func(name string) bool // whether the operator has named one; nil: there are none
}

// Check returns a fault.Invalid that names the first field of e that is not
// acceptable, nil when all are. It resolves no names: addresses are checked when
// dialled.
func (e *Endpoint) Check(r Rules) error {
	plain := !e.Live() || r.AllowPlain
	_, _, atBroker := AtBroker(e.URL)
	switch {
	case atBroker:
		if err := e.checkBroker(r); err != nil {
			return err
		}
	case !e.Listener():
		if err := checkURL("url", e.URL, plain); err != nil {
			return err
		}
	}
	if err := checkEvents(e.Events); err != nil {
		return err
	}
	if utf8.RuneCountInString(e.Description) > MaxDescription {
		return fault.Param("description", "parameter_invalid", "The description is longer than %d characters.", MaxDescription)
	}
	if err := checkMetadata(e.Metadata); err != nil {
		return err
	}
	if err := e.Auth.check(plain); err != nil {
		return err
	}
	if err := e.checkHeaders(r.Signature); err != nil {
		return err
	}
	target, err := url.Parse(weburl.Respell(e.URL))
	if err != nil {
		return err // checkURL parsed it
	}
	if err := e.TLS.check(target.Scheme == "https" || strings.HasPrefix(e.Auth.TokenURL, "https://")); err != nil {
		return err
	}
	if err := e.CheckPayload(); err != nil {
		return err
	}
	if err := e.checkValidation(); err != nil {
		return err
	}
	return e.Settings.check()
}

// CheckPayload is the part of [Endpoint.Check] that is about what is sent.
func (e *Endpoint) CheckPayload() error {
	if err := e.checkFormat(); err != nil {
		return err
	}
	if err := e.checkTransform(); err != nil {
		return err
	}
	return e.checkFilter()
}

// checkBroker checks an endpoint that is an address at a broker.
func (e *Endpoint) checkBroker(r Rules) error {
	name, address, _ := AtBroker(e.URL)
	switch {
	case r.Brokers == nil || !r.Brokers(name):
		return fault.Param("url", "broker_unknown", "No broker is named %q on this server.", shorten(name))
	case address == "" || len(e.URL) > MaxURLLength || strings.ContainsFunc(address, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '?' || c == '#' }):
		return fault.Param("url", "url_invalid", "Name an address at the broker, such as broker://%s/payments.succeeded.", name)
	case e.Auth.Type != AuthNone:
		return fault.Param("authentication", "parameter_invalid", "The operator's broker is logged in to as the operator set it up; leave authentication out.")
	case e.TLS.Certificate != "" || e.TLS.PrivateKey != "":
		return fault.Param("client_certificate", "parameter_invalid", "The server connects to the broker as its operator configured it. Leave client_certificate out.")
	case e.TLS.RootCAs != "":
		return fault.Param("ca_certificates", "parameter_invalid", "The server connects to the broker as its operator configured it. Leave ca_certificates out.")
	}
	return nil
}

func checkURL(param, raw string, plain bool) error {
	invalid := func(format string, args ...any) error {
		return fault.Param(param, "url_invalid", format, args...)
	}
	if raw == "" {
		return fault.Param(param, "parameter_missing", "Give the URL that events are sent to, such as https://www.acme.com/webhooks/payment.")
	}
	spelled, err := weburl.Normalize(raw)
	if err != nil {
		return invalid("%s", err)
	}
	if max(len(raw), len(spelled)) > MaxURLLength {
		return invalid("The URL is longer than %d characters, percent-encoded.", MaxURLLength)
	}
	u, err := url.Parse(spelled)
	switch {
	case err != nil:
		return invalid("This is not a URL.") // the parser's text repeats the input
	case u.Scheme == "http" && !plain:
		return invalid("A live endpoint must use https://.")
	case u.User != nil:
		return invalid("The URL holds a user name or password; use the endpoint's authentication instead.")
	case strings.Contains(spelled, "#"):
		return invalid("The URL holds a fragment (#…), which is never sent.")
	}
	return nil
}

func checkEvents(patterns []string) error {
	if len(patterns) == 0 {
		return fault.Param("enabled_events", "parameter_missing", `Name at least one event type, or ["*"] for all events of the account.`)
	}
	if len(patterns) > MaxEvents {
		return fault.Param("enabled_events", "parameter_invalid", `Name at most %d event types; "*" selects all events of the account, "payment.*" a group.`, MaxEvents)
	}
	for i, p := range patterns {
		if !event.ValidPattern(p) {
			return fault.Param(fmt.Sprintf("enabled_events[%d]", i), "event_type_invalid",
				`%q is not an event type; use names such as "payment.succeeded", a prefix such as "payment.*", or "*".`, shorten(p))
		}
	}
	return nil
}

func shorten(s string) string {
	if len(s) > maxPatternMention {
		return strings.ToValidUTF8(s[:maxPatternMention], "") + "…"
	}
	return s
}

func checkMetadata(m map[string]string) error {
	if len(m) > MaxMetadata {
		return fault.Param("metadata", "parameter_invalid", "Metadata can hold at most %d keys.", MaxMetadata)
	}
	for k, v := range m {
		switch {
		case k == "" || len(k) > MaxMetadataKey:
			return fault.Param("metadata", "parameter_invalid", "Metadata keys are 1 to %d bytes long.", MaxMetadataKey)
		case len(v) > MaxMetadataValue:
			return fault.Param("metadata["+k+"]", "parameter_invalid", "Metadata values are at most %d bytes long.", MaxMetadataValue)
		}
	}
	return nil
}

func (s *Settings) check() error {
	switch s.Ordering {
	case "", Unordered, FIFO:
	default:
		return fault.Param("ordering", "parameter_invalid", `The ordering is %q or %q.`, Unordered, FIFO)
	}
	if s.Timeout != 0 && (s.Timeout < MinTimeout || s.Timeout > MaxTimeout) {
		return fault.Param("timeout", "parameter_invalid", "The timeout is %d to %d seconds.", int(MinTimeout.Seconds()), int(MaxTimeout.Seconds()))
	}
	if s.Concurrency < 0 || s.Concurrency > MaxConcurrency {
		return fault.Param("max_concurrency", "parameter_invalid", "The concurrency is 1 to %d, or 0 for the default.", MaxConcurrency)
	}
	if s.Rate < 0 || s.Rate > MaxRate || s.Rate != s.Rate {
		return fault.Param("rate_limit", "parameter_invalid", "The rate limit is at most %d deliveries a second, or 0 for none.", MaxRate)
	}
	if len(s.Schedule) > MaxRetries {
		return fault.Param("retry_schedule", "parameter_invalid", "There can be at most %d retries.", MaxRetries)
	}
	for i, d := range s.Schedule {
		if d < time.Second || d > MaxRetryDelay {
			return fault.Param(fmt.Sprintf("retry_schedule[%d]", i), "parameter_invalid", "A delay is 1 to %d seconds.", int(MaxRetryDelay.Seconds()))
		}
	}
	return nil
}
