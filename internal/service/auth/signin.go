package auth

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Bounds on comparing passwords. Each comparison takes a large part of a second of processor
// time, which deliveries need too.
const (
	signInsAtATime = 2   // from browsers without an earlier session
	waitingSignIns = 256 // beyond, sign-ins are refused
	waitingAtHost  = 4   // of these, per address
)

// SignInParams are the parameters of a sign-in.
type SignInParams struct {
	Name, Password string
	Browser        string // proof of an earlier session, from [SignedIn.Browser]; may be empty
	Agent          string // the browser, as it calls itself
	Request        string // Request-Id
	Remote         string // the caller's address
}

// SignedIn is a new session of a user.
type SignedIn struct {
	Token   string // of the session
	Browser string // proves later that the user has signed in with this browser
}

// SignIn starts a session of the user with this name. A guess is counted before the password is
// compared. Errors: fault.Unauthenticated, which does not reveal whether the user exists, and
// fault.RateLimited after too many wrong passwords.
func (s *Auth) SignIn(ctx context.Context, p SignInParams) (SignedIn, error) {
	if len(p.Name) > account.MaxUserName {
		p.Name = "" // an unknown name, which takes the same time
	}
	var user, known *account.User
	switch u, err := s.Store.UserNamed(ctx, p.Name); {
	case err == nil:
		user = &u
		if !u.Disabled {
			known = user
		}
	case !fault.Is(err, fault.NotFound):
		return SignedIn{}, err
	}
	now := s.Now()
	a := guess{name: p.Name, host: Network(p.Remote)}
	if nonce, ok := account.CheckBrowser(user, p.Browser, now); ok {
		a = guess{name: p.Name, browser: nonce}
	}
	failed := refusal{action: account.UserNotSignedIn, remote: Network(p.Remote)}
	if user != nil {
		failed.object = user.ID
	}
	taken, err := s.guesses.take(a, unlocked(user), now)
	if err != nil {
		s.refusals.note(failed, now)
		return SignedIn{}, err
	}
	leave, err := s.signIns.enter(ctx, a, taken.delay)
	if err != nil {
		return SignedIn{}, err
	}
	defer leave()
	if !s.Passwords.Match(known, p.Password) {
		s.refusals.note(failed, now)
		c := &call.Call{Key: account.Key{ID: account.System}, Request: p.Request, Remote: p.Remote}
		if taken.locked && known != nil {
			if err := s.Store.Audit(ctx, s.Entry(c, now, account.UserLockedOut, known.ID, "name", known.Name), nil); err != nil {
				return SignedIn{}, err
			}
		}
		return SignedIn{}, errSignIn()
	}
	s.guesses.right(taken)
	now = s.Now()
	out := SignedIn{Token: account.NewToken(""), Browser: account.NewBrowser(known, now)}
	n := account.Session{Hash: account.HashKey(out.Token), ID: s.IDs.New(event.PrefixSession), User: known.ID, Remote: p.Remote, Agent: clip(p.Agent, maxAgent),
		Created: now, Expires: now.Add(account.SessionLife)}
	c := &call.Call{Key: account.Key{ID: known.ID}, Request: p.Request, Remote: p.Remote}
	err = s.Store.CreateSession(ctx, &n, known.Password, store.Trail{Audit: s.Entry(c, now, account.UserSignedIn, known.ID, "name", known.Name)})
	if fault.Is(err, fault.NotFound) { // disabled, or changed password, during the comparison
		return SignedIn{}, errSignIn()
	}
	return out, err
}

func errSignIn() error {
	return &fault.Error{Code: fault.Unauthenticated, Reason: "sign_in_failed", Message: "The user name or the password is wrong."}
}

const maxAgent = 200 // bytes

func clip(text string, most int) string { return text[:min(len(text), most)] }

func unlocked(u *account.User) time.Time {
	if u == nil {
		return time.Time{}
	}
	return u.Unlocked
}

// Unlock deletes the counted wrong passwords of a user's name, on every node. Operators only.
// Errors: fault.NotFound.
func (s *Auth) Unlock(ctx context.Context, c *call.Call, id string) (account.User, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return account.User{}, err
	}
	defer end()
	u, err := s.Store.User(ctx, id)
	if err != nil {
		return u, err
	}
	u.Unlocked = s.Now()
	trail := s.Trail(c, u, u.Unlocked, account.UserUnlocked, u.ID, "name", u.Name)
	trail.Audit.Space = 0
	return u, s.Store.UnlockUser(ctx, u.ID, u.Unlocked, trail)
}

// ChangePassword sets a new password for a user who knows the old one. All other sessions of
// the user end. Errors: fault.Invalid, fault.RateLimited.
func (s *Auth) ChangePassword(ctx context.Context, c *call.Call, u *account.User, keep account.Hash, old, password string) error {
	a := guess{name: u.Name, browser: "session " + string(keep[:])}
	taken, err := s.guesses.take(a, u.Unlocked, s.Now())
	if err != nil {
		return err
	}
	leave, err := s.signIns.enter(ctx, a, 0)
	if err != nil {
		return err
	}
	defer leave()
	if !s.Passwords.Match(u, old) {
		return fault.Param("old_password", "password_wrong", "The password is wrong.")
	}
	s.guesses.right(taken)
	hash, err := s.Passwords.Hash(password)
	if err != nil {
		return err
	}
	_, err = s.Store.EditUser(ctx, u.ID, keep, func(now *account.User, _ []account.User) (store.Trail, error) {
		if now.Disabled || now.Password != u.Password { // by an admin, during the comparison and hashing
			return store.Trail{}, errSessionEnded()
		}
		now.Password = hash
		audit := s.Entry(c, s.Now(), account.UserUpdated, u.ID, "name", u.Name, "password", "changed")
		audit.Space = 0
		return store.Trail{Audit: audit}, nil
	})
	return err
}

// comparisons is the queue for comparing passwords. Browsers in which a user has signed in have
// their own places, so that guesses elsewhere do not block the user.
type comparisons struct {
	unknown, known chan struct{}

	mu      sync.Mutex
	waiting int
	at      map[string]int // of these, by address
}

func newComparisons() *comparisons {
	return &comparisons{unknown: make(chan struct{}, signInsAtATime), known: make(chan struct{}, 1), at: map[string]int{}}
}

// enter returns after the delay when it is the turn of a; leave ends the turn. Errors:
// fault.RateLimited if too many wait.
func (q *comparisons) enter(ctx context.Context, a guess, delay time.Duration) (leave func(), err error) {
	turn := q.unknown
	if a.browser != "" {
		turn = q.known
	} else {
		if !q.queue(a.host) {
			return nil, &fault.Error{Code: fault.RateLimited, Reason: "sign_ins_busy", RetryAfter: time.Second, Message: "Too many concurrent sign-ins. Try again in a few seconds."}
		}
		defer q.unqueue(a.host)
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *comparisons) queue(host string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= waitingSignIns || q.at[host] >= waitingAtHost {
		return false
	}
	q.waiting++
	q.at[host]++
	return true
}

func (q *comparisons) unqueue(host string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting--
	if q.at[host]--; q.at[host] == 0 {
		delete(q.at, host)
	}
}

// Limits on wrong passwords.
const (
	freeGuesses  = 5           // of one name from one address, or in one known browser
	freeAtHost   = 30          // from one address
	freeOfName   = 30          // of one name from all addresses; beyond, guesses are slowed down
	firstLock    = time.Minute // doubles with each further wrong one
	longestLock  = time.Hour   //
	firstDelay   = time.Second // doubles with each ten further wrong ones
	longestDelay = 16 * time.Second
	guessMemory  = 2 * time.Hour // after which wrong passwords are removed
	maxGuessRows = 100_000       // beyond, rows without a lock are removed
)

// guess identifies a name and the origin of a guess: an address or, with proof of an earlier
// session, a browser. A row for all names or all addresses leaves that field empty.
type guess struct{ name, host, browser string }

// guesses counts wrong passwords. It does not depend on whether a user exists, so it does not
// reveal that. Its contents end with the process.
type guesses struct {
	mu   sync.Mutex
	rows map[guess]*guessed
}

type guessed struct {
	wrong int
	last  time.Time
	until time.Time // end of the lock
}

// counted is a guess that is counted as wrong before the password is compared.
type counted struct {
	guess
	delay  time.Duration // delay before the comparison
	locked bool          // it set a lock, unless it is right
}

// of returns the number of free wrong guesses, by row. A name cannot be locked for all
// addresses: that row only slows guesses down.
func (g *guesses) of(a guess) map[guess]int {
	if a.browser != "" {
		return map[guess]int{a: freeGuesses}
	}
	return map[guess]int{a: freeGuesses, {host: a.host}: freeAtHost}
}

// take counts a guess, or refuses it while its row is locked. Guesses under the name before
// unlocked do not count. Errors: fault.RateLimited.
func (g *guesses) take(a guess, unlocked, now time.Time) (counted, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	rows := g.of(a)
	for key := range rows {
		r := g.rows[key]
		if r != nil && key.name != "" && !r.last.After(unlocked) {
			delete(g.rows, key)
			continue
		}
		if r != nil && now.Before(r.until) {
			wait := r.until.Sub(now)
			return counted{}, &fault.Error{Code: fault.RateLimited, Reason: "locked_out", RetryAfter: wait,
				Message: "Too many wrong passwords. Try again in " + wait.Round(time.Second).String() + "."}
		}
	}
	out := counted{guess: a}
	for key, free := range rows {
		if r := g.count(key, now); r.wrong >= free {
			r.until = now.Add(min(firstLock<<min(r.wrong-free, 6), longestLock))
			out.locked = true
		}
	}
	if a.browser == "" {
		key := guess{name: a.name}
		if r := g.rows[key]; r != nil && !r.last.After(unlocked) {
			delete(g.rows, key)
		}
		if over := g.count(key, now).wrong - freeOfName; over > 0 {
			out.delay = min(firstDelay<<min(over/10, 4), longestDelay)
		}
	}
	return out, nil
}

func (g *guesses) count(key guess, now time.Time) *guessed {
	g.makeRoom(now)
	r := g.rows[key]
	if r == nil || now.Sub(r.last) > guessMemory {
		r = &guessed{}
		g.rows[key] = r
	}
	r.wrong++
	r.last = now
	return r
}

// makeRoom removes rows when there are too many: first the old ones, then some without a lock.
func (g *guesses) makeRoom(now time.Time) {
	if g.rows == nil {
		g.rows = map[guess]*guessed{}
	}
	if len(g.rows) < maxGuessRows {
		return
	}
	maps.DeleteFunc(g.rows, func(_ guess, r *guessed) bool { return now.Sub(r.last) > guessMemory })
	for key, r := range g.rows { // in random order
		if len(g.rows) < maxGuessRows*9/10 {
			return
		}
		if !now.Before(r.until) {
			delete(g.rows, key)
		}
	}
	if len(g.rows) >= maxGuessRows { // all are locked, so more rows would not help
		clear(g.rows)
	}
}

// right removes the count of a guess that was right, and the wrong guesses of the name at the
// address.
func (g *guesses) right(t counted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.rows, t.guess)
	for _, key := range []guess{{host: t.host}, {name: t.name}} {
		if r := g.rows[key]; r != nil && t.browser == "" {
			if r.wrong--; key.host != "" && r.wrong < freeAtHost {
				r.until = time.Time{}
			}
		}
	}
}

// Network returns the key under which guesses from an address are counted: the address or, for
// IPv6, the network of one subscriber.
func Network(remote string) string {
	h, _, err := net.SplitHostPort(remote)
	if err != nil {
		h = remote
	}
	a, err := netip.ParseAddr(h)
	if err != nil || a.Is4() || a.Is4In6() {
		return h
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return h
	}
	return p.String()
}
