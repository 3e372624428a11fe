package sender

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// parseTarget parses the URL of an attempt in its normalized form. Its errors do not repeat the
// URL, whose query may contain a credential.
func parseTarget(raw string) (*url.URL, error) { return weburl.Parse(raw) }

// Names that always resolve to this machine, and those that exist only in private networks: RFC
// 6761, RFC 6762, RFC 8375, ICANN's reservation of .internal, and the names of cloud metadata
// services.
var (
	localNames    = []string{"localhost", "localhost.localdomain", "localhost4", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback"}
	localDomains  = []string{".localhost"}
	insideNames   = []string{"metadata", "instance-data"}
	insideDomains = []string{".internal", ".local", ".localdomain", ".home.arpa"}
)

func among(host string, names, domains []string) bool {
	return slices.Contains(names, host) || slices.ContainsFunc(domains, func(d string) bool { return strings.HasSuffix(host, d) })
}

// CheckTarget refuses, at registration, a URL whose host is a forbidden address in any
// notation, or a name that never resolves to a public one. Other names are not resolved: their
// addresses are checked at each dial. It returns a fault.Invalid for the parameter.
func (s *Sender) CheckTarget(param, rawURL string) error {
	u, err := parseTarget(rawURL)
	if err != nil {
		return fault.Param(param, "url_invalid", "%s", err)
	}
	host := u.Hostname()
	addr, notLiteral := netip.ParseAddr(host)
	literal := notLiteral == nil
	port, err := net.LookupPort("tcp", cmp.Or(u.Port(), u.Scheme))
	switch {
	case literal && s.guard.check(addr) != nil,
		among(host, localNames, localDomains) && s.guard.check(loopback[0].Addr().Next()) != nil,
		among(host, insideNames, insideDomains) && !s.guard.internal:
		return fault.Param(param, "url_target_forbidden",
			"The URL's host is not a public address. Events are sent to public addresses only, unless the operator allows others.")
	case err != nil || s.guard.checkPortNumber(uint16(port)) != nil:
		return fault.Param(param, "url_port_forbidden", "Events are not sent to this port.")
	}
	return nil
}
