// Package weburl owns the normal form of http and https URLs: the form that is stored, shown,
// signed and sent.
//
// Users write the same URL in many ways. A URL is normalized once, when the server accepts it,
// so that every later step, also in a strict receiver, has the same bytes: percent-encoded
// ASCII, a host in its ASCII form, a port in decimal.
//
// It does no I/O and must not know the use of a URL.
package weburl

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// invalid is the reason why a text is not a valid URL: a sentence that does not contain the
// URL, whose query or user-info may be a credential.
type invalid string

func (i invalid) Error() string { return string(i) }

const (
	errSpace     invalid = "The URL contains a space or control character; percent-encode it."
	errSyntax    invalid = "The value is not a URL."
	errScheme    invalid = "The URL must be absolute and start with https://."
	errNoHost    invalid = "The URL has no host."
	errEmptyPort invalid = "The URL has an empty port."
	errPort      invalid = "The URL's port is not 1 to 65535."
	errEscape    invalid = "The URL's path contains a % that begins no escape such as %20; write %25 for a percent sign."

	errName       invalid = "The URL's host is not a valid name."
	errCharacter  invalid = "The URL's host is not a valid name: it contains a character other than letters, digits, hyphens and underscores."
	errEmptyLabel invalid = "The URL's host is not a valid name: a label between two dots is empty."
	errLongLabel  invalid = "The URL's host is not a valid name: a label is longer than 63 bytes in its ASCII form."
	errLongName   invalid = "The URL's host is not a valid name: it is longer than 253 bytes in its ASCII form."
	errNumeric    invalid = "The URL's host is neither a name nor an address."
)

// Limits of a host name, in bytes of its ASCII form (RFC 1035, section 2.3.4).
const (
	maxLabel = 63
	maxName  = 253
)

// Parse returns a URL in its normal form. Its String method returns that form, except for an
// empty fragment. Errors are sentences for the author of the URL.
func Parse(raw string) (*url.URL, error) {
	spelled, err := Normalize(raw)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(spelled)
	if err != nil {
		return nil, errSyntax
	}
	return u, nil
}

// Respell returns a URL in its normal form, and any other text unchanged, which the caller must
// check.
func Respell(raw string) string {
	if spelled, err := Normalize(raw); err == nil {
		return spelled
	}
	return raw
}

// Normalize returns the normal form of an absolute http or https URL. Encoded characters are
// not changed; in path, query and fragment, all bytes that RFC 3986 does not allow there are
// percent-encoded. A host name is mapped to ASCII (UTS #46), without a final dot. Normalize is
// idempotent.
func Normalize(raw string) (string, error) {
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", errSpace
	}
	scheme, rest, _ := strings.Cut(raw, ":")
	scheme = strings.ToLower(scheme)
	if scheme != "http" && scheme != "https" {
		return "", errScheme
	}
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "", errNoHost
	}
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil {
		return "", errSyntax
	}
	host, err := hostPort(u)
	if err != nil {
		return "", err
	}
	b := make([]byte, 0, len(raw)+16)
	b = append(append(b, scheme...), "://"...)
	if u.User != nil {
		b = append(append(b, u.User.String()...), '@')
	}
	b = append(b, host...)
	if b, err = appendEncoded(b, tail); err != nil {
		return "", err
	}
	return string(b), nil
}

func hostPort(u *url.URL) (string, error) {
	name, port := u.Hostname(), u.Port()
	switch {
	case name == "":
		return "", errNoHost
	case port == "" && strings.HasSuffix(u.Host, ":"):
		return "", errEmptyPort
	}
	host, err := Host(name)
	if err != nil {
		return "", err
	}
	if strings.Contains(host, ":") {
		host = "[" + strings.Replace(host, "%", "%25", 1) + "]"
	}
	if port == "" {
		return host, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errPort
	}
	return host + ":" + strconv.FormatUint(n, 10), nil
}

// profile maps names like browsers (UTS #46, non-transitional). [checkName] decides which ASCII
// characters a name may contain.
var profile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.CheckHyphens(false), idna.StrictDomainName(false))

// Host returns the ASCII form of a host: the form for DNS, the TLS handshake and the Host
// header. An IP address is returned in its usual form. Errors are sentences for users.
func Host(host string) (string, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String(), nil
	}
	if !ascii(host) || strings.Contains(strings.ToLower(host), "xn--") {
		mapped, err := profile.ToASCII(host)
		if err != nil || !utf8.ValidString(host) {
			return "", errName
		}
		if again, err := profile.ToASCII(mapped); err != nil || again != mapped { // the mapping must be idempotent
			return "", errName
		}
		host = mapped
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if err := checkName(host); err != nil {
		return "", err
	}
	if !numeric(host) {
		return host, nil
	}
	a, ok := parseIPv4(host)
	if !ok {
		return "", errNumeric
	}
	return a.String(), nil
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func checkName(host string) error {
	if len(host) > maxName {
		return errLongName
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return errEmptyLabel
		case len(label) > maxLabel:
			return errLongLabel
		case strings.ContainsFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }):
			return errCharacter
		}
	}
	return nil
}

// numeric reports whether the last label is a number, so that the host cannot be a name (WHATWG
// URL, "ends in a number").
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}
	return strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == ""
}

// parseIPv4 reads an IPv4 address in any form that some resolver accepts: those of inet_aton,
// with fewer parts, octal or hexadecimal.
func parseIPv4(host string) (netip.Addr, bool) {
	parts := strings.Split(host, ".")
	if len(parts) > net.IPv4len {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(cPrefix(p), 0, 64)
		if err != nil || p == "" || strings.ContainsAny(p, "_+-") {
			return netip.Addr{}, false
		}
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		if n >= 1<<bits {
			return netip.Addr{}, false
		}
		v = v<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

// cPrefix converts the octal prefix of C to that of Go, and refuses prefixes that C does not
// know.
func cPrefix(p string) string {
	if len(p) > 1 && p[0] == '0' && (p[1]|0x20 == 'b' || p[1]|0x20 == 'o') {
		return ""
	}
	return p
}

// appendEncoded appends the part after the authority: path, query and fragment. A % without two
// hexadecimal digits is an error in a path, and a percent sign after it.
func appendEncoded(dst []byte, tail string) ([]byte, error) {
	const hex = "0123456789ABCDEF"
	inPath, inFragment := true, false
	for i := range len(tail) {
		c := tail[i]
		switch {
		case c == '?' && !inFragment:
			inPath = false
		case c == '#' && !inFragment:
			inPath, inFragment = false, true
		case unescaped(c), c == '?', c == '%' && i+2 < len(tail) && isHex(tail[i+1]) && isHex(tail[i+2]):
		case c == '%' && inPath:
			return nil, errEscape
		default:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst, nil
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// unescaped reports whether a byte may be unencoded in a path, a query and a fragment (RFC
// 3986, appendix A, "pchar" and "/").
func unescaped(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=:@/", c) >= 0
}
