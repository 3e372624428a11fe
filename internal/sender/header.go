package sender

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// errHeader is the error for a static header that a request may not carry.
var errHeader = errors.New("the header cannot be set")

// reserved are the headers that are the connection's or this package's own.
var reserved = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, // hop by hop (RFC 9110, section 7.6.1)
	"Host": true, "Content-Length": true, "Expect": true, "Content-Type": true, "Content-Encoding": true, "User-Agent": true,
}

// addStatic adds an endpoint's own headers to h. Its error names the header, not
// the value, which may be a credential.
func (s *Sender) addStatic(h, static http.Header) error {
	for name, values := range static {
		name := http.CanonicalHeaderKey(name)
		if reserved[name] || name == s.signature || strings.HasPrefix(name, "Webhook-") || !token(name) {
			return fmt.Errorf("%w: %s", errHeader, strings.ToValidUTF8(name, "?"))
		}
		for _, v := range values {
			if !fieldValue(v) {
				return fmt.Errorf("%w: the value of %s holds a control character", errHeader, name)
			}
		}
		h[name] = values
	}
	return nil
}

// token reports whether s is one (RFC 9110, section 5.6.2).
func token(s string) bool {
	for _, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// fieldValue reports whether s can be one (RFC 9110, section 5.5).
func fieldValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
