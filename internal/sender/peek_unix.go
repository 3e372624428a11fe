//go:build unix

package sender

import (
	"crypto/tls"
	"net"
	"syscall"
)

// canPeek reports whether the system can detect unread data on a connection.
const canPeek = true

// newPeek returns a function that reports whether the peer has closed c, or has sent data that
// was not read. It reads nothing.
func newPeek(c net.Conn) func() bool {
	for {
		switch own := c.(type) {
		case *tls.Conn:
			c = own.NetConn()
			continue
		case *conn:
			c = own.Conn
			continue
		case syscall.Conn:
			raw, err := own.SyscallConn()
			if err != nil {
				return func() bool { return true }
			}
			return peekAt(raw)
		}
		return func() bool { return true }
	}
}

func peekAt(raw syscall.RawConn) func() bool {
	var (
		one     [1]byte
		waits   bool
		recvErr error
	)
	look := func(fd uintptr) bool {
		_, _, recvErr = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waits = recvErr != syscall.EAGAIN && recvErr != syscall.EWOULDBLOCK && recvErr != syscall.EINTR
		return true
	}
	return func() bool { return raw.Read(look) != nil || waits }
}
