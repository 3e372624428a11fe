package sender

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// errHeader is the error of an endpoint's header that is not allowed.
var errHeader = errors.New("the header cannot be set")

// addStatic adds an endpoint's custom headers to h. They were checked when they were set; if
// one conflicts with a brand that was changed since, the attempt fails rather than losing its
// signature. The error names the header, not the value, which may be a credential.
func (s *Sender) addStatic(h http.Header, static map[string]string) error {
	for name, value := range static {
		canonical, ok := endpoint.HeaderName(name, s.signature)
		if !ok || !endpoint.HeaderValue(value) {
			return fmt.Errorf("%w: %s", errHeader, strings.ToValidUTF8(name, "?"))
		}
		h[canonical] = []string{value}
	}
	return nil
}

// addEvent adds the custom headers of the event to h. Those of the server, of the endpoint and of
// the signature take precedence.
func (s *Sender) addEvent(h http.Header, r *Request) error {
	values, err := r.EventHeader.Values()
	if err != nil {
		return fmt.Errorf("read the event's headers: %w", err)
	}
	for name, value := range values {
		if _, ok := endpoint.HeaderName(name, s.signature); ok && endpoint.HeaderValue(value) && !r.Signature.Sets(name) {
			h[name] = []string{value}
		}
	}
	return nil
}

// hidden replaces a value that may be a credential.
const hidden = "(hidden)"

// ShownHeader returns a request's header with credentials masked.
func (s *Sender) ShownHeader(h http.Header, r *Request, at time.Time) delivery.Header {
	return shown(h, r, at)
}

// shown returns the header of a request of an attempt that started at a time, in order of name,
// with the values of custom headers and of Authorization masked.
func shown(h http.Header, r *Request, started time.Time) delivery.Header {
	var names [16]string
	sorted := names[:0]
	for name, values := range h {
		if len(values) > 0 { // otherwise the transport does not send it
			sorted = append(sorted, name)
		}
	}
	slices.Sort(sorted)
	var buf [1024]byte
	text := buf[:0]
	for _, name := range sorted {
		value := h[name][0]
		if name == "Authorization" || len(r.Header) > 0 && static(r.Header, name) {
			value = hidden
		}
		text = delivery.AppendHeaderLine(text, name, value, r.EventID, started)
	}
	return delivery.Header(text)
}

// static reports whether a header is a custom header of the endpoint.
func static(own map[string]string, canonical string) bool {
	for name := range own {
		if http.CanonicalHeaderKey(name) == canonical {
			return true
		}
	}
	return false
}

// basic returns the value of Authorization for HTTP Basic (RFC 7617).
func basic(username, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
}
