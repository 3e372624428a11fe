package sender

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// descriptorPause is how long to wait for a file descriptor before the next look.
const descriptorPause = 50 * time.Millisecond

// patient dials again, for as long as dialling may take, while the process has no file
// descriptor left: that is no fault of the endpoint, and attempts that end give theirs
// back. Kept connections that nobody uses give way.
func (s *Sender) patient(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for began := time.Now(); ; { // with a monotonic reading, whatever clock is injected
			c, err := dial(ctx, network, address)
			if !noDescriptor(err) || time.Since(began) > dialTimeout {
				return c, err
			}
			s.Close()
			again := time.NewTimer(descriptorPause)
			select {
			case <-again.C:
			case <-ctx.Done():
				again.Stop()
				return nil, err
			}
		}
	}
}

// noDescriptor reports whether the process, or the system, has no file descriptor left.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
