// Package sender owns one HTTP attempt: sign, dial where dialling is allowed,
// post, and say in one word how it ended.
//
// It must not know the store, lanes or when to try again.
package sender

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
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

	MaxIdleConnsPerHost int // kept for reuse; default 256
	MaxIdleConns        int // kept for reuse, all hosts together; default 2048
}

// DefaultTimeout is for one attempt, from dialling to the end of the answer.
const DefaultTimeout = 15 * time.Second

const (
	maxIdlePerHost    = 256
	maxIdle           = 2048
	idleFor           = 90 * time.Second
	writeBuffer       = 8 << 10 // most requests go out in one write
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
	c.MaxIdleConnsPerHost = cmp.Or(c.MaxIdleConnsPerHost, maxIdlePerHost)
	c.MaxIdleConns = cmp.Or(c.MaxIdleConns, maxIdle)
	s := &Sender{Config: c, guard: newGuard(c.AllowNets, c.DenyNets, c.AllowLoopback)}
	s.signature = http.CanonicalHeaderKey(c.Brand + "-Signature")
	s.agent = []string{c.Brand + "-Webhooks/" + c.Version}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Resolver: c.Resolver, Control: s.guard.control}
	s.transport = &http.Transport{
		Proxy:                  nil, // a proxy of the environment would dial unguarded
		DialContext:            dial(dialer),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(1024)},
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConns:           c.MaxIdleConns,
		MaxIdleConnsPerHost:    c.MaxIdleConnsPerHost,
		WriteBufferSize:        writeBuffer,
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
	Header  http.Header   // the endpoint's own; may be nil. Reserved ones make the attempt OutcomeMisconfigured
}

// Send makes one attempt and returns how it went; it has no other result. When
// ctx ends the attempt, the outcome is OutcomeNone and the error "cancelled": the
// attempt does not count, though the receiver may have seen it.
//
// A kept connection that the receiver closes just when it is used again is no
// fault of either; the request then goes out anew on another, within the same
// attempt.
func (s *Sender) Send(ctx context.Context, r *Request) delivery.Attempt {
	began := time.Now() // with a monotonic reading, whatever clock is injected
	timeout := r.Timeout
	if timeout == 0 {
		timeout = s.Timeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	f := &flight{Attempt: delivery.Attempt{Number: r.Number, Started: s.Now()}, payload: r.Body}
	f.trace.GotConn = f.gotConn
	req, err := s.request(httptrace.WithClientTrace(limited, &f.trace), r, f)
	if err != nil {
		f.Outcome, f.Error = delivery.OutcomeMisconfigured, err.Error()
		return f.Attempt
	}
	resp, err := s.transport.RoundTrip(req)
	if err == nil {
		err = s.read(limited, &f.Attempt, resp)
	}
	f.Duration = time.Since(began)
	if err != nil {
		f.Outcome, f.Error = classify(ctx, limited, timeout, err)
	}
	return f.Attempt
}

// flight is what one attempt needs, in one allocation. It is not used again: the
// transport may hold on to the body and the trace after it has answered.
type flight struct {
	delivery.Attempt
	trace   httptrace.ClientTrace
	payload []byte
	body    bytes.Reader
	values  [4]string // of headers
}

// gotConn is called before RoundTrip returns, on the same goroutine.
func (f *flight) gotConn(c httptrace.GotConnInfo) { f.RemoteAddr = remoteOf(c.Conn) }

// rewound is a [net/http.Request]'s GetBody. It is another reader each time: the
// one before may still be read from.
func (f *flight) rewound() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.payload)), nil
}

var (
	contentType = []string{"application/json"}
	// replayable has no value, so nothing is sent. That it is there tells the
	// transport that a request may go out again when a kept connection turns out to
	// be closed (net/http.Transport): receivers tell duplicates by webhook-id.
	replayable = []string{}
)

// request builds the signed request. Values of its header share one array, and
// constant ones are shared by all requests; the transport changes neither.
func (s *Sender) request(ctx context.Context, r *Request, f *flight) (*http.Request, error) {
	target, err := s.urls.get(r.URL, parseTarget)
	if err != nil {
		return nil, err
	}
	if len(r.Secrets) == 0 {
		return nil, errors.New("the endpoint has no live signing secret")
	}
	// One string holds the three values, which are slices of it.
	var buf [512]byte
	text := strconv.AppendInt(buf[:0], f.Started.Unix(), 10)
	stampEnd := len(text)
	for i, value := range slices.Backward(r.Secrets) { // newest first
		secret, err := s.secrets.get(value, webhook.ParseSecret)
		if err != nil {
			return nil, fmt.Errorf("signing secret %d of %d: %w", i+1, len(r.Secrets), err)
		}
		if len(text) > stampEnd {
			text = append(text, ' ')
		}
		text = secret.AppendStandard(text, r.EventID, f.Started.Unix(), r.Body)
		if i == 0 { // a receiver that knows one secret goes on with the old one until it expires
			standardEnd := len(text)
			text = secret.AppendSign(text, r.Body)
			all := string(text)
			f.values = [4]string{all[standardEnd:], r.EventID, all[:stampEnd], all[stampEnd:standardEnd]}
		}
	}
	header := make(http.Header, 8+len(r.Header))
	header["Idempotency-Key"] = replayable
	if err := s.addStatic(header, r.Header); err != nil {
		return nil, err
	}
	header["Content-Type"] = contentType
	header["User-Agent"] = s.agent
	header[s.signature] = f.values[0:1:1]
	header[webhook.IDHeader] = f.values[1:2:2]
	header[webhook.TimestampHeader] = f.values[2:3:3]
	header[webhook.StandardSignatureHeader] = f.values[3:4:4]
	// The transport sends header and body in one write for the readers that it knows
	// to be in memory; for any other type it sends the header by itself.
	f.body.Reset(r.Body)
	req := &http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&f.body), ContentLength: int64(len(r.Body)), GetBody: f.rewound,
	}
	return req.WithContext(ctx), nil
}
