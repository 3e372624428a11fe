package storetest

import (
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testAccounts(b *bundle) {
	var all []account.Account
	for i := range 5 {
		a := account.Account{ID: fmt.Sprint("acct_", i), Name: fmt.Sprint("Account ", i), Created: time.UnixMilli(1700000000000)}
		b.ok(b.CreateAccount(b.ctx, &a, store.Trail{}))
		if a.No == 0 || i > 0 && a.No <= all[0].No {
			b.Fatalf("account %d has number %d", i, a.No)
		}
		all = append([]account.Account{a}, all...) // newest first
	}
	all[1].Name = "Renamed"
	b.ok(b.writeAccount(&all[1], store.Trail{}))
	for _, want := range all {
		got, err := b.Account(b.ctx, want.ID)
		b.ok(err)
		b.equal("account", got, want)
	}
	_, err := b.Account(b.ctx, "acct_9")
	b.code(err, fault.NotFound)
	b.code(b.writeAccount(&account.Account{No: 99}, store.Trail{}), fault.NotFound)
	list, err := b.AllAccounts(b.ctx)
	b.ok(err)
	b.equal("all", len(list), len(all))
	pages(b, "accounts", all, func(a account.Account) int64 { return a.No },
		func(p store.Page[int64]) ([]account.Account, bool, error) { return b.ListAccounts(b.ctx, p) })
}

func testKeys(b *bundle) {
	made := time.UnixMilli(1700000000000)
	newKey := func(id, prefix string, no int64) account.Key {
		k, ok := account.NewKey(id, account.NewSecret(prefix), "name of "+id, no, made)
		if !ok {
			b.Fatal("no key")
		}
		b.ok(b.CreateKey(b.ctx, &k, store.Trail{}))
		return k
	}
	ofOne := []account.Key{newKey("key_1", account.PrefixLive, 1), newKey("key_2", account.PrefixTest, 1), newKey("key_4", account.PrefixTest, 1), newKey("key_5", account.PrefixLive, 1)}
	ofTwo := newKey("key_3", account.PrefixLive, 2)
	operator := newKey("key_6", account.PrefixAdmin, 0)

	same := ofTwo // another account may not have it either
	same.ID, same.Account = "key_7", 1
	b.code(b.CreateKey(b.ctx, &same, store.Trail{Receipt: receipt(mine, "k", made)}), fault.Invalid)
	_, err := b.Receipt(b.ctx, mine, "k")
	b.code(err, fault.NotFound)

	revoked := time.UnixMilli(1800000000000)
	b.ok(b.RevokeKey(b.ctx, "key_2", revoked, store.Trail{}))
	b.ok(b.RevokeKey(b.ctx, "key_2", revoked.Add(time.Hour), store.Trail{})) // the first time counts
	b.code(b.RevokeKey(b.ctx, "key_9", revoked, store.Trail{}), fault.NotFound)
	ofOne[1].Revoked = revoked
	again := ofOne[1] // a revoked secret stays in use
	again.ID = "key_8"
	b.code(b.CreateKey(b.ctx, &again, store.Trail{}), fault.Invalid)

	used := time.UnixMilli(1900000000000)
	b.ok(b.UseKeys(b.ctx, map[string]time.Time{"key_1": used, "key_99": used}))
	b.ok(b.UseKeys(b.ctx, map[string]time.Time{"key_1": used.Add(-time.Hour)})) // the latest counts
	ofOne[0].Used = used

	for _, tt := range []struct {
		account int64
		want    []account.Key
	}{{1, []account.Key{ofOne[3], ofOne[2], ofOne[1], ofOne[0]}}, {2, []account.Key{ofTwo}}, {0, []account.Key{operator}}, {3, nil}} {
		pages(b, fmt.Sprint("keys of ", tt.account), tt.want, func(k account.Key) string { return k.ID },
			func(p store.Page[string]) ([]account.Key, bool, error) {
				return b.ListKeys(b.ctx, store.KeyFilter{Account: tt.account}, p)
			})
	}
	all, err := b.AllKeys(b.ctx)
	b.ok(err)
	got := map[string]account.Key{}
	for _, k := range all {
		got[k.ID] = k
	}
	want := map[string]account.Key{ofTwo.ID: ofTwo, operator.ID: operator}
	for _, k := range ofOne {
		want[k.ID] = k
	}
	b.equal("all keys", got, want)
	b.equal("as many", len(all), len(want))
}
