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

// maxPatternMention bounds the part of an invalid pattern that an error quotes, in bytes.
const maxPatternMention = 60

// Rules are the operator's rules for all endpoints.
type Rules struct {
	AllowPlain bool                   // live endpoints may use plain http
	Signature  string                 // the brand's signature header, canonical
	Brokers    func(name string) bool // reports whether a broker has this name; nil: there are none
}

// Check returns a fault.Invalid that names the first invalid field of e, nil if all are valid.
// It resolves no names: addresses are checked when they are dialled.
func (e *Endpoint) Check(r Rules) error {
	for i := range Fields {
		if err := Fields[i].refuses(e, r); err != nil {
			return err
		}
	}
	return nil
}

// refuses returns a fault.Invalid if the endpoint's value of the field is invalid.
func (f *Field) refuses(e *Endpoint, r Rules) error {
	if f.check != nil {
		return f.check(e, r)
	}
	fail := func(format string, args ...any) error {
		return fault.Param(f.Name, "parameter_invalid", "The parameter "+f.Name+" "+format, args...)
	}
	switch v := f.Value(e).(type) {
	case string:
		if f.Kind == ChoiceField && !f.offers(v) {
			return fail("must be %s.", f.choices())
		}
		if f.Max > 0 && utf8.RuneCountInString(v) > int(f.Max) {
			return fail("is longer than %g characters.", f.Max)
		}
	case int:
		if v != 0 && (float64(v) < f.Min || float64(v) > f.Max) {
			return fail("must be an integer from %g to %g, or 0 for %s.", f.Min, f.Max, f.Default)
		}
	case float64:
		if !(v >= f.Min && v <= f.Max) { // NaN is refused too
			return fail("must be a number from %g to %g, or 0 for %s.", f.Min, f.Max, f.Default)
		}
	case time.Duration:
		if v != 0 && (v.Seconds() < f.Min || v.Seconds() > f.Max) {
			return fail("must be %g to %g seconds, or 0 for %s.", f.Min, f.Max, f.Default)
		}
	case []time.Duration:
		if len(v) > int(f.Max) {
			return fail("can have at most %g delays.", f.Max)
		}
		for i, d := range v {
			if d.Seconds() < f.Min || d.Seconds() > f.MaxItem {
				return fault.Param(fmt.Sprintf("%s[%d]", f.Name, i), "parameter_invalid", "A delay must be %g to %.0f seconds.", f.Min, f.MaxItem)
			}
		}
	}
	return nil
}

// CheckPayload is the part of [Endpoint.Check] for filter, format and transformation.
func (e *Endpoint) CheckPayload() error {
	if err := e.checkFormat(); err != nil {
		return err
	}
	if err := e.checkTransform(); err != nil {
		return err
	}
	return e.checkFilter()
}

// checkTarget checks the URL of deliveries.
func (e *Endpoint) checkTarget(r Rules) error {
	switch e.Kind() {
	case AtBroker:
		return e.checkBroker(r)
	case HTTP:
		return checkURL("url", e.URL, !e.Live() || r.AllowPlain)
	}
	return nil
}

// checkTLS checks the endpoint's certificates.
func (e *Endpoint) checkTLS(Rules) error {
	switch credentials := e.Kind().Credentials; {
	case !credentials && e.TLS.Certificate+e.TLS.PrivateKey != "":
		return e.noCredentials("client_certificate")
	case !credentials && e.TLS.RootCAs != "":
		return e.noCredentials("ca_certificates")
	}
	return e.TLS.check(strings.HasPrefix(weburl.Respell(e.URL), "https:") || strings.HasPrefix(e.Auth.TokenURL, "https://"))
}

// checkBroker checks an endpoint at a broker.
func (e *Endpoint) checkBroker(r Rules) error {
	name, address, _ := BrokerAddress(e.URL)
	switch {
	case r.Brokers == nil || !r.Brokers(name):
		return fault.Param("url", "broker_unknown", "No broker is named %q on this server.", shorten(name))
	case address == "" || len(e.URL) > MaxURLLength || strings.ContainsFunc(address, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '?' || c == '#' }):
		return fault.Param("url", "url_invalid", "Add an address at the broker, such as broker://%s/payments.succeeded.", name)
	}
	return nil
}

// checkCredentials checks the authentication.
func (e *Endpoint) checkCredentials(r Rules) error {
	if !e.Kind().Credentials && e.Auth.Type != AuthNone {
		return e.noCredentials("authentication")
	}
	return e.Auth.check(!e.Live() || r.AllowPlain)
}

func (e *Endpoint) noCredentials(param string) error {
	return fault.Param(param, "parameter_invalid", "An endpoint of the kind %s has no credentials of its own. Leave %s out.", e.Kind().Name, param)
}

func checkURL(param, raw string, plain bool) error {
	invalid := func(format string, args ...any) error {
		return fault.Param(param, "url_invalid", format, args...)
	}
	if raw == "" {
		return fault.Param(param, "parameter_missing", "Set the URL to deliver events to, such as https://www.acme.com/webhooks/payment.")
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
		return invalid("The value is not a URL.") // the parser's error repeats the input
	case u.Scheme == "http" && !plain:
		return invalid("A live endpoint must use https://.")
	case u.User != nil:
		return invalid("The URL contains a user name or password. Use the endpoint's authentication instead.")
	case strings.Contains(spelled, "#"):
		return invalid("The URL contains a fragment (#…), which HTTP never sends. Remove it.")
	}
	return nil
}

func checkEvents(patterns []string) error {
	if len(patterns) == 0 {
		return fault.Param("enabled_events", "parameter_missing", `Subscribe to at least one event type, or ["*"] for all events of the account.`)
	}
	if len(patterns) > MaxEvents {
		return fault.Param("enabled_events", "parameter_invalid", `Subscribe to at most %d event types: "*" selects all events of the account, "payment.*" a group.`, MaxEvents)
	}
	for i, p := range patterns {
		if !event.ValidPattern(p) {
			return fault.Param(fmt.Sprintf("enabled_events[%d]", i), "event_type_invalid",
				`%q is not an event type. Use names of %s, such as "payment.succeeded"; a prefix that ends with one of these characters, such as "payment.*"; or "*".`, shorten(p), event.TypeRule)
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

func CheckMetadata(m map[string]string) error {
	if len(m) > MaxMetadata {
		return fault.Param("metadata", "parameter_invalid", "Metadata can have at most %d keys.", MaxMetadata)
	}
	for k, v := range m {
		switch {
		case k == "" || len(k) > MaxMetadataKey:
			return fault.Param("metadata", "parameter_invalid", "Metadata keys must be 1 to %d bytes long.", MaxMetadataKey)
		case len(v) > MaxMetadataValue:
			return fault.Param("metadata["+k+"]", "parameter_invalid", "Metadata values must be at most %d bytes long.", MaxMetadataValue)
		}
	}
	return nil
}
