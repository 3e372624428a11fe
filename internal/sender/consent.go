package sender

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// The headers of CloudEvents' validation handshake (HTTP 1.1 Web Hooks for Event Delivery
// 1.0.2, section 4), canonical.
const (
	requestOrigin   = "Webhook-Request-Origin"
	requestCallback = "Webhook-Request-Callback"
	requestRate     = "Webhook-Request-Rate"
	allowedOrigin   = "Webhook-Allowed-Origin"
	allowedRate     = "Webhook-Allowed-Rate"
)

// askTimeout limits one validation request; a user may be waiting for the response.
const askTimeout = 10 * time.Second

// AskConsent asks an endpoint's receiver for its consent, with the headers, authentication and
// certificates of deliveries. Only a 2xx response with the consent header grants it, because
// many sites respond to OPTIONS.
func (s *Sender) AskConsent(ctx context.Context, e *endpoint.Endpoint, ask endpoint.ConsentRequest) endpoint.ConsentAnswer {
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := s.askConsent(limited, e, ask)
	if err != nil {
		_, reason := classify(ctx, limited, askTimeout, err)
		return endpoint.ConsentAnswer{Reason: reason}
	}
	if resp.StatusCode/100 != 2 {
		return endpoint.ConsentAnswer{Answered: true, Reason: fmt.Sprintf("The receiver answered %d, which does not grant consent.", resp.StatusCode)}
	}
	perMinute, err := endpoint.Consents(ask.Origin, resp.Header.Get(allowedOrigin), resp.Header.Get(allowedRate))
	if err != nil {
		return endpoint.ConsentAnswer{Answered: true, Reason: fmt.Sprintf("The receiver answered %d %s.", resp.StatusCode, err)}
	}
	return endpoint.ConsentAnswer{Answered: true, Granted: true, Rate: perMinute}
}

// askConsent returns the response, with its body closed.
func (s *Sender) askConsent(ctx context.Context, e *endpoint.Endpoint, ask endpoint.ConsentRequest) (*http.Response, error) {
	target, err := s.urls.get(e.URL, parseTarget)
	if err != nil {
		return nil, &misconfigured{err}
	}
	header := http.Header{"Accept-Encoding": identity, "User-Agent": s.agent, requestOrigin: {ask.Origin}}
	if ask.Callback != "" {
		header.Set(requestCallback, ask.Callback)
	}
	if rate := e.Settings.Rate; rate > 0 {
		header.Set(requestRate, strconv.Itoa(int(math.Ceil(rate*60))))
	}
	if err := s.addStatic(header, e.Headers); err != nil {
		return nil, &misconfigured{err}
	}
	r := &Request{}
	if e.Auth.Type != endpoint.AuthNone {
		r.Auth = &e.Auth
	}
	if e.TLS != (endpoint.TLS{}) {
		r.TLS = &e.TLS
	}
	transport, _, err := s.prepare(ctx, header, r, "")
	if err != nil {
		return nil, err
	}
	var l leftover
	ctx = httptrace.WithClientTrace(ctx, l.trace())
	resp, err := transport.RoundTrip((&http.Request{Method: http.MethodOptions, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if l.found.Load() {
		return nil, errLeftover
	}
	_, _ = io.CopyN(io.Discard, resp.Body, keepOnSuccess) // so that the connection can be reused
	return resp, nil
}
