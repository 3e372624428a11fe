package auth

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// ErrSuspended is the error of calls of a suspended account.
func ErrSuspended() error {
	return &fault.Error{Code: fault.Forbidden, Reason: "account_suspended",
		Message: "This account is suspended: its API keys and portals are refused, and nothing is sent to its endpoints. Contact the operator of the server."}
}

// lease is an operation that continues after its request was admitted: a connection that ends when
// the key is revoked or the account suspended.
type lease struct {
	call *call.Call
	end  context.CancelCauseFunc
}

// Hold returns a context that ends when the caller's API key is revoked or its account
// suspended; the cause is the fault for the caller. release ends it too. Errors:
// fault.Unauthenticated or fault.Forbidden if that is already the case.
func (s *Auth) Hold(ctx context.Context, c *call.Call) (held context.Context, release func(), err error) {
	held, end := context.WithCancelCause(ctx)
	l := &lease{c, end}
	s.leases.Store(l, nil)
	release = func() {
		s.leases.Delete(l)
		end(nil)
	}
	if err := s.StillGood(c); err != nil { // checked after the lease is registered, so no revocation in between is missed
		release()
		return nil, nil, err
	}
	return held, release, nil
}

// StillGood returns why an admitted call would be refused now. Errors: fault.Unauthenticated,
// fault.Forbidden.
func (s *Auth) StillGood(c *call.Call) error {
	if c.Key.Hash != (account.Hash{}) {
		if k, ok := s.keys.key(c.Key.Hash); !ok || !k.Revoked.IsZero() {
			return errRevoked()
		}
	}
	if c.Key.Account != 0 && (c.Key.Hash != (account.Hash{}) || c.Portal != nil) && s.Suspended(c.Key.Account) {
		return ErrSuspended()
	}
	return nil
}

// Recheck returns why an admitted call would be refused now, by its key, its account and the
// account's limit. Errors: fault.Unauthenticated, fault.Forbidden, fault.RateLimited.
func (s *Auth) Recheck(c *call.Call) error {
	err := s.StillGood(c)
	if err == nil && c.Counted > 0 && c.PerMinute != s.limitOf(c) {
		_, err = s.admit(c, c.Counted)
	}
	return err
}

// Admitted counts a request without a key for an account's data against the account's limit,
// and refuses it if the account is suspended. Errors: fault.Forbidden, fault.RateLimited.
func (s *Auth) Admitted(space event.Space) error {
	if s.Suspended(space.Account()) {
		return ErrSuspended()
	}
	_, err := s.admit(call.ByItself(space), 1)
	return err
}

// endLeases ends the operations of callers that are no longer allowed.
func (s *Auth) endLeases() {
	s.leases.Range(func(l, _ any) bool {
		if err := s.StillGood(l.(*lease).call); err != nil {
			l.(*lease).end(err)
		}
		return true
	})
}

// LearnKey applies a written key to memory.
func (s *Auth) LearnKey(k account.Key) {
	s.keys.putKey(k)
	if !k.Revoked.IsZero() {
		s.endLeases()
	}
}
