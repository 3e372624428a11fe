//go:build !unix

package sender

import "net"

// canPeek reports whether the system can detect unread data on a connection.
const canPeek = false

func newPeek(net.Conn) func() bool { return func() bool { return true } }
