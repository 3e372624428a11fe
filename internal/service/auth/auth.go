// Package auth owns who may call: accounts, API keys, users, sessions and sign-ins, and how many
// requests each account may make.
//
// It must not know events, deliveries or endpoints.
package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Config is what an Auth is made of.
type Config struct {
	Store     store.Store
	IDs       *event.IDs
	Now       func() time.Time
	Log       *slog.Logger
	Passwords account.Passwords
	Limits    quota.Set // of accounts that have no limits of their own
	RateLimit int       // API requests and events a minute of an account that has no limit of its own; 0: none

	CatchUp    func(context.Context) error // returns when what other nodes have changed before is learned
	Suspension func(account int64)         // is told of an account that was suspended or resumed
}

// Auth is safe for concurrent use. Use [New], then Load.
type Auth struct {
	Config
	*call.Calls

	keys     keyring
	limits   limits
	guesses  guesses
	signIns  *comparisons
	leases   leases
	refusals refusals
}

// New returns an Auth that knows no accounts or keys until Load.
func New(c Config, calls *call.Calls) *Auth {
	s := &Auth{Config: c, Calls: calls, signIns: newComparisons()}
	s.keys.set(nil, nil)
	return s
}

// Load reads accounts and keys into memory.
func (s *Auth) Load(ctx context.Context) error {
	accounts, err := s.Store.AllAccounts(ctx)
	if err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	keys, err := s.Store.AllKeys(ctx)
	if err != nil {
		return fmt.Errorf("load keys: %w", err)
	}
	s.keys.set(accounts, keys)
	return nil
}
