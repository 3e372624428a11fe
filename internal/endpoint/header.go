package endpoint

import (
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Limits of an endpoint's custom headers.
const (
	MaxHeaders     = 20
	maxEventHeader = 8 << 10 // bytes, of all headers of an event
	maxHeaderName  = 100     // bytes
	maxHeaderValue = 4096    // bytes
)

// reserved contains the headers that the connection, a signature or the server itself uses,
// canonical.
var reserved = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, // hop by hop (RFC 9110, section 7.6.1)
	"Host": true, "Content-Length": true, "Expect": true, "Content-Type": true, "Content-Encoding": true, "User-Agent": true,
	"Accept-Encoding": true, "Idempotency-Key": true, "Http2-Settings": true, "Forwarded": true,
}

// HeaderName returns the canonical form of a custom header, or false for headers that the
// connection, the server or a signature of any scheme uses. signature is the brand's signature
// header, canonical.
func HeaderName(name, signature string) (string, bool) {
	if !token(name) || len(name) > maxHeaderName {
		return "", false
	}
	name = canonical(name)
	forbidden := reserved[name] || name == signature || strings.HasPrefix(name, "Webhook-") ||
		strings.HasPrefix(name, "Svix-") || strings.HasPrefix(name, "X-Forwarded-")
	return name, !forbidden
}

func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

// HeaderValue reports whether a header can have this value (RFC 9110, section 5.5).
func HeaderValue(v string) bool {
	if len(v) > maxHeaderValue || strings.TrimSpace(v) != v {
		return false
	}
	return !strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// token reports whether s is a token (RFC 9110, section 5.6.2).
func token(s string) bool {
	for _, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// checkHeaders returns a fault that names the header, but not its value, which may be a
// credential.
func (e *Endpoint) checkHeaders(signature string) error {
	if len(e.Headers) > MaxHeaders {
		return fault.Param("headers", "parameter_invalid", "An endpoint can have at most %d custom headers.", MaxHeaders)
	}
	for name, value := range e.Headers {
		at := "headers[" + shorten(name) + "]"
		canonical, err := checkHeader(at, name, value, signature)
		switch {
		case err != nil:
			return err
		case e.Signature().Sets(canonical):
			return fault.Param(at, "header_reserved", "The endpoint's signature scheme sets this header. Leave it out.")
		case canonical == "Authorization" && e.Auth.Type != AuthNone:
			return fault.Param(at, "header_reserved", "The endpoint's authentication sets this header. Leave it out.")
		}
	}
	return nil
}

// checkHeader returns the canonical name of a header, or a fault for the parameter at.
func checkHeader(at, name, value, signature string) (string, error) {
	canonical, ok := HeaderName(name, signature)
	switch {
	case !token(name) || len(name) > maxHeaderName:
		return "", fault.Param(at, "header_invalid", "This is not a valid header name.")
	case !ok:
		return "", fault.Param(at, "header_reserved", "The server or the connection sets this header. Leave it out.")
	case !HeaderValue(value):
		return "", fault.Param(at, "header_invalid", "The value is longer than %d bytes, contains a control character, or has leading or trailing spaces.", maxHeaderValue)
	}
	return canonical, nil
}

// EventHeaders returns the custom headers of an event's deliveries. The rules for an endpoint's
// headers apply, and all together have at most 8 KiB. Errors: fault.Invalid.
func EventHeaders(given map[string]string, signature string) (event.Headers, error) {
	if len(given) > MaxHeaders {
		return nil, fault.Param("headers", "parameter_invalid", "An event can have at most %d headers.", MaxHeaders)
	}
	all, size := make(map[string]string, len(given)), 0
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at, value := "headers["+shorten(name)+"]", given[name]
		canonical, err := checkHeader(at, name, value, signature)
		if err != nil {
			return nil, err
		}
		if _, twice := all[canonical]; twice {
			return nil, fault.Param(at, "header_invalid", "Two headers have this name, in which case does not matter. Leave one of them out.")
		}
		all[canonical] = value
		size += len(canonical) + len(value)
	}
	if size > maxEventHeader {
		return nil, fault.Param("headers", "parameter_invalid", "The headers of an event can have at most %d bytes together.", maxEventHeader)
	}
	return event.EncodeHeaders(all), nil
}
