//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

// control does nothing: keepalives end a connection with a silent peer.
func control(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
