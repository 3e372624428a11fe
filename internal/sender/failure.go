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

// misconfigured is the error for a request that could not be built.
type misconfigured struct{ error }

// noToken is the error for an access token that could not be got.
type noToken struct{ error }

func (e *noToken) Unwrap() error { return e.error }

// errLeftover is the error for an answer that was there before its request.
var errLeftover = errors.New("the receiver sent more data than expected, so its responses cannot be matched to requests")

// classify says why there was no answer. ctx is the caller's, limited the
// attempt's. The text goes to the endpoint's owner, who need not be the server's:
// it names no address of the server's network, neither ours nor a name server's
// nor what an internal name resolves to.
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
	// What HTTP/2 makes of an alert that comes as the first answer: under TLS 1.3 a
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

// reason says in plain words what went wrong on a connection.
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
		return text(op.Err) // without both ends' addresses
	}
	return text(err)
}

// text returns an error's text, short enough to keep.
func text(err error) string { return short(err.Error()) }

func short(s string) string {
	const most = 300
	s = strings.ToValidUTF8(s, "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
