package sender

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// tlsReason explains a missing TLS connection for people. The parts that it repeats of a
// certificate are the receiver's and public.
func tlsReason(err error) string {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		op           *net.OpError
	)
	switch {
	case errors.As(err, &verification):
		return certificateReason(verification)
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "the receiver does not use TLS on this port"
	case strings.Contains(err.Error(), "server selected unsupported protocol version"):
		return "the receiver supports only TLS versions older than 1.2"
	case errors.As(err, &op) && op.Op == "remote error":
		return alertReason(strings.TrimPrefix(text(op.Err), "tls: "))
	}
	return reason(err)
}

// alertReason explains the alert by which the receiver ended the handshake.
func alertReason(alert string) string {
	meaning := "the receiver ended the TLS handshake"
	switch alert {
	case "protocol version not supported":
		meaning = "the receiver does not support TLS 1.2 or later"
	case "handshake failure", "insufficient security level":
		meaning = "the receiver accepts none of the offered TLS versions and ciphers, or requires a client certificate"
	case "unrecognized name":
		meaning = "the receiver has no certificate for the URL's host"
	case "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate", "unknown certificate authority", "certificate required", "access denied":
		meaning = "the receiver did not accept the client certificate, or requires one"
	}
	return fmt.Sprintf("%s (alert: %s)", meaning, alert)
}

// certificateReason explains why the receiver's certificate was rejected.
func certificateReason(err *tls.CertificateVerificationError) string {
	var (
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
	)
	switch chain := err.UnverifiedCertificates; {
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate is for %s, not for %s; the URL must name a host of the certificate, or the receiver needs a certificate for this host", hostsOf(host.Certificate), host.Host)
	case errors.As(err, &invalid):
		return invalidReason(&invalid, chain)
	case errors.As(err, &unknown) && len(chain) > 0:
		return untrustedReason(chain)
	}
	return text(err)
}

// hostsOf lists the hosts of a certificate.
func hostsOf(c *x509.Certificate) string {
	const most = 5
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no host (it has no subject alternative names)"
	case len(names) > most:
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	return short(strings.Join(names, ", "))
}

func invalidReason(err *x509.CertificateInvalidError, chain []*x509.Certificate) string {
	which := "the certificate"
	if len(chain) > 0 && err.Cert != nil && !err.Cert.Equal(chain[0]) {
		which = fmt.Sprintf("the certificate of the authority %q", nameOf(err.Cert.Subject))
	}
	switch err.Reason {
	case x509.Expired:
		if strings.Contains(err.Detail, " is before ") {
			return fmt.Sprintf("%s is valid only from %s on", which, err.Cert.NotBefore.UTC().Format("2006-01-02 15:04 MST"))
		}
		return fmt.Sprintf("%s expired on %s; the receiver must renew it", which, err.Cert.NotAfter.UTC().Format("2006-01-02 15:04 MST"))
	case x509.NotAuthorizedToSign:
		return which + " signs another certificate, but is not a certificate authority"
	case x509.IncompatibleUsage:
		return which + " is not valid for servers"
	case x509.CANotAuthorizedForThisName:
		return which + " was issued by an authority that may not sign for this name"
	case x509.TooManyIntermediates:
		return "the receiver's certificate chain is longer than its authority allows"
	}
	return text(err)
}

// untrustedReason distinguishes an incomplete chain from one that ends at an untrusted
// authority.
func untrustedReason(chain []*x509.Certificate) string {
	last := chain[0]
	if selfSigned(last) {
		return "the certificate is self-signed; add it to the endpoint's ca_certificates, or use a certificate of a public authority"
	}
	for range chain { // each can follow once
		next := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return c != last && string(c.RawSubject) == string(last.RawIssuer) })
		if next < 0 {
			break
		}
		if last = chain[next]; selfSigned(last) {
			return fmt.Sprintf("the certificate was issued by the authority %q, which is not trusted; %s", nameOf(last.Subject), trust)
		}
	}
	issuer := nameOf(last.Issuer)
	if last == chain[0] {
		return fmt.Sprintf("the certificate chain is incomplete: the certificate is signed by %q, which is not trusted and whose certificate the receiver does not send; the receiver must send its intermediate certificates, or, if that is the authority itself, %s", issuer, trust)
	}
	return fmt.Sprintf("the certificate was issued by the authority %q, which is not trusted; %s", issuer, trust)
}

// trust is the remedy if a receiver's certificate is not from a public authority.
const trust = "add the authority's certificate to the endpoint's ca_certificates, or use a certificate of a public authority"

func selfSigned(c *x509.Certificate) bool { return string(c.RawSubject) == string(c.RawIssuer) }

// nameOf returns the common name, or another name, of a certificate's subject.
func nameOf(n pkix.Name) string {
	const most = 100
	name := n.CommonName
	if name == "" {
		name = n.String()
	}
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}
