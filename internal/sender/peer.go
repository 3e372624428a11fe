package sender

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/netip"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// peerOf describes the owner of a certificate.
func peerOf(c *x509.Certificate) delivery.Peer {
	sum := sha256.Sum256(c.Raw)
	return delivery.Peer{Subject: nameOf(c.Subject), Issuer: nameOf(c.Issuer), SHA256: hex.EncodeToString(sum[:])}
}

// unverified describes the peer whose certificate was rejected; it is empty if that is not the
// cause of the error.
func unverified(err error) delivery.Peer {
	var refused *tls.CertificateVerificationError
	if errors.Is(err, errProxyTLS) || !errors.As(err, &refused) || len(refused.UnverifiedCertificates) == 0 {
		return delivery.Peer{}
	}
	return peerOf(refused.UnverifiedCertificates[0])
}

// unreached returns the address of a failed dial, if the endpoint's owner may know it: neither
// the proxy's, nor that of a name inside the server's network.
func (s *Sender) unreached(r *Request, address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil || s.EgressProxy != nil && !r.Trusted {
		return ""
	}
	switch a := at.Addr().Unmap(); {
	case a.IsLoopback() && s.AllowLoopback:
	case !a.IsGlobalUnicast() || a.IsPrivate() || s.guard.check(a) != nil:
		return ""
	}
	return address
}
