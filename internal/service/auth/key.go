package auth

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// maxName bounds names of accounts and keys, in characters.
const maxName = 200

// Authenticate returns the call that an API key authorizes. An operator key works in no account
// until [Auth.ActFor] names one. A key that another node has revoked may still be accepted:
// [Auth.Recheck] refuses it later, and so does the store when it stores an event. Errors:
// fault.Unauthenticated, and CatchUp's.
func (s *Auth) Authenticate(ctx context.Context, secret string) (*call.Call, error) {
	// The look-up is by hash, so its timing reveals nothing about the key.
	hash := account.HashKey(secret)
	k, ok := s.keys.key(hash)
	if !ok { // another node may have created it
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
	case k.Account != 0 && s.Suspended(k.Account):
		return nil, ErrSuspended()
	}
	s.keys.use(k.ID, s.Now())
	return &call.Call{Key: k, Space: k.Space()}, nil
}

func errRevoked() error {
	return &fault.Error{Code: fault.Unauthenticated, Reason: "api_key_revoked", Message: "This API key was revoked."}
}

// ActFor makes an operator's call work in one account's test or live data. For an account's own
// key it changes nothing, but fails for any other account. Errors: fault.Forbidden,
// fault.NotFound, and CatchUp's.
func (s *Auth) ActFor(ctx context.Context, c *call.Call, accountID string, live bool) error {
	a, ok := s.keys.account(accountID)
	if !ok { // another node may have created it
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

// CreatedKey is a new API key with its secret, which is shown only once.
type CreatedKey struct {
	account.Key
	Secret string
}

// CreateKey creates an API key for the account and mode of the call. Operators only.
func (s *Auth) CreateKey(ctx context.Context, c *call.Call, name string, live bool) (CreatedKey, error) {
	if err := cmp.Or(c.MustOperator(), c.MustAccount()); err != nil {
		return CreatedKey{}, err
	}
	prefix := account.PrefixTest
	if live {
		prefix = account.PrefixLive
	}
	return s.createKey(ctx, c, c, name, prefix)
}

// createKey creates a key with a secret of a prefix for the account of owner, or an operator
// key if owner has no account.
func (s *Auth) createKey(ctx context.Context, c, owner *call.Call, name, prefix string) (CreatedKey, error) {
	name, err := checkName(name)
	if err != nil {
		return CreatedKey{}, err
	}
	end, err := s.Begin(ctx, c, true)
	if err != nil {
		return CreatedKey{}, err
	}
	defer end()
	created := CreatedKey{Secret: account.NewSecret(prefix)}
	no := owner.Space.Account()
	created.Key, _ = account.NewKey(s.IDs.New(event.PrefixKey), created.Secret, name, no, s.Now())
	trail := s.Trail(owner, created, created.Created, account.KeyCreated, created.ID)
	if no != 0 {
		trail.Room = s.Room(owner, quota.APIKeys, len(s.keys.good(no, account.Member)))
	}
	return created, s.putKey(ctx, &created.Key, trail)
}

func (s *Auth) putKey(ctx context.Context, k *account.Key, t store.Trail) error {
	if err := s.Store.CreateKey(ctx, k, t); err != nil {
		return err
	}
	s.keys.putKey(*k)
	return nil
}

// ListKeys lists the API keys of the call's account, newest first, without secrets: both modes,
// but only test keys for a test key.
func (s *Auth) ListKeys(ctx context.Context, c *call.Call, p call.Page) ([]account.Key, bool, error) {
	if err := c.MustAccount(); err != nil {
		return nil, false, err
	}
	return s.listKeys(ctx, store.KeyFilter{Account: c.Space.Account(), TestOnly: !c.Operator() && !c.Key.Live}, p)
}

func (s *Auth) listKeys(ctx context.Context, f store.KeyFilter, p call.Page) ([]account.Key, bool, error) {
	page, err := call.ResolvePage(p, call.ByID(event.PrefixKey))
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

// RevokeKey revokes a key of the call's account at once. Operators only.
func (s *Auth) RevokeKey(ctx context.Context, c *call.Call, id string) (account.Key, error) {
	if err := cmp.Or(c.MustOperator(), c.MustAccount()); err != nil {
		return account.Key{}, err
	}
	return s.revokeOne(ctx, c, account.Member, id)
}

// revokeOne revokes a key with a role of the call's account; of operator keys, that is none.
func (s *Auth) revokeOne(ctx context.Context, c *call.Call, role account.Role, id string) (account.Key, error) {
	for _, k := range s.keys.with(c.Space.Account(), role) {
		if k.ID == id {
			return s.revokeKey(ctx, c, k)
		}
	}
	return account.Key{}, fault.Missing("API key", id)
}

// RevokeAll revokes the keys of a space.
func (s *Auth) RevokeAll(ctx context.Context, space event.Space) error {
	for _, k := range s.keys.good(space.Account(), account.Member) {
		if k.Live == space.Live() {
			if _, err := s.revokeKey(ctx, call.ByItself(space), k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Auth) revokeKey(ctx context.Context, c *call.Call, k account.Key) (account.Key, error) {
	now := s.Now()
	if err := s.Store.RevokeKey(ctx, k.ID, now, s.Trail(c, nil, now, account.KeyRevoked, k.ID)); err != nil {
		return k, err
	}
	if k.Revoked.IsZero() {
		k.Revoked = now
	}
	s.LearnKey(k)
	return k, nil
}

// WriteUses writes when keys were last used.
func (s *Auth) WriteUses(ctx context.Context) {
	if used := s.keys.takeUsed(); len(used) > 0 {
		if err := s.Store.UseKeys(ctx, used); err != nil {
			s.Log.Error("remember the use of keys", "err", err)
		}
	}
}

// EnsureKey creates a key with this secret unless it exists: an operator key, or for a test or
// live secret a key of the first account, which is created if there is none. It reports whether
// the key is new. Only the server's start calls it.
func (s *Auth) EnsureKey(ctx context.Context, secret, name string) (isNew bool, err error) {
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
	return true, s.putKey(ctx, &k, store.Trail{Audit: s.Entry(call.ByItself(k.Space()), k.Created, account.KeyCreated, k.ID)})
}

// Revoked reports whether a key with this secret was revoked.
func (s *Auth) Revoked(secret string) bool {
	k, ok := s.keys.key(account.HashKey(secret))
	return ok && !k.Revoked.IsZero()
}

// RevokeOthers revokes all other keys in the key's account that have its name. Only the
// server's start calls it.
func (s *Auth) RevokeOthers(ctx context.Context, secret, name string) error {
	kept, ok := s.keys.key(account.HashKey(secret))
	if !ok {
		return fault.Missing("API key", name)
	}
	for _, k := range s.keys.good(kept.Account, kept.Role) {
		if k.Name == name && k.ID != kept.ID {
			if _, err := s.revokeKey(ctx, call.ByItself(k.Space()), k); err != nil {
				return err
			}
		}
	}
	return nil
}

// HasOperator reports whether an operator key exists that is not revoked.
func (s *Auth) HasOperator() bool { return len(s.keys.good(0, account.Operator)) > 0 }

// CreateOperatorKey creates an operator key. Operators only.
func (s *Auth) CreateOperatorKey(ctx context.Context, c *call.Call, name string) (CreatedKey, error) {
	if err := c.MustOperator(); err != nil {
		return CreatedKey{}, err
	}
	return s.createKey(ctx, c, c.ForServer(), name, account.PrefixAdmin)
}

// ListOperatorKeys lists operator keys, newest first, without secrets. Operators only.
func (s *Auth) ListOperatorKeys(ctx context.Context, c *call.Call, p call.Page) ([]account.Key, bool, error) {
	if err := c.MustOperator(); err != nil {
		return nil, false, err
	}
	return s.listKeys(ctx, store.KeyFilter{}, p)
}

// RevokeOperatorKey revokes an operator key and ends the connections, portal sessions and jobs
// that were started with it. Operators only. The last key cannot be revoked: the server would
// be left without an operator.
func (s *Auth) RevokeOperatorKey(ctx context.Context, c *call.Call, id string) (account.Key, error) {
	if err := c.MustOperator(); err != nil {
		return account.Key{}, err
	}
	return s.revokeOne(ctx, c.ForServer(), account.Operator, id)
}

// keyring contains all keys and accounts in memory, for every request to look up.
type keyring struct {
	mu       sync.RWMutex
	byHash   map[account.Hash]account.Key
	accounts map[string]account.Account
	external map[string]string // ids of accounts by their external ids
	ids      map[int64]string  // of accounts, by store number

	uses sync.Mutex
	used map[string]time.Time // by key's identifier, since the last write
}

func (r *keyring) set(accounts []account.Account, keys []account.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byHash = make(map[account.Hash]account.Key, len(keys))
	r.accounts = make(map[string]account.Account, len(accounts))
	r.ids = make(map[int64]string, len(accounts))
	r.external = map[string]string{}
	for _, k := range keys {
		r.byHash[k.Hash] = k
	}
	for _, a := range accounts {
		r.keep(a)
	}
}

// putKey adds or replaces a key. A revoked key stays revoked.
func (r *keyring) putKey(k account.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.byHash[k.Hash]; ok && !old.Revoked.IsZero() {
		return
	}
	r.byHash[k.Hash] = k
}

// putAccount adds or replaces an account, unless a later state of it is present.
func (r *keyring) putAccount(a account.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accounts[a.ID].Revision > a.Revision {
		return
	}
	if old := r.accounts[a.ID].ExternalID; old != a.ExternalID && r.external[old] == a.ID { // the account was erased
		delete(r.external, old)
	}
	r.keep(a)
}

// keep adds or replaces an account.
func (r *keyring) keep(a account.Account) {
	r.accounts[a.ID], r.ids[a.No] = a, a.ID
	if a.ExternalID != "" {
		r.external[a.ExternalID] = a.ID
	}
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
	if name, given := r.external[id]; !ok && given {
		a, ok = r.accounts[name]
	}
	return a, ok
}

// use records that a key was used.
func (r *keyring) use(id string, now time.Time) {
	r.uses.Lock()
	defer r.uses.Unlock()
	if r.used == nil {
		r.used = map[string]time.Time{}
	}
	r.used[id] = now
}

// lastUse returns when a key was last used, if that was not yet written.
func (r *keyring) lastUse(id string) time.Time {
	r.uses.Lock()
	defer r.uses.Unlock()
	return r.used[id]
}

// takeUsed returns the uses since its last call.
func (r *keyring) takeUsed() map[string]time.Time {
	r.uses.Lock()
	defer r.uses.Unlock()
	used := r.used
	r.used = nil
	return used
}

// good returns the keys of [keyring.with] that are not revoked.
func (r *keyring) good(acct int64, role account.Role) []account.Key {
	return slices.DeleteFunc(r.with(acct, role), func(k account.Key) bool { return !k.Revoked.IsZero() })
}

// with returns an account's keys with a role; of operator keys, the account is 0.
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

// suspended reports whether the account with this number is suspended.
func (r *keyring) suspended(no int64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a := r.accounts[r.ids[no]]
	return a.Suspended()
}
