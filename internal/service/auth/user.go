package auth

import (
	"context"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// UserParams are the user parameters of a request; nil means absent.
type UserParams struct {
	Name     *string // on creation only
	Role     *string
	Password *string
	Disabled *bool
}

// CreateUser creates a user of the Admin UI. Operators only. Errors: fault.Invalid.
func (s *Auth) CreateUser(ctx context.Context, c *call.Call, p UserParams) (account.User, error) {
	u := account.User{ID: s.IDs.New(event.PrefixUser), Name: call.Value(p.Name), Created: s.Now()}
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return u, err
	}
	defer end()
	if err := account.CheckUserName(u.Name); err != nil {
		return u, err
	}
	role, err := account.ParseUserRole(call.Value(p.Role))
	if err != nil {
		return u, err
	}
	u.Role = role
	if u.Password, err = s.Passwords.Hash(call.Value(p.Password)); err != nil {
		return u, err
	}
	call.Set(&u.Disabled, p.Disabled)
	trail := s.Trail(c, u, u.Created, account.UserCreated, u.ID, "name", u.Name, "role", string(u.Role))
	trail.Audit.Space = 0
	return u, s.Store.CreateUser(ctx, &u, trail)
}

// UpdateUser changes the given parameters and ends all sessions of the user. Operators only.
// The role of the last admin cannot be changed. Errors: fault.Invalid, fault.NotFound.
func (s *Auth) UpdateUser(ctx context.Context, c *call.Call, id string, p UserParams) (account.User, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return account.User{}, err
	}
	defer end()
	var role *account.UserRole
	if p.Role != nil {
		r, err := account.ParseUserRole(*p.Role)
		if err != nil {
			return account.User{}, err
		}
		role = &r
	}
	var password *string // its hash, which takes a while to compute
	if p.Password != nil {
		if _, err := s.Store.User(ctx, id); err != nil {
			return account.User{}, err
		}
		hash, err := s.Passwords.Hash(*p.Password)
		if err != nil {
			return account.User{}, err
		}
		password = &hash
	}
	admin := func(u account.User) bool { return u.Role == account.UserAdmin && !u.Disabled }
	return s.Store.EditUser(ctx, id, account.Hash{}, func(u *account.User, others []account.User) (store.Trail, error) {
		if err := c.MustMatch(u.Revision); err != nil {
			return store.Trail{}, err
		}
		was := *u
		call.Set(&u.Role, role)
		call.Set(&u.Password, password)
		call.Set(&u.Disabled, p.Disabled)
		if admin(was) && !admin(*u) && !slices.ContainsFunc(others, admin) {
			return store.Trail{}, fault.Param("role", "last_admin", "This is the last admin. Make another user an admin first.")
		}
		detail := call.Difference{"name", u.Name, "role", string(u.Role)}
		detail.Of("role", was.Role, u.Role)
		detail.Of("disabled", was.Disabled, u.Disabled)
		if p.Password != nil {
			detail = append(detail, "password", "changed")
		}
		trail := s.Trail(c, *u, s.Now(), account.UserUpdated, u.ID, detail...)
		trail.Audit.Space = 0
		return trail, nil
	})
}

// User returns one user. Operators only. Errors: fault.NotFound.
func (s *Auth) User(ctx context.Context, c *call.Call, id string) (account.User, error) {
	if err := c.MustOperator(); err != nil {
		return account.User{}, err
	}
	return s.Store.User(ctx, id)
}

// ListUsers lists all users, oldest first. Operators only.
func (s *Auth) ListUsers(ctx context.Context, c *call.Call) ([]account.User, error) {
	if err := c.MustOperator(); err != nil {
		return nil, err
	}
	return s.Store.AllUsers(ctx)
}

// EnsureAdmin creates the first user, an admin with the given name, if there is no user, and
// returns the password; the password is empty if there are users. Only the server's start calls
// it.
func (s *Auth) EnsureAdmin(ctx context.Context, name string) (password string, err error) {
	all, err := s.Store.AllUsers(ctx)
	if err != nil || len(all) > 0 {
		return "", err
	}
	password = account.NewPassword()
	role := string(account.UserAdmin)
	_, err = s.CreateUser(ctx, call.BySystem, UserParams{Name: &name, Role: &role, Password: &password})
	return password, err
}

func errSessionEnded() error {
	return &fault.Error{Code: fault.Unauthenticated, Reason: "session_ended", Message: "The session has ended."}
}

// Session returns an active session, with its user unless it is a portal's. Errors:
// fault.Unauthenticated.
func (s *Auth) Session(ctx context.Context, token string) (account.Session, account.User, error) {
	n, err := s.Store.Session(ctx, account.HashKey(token))
	var u account.User
	if err == nil && n.User != "" {
		u, err = s.Store.User(ctx, n.User)
	}
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return n, u, err
	case err != nil || !n.Live(s.Now()) || u.Disabled:
		return n, u, errSessionEnded()
	case n.Portal != nil && s.Suspended(n.Portal.Space.Account()):
		return n, u, ErrSuspended()
	}
	return n, u, nil
}

// SignOut ends a session. It is not an error if the session has already ended.
func (s *Auth) SignOut(ctx context.Context, token, request, remote string) error {
	n, u, err := s.Session(ctx, token)
	if fault.Is(err, fault.Unauthenticated) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &call.Call{Key: account.Key{ID: u.ID}, Request: request, Remote: remote}
	return s.Store.EndSession(ctx, n.Hash, store.Trail{Audit: s.Entry(c, s.Now(), account.UserSignedOut, u.ID, "name", u.Name)})
}

// UserCall returns the call of a user in an account's test or live data. With an empty
// accountID it has no account. Errors: fault.NotFound.
func (s *Auth) UserCall(u *account.User, accountID string, live bool) (*call.Call, error) {
	c := &call.Call{Key: account.Key{ID: u.ID, Name: u.Name, Role: u.Role.KeyRole(), Live: live}}
	if accountID == "" {
		return c, nil
	}
	a, ok := s.keys.account(accountID)
	if !ok {
		return nil, fault.Missing("account", accountID)
	}
	c.Key.Account, c.Space = a.No, event.SpaceOf(a.No, live)
	return c, nil
}

// PortalParams are the portal session parameters of a request.
type PortalParams struct {
	account.Portal               // ID and Space are ignored
	Life           time.Duration // 0: DefaultPortalLife
}

// CreatedPortal is a new portal session with its token, which is shown only once.
type CreatedPortal struct {
	account.Portal
	Token   string
	Created time.Time
	Expires time.Time
}

// CreatePortal creates a portal session for the account and mode of the call. Errors:
// fault.Invalid, and those of idempotency.
func (s *Auth) CreatePortal(ctx context.Context, c *call.Call, p PortalParams) (CreatedPortal, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return CreatedPortal{}, err
	}
	defer end()
	if p.Life == 0 {
		p.Life = account.DefaultPortalLife
	}
	if p.Life < time.Minute || p.Life > account.MaxPortalLife {
		return CreatedPortal{}, fault.Param("expires_in", "parameter_invalid", "A portal session must last 60 to %d seconds.", int(account.MaxPortalLife/time.Second))
	}
	if err := p.Check(); err != nil {
		return CreatedPortal{}, err
	}
	now := s.Now()
	out := CreatedPortal{Portal: p.Portal, Token: account.NewToken("pst_"), Created: now, Expires: now.Add(p.Life)}
	out.ID, out.Space = s.IDs.New(event.PrefixPortal), c.Space
	n := account.Session{Hash: account.HashKey(out.Token), ID: out.ID, Portal: &out.Portal, Creator: c.Key.ID, Remote: c.Remote, Created: now, Expires: out.Expires}
	trail := s.Trail(c, out, now, account.PortalOpened, out.ID)
	trail.Room = &store.Room{Quota: quota.PortalSessions, Space: c.Space, Limit: s.LimitOn(c, quota.PortalSessions), At: now}
	return out, s.Store.CreateSession(ctx, &n, "", trail)
}

// PortalCall returns the call of a customer in a portal.
func (s *Auth) PortalCall(p *account.Portal) *call.Call {
	role := account.Member
	if p.ReadOnly {
		role = account.Viewer
	}
	return &call.Call{Key: account.Key{ID: p.ID, Role: role, Account: p.Space.Account(), Live: p.Space.Live()}, Space: p.Space, Portal: p}
}

// ActorNames returns the names of users and of the account's API keys in the audit log that the
// call may read, by identifier.
func (s *Auth) ActorNames(ctx context.Context, c *call.Call) (map[string]string, error) {
	all, err := s.Store.AllUsers(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(all))
	for _, u := range all {
		names[u.ID] = u.Name
	}
	for _, k := range s.keys.with(c.Space.Account(), account.Member) {
		names[k.ID] = k.Hint
		if k.Name != "" {
			names[k.ID] += " (" + k.Name + ")"
		}
	}
	return names, nil
}

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
