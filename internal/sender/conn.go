package sender

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// answerWait is how long a failed write waits for an answer that may be on its way.
const answerWait = 250 * time.Millisecond

// conn is a dialled connection.
//
// A receiver that refuses a large body answers and closes while the body is still
// being written. The write then fails, and [net/http.Transport] may see that
// before it sees the answer, which is what matters. So a failed write is reported
// only after the reading side has come to its end, or a short while.
type conn struct {
	net.Conn
	remote string // as text, once for all attempts
	ended  chan struct{}
	once   sync.Once
}

func dial(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c, remote: c.RemoteAddr().String(), ended: make(chan struct{})}, nil
	}
}

func (c *conn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
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

// remoteOf returns the address that a connection of the transport goes to.
func remoteOf(c net.Conn) string {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if own, ok := c.(*conn); ok {
		return own.remote
	}
	return c.RemoteAddr().String()
}
