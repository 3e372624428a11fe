// Package sender owns one HTTP attempt: sign, dial where dialling is allowed,
// post, and say in one word how it ended.
//
// It must not know the store, lanes or when to try again.
package sender

import (
	"context"
	"crypto/tls"
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
	"strings"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/webhook"
)

// Config is how attempts are made. Brand, Version and Now are required.
type Config struct {
	Brand   string        // "Payment" makes Payment-Signature and the user agent Payment-Webhooks/<version>
	Version string        // in the user agent
	Timeout time.Duration // of an attempt that names none; default DefaultTimeout
	Now     func() time.Time

	AllowNets     []netip.Prefix // non-public ranges that may be dialled
	DenyNets      []netip.Prefix // ranges that may not, whatever else allows them
	AllowLoopback bool           // for development

	RootCAs  *x509.CertPool // nil: the system's
	Resolver *net.Resolver  // nil: the default
}

// DefaultTimeout is for one attempt, from dialling to the end of the answer.
const DefaultTimeout = 15 * time.Second

const (
	maxIdlePerHost    = 256
	maxIdle           = 2048
	idleFor           = 90 * time.Second
	dialTimeout       = 10 * time.Second
	maxResponseHeader = 64 << 10
	keepHeader        = 8 << 10
	keepOnFailure     = 64 << 10 // bytes of the response body
	keepOnSuccess     = 1 << 10
	maxRetryAfter     = 24 * time.Hour
	cacheSize         = 16384
)

// Sender makes attempts. Use [New]; it is safe for concurrent use.
type Sender struct {
	Config
	guard     *guard
	transport *http.Transport
	signature string // the plain signature's header, canonical
	agent     []string
	secrets   cache[*webhook.Secret]
	urls      cache[*url.URL]
}

// New returns a sender. The caller should Close it.
func New(c Config) *Sender {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	s := &Sender{Config: c, guard: newGuard(c.AllowNets, c.DenyNets, c.AllowLoopback)}
	s.signature = http.CanonicalHeaderKey(c.Brand + "-Signature")
	s.agent = []string{c.Brand + "-Webhooks/" + c.Version}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: c.Resolver, Control: s.guard.control}
	s.transport = &http.Transport{
		Proxy:                  nil, // a proxy of the environment would dial unguarded
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(1024)},
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleFor,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // what is kept of an answer is small as it is; a compressed bomb stays one
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
	}
	return s
}

// Close closes idle connections.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Request is one attempt to make.
type Request struct {
	EventID string
	Body    []byte
	URL     string
	Secrets []string      // live ones, oldest first; at least one
	Timeout time.Duration // 0: the sender's
	Number  int           // of the attempt, 1 is the first
}

// Send makes one attempt and returns how it went; it has no other result. When
// ctx ends the attempt, the outcome is OutcomeNone: the attempt does not count,
// though the receiver may have seen it.
func (s *Sender) Send(ctx context.Context, r *Request) delivery.Attempt {
	a := delivery.Attempt{Number: r.Number, Started: s.Now()}
	began := time.Now() // with a monotonic reading, whatever clock is injected
	timeout := r.Timeout
	if timeout == 0 {
		timeout = s.Timeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { a.RemoteAddr = c.Conn.RemoteAddr().String() }}
	req, err := s.request(httptrace.WithClientTrace(limited, trace), r, a.Started)
	if err != nil {
		a.Outcome, a.Error = delivery.OutcomeMisconfigured, err.Error()
		return a
	}
	resp, err := s.transport.RoundTrip(req)
	if err == nil {
		err = s.read(&a, resp)
	}
	a.Duration = time.Since(began)
	if err != nil {
		a.Outcome, a.Error = classify(ctx, limited, timeout, err)
	}
	return a
}

var contentType = []string{"application/json"}

// request builds the signed request. Values of its header share one array, and
// constant ones are shared by all requests; the transport changes neither.
func (s *Sender) request(ctx context.Context, r *Request, now time.Time) (*http.Request, error) {
	target, err := s.urls.get(r.URL, url.Parse)
	if err != nil {
		return nil, errors.New("the URL cannot be parsed") // the parser's text repeats it
	}
	stamp := now.Unix()
	var buf [512]byte
	signatures := buf[:0]
	var oldest *webhook.Secret
	for i := len(r.Secrets) - 1; i >= 0; i-- { // newest first
		secret, err := s.secrets.get(r.Secrets[i], webhook.ParseSecret)
		if err != nil {
			return nil, fmt.Errorf("signing secret %d of %d: %w", i+1, len(r.Secrets), err)
		}
		if len(signatures) > 0 {
			signatures = append(signatures, ' ')
		}
		signatures = secret.AppendStandard(signatures, r.EventID, stamp, r.Body)
		oldest = secret
	}
	if oldest == nil {
		return nil, errors.New("the endpoint has no live signing secret")
	}
	// A receiver that knows one secret goes on with the old one until it expires.
	values := []string{oldest.Sign(r.Body), r.EventID, strconv.FormatInt(stamp, 10), string(signatures)}
	header := make(http.Header, 8)
	header["Content-Type"] = contentType
	header["User-Agent"] = s.agent
	header[s.signature] = values[0:1:1]
	header[webhook.IDHeader] = values[1:2:2]
	header[webhook.TimestampHeader] = values[2:3:3]
	header[webhook.StandardSignatureHeader] = values[3:4:4]
	req := &http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: newBody(r.Body), ContentLength: int64(len(r.Body)),
		// A connection that the receiver closed while idle lets the transport send again.
		GetBody: func() (io.ReadCloser, error) { return newBody(r.Body), nil },
	}
	return req.WithContext(ctx), nil
}

// body reads bytes; unlike [io.NopCloser] it takes one allocation.
type body struct{ rest []byte }

func newBody(b []byte) *body { return &body{b} }

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error { return nil }

var buffers = sync.Pool{New: func() any { return new([keepOnFailure]byte) }}

// read classifies the answer and keeps its beginning. It returns an error when
// the answer does not end properly and in time.
func (s *Sender) read(a *delivery.Attempt, resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	a.StatusCode = resp.StatusCode
	a.Outcome = outcome(resp)
	if a.Outcome == delivery.OutcomeThrottled {
		a.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), s.Now())
	}
	a.ResponseHeader = headerText(resp.Header)
	if resp.ContentLength == 0 {
		return nil
	}
	buf := buffers.Get().(*[keepOnFailure]byte)
	defer buffers.Put(buf)
	// What goes beyond the buffer is not read: closing drops the connection.
	n, err := io.ReadFull(resp.Body, buf[:])
	keep := keepOnFailure
	if a.Outcome == delivery.OutcomeSucceeded {
		keep = keepOnSuccess
	}
	a.ResponseBody = slices.Clone(buf[:min(n, keep)])
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n < len(buf) && whole(resp, n):
		return nil
	case a.Outcome == delivery.OutcomeSucceeded && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		// The receiver said 2xx; that its text broke off changes nothing.
		return nil
	}
	return err
}

// whole reports whether n bytes are all of the response's body, where that can be told.
func whole(resp *http.Response, n int) bool {
	return resp.ContentLength < 0 || int64(n) == resp.ContentLength
}

func outcome(resp *http.Response) delivery.Outcome {
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return delivery.OutcomeSucceeded
	case code == http.StatusGone:
		return delivery.OutcomeGone
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		return delivery.OutcomeThrottled
	case code/100 == 3:
		return delivery.OutcomeRedirected
	case code/100 == 4:
		return delivery.OutcomeRejected
	}
	return delivery.OutcomeServerError
}

// retryAfter reads the header of that name (RFC 9110, section 10.2.3); 0 when it
// is absent or makes no sense.
func retryAfter(v string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseInt(v, 10, 64); err == nil {
		d = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// headerText writes a header as lines in order of name.
func headerText(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			if b.Len()+len(name)+len(v)+3 > keepHeader {
				return b.String()
			}
			b.WriteString(name)
			b.WriteString(": ")
			b.WriteString(v)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// classify says why there was no answer. ctx is the caller's, limited the
// attempt's.
func classify(ctx, limited context.Context, timeout time.Duration, err error) (delivery.Outcome, string) {
	var (
		dns    *net.DNSError
		cert   *tls.CertificateVerificationError
		rec    tls.RecordHeaderError
		alert  tls.AlertError
		neterr net.Error
	)
	switch {
	case ctx.Err() != nil:
		return delivery.OutcomeNone, "the server is stopping"
	case errors.Is(err, errForbidden):
		return delivery.OutcomeForbidden, "The target's address is not public: " + text(err)
	case limited.Err() != nil:
		return delivery.OutcomeTimeout, fmt.Sprintf("No complete answer within %s.", timeout)
	case errors.As(err, &dns):
		return delivery.OutcomeDNS, "The host name cannot be resolved: " + text(dns)
	case errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &alert), strings.Contains(err.Error(), "tls: "):
		return delivery.OutcomeTLS, "No trusted TLS connection: " + text(err)
	case errors.As(err, &neterr) && neterr.Timeout():
		return delivery.OutcomeTimeout, "The connection timed out: " + text(err)
	}
	return delivery.OutcomeConnection, "No answer: " + text(err)
}

// text returns an error's text, short enough to keep.
func text(err error) string {
	const most = 300
	s := strings.ToValidUTF8(err.Error(), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// cache keeps what was parsed. When it is full it begins anew: it holds what live
// endpoints use, so that hardly happens.
type cache[V any] struct {
	mu sync.RWMutex
	m  map[string]V
}

func (c *cache[V]) get(key string, parse func(string) (V, error)) (V, error) {
	c.mu.RLock()
	v, ok := c.m[key]
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := parse(key)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= cacheSize {
		c.m = map[string]V{}
	}
	c.m[key] = v
	return v, nil
}
