// Package account owns identities and permissions: accounts, API keys, users, their sessions
// and the audit log.
//
// It does no I/O and must not know endpoints, deliveries, SQL or HTTP.
package account

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// Account is one customer of the operator: the owner of endpoints and events.
type Account struct {
	No      int64 // store number; 0 until stored
	ID      string
	Name    string
	Created time.Time
	// RateLimit is the maximum number of API requests per minute: nil is the server's default, 0
	// is no limit.
	RateLimit *int
	// Limits are the account's own. The server's defaults apply to the others.
	Limits   quota.Set
	Revision int64 // of the stored row; each write increases it
	// SuspendedAt is when the operator suspended the account; zero: it is active.
	SuspendedAt time.Time
	// EraseAt is when a deleted account is erased, zero if it is not deleted. A deleted account is
	// also suspended.
	EraseAt time.Time
	// ExternalID is the operator's own id of the account, empty without one. It cannot be changed,
	// so that no node resolves it to another account.
	ExternalID string
	Metadata   map[string]string // the operator's own keys and values
	// Searchable are the paths by which the events can be found; nil: the default.
	Searchable []string
	// Erased is when the account was erased. From then on, only its id is kept.
	Erased time.Time
}

// Suspended reports whether the account's keys and portals are refused, and its deliveries
// held back.
func (a *Account) Suspended() bool { return !a.SuspendedAt.IsZero() }

// SearchPaths returns the paths by which the account's events can be found.
func (a *Account) SearchPaths() []string {
	if a.Searchable == nil {
		return defaultSearchable
	}
	return a.Searchable
}

var defaultSearchable = []string{event.ObjectID}

// AccountStatus is whether an account may use the server.
type AccountStatus string

// The statuses.
const (
	Active    AccountStatus = "active"
	Suspended AccountStatus = "suspended"
	Deleted   AccountStatus = "deleted" // it can be restored until it is erased
	Erased    AccountStatus = "erased"
)

// Status returns the account's status.
func (a *Account) Status() AccountStatus {
	switch {
	case !a.Erased.IsZero():
		return Erased
	case !a.EraseAt.IsZero():
		return Deleted
	case a.Suspended():
		return Suspended
	}
	return Active
}

// Delete suspends the account and schedules its erasure.
func (a *Account) Delete(now, eraseAt time.Time) {
	if !a.Suspended() {
		a.SuspendedAt = now
	}
	a.EraseAt = eraseAt
}

// Erase removes everything but the account's id.
func (a *Account) Erase(now time.Time) {
	a.Delete(now, a.EraseAt)
	a.Erased, a.Name, a.RateLimit, a.Limits, a.Searchable = now, "", nil, nil, nil
	a.ExternalID, a.Metadata = "", nil
}

// MaxRateLimit bounds [Account.RateLimit].
const MaxRateLimit = 1_000_000

// Role is the role of a key.
type Role string

// The roles.
const (
	Member   Role = "account"  // everything within one account and mode
	Operator Role = "operator" // manages accounts and keys, and acts for any account
	Viewer   Role = "viewer"   // reads within one account and mode; users only
)

// Prefixes of API keys. The prefix determines role and mode.
const (
	PrefixTest  = "sk_test_"
	PrefixLive  = "sk_live_"
	PrefixAdmin = "sk_admin_"
)

// Hash is the SHA-256 of a key, which is stored instead of the key. Keys are long and random,
// so a slow hash would add nothing.
type Hash [sha256.Size]byte

// HashKey returns the hash under which a key is stored and looked up.
func HashKey(secret string) Hash { return sha256.Sum256([]byte(secret)) }

// Key is an API key without its secret.
type Key struct {
	ID      string
	Account int64 // store number; 0 for an operator key
	Live    bool
	Role    Role
	Name    string
	Hint    string // prefix and last four characters, to distinguish keys
	Hash    Hash
	Created time.Time
	Revoked time.Time // zero: not revoked
	Used    time.Time // when it was last used, within seconds; zero: never
}

// Space returns the space of the key; it is meaningless for an operator key.
func (k *Key) Space() event.Space { return event.SpaceOf(k.Account, k.Live) }

// NewSecret returns a fresh key string with the given prefix: 24 random bytes.
func NewSecret(prefix string) string {
	var b [24]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + strings.NewReplacer("-", "a", "_", "b").Replace(base64.RawURLEncoding.EncodeToString(b[:]))
}

// NewKey returns the key for a secret string; its prefix determines role and mode. It reports
// false for an invalid string.
func NewKey(id, secret, name string, account int64, now time.Time) (Key, bool) {
	k := Key{ID: id, Name: name, Account: account, Role: Member, Hash: HashKey(secret), Created: now}
	var rest string
	switch {
	case strings.HasPrefix(secret, PrefixTest):
		rest = secret[len(PrefixTest):]
		k.Hint = PrefixTest
	case strings.HasPrefix(secret, PrefixLive):
		rest = secret[len(PrefixLive):]
		k.Hint, k.Live = PrefixLive, true
	case strings.HasPrefix(secret, PrefixAdmin):
		rest = secret[len(PrefixAdmin):]
		k.Hint, k.Role, k.Account = PrefixAdmin, Operator, 0
	}
	if len(rest) < MinSecretLength || strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Key{}, false
	}
	k.Hint += "…" + rest[len(rest)-4:]
	return k, true
}

// MinSecretLength is the minimum number of characters after a key's prefix.
const MinSecretLength = 16
