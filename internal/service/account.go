package service

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// maxName bounds names of accounts and keys, in characters.
const maxName = 200

// keyring is all keys and accounts in memory: every request looks here.
type keyring struct {
	mu       sync.RWMutex
	byHash   map[account.Hash]account.Key
	accounts map[string]account.Account
	ids      map[int64]string // of accounts, by store number

	uses sync.Mutex
	used map[string]time.Time // by key's identifier, since it was last written
}

func (r *keyring) set(accounts []account.Account, keys []account.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byHash = make(map[account.Hash]account.Key, len(keys))
	r.accounts = make(map[string]account.Account, len(accounts))
	r.ids = make(map[int64]string, len(accounts))
	for _, k := range keys {
		r.byHash[k.Hash] = k
	}
	for _, a := range accounts {
		r.accounts[a.ID], r.ids[a.No] = a, a.ID
	}
}

// putKey adds a key or replaces it. One that was revoked stays so.
func (r *keyring) putKey(k account.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.byHash[k.Hash]; ok && !old.Revoked.IsZero() {
		return
	}
	r.byHash[k.Hash] = k
}

// putAccount adds an account or replaces it, unless a later state of it is there.
func (r *keyring) putAccount(a account.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accounts[a.ID].Revision > a.Revision {
		return
	}
	r.accounts[a.ID], r.ids[a.No] = a, a.ID
}

// accountID returns the identifier of an account, "" if there is none.
func (r *keyring) accountID(no int64) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ids[no]
}

func (r *keyring) key(h account.Hash) (account.Key, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.byHash[h]
	return k, ok
}

// all returns all accounts, oldest first.
func (r *keyring) all() []account.Account {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.accounts), func(a, b account.Account) int { return cmp.Compare(a.No, b.No) })
}

func (r *keyring) account(id string) (account.Account, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a, ok := r.accounts[id]
	return a, ok
}

// good returns how many keys of an account are not revoked.
func (r *keyring) good(account int64) (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.byHash {
		if k.Account == account && k.Revoked.IsZero() {
			n++
		}
	}
	return n
}

// use notes that a key was used.
func (r *keyring) use(id string, now time.Time) {
	r.uses.Lock()
	defer r.uses.Unlock()
	if r.used == nil {
		r.used = map[string]time.Time{}
	}
	r.used[id] = now
}

// lastUse returns when a key was used since that was last written.
func (r *keyring) lastUse(id string) time.Time {
	r.uses.Lock()
	defer r.uses.Unlock()
	return r.used[id]
}

// takeUsed returns what was used since it was last called.
func (r *keyring) takeUsed() map[string]time.Time {
	r.uses.Lock()
	defer r.uses.Unlock()
	used := r.used
	r.used = nil
	return used
}

// Authenticate returns the call that an API key opens. An operator key works in
// no account until [Service.ActFor] names one. A key that another node has revoked may still
// open one: [Service.Recheck] refuses that, and so does the store what it is to accept.
// Errors: fault.Unauthenticated, and CatchUp's.
func (s *Service) Authenticate(ctx context.Context, secret string) (*Call, error) {
	// The look-up is by hash, so its timing tells nothing of the key.
	hash := account.HashKey(secret)
	k, ok := s.keys.key(hash)
	if !ok { // another node may have made it
		if err := s.CatchUp(ctx); err != nil {
			return nil, err
		}
		k, ok = s.keys.key(hash)
	}
	switch {
	case !ok:
		return nil, &fault.Error{Code: fault.Unauthenticated, Reason: "api_key_invalid", Message: "This API key is unknown."}
	case !k.Revoked.IsZero():
		return nil, errRevoked()
	case k.Account != 0 && s.keys.suspended(k.Account):
		return nil, errSuspended()
	}
	s.keys.use(k.ID, s.Now())
	return &Call{Key: k, Space: k.Space()}, nil
}

func errRevoked() error {
	return &fault.Error{Code: fault.Unauthenticated, Reason: "api_key_revoked", Message: "This API key was revoked."}
}

// ActFor makes an operator's call work in one account's test or live data. For a
// key of the account itself it changes nothing but fails for any other account.
// Errors: fault.Forbidden, fault.NotFound, and CatchUp's.
func (s *Service) ActFor(ctx context.Context, c *Call, accountID string, live bool) error {
	a, ok := s.keys.account(accountID)
	if !ok { // another node may have made it
		if err := s.CatchUp(ctx); err != nil {
			return err
		}
		a, ok = s.keys.account(accountID)
	}
	ok = ok && a.Erased.IsZero()
	if !c.Operator() {
		if ok && a.No == c.Key.Account {
			return nil
		}
		return &fault.Error{Code: fault.Forbidden, Reason: "account_forbidden", Param: c.AccountHeader, Message: "This API key does not belong to the account in the header."}
	}
	if !ok {
		missing := fault.Missing("account", accountID)
		missing.Param = c.AccountHeader
		return missing
	}
	c.Space = event.SpaceOf(a.No, live)
	return nil
}

// AccountParams is what a request says of an account; nil is "not mentioned".
type AccountParams struct {
	Name      *string
	RateLimit **int // API requests a minute; a nil inside is the server's default
	Status    *string
	Limits    *LimitParams
}

func (p *AccountParams) apply(a *account.Account, now time.Time) error {
	if !a.Erased.IsZero() {
		return fault.Param("id", "account_erased", "The account was erased.")
	}
	if p.Status != nil {
		a.EraseAt = time.Time{} // it is restored
	}
	switch status := account.AccountStatus(deref(p.Status)); {
	case p.Status == nil:
	case status != account.Active && status != account.Suspended:
		return fault.Param("status", "parameter_invalid", "The status must be active or suspended.")
	case status == account.Active:
		a.SuspendedAt = time.Time{}
	case !a.Suspended():
		a.SuspendedAt = now
	}
	if p.Name != nil {
		name, err := checkName(*p.Name)
		if err != nil {
			return err
		}
		a.Name = name
	}
	if p.Limits != nil {
		var err error
		if a.Limits, err = p.Limits.apply(a.Limits); err != nil {
			return err
		}
	}
	set(&a.RateLimit, p.RateLimit)
	if n := a.RateLimit; n != nil && (*n < 0 || *n > account.MaxRateLimit) {
		return fault.Param("rate_limit", "parameter_invalid", "The rate limit must be 1 to %d requests a minute, 0 for no limit, or null for the server's default.", account.MaxRateLimit)
	}
	return nil
}

// CreateAccount makes an account. Operators only.
func (s *Service) CreateAccount(ctx context.Context, c *Call, p AccountParams) (account.Account, error) {
	if err := c.mustOperator(); err != nil {
		return account.Account{}, err
	}
	a := account.Account{ID: s.IDs.New(event.PrefixAccount), Created: s.Now()}
	if err := p.apply(&a, a.Created); err != nil {
		return account.Account{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	if err := s.Store.CreateAccount(ctx, &a, s.trail(c, a, a.Created, account.AccountCreated, a.ID)); err != nil {
		return account.Account{}, err
	}
	s.keys.putAccount(a)
	return a, nil
}

// UpdateAccount changes what p mentions. Operators only. A suspended account's keys and
// portals are refused, its connections and jobs end, and its deliveries wait without
// spending attempts until it is active again.
func (s *Service) UpdateAccount(ctx context.Context, c *Call, id string, p AccountParams) (account.Account, error) {
	if err := c.mustOperator(); err != nil {
		return account.Account{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a, err := s.Store.EditAccount(ctx, id, func(a *account.Account) (store.Trail, error) {
		if err := c.mustMatch(a.Revision); err != nil {
			return store.Trail{}, err
		}
		was, now := *a, s.Now()
		if err := p.apply(a, now); err != nil {
			return store.Trail{}, err
		}
		action := account.AccountUpdated
		if was.Suspended() != a.Suspended() {
			action = map[bool]account.Action{true: account.AccountSuspended, false: account.AccountResumed}[a.Suspended()]
		}
		return s.trail(c, *a, now, action, a.ID, changes(&was, a)...), nil
	})
	if err != nil {
		return a, err
	}
	s.learnAccount(a)
	return a, nil
}

// DeleteAccount suspends an account, and has it erased after the grace period that is set, in
// which [Service.UpdateAccount] can give it another status and so restores it. Operators only.
func (s *Service) DeleteAccount(ctx context.Context, c *Call, id string) (account.Account, error) {
	if err := c.mustOperator(); err != nil {
		return account.Account{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a, err := s.Store.EditAccount(ctx, id, func(a *account.Account) (store.Trail, error) {
		if !a.EraseAt.IsZero() {
			return store.Trail{}, store.ErrUnchanged
		}
		if err := c.mustMatch(a.Revision); err != nil {
			return store.Trail{}, err
		}
		now := s.Now()
		a.Delete(now, now.Add(s.AccountGrace))
		return s.trail(c, *a, now, account.AccountDeleted, a.ID, "erase_at", strconv.FormatInt(a.EraseAt.Unix(), 10)), nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	s.learnAccount(a)
	if s.AccountGrace > 0 {
		return a, nil
	}
	return s.eraseAccount(ctx, a.ID)
}

// changes returns for the audit log what an edit made of an account.
func changes(was, is *account.Account) []string {
	limit := func(n *int) string {
		if n == nil {
			return "default"
		}
		return strconv.Itoa(*n)
	}
	var d difference
	d.of("name", was.Name, is.Name)
	d.of("rate_limit", limit(was.RateLimit), limit(is.RateLimit))
	d.of("limits", was.Limits.String(), is.Limits.String())
	d.of("status", was.Status(), is.Status())
	return d
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if utf8.RuneCountInString(name) > maxName {
		return "", fault.Param("name", "parameter_invalid", "The name is longer than %d characters.", maxName)
	}
	return name, nil
}

// Account returns an account. Operators only.
func (s *Service) Account(ctx context.Context, c *Call, id string) (account.Account, error) {
	if err := c.mustOperator(); err != nil {
		return account.Account{}, err
	}
	return s.Store.Account(ctx, id)
}

// ListAccounts lists accounts, newest first. Operators only.
func (s *Service) ListAccounts(ctx context.Context, c *Call, p Page) ([]account.Account, bool, error) {
	if err := c.mustOperator(); err != nil {
		return nil, false, err
	}
	page, err := ResolvePage(p, func(param, id string) (int64, error) {
		a, err := s.Store.Account(ctx, id)
		return a.No, CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListAccounts(ctx, page)
}

// CreatedKey is a new API key with its secret, which is shown this once.
type CreatedKey struct {
	account.Key
	Secret string
}

// CreateKey makes an API key for the account and mode that the call works in.
// Operators only.
func (s *Service) CreateKey(ctx context.Context, c *Call, name string, live bool) (CreatedKey, error) {
	if err := c.mustOperator(); err != nil {
		return CreatedKey{}, err
	}
	if err := c.mustAccount(); err != nil {
		return CreatedKey{}, err
	}
	prefix := account.PrefixTest
	if live {
		prefix = account.PrefixLive
	}
	return s.createKey(ctx, c, c, name, prefix)
}

// createKey makes a key with a secret of a prefix for the account that owner works in, or an
// operator key if it works in none.
func (s *Service) createKey(ctx context.Context, c, owner *Call, name, prefix string) (CreatedKey, error) {
	name, err := checkName(name)
	if err != nil {
		return CreatedKey{}, err
	}
	end, err := s.begin(ctx, c, true)
	if err != nil {
		return CreatedKey{}, err
	}
	defer end()
	created := CreatedKey{Secret: account.NewSecret(prefix)}
	no := owner.Space.Account()
	created.Key, _ = account.NewKey(s.IDs.New(event.PrefixKey), created.Secret, name, no, s.Now())
	trail := s.trail(owner, created, created.Created, account.KeyCreated, created.ID)
	if no != 0 {
		trail.Room = s.room(owner, quota.APIKeys, s.keys.good(no))
	}
	return created, s.putKey(ctx, &created.Key, trail)
}

func (s *Service) putKey(ctx context.Context, k *account.Key, t store.Trail) error {
	if err := s.Store.CreateKey(ctx, k, t); err != nil {
		return err
	}
	s.keys.putKey(*k)
	return nil
}

// ListKeys lists the API keys of the call's account, newest first, without secrets: both
// modes, but for test keys test keys only.
func (s *Service) ListKeys(ctx context.Context, c *Call, p Page) ([]account.Key, bool, error) {
	if err := c.mustAccount(); err != nil {
		return nil, false, err
	}
	return s.listKeys(ctx, store.KeyFilter{Account: c.Space.Account(), TestOnly: !c.Operator() && !c.Key.Live}, p)
}

func (s *Service) listKeys(ctx context.Context, f store.KeyFilter, p Page) ([]account.Key, bool, error) {
	page, err := ResolvePage(p, func(param, id string) (string, error) {
		if _, _, ok := event.ParseID(event.PrefixKey, id); !ok {
			return "", CursorFault(fault.Missing("API key", id), param, id)
		}
		return id, nil
	})
	if err != nil {
		return nil, false, err
	}
	keys, more, err := s.Store.ListKeys(ctx, f, page)
	for i := range keys {
		if at := s.keys.lastUse(keys[i].ID); at.After(keys[i].Used) {
			keys[i].Used = at
		}
	}
	return keys, more, err
}

// RevokeKey makes a key of the call's account useless at once. Operators only.
func (s *Service) RevokeKey(ctx context.Context, c *Call, id string) (account.Key, error) {
	if err := c.mustOperator(); err != nil {
		return account.Key{}, err
	}
	if err := c.mustAccount(); err != nil {
		return account.Key{}, err
	}
	for _, k := range s.keys.of(c.Space.Account()) {
		if k.ID == id {
			return s.revokeKey(ctx, c, k)
		}
	}
	return account.Key{}, fault.Missing("API key", id)
}

func (s *Service) revokeKey(ctx context.Context, c *Call, k account.Key) (account.Key, error) {
	now := s.Now()
	if err := s.Store.RevokeKey(ctx, k.ID, now, s.trail(c, nil, now, account.KeyRevoked, k.ID)); err != nil {
		return k, err
	}
	if k.Revoked.IsZero() {
		k.Revoked = now
	}
	s.learnKey(k)
	return k, nil
}

// of returns the keys of an account.
func (r *keyring) of(acct int64) []account.Key { return r.with(acct, account.Member) }

// with returns the keys with a role; of operator keys, the account is 0.
func (r *keyring) with(acct int64, role account.Role) (keys []account.Key) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.byHash {
		if k.Account == acct && k.Role == role {
			keys = append(keys, k)
		}
	}
	return keys
}

// EnsureKey sees to it that a key with this secret exists, for the operator or,
// given a test or live secret, for the first account, which is made when there is
// none. It reports whether the key is new. It is for the server's own start.
func (s *Service) EnsureKey(ctx context.Context, secret, name string) (isNew bool, err error) {
	if _, ok := s.keys.key(account.HashKey(secret)); ok {
		return false, nil
	}
	k, ok := account.NewKey(s.IDs.New(event.PrefixKey), secret, name, 0, s.Now())
	if !ok {
		return false, &fault.Error{Code: fault.Invalid, Reason: "api_key_malformed",
			Message: "an API key must be sk_test_, sk_live_ or sk_admin_ followed by at least 16 printable characters"}
	}
	if k.Role == account.Member {
		if k.Account, err = s.firstAccount(ctx, name); err != nil {
			return false, err
		}
	}
	return true, s.putKey(ctx, &k, store.Trail{Audit: s.entry(byItself(k.Space()), k.Created, account.KeyCreated, k.ID)})
}

// Revoked reports whether a key with this secret was revoked.
func (s *Service) Revoked(secret string) bool {
	k, ok := s.keys.key(account.HashKey(secret))
	return ok && !k.Revoked.IsZero()
}

// RevokeOthers revokes the keys that have the name of a key, in its account, but for itself.
// It is for the server's own start.
func (s *Service) RevokeOthers(ctx context.Context, secret, name string) error {
	kept, ok := s.keys.key(account.HashKey(secret))
	if !ok {
		return fault.Missing("API key", name)
	}
	for _, k := range s.keys.of(kept.Account) {
		if k.Name != name || k.ID == kept.ID || !k.Revoked.IsZero() {
			continue
		}
		now := s.Now()
		if err := s.Store.RevokeKey(ctx, k.ID, now, store.Trail{Audit: s.entry(byItself(k.Space()), now, account.KeyRevoked, k.ID)}); err != nil {
			return err
		}
		k.Revoked = now
		s.keys.putKey(k)
	}
	return nil
}

func (s *Service) firstAccount(ctx context.Context, name string) (int64, error) {
	all, err := s.Store.AllAccounts(ctx)
	if err != nil {
		return 0, err
	}
	if i := slices.IndexFunc(all, func(a account.Account) bool { return a.Erased.IsZero() }); i >= 0 {
		return all[i].No, nil
	}
	a := account.Account{ID: s.IDs.New(event.PrefixAccount), Name: name, Created: s.Now()}
	if err := s.Store.CreateAccount(ctx, &a, store.Trail{Audit: s.entry(byItself(0), a.Created, account.AccountCreated, a.ID)}); err != nil {
		return 0, err
	}
	s.keys.putAccount(a)
	return a.No, nil
}

// HasAccount reports whether there is an account of that identifier.
func (s *Service) HasAccount(id string) bool {
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	a, ok := s.keys.accounts[id]
	return ok && a.Erased.IsZero()
}

// HasOperator reports whether any operator key is good.
func (s *Service) HasOperator() bool {
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	for _, k := range s.keys.byHash {
		if k.Role == account.Operator && k.Revoked.IsZero() {
			return true
		}
	}
	return false
}

// AccountOf returns the account that the call works in, false for an operator's
// call that names none.
func (s *Service) AccountOf(c *Call) (account.Account, bool) {
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	a, ok := s.keys.accounts[s.keys.ids[c.Space.Account()]]
	return a, ok
}
