package sender

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// errForbidden is the error of an address that is not allowed.
var errForbidden = errors.New("the address is not allowed")

// guard decides which addresses may be dialled: public ones and those that the operator allows,
// but never those that the operator denies.
type guard struct {
	ports    []PortRange // empty: all
	deny     []netip.Prefix
	public   *ssrf.Guardian
	internal bool // the operator allows non-public networks besides loopback
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// PortRange is a range of allowed ports, both ends inclusive.
type PortRange struct{ From, To uint16 }

func newGuard(ports []PortRange, allow, deny []netip.Prefix, allowLoopback bool) *guard {
	internal := len(allow) > 0
	if allowLoopback {
		allow = append(append([]netip.Prefix(nil), allow...), loopback...)
	}
	var v4, v6 []netip.Prefix
	for _, p := range unmapped(allow) {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &guard{ports: ports, internal: internal, deny: unmapped(deny), public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// unmapped converts prefixes of IPv4-mapped addresses to IPv4 ones, the form in which addresses
// are checked.
func unmapped(prefixes []netip.Prefix) []netip.Prefix {
	const mapped = 96 // bits before the IPv4 address
	out := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= mapped {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
		}
		out[i] = p
	}
	return out
}

// control is a [net.Dialer]'s Control: it receives the resolved address just before the
// connection is made, so that a later DNS response cannot change it.
func (g *guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errForbidden, err)
	}
	return g.checkPort(ap.Addr(), ap.Port())
}

func (g *guard) checkPort(a netip.Addr, port uint16) error {
	if err := g.checkPortNumber(port); err != nil {
		return err
	}
	return g.check(a)
}

func (g *guard) checkPortNumber(port uint16) error {
	if len(g.ports) == 0 || slices.ContainsFunc(g.ports, func(r PortRange) bool { return r.From <= port && port <= r.To }) {
		return nil
	}
	return fmt.Errorf("%w: port %d", errForbidden, port)
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
	if inner, ok := embedded(a); ok {
		return g.check(inner)
	}
	return nil
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	six4  = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

// embedded returns the IPv4 address to which a gateway would forward an IPv6 packet. Neither
// range is public, but an operator behind such a gateway allows one, which must not allow the
// private addresses embedded in it.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case six4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
