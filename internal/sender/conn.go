package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// answerWait is the time for which a failed write waits for a response.
const answerWait = 250 * time.Millisecond

// conn is a dialled connection.
//
// A receiver that refuses a large body responds and closes while the body is still being
// written. The write then fails, and [net/http.Transport] may see that before the response. So
// a failed write is reported only after the end of the response, or a short delay. A [pool]
// reads after it has written, and sees the response without that.
type conn struct {
	net.Conn
	remote string // as text, once for all attempts
	inline bool   // the writer reads afterwards, so a failed write need not wait
	ended  chan struct{}
	once   sync.Once

	reads  atomic.Int64 // number of reads that returned data
	lent   atomic.Bool  // to a request that has written nothing yet
	before atomic.Int64 // value of reads when it wrote
	due    atomic.Int64 // bytes that may still be read

	flooded atomic.Bool // the receiver sent more than that

	peer atomic.Pointer[delivery.Peer] // nil: not determined yet, or no TLS
}

// peerOf describes the peer of c, which the transport made of the connection.
func (c *conn) peerOf(own net.Conn) delivery.Peer {
	t, ok := own.(*tls.Conn)
	if !ok {
		return delivery.Peer{}
	}
	if known := c.peer.Load(); known != nil {
		return *known
	}
	state := t.ConnectionState()
	var p delivery.Peer
	if len(state.PeerCertificates) > 0 {
		p = peerOf(state.PeerCertificates[0])
	}
	p.Version = tls.VersionName(state.Version)
	c.peer.Store(&p)
	return p
}

// Maximum numbers of bytes that are read for a request: the part of its response that is read,
// and protocol overhead. Requests on one connection share this allowance, and a connection
// accumulates no more than many of them need.
const (
	duePerRequest = 2 * (maxResponseHeader + keepOnFailure)
	mostDue       = 256 * duePerRequest
)

// errFlood is the error of a receiver that keeps sending unrequested data: over HTTP/2, frames
// without a stream, which cost processor time for the life of the connection.
var errFlood = errors.New("the receiver sent more data than its responses contain")

// lend is called when a request gets the connection.
func (c *conn) lend() {
	if c.due.Load() < mostDue {
		c.due.Add(duePerRequest)
	}
}

func dial(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newConn(c, c.RemoteAddr().String()), nil
	}
}

func newConn(c net.Conn, remote string) *conn {
	own := &conn{Conn: c, remote: remote, ended: make(chan struct{})}
	own.lend() // for the handshake
	return own
}

func (c *conn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.reads.Add(1)
		if c.due.Add(-int64(n)) < 0 {
			c.flooded.Store(true)
			n, err = 0, errFlood
		}
	}
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	if c.lent.CompareAndSwap(true, false) {
		c.before.Store(c.reads.Load())
	}
	n, err := c.Conn.Write(b)
	if err != nil && !c.inline {
		t := time.NewTimer(answerWait)
		defer t.Stop()
		select {
		case <-c.ended:
		case <-t.C:
		}
	}
	return n, err
}

func (c *conn) Close() error {
	c.end()
	return c.Conn.Close()
}

// dialled returns the dialled connection under one of the transport.
func dialled(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// leftover detects a response that arrived before its request: a receiver, or an attacker who
// can write into its responses, sent more than was requested. [net/http.Transport] drops a
// connection with unread data, but checks only while the connection is free; if the next
// request takes it at that moment, it gets the wrong response, and so do all later ones.
//
// Such a response begins although nothing was read from the network since its request was
// started.
type leftover struct {
	conn  atomic.Pointer[conn] // nil: it is new, or its responses are numbered (HTTP/2)
	found atomic.Bool
}

// trace adds l to a request's trace.
func (l *leftover) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:              func(c httptrace.GotConnInfo) { l.begin(c.Conn, c.Reused) },
		GotFirstResponseByte: l.answer,
	}
}

// begin is called when a request gets a connection.
func (l *leftover) begin(c net.Conn, reused bool) {
	own := dialled(c)
	if own != nil {
		own.lend()
	}
	if t, ok := c.(*tls.Conn); !reused || ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		own = nil
	}
	if own != nil {
		own.lent.Store(true)
	}
	l.conn.Store(own)
}

// answer is called at the first byte of a response, by the only goroutine that reads. A
// leftover response ends the connection, so that no later request uses it.
func (l *leftover) answer() {
	if c := l.conn.Load(); c != nil && (c.lent.Load() || c.reads.Load() == c.before.Load()) {
		l.found.Store(true)
		_ = c.Close()
	}
}
