package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// An event matched by settings that were changed since is refused, on every node; events of
// other accounts in the same transaction are written.
func TestCommit_stale(t *testing.T) {
	ctx := context.Background()
	url := database(t, template)
	a, b := open(t, url), open(t, url)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range []store.Nodes{a, b} {
		v, err := s.Join(ctx, time.Minute)
		ok(err)
		if i == 1 && v.Self == 0 {
			t.Fatal("both nodes have one number")
		}
	}
	var mine, theirs account.Account
	mine.ID, theirs.ID = "acct_mine", "acct_theirs"
	ok(a.CreateAccount(ctx, &mine, store.Trail{}))
	ok(a.CreateAccount(ctx, &theirs, store.Trail{}))
	space := event.SpaceOf(mine.No, false)
	e := &endpoint.Endpoint{ID: "we_1", Space: space, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled},
		Secrets: []endpoint.Secret{endpoint.NewSecret("whsk_1", time.Now())}}
	ok(a.CreateEndpoint(ctx, e, store.Trail{}))
	key, _ := account.NewKey("key_1", "sk_test_1234567890abcdef", "n", mine.No, time.Now())
	ok(a.CreateKey(ctx, &key, store.Trail{}))
	operator, _ := account.NewKey("key_2", "sk_admin_1234567890abcdef", "n", 0, time.Now())
	ok(a.CreateKey(ctx, &operator, store.Trail{}))
	last, _ := account.NewKey("key_3", "sk_admin_abcdef1234567890", "n", 0, time.Now()) // the last one cannot be revoked
	ok(a.CreateKey(ctx, &last, store.Trail{}))
	kind := &event.Definition{Space: space, Name: "a.b"}
	ok(a.CreateType(ctx, kind, store.Trail{}))

	keys := event.NewKeys(time.Now, 1)
	of := func(acct *account.Account, version int64) *store.Append {
		p := newAppend(keys)
		p.Event.Space, p.Version = event.SpaceOf(acct.No, true), version // the other mode: keys and quotas are for both
		return p
	}
	five := 5
	var err error
	for _, change := range []struct {
		name string
		do   func() error
		all  bool // of all accounts
	}{
		{"nothing", func() error { return nil }, false},
		{"endpoint", func() error {
			*e, err = a.EditEndpoint(ctx, space, e.ID, func(e *endpoint.Endpoint) (store.Trail, error) {
				e.Status = endpoint.Disabled
				return store.Trail{}, nil
			})
			return err
		}, false},
		{"key", func() error { return a.RevokeKey(ctx, key.ID, time.Now(), store.Trail{}) }, false},
		{"quota", func() error {
			_, err := a.EditAccount(ctx, mine.ID, func(a *account.Account) (store.Trail, error) {
				a.RateLimit = &five
				return store.Trail{}, nil
			})
			return err
		}, false},
		{"event type", func() error {
			*kind, err = a.EditType(ctx, space, kind.Name, func(d *event.Definition) (store.Trail, error) {
				d.Deprecated = true
				return store.Trail{}, nil
			})
			return err
		}, false},
		{"event type deleted", func() error { return a.DeleteType(ctx, kind.No, kind.Revision, time.Now(), store.Trail{}) }, false},
		{"endpoint deleted", func() error { return a.DeleteEndpoint(ctx, e.No, e.Revision, time.Now(), store.Trail{}) }, false},
		{"operator's key", func() error { return a.RevokeKey(ctx, operator.ID, time.Now(), store.Trail{}) }, true},
	} {
		t.Run(change.name, func(t *testing.T) {
			before, err := b.Version(ctx)
			ok(err)
			ok(change.do())
			after, err := b.Version(ctx)
			ok(err)
			if (after > before) != (change.name != "nothing") {
				t.Errorf("the version was %d and is %d", before, after)
			}
			old, fresh, other, unchecked := of(&mine, before), of(&mine, after), of(&theirs, before), of(&mine, 0)
			ok(b.Commit(ctx, &store.Batch{Appends: []*store.Append{old, fresh, other, unchecked}}))
			if old.Stale != (after > before) || fresh.Stale || other.Stale != change.all || unchecked.Stale {
				t.Errorf("refused: by old settings %v, by new %v, of another account %v, unchecked %v", old.Stale, fresh.Stale, other.Stale, unchecked.Stale)
			}
			for _, p := range []*store.Append{old, fresh, other, unchecked} {
				_, err := b.Event(ctx, p.Event.Space, p.Event.ID)
				if written := err == nil; written == p.Stale {
					t.Errorf("written %v, and refused %v: %v", written, p.Stale, err)
				}
			}
			if old.Stale {
				old.Version = after
				ok(b.Commit(ctx, &store.Batch{Appends: []*store.Append{old}}))
				if old.Refused() {
					t.Error("matched anew, it is refused again")
				}
			}
			told := of(&mine, before)
			object := store.SandboxObject{Space: space, Kind: "k", ID: change.name}
			err = b.PutSandbox(ctx, []store.SandboxObject{object}, store.Trail{Announce: []*store.Append{told}})
			if _, rerr := b.SandboxObject(ctx, space, "k", change.name); errors.Is(err, store.ErrStale) != (after > before) || (rerr == nil) != (err == nil) {
				t.Errorf("a change with an event: %v; it is there: %v", err, rerr)
			}
		})
	}
}
