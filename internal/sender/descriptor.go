package sender

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"
)

// descriptorPause is the interval between tries to get a file descriptor.
const descriptorPause = 50 * time.Millisecond

// patient repeats a dial, within the time for dialling, while the process has no file descriptor left: the
// endpoint did not cause that, and ending attempts release theirs. Idle connections are closed.
//
// While one attempt waits, no other dials. Descriptors that are released meanwhile are available to clients of
// the server, which try once a second and would not get one against so many dials.
func (s *Sender) patient(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for began := time.Now(); ; { // with a monotonic reading, independent of the injected clock
			if until := s.scarce.Load(); until != nil && time.Since(began) <= dialTimeout {
				if left := time.Until(*until); left > 0 {
					if err := wait(ctx, left); err != nil {
						return nil, err
					}
					continue
				}
			}
			c, err := dial(ctx, network, address)
			if !noDescriptor(err) || time.Since(began) > dialTimeout {
				return c, err
			}
			s.Close()
			until := time.Now().Add(descriptorPause)
			s.scarce.Store(&until)
		}
	}
}

// wait returns when d has passed, or with ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errShortage is the error of an attempt for which this process had no file descriptor. The
// endpoint did not cause it: the attempt does not count.
var errShortage = errors.New("the server has no file descriptors left")

// noDescriptor reports whether the process or the system has no file descriptor left.
func noDescriptor(err error) bool {
	var dns *net.DNSError // it keeps the text only
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.As(err, &dns) && strings.Contains(dns.Err, syscall.EMFILE.Error())
}

// excuse marks the error of an attempt whose time ended before its dial's turn, because dials
// have waited for a file descriptor since it began.
func (s *Sender) excuse(ctx context.Context, began time.Time, err error) error {
	if until := s.scarce.Load(); err != nil && ctx.Err() != nil && until != nil && until.After(began) {
		return errors.Join(errShortage, err)
	}
	return err
}
