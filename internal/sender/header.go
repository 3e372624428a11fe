package sender

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// errHeader is the error for a header of an endpoint that a request may not carry.
var errHeader = errors.New("the header cannot be set")

// addStatic adds an endpoint's own headers to h. They were checked when they were
// set; a brand that changed since, say, makes the attempt fail rather than lose its
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

// basic returns the value of Authorization for HTTP Basic (RFC 7617).
func basic(username, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+password))
}
