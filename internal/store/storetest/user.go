package storetest

import (
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func (b *bundle) user(name string) account.User {
	u := account.User{ID: event.FormatID("usr_", b.keys.Next(), 1), Name: name, Role: account.UserMember, Password: "$hash", Created: time.UnixMilli(1700000000123)}
	b.ok(b.CreateUser(b.ctx, &u, store.Trail{Audit: b.entry(0, u.ID, account.UserCreated)}))
	return u
}

func (b *bundle) session(s account.Session) account.Session {
	s.Hash = account.HashKey(fmt.Sprint(b.keys.Next()))
	password := ""
	if s.User != "" {
		u, err := b.User(b.ctx, s.User)
		b.ok(err)
		password = u.Password
	}
	b.ok(b.CreateSession(b.ctx, &s, password, store.Trail{}))
	return s
}

func testUsers(b *bundle) {
	ada, bob := b.user("Ada"), b.user("bob")
	all, err := b.AllUsers(b.ctx)
	b.ok(err)
	b.equal("users", all, []account.User{ada, bob})
	again := ada
	again.ID, again.Name = "usr_other", "aDA"
	b.code(b.CreateUser(b.ctx, &again, store.Trail{}), fault.Invalid)
	_, err = b.UserNamed(b.ctx, "ada")
	b.code(err, fault.NotFound) // names are case-sensitive
	got, err := b.UserNamed(b.ctx, "Ada")
	b.ok(err)
	b.equal("by name", got, ada)

	s1, s2 := b.session(account.Session{User: ada.ID}), b.session(account.Session{User: ada.ID})
	other := b.session(account.Session{User: bob.ID})
	ada, err = b.EditUser(b.ctx, ada.ID, s1.Hash, func(u *account.User, others []account.User) (store.Trail, error) {
		b.equal("before", *u, ada)
		b.equal("the others", others, []account.User{bob})
		u.Role, u.Password, u.Disabled = account.UserAdmin, "$other", true
		return store.Trail{Audit: b.entry(0, ada.ID, account.UserUpdated)}, nil
	})
	b.ok(err)
	b.equal("role", ada.Role, account.UserAdmin)
	got, err = b.User(b.ctx, ada.ID)
	b.ok(err)
	b.equal("changed", got, ada)
	_, err = b.Session(b.ctx, s1.Hash)
	b.ok(err)
	_, err = b.Session(b.ctx, s2.Hash)
	b.code(err, fault.NotFound)
	_, err = b.Session(b.ctx, other.Hash)
	b.ok(err)
	_, err = b.EditUser(b.ctx, "usr_nobody", account.Hash{}, func(*account.User, []account.User) (store.Trail, error) { return store.Trail{}, nil })
	b.code(err, fault.NotFound)
	late := account.Session{Hash: account.HashKey("late"), User: ada.ID}
	b.code(b.CreateSession(b.ctx, &late, ada.Password, store.Trail{}), fault.NotFound) // disabled
	late.User = bob.ID
	b.code(b.CreateSession(b.ctx, &late, "$another", store.Trail{}), fault.NotFound)
	b.ok(b.CreateSession(b.ctx, &late, bob.Password, store.Trail{}))
	entries, _, err := b.ListAudit(b.ctx, account.AuditFilter{Object: ada.ID}, store.Page[string]{Limit: 10})
	b.ok(err)
	b.equal("entries", len(entries), 2)
}

func testSessions(b *bundle) {
	ada := b.user("Ada")
	at := func(s int64) time.Time { return time.UnixMilli(s * 1000) }
	portal := b.session(account.Session{Created: at(1), Expires: at(10), Portal: &account.Portal{ID: "prt_1", Space: live, ReadOnly: true,
		Origins: []string{"https://a.example"}, Name: "é", Colour: "#123456", Logo: "https://a.example/l.png"}})
	user := b.session(account.Session{User: ada.ID, Created: at(1), Expires: at(20)})
	for _, want := range []account.Session{portal, user} {
		got, err := b.Session(b.ctx, want.Hash)
		b.ok(err)
		if b.equal("portal", got.Portal != nil, want.Portal != nil); want.Portal != nil {
			b.equal("portal", *got.Portal, *want.Portal)
		}
		got.Portal, want.Portal = nil, nil // pointers would print as addresses
		b.equal("session", got, want)
	}
	ended := b.session(account.Session{User: ada.ID, Created: at(1), Expires: at(20)})
	b.ok(b.EndSession(b.ctx, ended.Hash, store.Trail{Audit: b.entry(0, ada.ID, account.UserSignedOut)}))
	b.ok(b.EndSession(b.ctx, ended.Hash, store.Trail{})) // it is already deleted
	_, err := b.Session(b.ctx, ended.Hash)
	b.code(err, fault.NotFound)
	n, err := b.PurgeSessions(b.ctx, at(15), 10)
	b.ok(err)
	b.equal("purged", n, 1)
	_, err = b.Session(b.ctx, portal.Hash)
	b.code(err, fault.NotFound)
	_, err = b.Session(b.ctx, user.Hash)
	b.ok(err)
}

func testStatistics(b *bundle) {
	at := time.Unix(1_700_000_000, 0).UTC().Truncate(time.Hour)
	one := delivery.Counts{Events: 1, Deliveries: 2, Succeeded: 3, Failed: 4, Exhausted: 5}
	for i := range one.Latency {
		one.Latency[i] = int64(i)
	}
	two := one
	two.Add(&one)
	row := func(space event.Space, endpoint int64, g store.Grain, start time.Time) store.Statistic {
		return store.Statistic{Space: space, Endpoint: endpoint, Grain: g, Start: start, Counts: one}
	}
	b.ok(b.AddStatistics(b.ctx, []store.Statistic{
		row(mine, 0, store.ByMinute, at), row(mine, 0, store.ByHour, at), row(mine, 7, store.ByHour, at),
		row(mine, 7, store.ByHour, at.Add(time.Hour)), row(mine, 8, store.ByHour, at), row(theirs, 7, store.ByHour, at),
	}))
	b.ok(b.AddStatistics(b.ctx, []store.Statistic{row(mine, 7, store.ByHour, at)}))
	b.ok(b.AddStatistics(b.ctx, nil))
	get := func(g store.Grain, from time.Time, endpoints ...int64) []store.Statistic {
		got, err := b.Statistics(b.ctx, store.StatisticFilter{Space: mine, Endpoints: endpoints, Grain: g, From: from})
		b.ok(err)
		return got
	}
	summed := row(mine, 7, store.ByHour, at)
	summed.Counts = two
	b.equal("summed", get(store.ByHour, at, 0, 7), []store.Statistic{row(mine, 0, store.ByHour, at), summed, row(mine, 7, store.ByHour, at.Add(time.Hour))})
	b.equal("from", len(get(store.ByHour, at.Add(time.Second), 0, 7, 8)), 1)
	b.equal("by minute", get(store.ByMinute, at, 0), []store.Statistic{row(mine, 0, store.ByMinute, at)})
	b.equal("of none", len(get(store.ByHour, at)), 0)

	n, err := b.PurgeStatistics(b.ctx, store.ByHour, at.Add(time.Hour), 2)
	b.ok(err)
	b.equal("purged", n, 2)
	n, err = b.PurgeStatistics(b.ctx, store.ByHour, at.Add(time.Hour), 100)
	b.ok(err)
	b.equal("the rest", n, 2)
	b.equal("kept", len(get(store.ByHour, at, 0, 7, 8))+len(get(store.ByMinute, at, 0)), 2)
}
