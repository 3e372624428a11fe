package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// misconfigured is the error of a request that could not be built.
type misconfigured struct{ error }

// noToken is the error of a missing access token.
type noToken struct{ error }

func (e *noToken) Unwrap() error { return e.error }

// errLeftover is the error of a response that arrived before its request.
var errLeftover = errors.New("the receiver sent more data than expected, so its responses cannot be matched to requests")

// classify returns the outcome and the reason for a missing response. ctx is the caller's,
// limited the attempt's. The endpoint's owner, who need not be the operator, reads the reason:
// it contains no address of the server's network, such as ours, a name server's or that of an
// internal name.
func classify(ctx, limited context.Context, timeout time.Duration, err error) (delivery.Outcome, string) {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		rec     tls.RecordHeaderError
		alert   tls.AlertError
		neterr  net.Error
		refused *proxyRefusal
		config  *misconfigured
		token   *noToken
	)
	switch {
	case errors.As(err, &config):
		return delivery.OutcomeMisconfigured, config.Error()
	case ctx.Err() != nil:
		return delivery.OutcomeNone, "cancelled"
	case errors.Is(err, errShortage), noDescriptor(err):
		return delivery.OutcomeNone, errShortage.Error()
	case errors.As(err, &token):
		said := tokenFailure(token)
		if said == "" {
			_, said = classify(ctx, limited, timeout, token.error)
			said = "The token URL: " + said
		}
		return delivery.OutcomeNoToken, said
	case errors.Is(err, errForbidden):
		return delivery.OutcomeForbidden, "The target's address is not public, and the server's operator does not allow it."
	case errors.As(err, &refused):
		return delivery.OutcomeConnection, "No response: " + refused.reason() + "."
	case errors.Is(err, errProxyTLS) && limited.Err() == nil:
		return delivery.OutcomeConnection, "No response: the server has no trusted TLS connection to its egress proxy."
	case errors.Is(err, errLeftover):
		return delivery.OutcomeConnection, "No response: " + errLeftover.Error() + "."
	case errors.Is(err, errFlood):
		return delivery.OutcomeConnection, "No response: " + errFlood.Error() + "."
	case limited.Err() != nil:
		return delivery.OutcomeTimeout, fmt.Sprintf("No complete response within %s.", timeout)
	// HTTP/2's error for an alert as the first response: with TLS 1.3 a server checks the client's
	// certificate after our side of the handshake has ended.
	// server looks at the client's certificate after the handshake has ended for us.
	case strings.Contains(err.Error(), "http2: client conn could not be established"):
		return delivery.OutcomeTLS, "The receiver ended the TLS connection after the handshake; it may require a client certificate, or another one."
	case errors.As(err, &dns):
		return delivery.OutcomeDNS, "The host name cannot be resolved: " + dnsReason(dns) + "."
	case errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &alert),
		strings.Contains(err.Error(), "tls: "), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return delivery.OutcomeTLS, "No trusted TLS connection: " + tlsReason(err) + "."
	case errors.As(err, &neterr) && neterr.Timeout():
		return delivery.OutcomeTimeout, "The connection timed out."
	}
	return delivery.OutcomeConnection, "No response: " + reason(err) + "."
}

func dnsReason(err *net.DNSError) string {
	switch {
	case err.IsNotFound:
		return "no such host"
	case err.IsTimeout:
		return "the name servers did not answer in time"
	}
	return "the name servers answered with an error"
}

// reason describes a connection error for people.
func reason(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the receiver reset the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the host cannot be reached"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the receiver closed the connection"
	case errors.As(err, &op) && op.Err != nil:
		return text(op.Err) // without the addresses of both ends
	}
	return text(err)
}

// text returns an error's text, shortened.
func text(err error) string { return short(err.Error()) }

func short(s string) string {
	const most = 300
	s = strings.ToValidUTF8(s, "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
