package auth

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// ListPortals lists the active portal sessions of the call's account and mode, newest first.
func (s *Auth) ListPortals(ctx context.Context, c *call.Call, p call.Page) ([]account.Session, bool, error) {
	if err := c.MustAccount(); err != nil {
		return nil, false, err
	}
	page, err := call.ResolvePage(p, call.ByID(event.PrefixPortal))
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListSessions(ctx, store.SessionFilter{Space: c.Space, At: s.Now()}, page)
}

// RevokePortal ends a portal session of the call's account and mode at once, with the jobs that
// were started in it. Errors: fault.NotFound.
func (s *Auth) RevokePortal(ctx context.Context, c *call.Call, id string) (account.Session, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return account.Session{}, err
	}
	defer end()
	return s.endSession(ctx, store.SessionFilter{Space: c.Space, At: s.Now(), ID: id}, "portal session", func(n *account.Session) store.Trail {
		return s.Trail(c, *n, s.Now(), account.PortalRevoked, n.ID)
	})
}

// UserSessions lists a user's active sessions, newest first.
func (s *Auth) UserSessions(ctx context.Context, u *account.User) ([]account.Session, error) {
	all, _, err := s.Store.ListSessions(ctx, store.SessionFilter{User: u.ID, At: s.Now()}, store.Page[string]{Limit: mostSessions})
	return all, err
}

// mostSessions is the maximum number of a user's sessions in a list.
const mostSessions = 100

// RevokeSession ends one of a user's own sessions. Errors: fault.NotFound.
func (s *Auth) RevokeSession(ctx context.Context, c *call.Call, u *account.User, id string) error {
	_, err := s.endSession(ctx, store.SessionFilter{User: u.ID, At: s.Now(), ID: id}, "session", func(n *account.Session) store.Trail {
		audit := s.Entry(c, s.Now(), account.SessionRevoked, u.ID, "name", u.Name, "session", n.ID)
		audit.Space = 0
		return store.Trail{Audit: audit}
	})
	return err
}

func (s *Auth) endSession(ctx context.Context, f store.SessionFilter, what string, trail func(*account.Session) store.Trail) (account.Session, error) {
	found, _, err := s.Store.ListSessions(ctx, f, store.Page[string]{Limit: 1})
	if err != nil {
		return account.Session{}, err
	}
	if len(found) == 0 || f.ID == "" {
		return account.Session{}, fault.Missing(what, f.ID)
	}
	return found[0], s.Store.EndSession(ctx, found[0].Hash, trail(&found[0]))
}
