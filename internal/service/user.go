package service

import (
	"context"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// UserParams is what a request says of a user; nil is "not mentioned".
type UserParams struct {
	Name     *string // on creation only
	Role     *string
	Password *string
	Disabled *bool
}

// CreateUser makes a user of the Admin UI. Operators only. Errors: fault.Invalid.
func (s *Service) CreateUser(ctx context.Context, c *Call, p UserParams) (account.User, error) {
	u := account.User{ID: s.IDs.New(event.PrefixUser), Name: deref(p.Name), Created: s.Now()}
	if err := c.mustOperator(); err != nil {
		return u, err
	}
	if err := account.CheckUserName(u.Name); err != nil {
		return u, err
	}
	if err := s.applyUser(&p, &u); err != nil {
		return u, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return u, err
	}
	defer end()
	trail := s.trail(c, u, u.Created, account.UserCreated, u.ID, "name", u.Name, "role", string(u.Role))
	trail.Audit.Space = 0
	return u, s.Store.CreateUser(ctx, &u, trail)
}

// applyUser changes u as p says. A new user needs a role and a password.
func (s *Service) applyUser(p *UserParams, u *account.User) (err error) {
	if p.Role != nil || u.Role == "" {
		if u.Role, err = account.ParseUserRole(deref(p.Role)); err != nil {
			return err
		}
	}
	if p.Password != nil || u.Password == "" {
		if u.Password, err = s.Passwords.Hash(deref(p.Password)); err != nil {
			return err
		}
	}
	set(&u.Disabled, p.Disabled)
	return nil
}

// UpdateUser changes what p mentions and ends all sessions of the user. Operators
// only. The last admin stays one. Errors: fault.Invalid, fault.NotFound.
func (s *Service) UpdateUser(ctx context.Context, c *Call, id string, p UserParams) (account.User, error) {
	if err := c.mustOperator(); err != nil {
		return account.User{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return account.User{}, err
	}
	defer end()
	s.edits.Lock()
	defer s.edits.Unlock()
	all, err := s.Store.AllUsers(ctx)
	if err != nil {
		return account.User{}, err
	}
	var u *account.User
	admins := 0
	for i := range all {
		if all[i].Role == account.UserAdmin && !all[i].Disabled && all[i].ID != id {
			admins++
		}
		if all[i].ID == id {
			u = &all[i]
		}
	}
	if u == nil {
		return account.User{}, fault.Missing("user", id)
	}
	wasAdmin := u.Role == account.UserAdmin && !u.Disabled
	if err := s.applyUser(&p, u); err != nil {
		return *u, err
	}
	if wasAdmin && admins == 0 && (u.Role != account.UserAdmin || u.Disabled) {
		return *u, fault.Param("role", "last_admin", "This is the last admin. Make another user an admin first.")
	}
	detail := []string{"name", u.Name, "role", string(u.Role)}
	if p.Password != nil {
		detail = append(detail, "password", "changed")
	}
	if p.Disabled != nil {
		detail = append(detail, "disabled", map[bool]string{true: "yes", false: "no"}[u.Disabled])
	}
	trail := s.trail(c, *u, s.Now(), account.UserUpdated, u.ID, detail...)
	trail.Audit.Space = 0
	return *u, s.Store.UpdateUser(ctx, u, account.Hash{}, trail)
}

// ListUsers lists all users, oldest first. Operators only.
func (s *Service) ListUsers(ctx context.Context, c *Call) ([]account.User, error) {
	if err := c.mustOperator(); err != nil {
		return nil, err
	}
	return s.Store.AllUsers(ctx)
}

// EnsureAdmin makes the first user, an admin of the given name, when there is no
// user, and returns the password; it is empty when there are users already. It is
// for the server's own start.
func (s *Service) EnsureAdmin(ctx context.Context, name string) (password string, err error) {
	all, err := s.Store.AllUsers(ctx)
	if err != nil || len(all) > 0 {
		return "", err
	}
	password = account.NewPassword()
	role := string(account.UserAdmin)
	_, err = s.CreateUser(ctx, bySystem, UserParams{Name: &name, Role: &role, Password: &password})
	return password, err
}

// ChangePassword gives a user who knows the old password a new one. All other
// sessions of the user end. Errors: fault.Invalid, fault.RateLimited.
func (s *Service) ChangePassword(ctx context.Context, c *Call, u *account.User, keep account.Hash, old, password string) error {
	if err := s.guesses.check(guess{u.Name, host(c.Remote)}, s.Now()); err != nil {
		return err
	}
	if !s.Passwords.Match(u, old) {
		s.guesses.wrong(guess{u.Name, host(c.Remote)}, s.Now())
		return fault.Param("old_password", "password_wrong", "This is not your password.")
	}
	changed := *u
	var err error
	if changed.Password, err = s.Passwords.Hash(password); err != nil {
		return err
	}
	audit := s.entry(c, s.Now(), account.UserUpdated, u.ID, "name", u.Name, "password", "changed")
	audit.Space = 0
	return s.Store.UpdateUser(ctx, &changed, keep, store.Trail{Audit: audit})
}

// signInsAtATime bounds how many passwords are compared side by side: each costs a
// good part of a second of processor time, which deliveries need too.
const signInsAtATime = 2

// SignIn starts a session of the user of that name, and returns its token. Errors:
// fault.Unauthenticated, which does not tell whether there is such a user, and
// fault.RateLimited after too many wrong passwords.
func (s *Service) SignIn(ctx context.Context, name, password, request, remote string) (token string, err error) {
	attempt := guess{name, host(remote)}
	if err := s.guesses.check(attempt, s.Now()); err != nil {
		return "", err
	}
	select {
	case s.signIns <- struct{}{}:
		defer func() { <-s.signIns }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	var known *account.User
	switch u, err := s.Store.UserNamed(ctx, name); {
	case err == nil && !u.Disabled:
		known = &u
	case err != nil && !fault.Is(err, fault.NotFound):
		return "", err
	}
	now := s.Now()
	if !s.Passwords.Match(known, password) {
		if s.guesses.wrong(attempt, now) && known != nil {
			c := &Call{Key: account.Key{ID: account.System}, Request: request, Remote: remote}
			if err := s.Store.Audit(ctx, s.entry(c, now, account.UserLockedOut, known.ID, "name", known.Name), nil); err != nil {
				return "", err
			}
		}
		return "", &fault.Error{Code: fault.Unauthenticated, Reason: "sign_in_failed", Message: "The user name or the password is wrong."}
	}
	s.guesses.right(attempt)
	token = account.NewToken("")
	n := account.Session{Hash: account.HashKey(token), User: known.ID, Created: now, Expires: now.Add(account.SessionLife)}
	c := &Call{Key: account.Key{ID: known.ID}, Request: request, Remote: remote}
	return token, s.Store.CreateSession(ctx, &n, store.Trail{Audit: s.entry(c, now, account.UserSignedIn, known.ID, "name", known.Name)})
}

// Session returns a session that has not ended, with its user unless it is a
// portal's. Errors: fault.Unauthenticated.
func (s *Service) Session(ctx context.Context, token string) (account.Session, account.User, error) {
	n, err := s.Store.Session(ctx, account.HashKey(token))
	var u account.User
	if err == nil && n.User != "" {
		u, err = s.Store.User(ctx, n.User)
	}
	switch {
	case err != nil && !fault.Is(err, fault.NotFound):
		return n, u, err
	case err != nil || !n.Live(s.Now()) || u.Disabled:
		return n, u, &fault.Error{Code: fault.Unauthenticated, Reason: "session_ended", Message: "The session has ended."}
	}
	return n, u, nil
}

// SignOut ends a session. One that has ended already is no error.
func (s *Service) SignOut(ctx context.Context, token, request, remote string) error {
	n, u, err := s.Session(ctx, token)
	if fault.Is(err, fault.Unauthenticated) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &Call{Key: account.Key{ID: u.ID}, Request: request, Remote: remote}
	return s.Store.EndSession(ctx, n.Hash, store.Trail{Audit: s.entry(c, s.Now(), account.UserSignedOut, u.ID, "name", u.Name)})
}

// UserCall returns the call of a user in an account's test or live data. With an
// empty accountID it works in no account. Errors: fault.NotFound.
func (s *Service) UserCall(u *account.User, accountID string, live bool) (*Call, error) {
	c := &Call{Key: account.Key{ID: u.ID, Name: u.Name, Role: u.Role.KeyRole(), Live: live}}
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

// Accounts returns all accounts, oldest first: for users, who see them all.
func (s *Service) Accounts() []account.Account { return s.keys.all() }

// PortalParams is what a request says of a portal session.
type PortalParams struct {
	account.Portal               // ID and Space are not looked at
	Life           time.Duration // 0: DefaultPortalLife
}

// CreatedPortal is a new portal session with its token, which is shown this once.
type CreatedPortal struct {
	account.Portal
	Token   string
	Created time.Time
	Expires time.Time
}

// CreatePortal opens the portal of the account and mode that the call works in, for
// a while. Errors: fault.Invalid, and those of idempotency.
func (s *Service) CreatePortal(ctx context.Context, c *Call, p PortalParams) (CreatedPortal, error) {
	if err := c.mustAccount(); err != nil {
		return CreatedPortal{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return CreatedPortal{}, err
	}
	defer end()
	if p.Life == 0 {
		p.Life = account.DefaultPortalLife
	}
	if p.Life < time.Minute || p.Life > account.MaxPortalLife {
		return CreatedPortal{}, fault.Param("expires_in", "parameter_invalid", "A portal session lasts 60 to %d seconds.", int(account.MaxPortalLife/time.Second))
	}
	if err := p.Check(); err != nil {
		return CreatedPortal{}, err
	}
	now := s.Now()
	out := CreatedPortal{Portal: p.Portal, Token: account.NewToken("pst_"), Created: now, Expires: now.Add(p.Life)}
	out.ID, out.Space = s.IDs.New(event.PrefixPortal), c.Space
	n := account.Session{Hash: account.HashKey(out.Token), Portal: &out.Portal, Created: now, Expires: out.Expires}
	return out, s.Store.CreateSession(ctx, &n, s.trail(c, out, now, account.PortalOpened, out.ID))
}

// PortalCall returns the call of a customer in a portal.
func (s *Service) PortalCall(p *account.Portal) *Call {
	role := account.Member
	if p.ReadOnly {
		role = account.Viewer
	}
	return &Call{Key: account.Key{ID: p.ID, Role: role, Account: p.Space.Account(), Live: p.Space.Live()}, Space: p.Space}
}

// Limits on wrong passwords.
const (
	freeGuesses  = 5             // of one name from one address
	freeForAll   = 30            // of one name, or from one address
	firstLock    = time.Minute   // doubles with each further wrong one
	longestLock  = time.Hour     //
	guessMemory  = 2 * time.Hour // after which wrong passwords are forgotten
	maxGuessRows = 100_000       // beyond, all are forgotten rather than memory filled
)

// guess is whose password was tried from where; either may be empty, for all.
type guess struct{ name, host string }

// guesses counts wrong passwords. It does not ask whether a user exists, so it
// does not tell either. What it knows ends with the process.
type guesses struct {
	mu   sync.Mutex
	rows map[guess]*guessed
}

type guessed struct {
	wrong int
	last  time.Time
	until time.Time // locked
}

func (g *guesses) of(a guess) map[guess]int {
	return map[guess]int{a: freeGuesses, {name: a.name}: freeForAll, {host: a.host}: freeForAll}
}

// check returns a fault.RateLimited while no password is looked at.
func (g *guesses) check(a guess, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.of(a) {
		if r := g.rows[key]; r != nil && now.Before(r.until) {
			wait := r.until.Sub(now)
			return &fault.Error{Code: fault.RateLimited, Reason: "locked_out", RetryAfter: wait,
				Message: "Too many wrong passwords. Try again in " + wait.Round(time.Second).String() + "."}
		}
	}
	return nil
}

// wrong counts a wrong password and reports whether it locked anything.
func (g *guesses) wrong(a guess, now time.Time) (locked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rows == nil || len(g.rows) > maxGuessRows {
		g.rows = map[guess]*guessed{}
	}
	for key, free := range g.of(a) {
		r := g.rows[key]
		if r == nil || now.Sub(r.last) > guessMemory {
			r = &guessed{}
			g.rows[key] = r
		}
		r.wrong++
		r.last = now
		if over := r.wrong - free; over >= 0 {
			r.until = now.Add(min(firstLock<<min(over, 6), longestLock))
			locked = true
		}
	}
	return locked
}

// right forgets what was wrong with a name at an address.
func (g *guesses) right(a guess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.rows, a)
}

// ActorNames returns the names of those who may be in the audit log that the call
// sees, by identifier: users, and API keys of the account.
func (s *Service) ActorNames(ctx context.Context, c *Call) (map[string]string, error) {
	all, err := s.Store.AllUsers(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(all))
	for _, u := range all {
		names[u.ID] = u.Name
	}
	for _, k := range s.keys.of(c.Space.Account()) {
		names[k.ID] = k.Hint
		if k.Name != "" {
			names[k.ID] += " (" + k.Name + ")"
		}
	}
	return names, nil
}
