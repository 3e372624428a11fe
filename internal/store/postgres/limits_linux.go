package postgres

import (
	"syscall"
	"time"
)

// tcpUserTimeout is Linux's TCP_USER_TIMEOUT.
const tcpUserTimeout = 18

// control ends a connection whose peer has acknowledged nothing for this long.
func control(silence time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) (err error) {
		if network != "tcp" && network != "tcp4" && network != "tcp6" {
			return nil
		}
		cerr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(silence.Milliseconds()))
		})
		if cerr != nil {
			return cerr
		}
		return err
	}
}
