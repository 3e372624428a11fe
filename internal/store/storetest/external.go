package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// taken reports whether an error is that of an external id that another object has.
func taken(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Reason == "external_id_taken"
}

func testExternalIDs(b *bundle) {
	made := time.UnixMilli(1700000000000)
	one := account.Account{ID: "acct_1", Created: made, ExternalID: "customer-1", Metadata: map[string]string{"plan": "pro \"é\x00"}}
	two := account.Account{ID: "acct_2", Created: made}
	b.ok(b.CreateAccount(b.ctx, &one, store.Trail{}))
	b.ok(b.CreateAccount(b.ctx, &two, store.Trail{}))
	for _, id := range []string{"acct_1", "customer-1"} {
		got, err := b.Account(b.ctx, id)
		b.ok(err)
		b.equal("account "+id, got, one)
	}
	name := func(a *account.Account, id string) error {
		_, err := b.EditAccount(b.ctx, a.ID, func(a *account.Account) (store.Trail, error) {
			a.ExternalID = id
			return store.Trail{}, nil
		})
		return err
	}
	twin := account.Account{ID: "acct_3", Created: made, ExternalID: "customer-1"}
	if !taken(b.CreateAccount(b.ctx, &twin, store.Trail{})) || !taken(name(&two, "customer-1")) {
		b.Error("two accounts have one external id")
	}
	_, err := b.Account(b.ctx, "acct_3")
	b.code(err, fault.NotFound)
	b.ok(name(&one, "")) // as an erasure does
	_, err = b.Account(b.ctx, "customer-1")
	b.code(err, fault.NotFound)
	b.ok(name(&two, "customer-1"))
	got, err := b.Account(b.ctx, "customer-1")
	b.ok(err)
	b.equal("account", got.ID, "acct_2")

	// Endpoints have theirs by space.
	create := func(space event.Space, id string) (*endpoint.Endpoint, error) {
		e := b.composeEndpoint(space)
		e.Settings.ExternalID = id
		return e, b.CreateEndpoint(b.ctx, e, store.Trail{})
	}
	e, err := create(mine, "customer-1")
	b.ok(err)
	if _, err := create(mine, "customer-1"); !taken(err) {
		b.Errorf("two endpoints have one external id: %v", err)
	}
	elsewhere, err := create(theirs, "customer-1")
	b.ok(err)
	for space, want := range map[event.Space]*endpoint.Endpoint{mine: e, theirs: elsewhere} {
		found, err := b.Endpoint(b.ctx, space, "customer-1")
		b.ok(err)
		b.equal("endpoint", found.ID, want.ID)
		found, err = b.PastEndpoint(b.ctx, space, "customer-1")
		b.ok(err)
		b.equal("endpoint", found.ID, want.ID)
	}
	edited, err := b.EditEndpoint(b.ctx, mine, "customer-1", func(e *endpoint.Endpoint) (store.Trail, error) {
		e.Settings.ExternalID = "renamed"
		return store.Trail{}, nil
	})
	b.ok(err)
	again, err := create(mine, "customer-1")
	b.ok(err)
	b.ok(b.DeleteEndpoint(b.ctx, edited.No, edited.Revision, now(), store.Trail{}))
	_, err = b.Endpoint(b.ctx, mine, "renamed")
	b.code(err, fault.NotFound)
	_, err = create(mine, "renamed")
	b.ok(err)
	found, err := b.Endpoint(b.ctx, mine, "customer-1")
	b.ok(err)
	b.equal("endpoint", found.ID, again.ID)
}

// Of many that claim an external id at the same time, by creating an object or naming one, one
// gets it, and the others learn that it is taken.
func testExternalIDsContested(b *bundle) {
	const claimants = 24
	var mu sync.Mutex
	won := map[string]int{}
	var all sync.WaitGroup
	for i := range claimants {
		all.Go(func() {
			a := account.Account{ID: fmt.Sprintf("acct_%d", i), Created: time.UnixMilli(1700000000000)}
			if i%2 == 0 {
				a.ExternalID = "contested"
			}
			err := b.CreateAccount(b.ctx, &a, store.Trail{})
			if i%2 == 1 && err == nil {
				_, err = b.EditAccount(b.ctx, a.ID, func(a *account.Account) (store.Trail, error) {
					a.ExternalID = "contested"
					return store.Trail{}, nil
				})
			}
			e := b.composeEndpoint(mine)
			e.Settings.ExternalID = "contested"
			errEndpoint := b.CreateEndpoint(b.ctx, e, store.Trail{})
			mu.Lock()
			defer mu.Unlock()
			for what, err := range map[string]error{"account": err, "endpoint": errEndpoint} {
				switch {
				case err == nil:
					won[what]++
				case !taken(err):
					b.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	all.Wait()
	b.equal("winners", won, map[string]int{"account": 1, "endpoint": 1})
	list, err := b.AllAccounts(b.ctx)
	b.ok(err)
	named := 0
	for _, a := range list {
		if a.ExternalID != "" {
			named++
		}
	}
	b.equal("accounts with the id", named, 1)
}
