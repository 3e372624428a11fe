// Package auth owns authentication and its limits: accounts, API keys, users, sessions and
// sign-ins, and the number of requests of each account.
//
// It must not know events, deliveries or endpoints.
package auth

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Config contains the dependencies and settings of an Auth.
type Config struct {
	Store     store.Store
	IDs       *event.IDs
	Now       func() time.Time
	Log       *slog.Logger
	Passwords account.Passwords
	Limits    quota.Set // of accounts without their own limits
	RateLimit int       // API requests and events per minute of an account without its own limit; 0: none

	CatchUp    func(context.Context) error // returns when the earlier changes of other nodes are in memory
	Suspension func(account int64)         // receives the number of an account that was suspended or resumed
}

// Auth is safe for concurrent use. Use [New], then Load.
type Auth struct {
	Config
	*call.Calls

	keys     keyring
	limits   limits
	guesses  guesses
	signIns  *comparisons
	leases   sync.Map // of *lease
	refusals refusals
}

// New returns an Auth without accounts or keys. Call Load next.
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
