package endpoint

import (
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Kind is a kind of endpoint: the prefix of its URLs, and the settings that endpoints of the
// kind can have. Kinds are compared by their addresses.
type Kind struct {
	Name   string
	scheme string // empty: the scheme of every other kind's URLs

	MadeBy      Setter // lowest class of callers that may create one, or name it in an edit
	refusal     fault.Error
	Called      bool // the server makes HTTP requests to its URL, and checks it
	Credentials bool // authentication and certificates
	Consent     bool // its receiver can be asked for consent
	Headers     bool // deliveries have HTTP headers, which can contain a CloudEvent
	Connects    bool // its receiver connects to the server: deliveries wait for it, on the node that it is connected to, and its user sees each result
}

// The kinds.
var (
	HTTP = &Kind{Name: "http", MadeBy: Customers, Called: true, Credentials: true, Consent: true, Headers: true}
	// AtBroker are addresses at a message broker of the operator:
	// broker://orders/payments.succeeded.
	AtBroker = &Kind{Name: "broker", scheme: "broker://", MadeBy: Operators, refusal: fault.Error{Code: fault.Invalid, Reason: "broker_forbidden", Param: "url",
		Message: "Only the operator can make endpoints at a broker; use an operator key and name the account."}}
	// Listener is created by a connection of posthaste listen, never by a request.
	Listener = &Kind{Name: "listener", scheme: "listen:", MadeBy: none, Headers: true, Connects: true, refusal: fault.Error{Code: fault.Invalid, Reason: "url_invalid", Param: "url",
		Message: "The URL must be absolute and start with https://."}}
)

// none is a class without callers.
const none = Operators + 1

// KindOf returns the kind of a URL.
func KindOf(url string) *Kind {
	for _, k := range []*Kind{AtBroker, Listener} {
		if strings.HasPrefix(url, k.scheme) {
			return k
		}
	}
	return HTTP
}

// Kind returns the endpoint's kind.
func (e *Endpoint) Kind() *Kind { return KindOf(e.URL) }

// RefuseTo returns a fault.Invalid for "url" if callers of a class may not create endpoints of
// the kind.
func (k *Kind) RefuseTo(s Setter) error {
	if s >= k.MadeBy {
		return nil
	}
	refusal := k.refusal
	return &refusal
}

// ListenerURL returns the URL of the listener of a device.
func ListenerURL(device string) string { return Listener.scheme + device }

// BrokerAddress returns the broker and the address of an endpoint's URL, and false for
// endpoints of other kinds.
func BrokerAddress(url string) (broker, address string, ok bool) {
	rest, ok := strings.CutPrefix(url, AtBroker.scheme)
	broker, address, _ = strings.Cut(rest, "/")
	return broker, address, ok
}
