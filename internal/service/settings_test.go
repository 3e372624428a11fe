package service

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// shared is settings that other nodes change.
type shared struct {
	mu    sync.Mutex
	c     store.Changes
	err   error
	looks int
	takes time.Duration
}

func (n *shared) Version(context.Context) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.c.Version, n.err
}

func (n *shared) Changes(ctx context.Context, _ int64) (store.Changes, error) {
	n.mu.Lock()
	c, err, takes := n.c, n.err, n.takes
	n.looks++
	n.mu.Unlock()
	select {
	case <-time.After(takes):
		return c, err
	case <-ctx.Done():
		return store.Changes{}, ctx.Err()
	}
}

// change commits a change of another node.
func (n *shared) change(do func(*store.Changes)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.c.Version++
	do(&n.c)
}

// answers sets how, and after how long, it answers from now on.
func (n *shared) answers(err error, after time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err, n.takes = err, after
}

func nodeOf(n *shared) *Service {
	s := New(Config{Endpoints: endpoint.NewRegistry(), Now: time.Now, Settings: n})
	s.engine = quiet{}
	return s
}

// A call waits until all settings committed before it are visible, and concurrent calls share one read.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &shared{takes: 10 * time.Millisecond}
		s := nodeOf(n)
		var wg sync.WaitGroup
		const callers = 100
		for i := range callers {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				n.change(func(c *store.Changes) {
					c.Accounts = append(c.Accounts, account.Account{ID: string(rune('A' + i)), No: int64(i)})
				})
				if err := s.CatchUp(t.Context()); err != nil {
					t.Error(err)
				}
				if !s.Auth.HasAccount(string(rune('A' + i))) {
					t.Errorf("what was committed before call %d is not known after it", i)
				}
			})
		}
		wg.Wait()
		if s.SettingsVersion() != callers {
			t.Errorf("version %d of %d", s.SettingsVersion(), callers)
		}
		if n.looks > 15 { // one at a time, each of 10 ms, in 100 ms and a bit
			t.Errorf("%d looks for %d callers", n.looks, callers)
		}

		n.answers(errors.New("away"), 10*time.Millisecond)
		if err := s.Reach(t.Context(), callers); err != nil {
			t.Errorf("a version that is known: %v", err)
		}
		if err := s.Reach(t.Context(), callers+1); err == nil {
			t.Error("a version that cannot be read is reached")
		}
		n.answers(nil, time.Hour)
		if err := s.CatchUp(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a store that does not answer: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.CatchUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who does not wait: %v", err)
		}
		n.answers(nil, 0)
		time.Sleep(lookFor)
		synctest.Wait()
		if err := s.CatchUp(t.Context()); err != nil {
			t.Errorf("when the store is back: %v", err)
		}
	})
}

// A key of another node is known at once and, once revoked there, opens nothing.
func TestRecheck(t *testing.T) {
	ctx := context.Background()
	n := &shared{}
	s := nodeOf(n)
	const secret = "sk_test_1234567890abcdef"
	if _, err := s.Auth.Authenticate(ctx, secret); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that nobody made: %v", err)
	}
	acct := account.Account{ID: "acct_1", No: 1, Revision: 1}
	key, _ := account.NewKey("key_1", secret, "n", 1, time.Now())
	n.change(func(c *store.Changes) { c.Accounts, c.Keys = []account.Account{acct}, []account.Key{key} })
	c, err := s.Auth.Authenticate(ctx, secret)
	if err != nil {
		t.Fatalf("a key of another node: %v", err)
	}
	if _, err := s.Auth.Admit(ctx, c, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Recheck(ctx, c); err != nil {
		t.Errorf("a good key: %v", err)
	}

	one := 1
	acct.RateLimit, acct.Revision = &one, 2
	n.change(func(c *store.Changes) { c.Accounts = []account.Account{acct} })
	if err := s.Recheck(ctx, c); err != nil {
		t.Errorf("the first request under a new limit: %v", err)
	}
	if err := s.Recheck(ctx, c); err != nil {
		t.Errorf("looked at again, a request counts once: %v", err)
	}
	if _, err := s.Auth.Admit(ctx, c, 1); !fault.Is(err, fault.RateLimited) {
		t.Errorf("the second request under a limit of one: %v", err)
	}
	late, err := s.Auth.Authenticate(ctx, secret)
	if err != nil {
		t.Fatal(err)
	}
	late.Counted = 1 // under no limit, by what was known then
	if err := s.Recheck(ctx, late); !fault.Is(err, fault.RateLimited) {
		t.Errorf("a request that was let in before the limit was known: %v", err)
	}

	key.Revoked = time.Now()
	n.change(func(c *store.Changes) { c.Keys = []account.Key{key} })
	if _, err := s.Auth.Authenticate(ctx, secret); err != nil {
		t.Errorf("what is not known yet cannot count: %v", err)
	}
	if err := s.Recheck(ctx, c); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that another node has revoked: %v", err)
	}
	key.Revoked = time.Time{}
	s.Auth.LearnKey(key) // written before, and late
	if _, err := s.Auth.Authenticate(ctx, secret); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a revoked key came back: %v", err)
	}
}

// A change that arrives between the admission of a call and the match of its event holds for
// the call: its event is matched by a version that has the change, so the store would not
// find it stale.
func TestSettled(t *testing.T) {
	ctx := context.Background()
	n := &shared{}
	s := nodeOf(n)
	const secret = "sk_test_1234567890abcdef"
	acct := account.Account{ID: "acct_1", No: 1, Revision: 1}
	key, _ := account.NewKey("key_1", secret, "n", 1, time.Now())
	n.change(func(c *store.Changes) { c.Accounts, c.Keys = []account.Account{acct}, []account.Key{key} })
	var calls []*call.Call
	for range 2 {
		c, err := s.Auth.Authenticate(ctx, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Auth.Admit(ctx, c, 1); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	arrives := func(do func(*store.Changes)) {
		t.Helper()
		n.change(do)
		if err := s.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
	}
	one := 1
	acct.RateLimit, acct.Revision = &one, 2
	arrives(func(c *store.Changes) { c.Accounts = []account.Account{acct} })
	if v, err := s.settled(calls[0]); err != nil || v != 2 {
		t.Errorf("the first call under a limit of one: version %d, %v", v, err)
	}
	if _, err := s.settled(calls[1]); !fault.Is(err, fault.RateLimited) {
		t.Errorf("the second call under a limit of one: %v", err)
	}
	key.Revoked = time.Now()
	arrives(func(c *store.Changes) { c.Keys = []account.Key{key} })
	if _, err := s.settled(calls[0]); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that another node has revoked: %v", err)
	}
}
