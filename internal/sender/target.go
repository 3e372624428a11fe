package sender

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// parseTarget reads the URL of an attempt. Its errors do not repeat the URL, whose
// query may hold a credential.
func parseTarget(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be parsed")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the URL is neither https nor http")
	case u.Hostname() == "":
		return nil, errors.New("the URL names no host")
	case !validPort(u.Port()):
		return nil, errors.New("the URL's port is not 1 to 65535")
	}
	return u, nil
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// Names that mean this machine wherever they are looked up, and those that only
// exist in private networks: RFC 6761, RFC 6762, RFC 8375, ICANN's reservation of
// .internal, and what cloud machines call their metadata service.
var (
	localNames    = []string{"localhost", "localhost.localdomain", "localhost4", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback"}
	localDomains  = []string{".localhost"}
	insideNames   = []string{"metadata", "instance-data"}
	insideDomains = []string{".internal", ".local", ".localdomain", ".home.arpa"}
)

func among(host string, names, domains []string) bool {
	return slices.Contains(names, host) || slices.ContainsFunc(domains, func(d string) bool { return strings.HasSuffix(host, d) })
}

// CheckTarget refuses, at registration, a URL whose host is an address that may
// not be dialled, however it is spelt, or a name that never means a public one.
// Other names are not resolved: what they mean is checked at each dial. It returns
// a fault.Invalid for the parameter.
func (s *Sender) CheckTarget(param, rawURL string) error {
	u, err := parseTarget(rawURL)
	if err != nil {
		return fault.Param(param, "url_invalid", "The URL cannot be sent to: %s.", err)
	}
	host, err := asciiHost(u)
	if err != nil {
		return fault.Param(param, "url_invalid", "The URL's host is not a valid name.")
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	addr, literal := parseHost(host)
	port, err := net.LookupPort("tcp", cmp.Or(u.Port(), u.Scheme))
	switch {
	case literal && s.guard.check(addr) != nil,
		among(host, localNames, localDomains) && s.guard.check(loopback[0].Addr().Next()) != nil,
		among(host, insideNames, insideDomains) && !s.guard.internal:
		return fault.Param(param, "url_target_forbidden",
			"The URL's host is not a public address. Events are sent to public addresses only, unless the operator allows more.")
	case !literal && (numeric(host) || host == "" || slices.Contains(strings.Split(host, "."), "")):
		return fault.Param(param, "url_invalid", "The URL's host is neither a name nor an address.")
	case err != nil || s.guard.checkPortNumber(uint16(port)) != nil:
		return fault.Param(param, "url_port_forbidden", "Events are not sent to this port.")
	}
	return nil
}

// asciiHost returns the URL's host as it will be dialled. Outside ASCII many
// spellings mean the same (IDNA, UTS #46): full-width digits are digits and an
// ideographic full stop is a dot. The profile is the one that [net/http] dials by.
func asciiHost(u *url.URL) (string, error) {
	host := u.Hostname()
	if strings.IndexFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return host, nil
	}
	return idna.Lookup.ToASCII(host)
}

// numeric reports whether the last label is a number, so that the host can be no
// name (WHATWG URL, "ends in a number").
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := strconv.ParseUint(last, 10, 64); err == nil {
		return true
	}
	return strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == ""
}

// parseHost reads an address in any spelling that some resolver takes for one:
// the usual ones, and those of inet_aton with fewer parts, octal or hexadecimal.
func parseHost(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
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

// cPrefix makes what C takes for octal so for Go, and keeps out what C does not
// know.
func cPrefix(p string) string {
	if len(p) > 1 && p[0] == '0' && (p[1]|0x20 == 'b' || p[1]|0x20 == 'o') {
		return ""
	}
	return p
}
