package sender

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// mostInline is the largest request body, in bytes, that a pool writes itself. A receiver may
// respond and stop reading, and one goroutine cannot read the response while it writes, so a
// body must fit in the buffers of the connection.
const mostInline = 32 << 10

// pool is an [http.RoundTripper] that reuses connections to receivers. It writes a small
// HTTP/1.1 request and reads its response on the goroutine of the attempt: [net/http.Transport]
// uses two goroutines per connection for that, and an attempt waits for both. The transport
// does the rest: large bodies, HTTP/2, and the first requests to a host over TLS, whose
// responses determine its protocol.
//
// It is safe for concurrent use. Requests must be repeatable: one that finds its connection
// closed is sent again on another.
type pool struct {
	*http.Transport
	dial   dialFunc
	tls    *tls.Config // for HTTP/1.1
	most   int         // idle connections
	mostAt int         // of these, to one host

	mu     sync.Mutex
	idle   map[host][]*link // the last element was used last
	count  int
	oldest *link // of all idle ones, by when they were returned; each refers to the next newer one
	newest *link
	expiry *time.Timer
	one    map[host]bool // hosts that speak HTTP/1.1 over TLS
}

// host is the target of a connection: the scheme, and the authority of the URL.
type host struct {
	tls  bool
	name string
}

func newPool(t *http.Transport) *pool {
	config := t.TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	return &pool{Transport: t, dial: t.DialContext, tls: config, most: t.MaxIdleConns, mostAt: t.MaxIdleConnsPerHost, idle: map[host][]*link{}, one: map[host]bool{}}
}

// RoundTrip implements [http.RoundTripper].
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	at := host{r.URL.Scheme == "https", r.URL.Host}
	if !p.inline(at, r) {
		return p.negotiate(at, r)
	}
	for {
		l, err := p.get(r, at)
		if err != nil && strings.Contains(err.Error(), noProtocol) {
			p.speaksOne(at, false)
			return p.negotiate(at, r)
		}
		if err != nil {
			return nil, ended(r, err)
		}
		resp, err := l.exchange(r)
		if err == nil || !l.used || l.heard || r.Context().Err() != nil {
			return resp, ended(r, err)
		}
		again := *r
		if again.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
		r = &again
	}
}

// noProtocol is crypto/tls's error text for the alert of a host that no longer speaks HTTP/1.1
// (RFC 7301, section 3.2); the type of the error is unexported.
const noProtocol = "tls: no application protocol"

// negotiate passes a request to the transport, and records whether the host chose HTTP/1.1.
func (p *pool) negotiate(at host, r *http.Request) (*http.Response, error) {
	resp, err := p.Transport.RoundTrip(r)
	if err == nil && at.tls && resp.ProtoMajor == 1 {
		p.speaksOne(at, true)
	}
	return resp, err
}

// ended returns the cause of the request context's end, if that is why there is an error.
func ended(r *http.Request, err error) error {
	if ctx := r.Context(); err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (p *pool) inline(at host, r *http.Request) bool {
	if !canPeek || r.ContentLength > mostInline || r.GetBody == nil {
		return false
	}
	if !at.tls {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.one[at]
}

func (p *pool) speaksOne(at host, does bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !does:
		delete(p.one, at)
		return
	case len(p.one) >= cacheSize:
		clear(p.one)
	}
	p.one[at] = true
}

// get returns a connection without unread data: a reused or a new one.
func (p *pool) get(r *http.Request, at host) (*link, error) {
	for l := p.take(at); l != nil; l = p.take(at) {
		if !l.pending() {
			return l, nil
		}
		_ = l.own.Close()
	}
	return p.open(r, at)
}

func (p *pool) open(r *http.Request, at host) (*link, error) {
	c, err := p.dial(r.Context(), "tcp", authority(r.URL))
	if err != nil {
		return nil, err
	}
	if at.tls {
		if c, err = p.shake(r, c); err != nil {
			return nil, err
		}
	}
	l := &link{pool: p, at: at, own: c}
	l.interrupt = func() { _ = c.SetDeadline(time.Unix(1, 0)) }
	l.pending = newPeek(c)
	if d := dialled(c); d != nil {
		d.inline = true
	}
	return l, nil
}

// shake makes a TLS connection of c. On an error it closes c.
func (p *pool) shake(r *http.Request, c net.Conn) (net.Conn, error) {
	config := p.tls.Clone()
	config.ServerName = r.URL.Hostname()
	trace := httptrace.ContextClientTrace(r.Context())
	ctx, cancel := context.WithTimeout(r.Context(), dialTimeout)
	defer cancel()
	own := tls.Client(c, config)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	err := own.HandshakeContext(ctx)
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(own.ConnectionState(), err)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return own, nil
}

// take returns the most recently used idle connection to the host, nil if there is none.
func (p *pool) take(at host) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.idle[at]
	if len(all) == 0 {
		return nil
	}
	l := all[len(all)-1]
	p.remove(l)
	return l
}

// put returns l to the idle connections. If there are too many, the one that has been idle
// longest is closed.
func (p *pool) put(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle[l.at]) >= p.mostAt {
		_ = l.own.Close()
		return
	}
	if p.count >= p.most {
		p.drop(p.oldest)
	}
	l.used, l.since = true, time.Now()
	p.idle[l.at] = append(p.idle[l.at], l)
	if l.older = p.newest; l.older != nil {
		l.older.newer = l
	} else {
		p.oldest = l
	}
	p.newest = l
	if p.count++; p.count == 1 {
		p.wake(idleFor)
	}
}

// remove removes l from the idle connections. The caller holds p.mu.
func (p *pool) remove(l *link) {
	all := p.idle[l.at]
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] == l {
			copy(all[i:], all[i+1:])
			all[len(all)-1] = nil
			all = all[:len(all)-1]
			break
		}
	}
	if p.idle[l.at] = all; len(all) == 0 {
		delete(p.idle, l.at)
	}
	if l.older != nil {
		l.older.newer = l.newer
	} else {
		p.oldest = l.newer
	}
	if l.newer != nil {
		l.newer.older = l.older
	} else {
		p.newest = l.older
	}
	l.older, l.newer = nil, nil
	p.count--
}

// drop closes an idle connection. The caller holds p.mu.
func (p *pool) drop(l *link) {
	p.remove(l)
	_ = l.own.Close()
}

// wake schedules the closing of connections that are idle for too long after d. The caller
// holds p.mu.
func (p *pool) wake(d time.Duration) {
	if p.expiry == nil {
		p.expiry = time.AfterFunc(d, p.expire)
		return
	}
	p.expiry.Reset(d)
}

func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for p.oldest != nil {
		if left := idleFor - now.Sub(p.oldest.since); left > 0 {
			p.wake(left)
			return
		}
		p.drop(p.oldest)
	}
}

// CloseIdleConnections closes all idle connections.
func (p *pool) CloseIdleConnections() {
	p.Transport.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.oldest != nil {
		p.drop(p.oldest)
	}
}

// link is a connection of a pool. One request at a time uses it, on one goroutine.
type link struct {
	pool      *pool
	at        host
	own       net.Conn
	interrupt func() // interrupts the current read or write
	// pending reports whether the receiver has closed the idle connection or has sent data. Over
	// TLS such data may be harmless, but only reading it would show that.
	pending func() bool

	used  bool      // by an earlier request
	since time.Time // idle
	older *link     // of all idle connections of the pool
	newer *link

	heard bool  // the first byte of the response has arrived
	left  int64 // bytes that may still be read: at most the maximum size of a header
}

// errHeaderTooLarge is the error of a response whose header exceeds the limit.
var errHeaderTooLarge = fmt.Errorf("the response header is larger than %d bytes", maxResponseHeader)

// Read implements [io.Reader] for the response.
func (l *link) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := l.own.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// Buffers are used only while a request uses its connection.
var (
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeBuffer) }}
	readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
)

// exchange writes the request and reads the response up to the end of its header. Closing the
// response's body returns the connection.
func (l *link) exchange(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: l.own, Reused: l.used})
	}
	a := &answer{link: l, in: readers.Get().(*bufio.Reader), stop: context.AfterFunc(r.Context(), l.interrupt)}
	a.in.Reset(l)
	if err := l.write(r); err != nil && r.Context().Err() == nil {
		// A receiver that refuses a body responds and closes while it is being written.
		a.broken = true
		_ = l.own.SetReadDeadline(time.Now().Add(answerWait))
	}
	resp, err := l.read(r, a.in, trace)
	if err != nil {
		a.broken = true
		return nil, errors.Join(err, a.Close())
	}
	a.broken = a.broken || resp.Close || resp.StatusCode == http.StatusSwitchingProtocols
	a.body, resp.Body = resp.Body, a
	if a.ended = a.body == http.NoBody; a.ended {
		resp.Body = http.NoBody
		_ = a.Close()
	}
	return resp, nil
}

func (l *link) write(r *http.Request) error {
	out := writers.Get().(*bufio.Writer)
	out.Reset(l.own)
	defer func() {
		out.Reset(nil)
		writers.Put(out)
	}()
	if err := r.Write(out); err != nil {
		return err
	}
	return out.Flush()
}

// read reads the header of the response, and of preceding informational ones (1xx).
func (l *link) read(r *http.Request, in *bufio.Reader, trace *httptrace.ClientTrace) (*http.Response, error) {
	l.left, l.heard = maxResponseHeader, false
	if _, err := in.Peek(1); err != nil {
		return nil, err
	}
	if l.heard = true; trace != nil && trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	for {
		resp, err := http.ReadResponse(in, r)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			l.left = math.MaxInt64
			return resp, nil
		}
	}
}

// answer is the body of a response.
type answer struct {
	link   *link
	in     *bufio.Reader
	body   io.ReadCloser // nil: there is no response
	stop   func() bool
	ended  bool // all of it has been read
	broken bool // no other request may use the connection
}

// Read implements [io.Reader].
func (a *answer) Read(b []byte) (int, error) {
	n, err := a.body.Read(b)
	if err != nil {
		a.ended = err == io.EOF // io.EOF is never wrapped (io.Reader)
	}
	return n, err
}

// Close implements [io.Closer]. It closes the connection if a part of the response is unread,
// or more data followed it.
func (a *answer) Close() error {
	l := a.link
	if l == nil {
		return nil
	}
	a.link, a.body = nil, http.NoBody // another request may use the buffer from now on
	going := a.stop()                 // false: the connection was interrupted, or is being interrupted
	more := a.in.Buffered() > 0       // data after the response
	a.in.Reset(nil)
	readers.Put(a.in)
	if a.broken || !a.ended || more || !going {
		return l.own.Close()
	}
	l.pool.put(l)
	return nil
}
