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

// answerWait is how long a failed write waits for an answer that may be on its way.
const answerWait = 250 * time.Millisecond

// conn is a dialled connection.
//
// A receiver that refuses a large body answers and closes while the body is still
// being written. The write then fails, and [net/http.Transport] may see that
// before it sees the answer, which is what matters. So a failed write is reported
// only after the reading side has come to its end, or a short while. A [pool] reads after
// it has written, and sees the answer without that.
type conn struct {
	net.Conn
	remote string // as text, once for all attempts
	inline bool   // who writes reads then, so a failed write need not wait
	ended  chan struct{}
	once   sync.Once

	reads  atomic.Int64 // that brought something
	lent   atomic.Bool  // to a request that has written nothing yet
	before atomic.Int64 // reads when it wrote
	due    atomic.Int64 // bytes that may still be read

	flooded atomic.Bool // the receiver sent more than that

	peer atomic.Pointer[delivery.Peer] // nil: not read yet, or no TLS
}

// peerOf returns who is at the other end of c, which the transport made of the connection.
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

// Bytes that are read for a request, at most: its answer as far as it is read, and
// what goes around it. Requests that share a connection share what they may read, and
// a connection saves up no more than many of them need.
const (
	duePerRequest = 2 * (maxResponseHeader + keepOnFailure)
	mostDue       = 256 * duePerRequest
)

// errFlood is the error for a receiver that keeps sending unrequested data:
// over HTTP/2, frames of no stream, which cost time for as long as the connection lives.
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

// dialled returns the dialled connection below one of the transport.
func dialled(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// leftover tells an answer that was there before its request: a receiver, or who can
// write into its answers, said more than it was asked for. [net/http.Transport] drops
// a connection on which something waits, but looks only once the connection is free;
// when the next request takes it at that very moment, it gets an answer that is not
// its own, and so do all after it.
//
// Such an answer begins although nothing was read from the network since its request
// began to be written.
type leftover struct {
	conn  atomic.Pointer[conn] // nil: it is new, or its answers are numbered (HTTP/2)
	found atomic.Bool
}

// trace lets l follow a request.
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

// answer is called at an answer's first byte, by the only goroutine that reads. What
// it finds ends the connection: no later request may use it.
func (l *leftover) answer() {
	if c := l.conn.Load(); c != nil && (c.lent.Load() || c.reads.Load() == c.before.Load()) {
		l.found.Store(true)
		_ = c.Close()
	}
}
