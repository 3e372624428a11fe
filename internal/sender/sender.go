// Package sender owns one HTTP attempt: it signs the request, dials an allowed address, posts,
// and classifies the outcome.
//
// It must not know the store, lanes or retry times.
package sender

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/signature"
	"github.com/posthaste-hq/posthaste/webhook"
)

// Config contains the settings of attempts. Brand, Version and Now are required.
type Config struct {
	Brand   string        // "Payment" makes Payment-Signature and the user agent Payment-Webhooks/<version>
	Version string        // in the user agent
	Timeout time.Duration // of an attempt without its own timeout; default DefaultTimeout
	Now     func() time.Time

	AllowNets     []netip.Prefix // non-public ranges that may be dialled
	DenyNets      []netip.Prefix // ranges that may not be dialled, with precedence over all others
	AllowLoopback bool           // for development
	Ports         []PortRange    // that may be dialled; empty is all

	EgressProxy   *url.URL // http or https, may contain a user and password; nil: direct
	ProxyResolves bool     // the proxy receives names and decides alone which addresses are allowed

	RootCAs  *x509.CertPool // nil: the system's
	Resolver *net.Resolver  // nil: the default

	MaxIdleConnsPerHost int // kept for reuse; default 256
	MaxIdleConns        int // kept for reuse, all hosts together; default 2048
}

// DefaultTimeout is the default timeout of one attempt, from dialling to the end of the
// response.
const DefaultTimeout = 15 * time.Second

const (
	maxIdlePerHost    = 256
	maxIdle           = 2048
	idleFor           = 90 * time.Second
	writeBuffer       = 8 << 10 // most requests are sent in one write
	dialTimeout       = 10 * time.Second
	maxResponseHeader = 64 << 10
	keepHeader        = 8 << 10
	keepOnFailure     = 64 << 10 // bytes of the response body
	keepOnSuccess     = 1 << 10
	maxRetryAfter     = delivery.MaxRetryAfter
	sessions          = 1024 // cached TLS sessions
)

// Sender makes attempts. Use [New]; it is safe for concurrent use.
type Sender struct {
	Config
	guard     *guard
	direct    *pool  // for endpoints without their own certificates: nearly all
	signature string // the plain signature's header, canonical
	agent     []string

	transports cache[route, *pool]
	tokens     cache[account, *tokens]
	secrets    cache[string, *webhook.Secret]
	keys       cache[string, *webhook.SigningKey]
	scarce     atomic.Pointer[time.Time] // no dials before this time: file descriptors are exhausted
	urls       cache[string, *url.URL]
	accepted   accepted
}

// New returns a sender. The caller should Close it.
func New(c Config) *Sender {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	c.MaxIdleConnsPerHost = cmp.Or(c.MaxIdleConnsPerHost, maxIdlePerHost)
	c.MaxIdleConns = cmp.Or(c.MaxIdleConns, maxIdle)
	s := &Sender{Config: c, guard: newGuard(c.Ports, c.AllowNets, c.DenyNets, c.AllowLoopback)}
	s.signature = http.CanonicalHeaderKey(c.Brand + "-Signature")
	s.agent = []string{c.Brand + "-Webhooks/" + c.Version}
	s.direct, _ = s.transport(route{}) // it fails only for invalid certificates, and there are none
	return s
}

// Close closes idle connections.
func (s *Sender) Close() {
	s.transports.each(func(p *pool) { p.CloseIdleConnections() })
}

// Request contains the parameters of one attempt.
type Request struct {
	EventID string
	Body    []byte
	URL     string
	Secrets []endpoint.Secret // live ones, oldest first; at least one

	EventType string
	Signature *signature.Profile // nil: Standard Webhooks and the brand's signature

	Timeout time.Duration // 0: the sender's
	Number  int           // of the attempt, 1 is the first

	Method      string              // empty: POST
	ContentType string              // empty: application/json
	Attributes  map[string][]string // further headers of the event, by canonical name

	EventHeader event.Headers // custom headers of the event

	Header  map[string]string        // custom headers of the endpoint
	Auth    *endpoint.Authentication // nil: none
	TLS     *endpoint.TLS            // nil: the defaults
	Trusted bool                     // the operator's own receiver, which may have any address

	Origin string // public name that the receiver has consented to (CloudEvents); empty: it was not asked

	EndpointID string // for transports that look up the endpoint

	Trace       event.Trace // of the event, for tracing
	TraceParent string      // of the attempt (W3C Trace Context); empty: none is sent
}

// SignedHeader returns the header of an attempt at a time, for other transports.
func (s *Sender) SignedHeader(r *Request, at time.Time) (http.Header, error) {
	f := &flight{Attempt: delivery.Attempt{Started: at}, payload: r.Body}
	h, err := s.header(r, f, 0)
	delete(h, "Idempotency-Key") // it is meaningful to the transport only
	return h, err
}

// Send makes one attempt and returns its result. If ctx ended the attempt, the outcome is
// OutcomeNone and the error "cancelled": the attempt does not count, though the receiver may
// have received it.
//
// A request is repeated within the same attempt in three cases: on another connection, if the
// receiver closes a reused connection at the moment of its use; once with a new token, if the
// receiver responds to an OAuth token with 401; and during a rotation, if a receiver that
// verifies the plain signature with a single secret responds with 401 or 403, because it has
// switched to the new secret: the request is then signed with another live secret, and later
// attempts begin with the accepted one. The attempt records the requests that were refused.
func (s *Sender) Send(ctx context.Context, r *Request) delivery.Attempt {
	began := time.Now() // with a monotonic reading, independent of the injected clock
	timeout := r.Timeout
	if timeout == 0 {
		timeout = s.Timeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	started, plain := s.Now(), s.accepted.index(r)
	var refused []delivery.Refusal
	a, token, err := s.try(limited, r, started, plain, "")
	if err == nil && a.StatusCode == http.StatusUnauthorized && token != "" {
		refused = append(refused, refusal(&a))
		a, _, err = s.try(limited, r, started, plain, token)
	}
	for range r.otherSecrets() {
		if err != nil || a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusForbidden {
			break
		}
		refused = append(refused, refusal(&a))
		plain = (plain + 1) % len(r.Secrets) // the next newer one; after the newest, the oldest
		a, _, err = s.try(limited, r, started, plain, "")
	}
	a.Duration, a.Refused = time.Since(began), refused
	if err != nil {
		a.Outcome, a.Error = classify(ctx, limited, timeout, err)
		a.Shortage = a.Outcome == delivery.OutcomeNone && ctx.Err() == nil
	}
	if a.Succeeded() {
		s.accepted.note(r, plain)
	}
	return a
}

// otherSecrets returns the number of live secrets that may be tried after the first: none if
// the request has a signature with each.
func (r *Request) otherSecrets() int {
	if r.Signature != nil && !r.Signature.One() {
		return 0
	}
	return len(r.Secrets) - 1
}

// refusal returns the record of a request that is repeated.
func refusal(a *delivery.Attempt) delivery.Refusal {
	return delivery.Refusal{StatusCode: a.StatusCode, RequestHeader: a.RequestHeader, ResponseHeader: a.ResponseHeader, ResponseBody: a.ResponseBody[:min(len(a.ResponseBody), keepOnSuccess)]}
}

// try sends the request once, with the plain signature of the secret at an index. It returns
// the access token that it used, if any, which is not the stale one.
func (s *Sender) try(ctx context.Context, r *Request, started time.Time, plain int, stale string) (_ delivery.Attempt, token string, err error) {
	f := &flight{Attempt: delivery.Attempt{Number: r.Number, Started: started, URL: r.URL}, payload: r.Body}
	f.watch.follow(&f.trace)
	f.trace.GotConn, f.trace.GotFirstResponseByte = f.gotConn, f.firstByte
	began := time.Now() // measures the wait for file descriptors
	req, err := s.request(httptrace.WithClientTrace(ctx, &f.trace), r, f, plain)
	if err != nil {
		return f.Attempt, "", &misconfigured{err}
	}
	transport, token, err := s.prepare(ctx, req.Header, r, stale)
	if err != nil {
		return f.Attempt, token, s.excuse(ctx, began, err)
	}
	f.RequestHeader = shown(req.Header, r, started)
	resp, err := transport.RoundTrip(req)
	switch {
	case err == nil && f.leftover.found.Load():
		err = errors.Join(errLeftover, resp.Body.Close())
	case err == nil:
		err = s.read(ctx, &f.Attempt, resp)
	case f.conn != nil && f.conn.flooded.Load(): // HTTP/2 reports only that the connection ended
		err = errors.Join(errFlood, err)
	}
	if f.conn == nil {
		err = s.excuse(ctx, began, err)
	}
	f.Timing = f.watch.timing(f.conn != nil)
	if f.conn == nil && err != nil {
		f.RemoteAddr, f.Peer = s.unreached(r, f.watch.address()), unverified(err)
	}
	return f.Attempt, token, err
}

// prepare returns the connections for a request, adds the endpoint's authentication to its
// header, and returns the access token, if there is one.
func (s *Sender) prepare(ctx context.Context, h http.Header, r *Request, stale string) (transport *pool, token string, err error) {
	transport = s.direct
	if r.Trusted || r.TLS != nil {
		if transport, err = s.transport(r.route()); err != nil {
			return nil, "", &misconfigured{err}
		}
	}
	if r.Auth != nil {
		token, err = s.authenticate(ctx, h, r, stale)
	}
	return transport, token, err
}

func (r *Request) route() route {
	out := route{trusted: r.Trusted}
	if r.TLS != nil {
		out.tls = *r.TLS
	}
	return out
}

// authenticate adds the endpoint's authentication. It returns the access token, if there is
// one.
func (s *Sender) authenticate(ctx context.Context, h http.Header, r *Request, stale string) (string, error) {
	switch r.Auth.Type {
	case endpoint.AuthBasic:
		h["Authorization"] = []string{basic(r.Auth.Username, r.Auth.Password)}
	case endpoint.AuthOAuth:
		source, err := s.tokens.get(account{*r.Auth, r.Trusted, r.route().tls}, s.newTokens)
		if err != nil {
			return "", &misconfigured{err}
		}
		token, err := source.get(ctx, stale)
		if err != nil {
			return "", &noToken{err}
		}
		h["Authorization"] = []string{token.Type() + " " + token.AccessToken}
		return token.AccessToken, nil
	}
	return "", nil
}

// flight contains the data of one attempt, in one allocation. It is not reused, because the
// transport may use the body and the trace after it has returned.
type flight struct {
	delivery.Attempt
	trace    httptrace.ClientTrace
	watch    stopwatch
	leftover leftover
	conn     *conn // nil: none yet
	payload  []byte
	body     bytes.Reader
	values   [4]string // of headers
}

// gotConn is called before RoundTrip returns, on the same goroutine.
func (f *flight) gotConn(c httptrace.GotConnInfo) {
	f.leftover.begin(c.Conn, c.Reused)
	if f.conn = dialled(c.Conn); f.conn != nil {
		f.RemoteAddr, f.Peer = f.conn.remote, f.conn.peerOf(c.Conn)
	}
}

func (f *flight) firstByte() {
	f.leftover.answer()
	f.watch.mark(&f.watch.firstByte)
}

// rewound is a [net/http.Request]'s GetBody. It returns a new reader each time, because the
// previous one may still be in use.
func (f *flight) rewound() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.payload)), nil
}

var (
	contentType = []string{"application/json"}
	// identity requests uncompressed responses, because only their beginning is stored.
	identity = []string{"identity"}
	// replayable has no value, so nothing is sent. Its presence tells the transport that a request
	// may be repeated if a reused connection turns out to be closed (net/http.Transport):
	// receivers deduplicate by webhook-id.
	replayable = []string{}
)

// request builds the signed request.
func (s *Sender) request(ctx context.Context, r *Request, f *flight, plain int) (*http.Request, error) {
	target, err := s.urls.get(r.URL, parseTarget)
	if err != nil {
		return nil, err
	}
	header, err := s.header(r, f, plain)
	if err != nil {
		return nil, err
	}
	// The transport sends header and body in one write if the body is one of the in-memory readers
	// that it knows.
	f.body.Reset(r.Body)
	req := &http.Request{
		Method: cmp.Or(r.Method, http.MethodPost), URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&f.body), ContentLength: int64(len(r.Body)), GetBody: f.rewound,
	}
	return req.WithContext(ctx), nil
}

// header builds the header of a request. Its values share one array, and constant
// ones are shared by all requests.
func (s *Sender) header(r *Request, f *flight, plain int) (http.Header, error) {
	if len(r.Secrets) == 0 {
		return nil, errors.New("the endpoint has no live signing secret")
	}
	header := make(http.Header, 9+len(r.Header)+len(r.Attributes))
	header["Idempotency-Key"] = replayable
	if len(r.EventHeader) > 0 {
		if err := s.addEvent(header, r); err != nil {
			return nil, err
		}
	}
	if err := s.addStatic(header, r.Header); err != nil {
		return nil, err
	}
	maps.Copy(header, r.Attributes)
	header["Content-Type"] = contentType
	if r.ContentType != "" {
		header["Content-Type"] = []string{r.ContentType}
	}
	header["Accept-Encoding"] = identity
	header["User-Agent"] = s.agent
	if r.Origin != "" {
		header[requestOrigin] = []string{r.Origin}
	}
	if r.TraceParent != "" {
		header["Traceparent"] = []string{r.TraceParent}
	}
	if r.Signature != nil {
		return header, signAs(header, r, f, plain)
	}
	return header, s.sign(header, r, f, plain)
}

// signAs adds the headers of the request's signature profile.
func signAs(header http.Header, r *Request, f *flight, plain int) error {
	secrets := make([]string, len(r.Secrets))
	for i, one := range r.Secrets {
		secrets[len(secrets)-1-i] = one.Value // newest first
	}
	d := &signature.Delivery{ID: r.EventID, Type: r.EventType, Time: f.Started.Unix(), Body: r.Body}
	return r.Signature.Sign(d, secrets, len(secrets)-1-plain, func(name, value string) { header[name] = []string{value} })
}

// sign adds the signatures of Standard Webhooks and of the brand.
func (s *Sender) sign(header http.Header, r *Request, f *flight, plain int) error {
	// One string contains the three values, which are slices of it.
	var buf [512]byte
	text := strconv.AppendInt(buf[:0], f.Started.Unix(), 10)
	stampEnd := len(text)
	for i, one := range slices.Backward(r.Secrets) { // newest first
		secret, err := s.secrets.get(one.Value, webhook.ParseSecret)
		if err != nil {
			return fmt.Errorf("signing secret %d of %d: %w", i+1, len(r.Secrets), err)
		}
		if len(text) > stampEnd {
			text = append(text, ' ')
		}
		text = secret.AppendStandard(text, r.EventID, f.Started.Unix(), r.Body)
		if one.Signing != "" {
			key, err := s.keys.get(one.Signing, webhook.ParseSigningKey)
			if err != nil {
				return fmt.Errorf("signing key %d of %d: %w", i+1, len(r.Secrets), err)
			}
			text = key.AppendStandard(append(text, ' '), r.EventID, f.Started.Unix(), r.Body)
		}
	}
	// A receiver that knows a single secret continues with the oldest until that expires.
	secret, err := s.secrets.get(r.Secrets[plain].Value, webhook.ParseSecret)
	if err != nil {
		return fmt.Errorf("signing secret %d of %d: %w", plain+1, len(r.Secrets), err)
	}
	standardEnd := len(text)
	text = secret.AppendSign(text, r.Body)
	all := string(text)
	f.values = [4]string{all[standardEnd:], r.EventID, all[:stampEnd], all[stampEnd:standardEnd]}
	header[s.signature] = f.values[0:1:1]
	header[webhook.IDHeader] = f.values[1:2:2]
	header[webhook.TimestampHeader] = f.values[2:3:3]
	header[webhook.StandardSignatureHeader] = f.values[3:4:4]
	return nil
}
