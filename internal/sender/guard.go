package sender

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// errForbidden is the error for an address that endpoints may not have.
var errForbidden = errors.New("the address is not allowed")

// guard decides which addresses may be dialled: public ones, what the operator
// allows besides, never what the operator denies.
type guard struct {
	deny   []netip.Prefix
	public *ssrf.Guardian
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func newGuard(allow, deny []netip.Prefix, allowLoopback bool) *guard {
	if allowLoopback {
		allow = append(append([]netip.Prefix(nil), allow...), loopback...)
	}
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{deny: deny, public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// control is a [net.Dialer]'s Control: it sees the address that a name resolved
// to, right before the connection is made, so no later answer of the DNS counts.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", errForbidden, address)
	}
	return g.check(ap.Addr())
}

func (g *guard) check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, p := range g.deny {
		if p.Contains(a) {
			return fmt.Errorf("%w: %s", errForbidden, a)
		}
	}
	if err := g.public.SafeAddr(a); err != nil {
		return fmt.Errorf("%w: %s", errForbidden, a)
	}
	return nil
}

// CheckTarget refuses, at registration, a URL whose host is an address that may
// not be dialled, however it is spelt, or a name that always means this machine.
// Other names are not resolved: what they mean is checked at each dial. It returns
// a fault.Invalid for "url".
func (s *Sender) CheckTarget(rawURL string, _ bool) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fault.Param("url", "url_invalid", "This is not a URL.")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	addr, literal := parseHost(host)
	switch {
	case literal && s.guard.check(addr) != nil,
		!literal && (host == "localhost" || strings.HasSuffix(host, ".localhost")) && s.guard.check(loopback[0].Addr().Next()) != nil:
		return fault.Param("url", "url_target_forbidden",
			"The URL's host is not a public address. Events are sent to public addresses only, unless the operator allows more.")
	case !literal && numeric(host):
		return fault.Param("url", "url_invalid", "The URL's host is neither a name nor an address.")
	}
	return nil
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
