package storetest

import (
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func (b *bundle) entry(space event.Space, object string, action account.Action) *account.Entry {
	return &account.Entry{ID: event.FormatID("aud_", b.keys.Next(), 1), Space: space, Time: time.UnixMilli(1700000000123), Actor: "key_1", Action: action,
		Object: object, Request: "req_1", Remote: "192.0.2.1:5", Detail: map[string]string{"k": "v\x00é"}}
}

func testAudit(b *bundle) {
	var all, of7, reveals []account.Entry // newest first
	for i := range 6 {
		action := account.SecretRevealed
		if i%2 == 1 {
			action = account.SecretRotated
		}
		e := b.entry(mine, fmt.Sprint("we_", 7+i/3), action)
		b.ok(b.Audit(b.ctx, e, nil))
		b.ok(b.Audit(b.ctx, b.entry(theirs, "we_7", action), nil))
		all = append([]account.Entry{*e}, all...)
		if i/3 == 0 {
			of7 = append([]account.Entry{*e}, of7...)
		}
		if action == account.SecretRevealed {
			reveals = append([]account.Entry{*e}, reveals...)
		}
	}
	list := func(f account.AuditFilter) func(store.Page[string]) ([]account.Entry, bool, error) {
		return func(p store.Page[string]) ([]account.Entry, bool, error) { return b.ListAudit(b.ctx, f, p) }
	}
	cursor := func(e account.Entry) string { return e.ID }
	pages(b, "audit log", all, cursor, list(account.AuditFilter{Space: mine}))
	pages(b, "of one object", of7, cursor, list(account.AuditFilter{Space: mine, Object: "we_7"}))
	pages(b, "of one action", reveals, cursor, list(account.AuditFilter{Space: mine, Action: account.SecretRevealed}))
	pages(b, "of nobody", nil, cursor, list(account.AuditFilter{Space: live}))
	none := b.entry(mine, "we_9", account.SecretRevoked)
	none.Detail = nil
	b.ok(b.Audit(b.ctx, none, receipt(mine, "k", now())))
	items, _, err := b.ListAudit(b.ctx, account.AuditFilter{Space: mine, Object: "we_9"}, store.Page[string]{Limit: 1})
	b.ok(err)
	b.equal("without detail", items, []account.Entry{*none})
	_, err = b.Receipt(b.ctx, mine, "k")
	b.ok(err)
}

// The trail of a change is written with it, and not without it.
func testTrail(b *bundle) {
	at := now()
	e := b.composeEndpoint(mine)
	gone := b.endpoint(mine)
	a := account.Account{ID: "acct_1", Created: at}
	k, _ := account.NewKey("key_1", account.NewSecret(account.PrefixTest), "k", 1, at)
	d := b.append(mine, "a.b", 7).Deliveries[0]
	canceled := b.append(mine, "a.b", 7).Deliveries[0]
	r := &job.Job{ID: "job_1", Space: mine, Endpoint: 7, State: job.Running, Created: at}
	for _, tt := range []struct {
		name string
		call func(store.Trail) error
	}{
		{"CreateAccount", func(t store.Trail) error { return b.CreateAccount(b.ctx, &a, t) }},
		{"UpdateAccount", func(t store.Trail) error { return b.writeAccount(&a, t) }},
		{"CreateKey", func(t store.Trail) error { return b.CreateKey(b.ctx, &k, t) }},
		{"RevokeKey", func(t store.Trail) error { return b.RevokeKey(b.ctx, k.ID, at, t) }},
		{"CreateEndpoint", func(t store.Trail) error { return b.CreateEndpoint(b.ctx, e, t) }},
		{"UpdateEndpoint", func(t store.Trail) error { return b.writeEndpoint(e, t) }},
		{"DeleteEndpoint", func(t store.Trail) error { return b.deleteEndpoint(gone.No, at, t) }},
		{"Requeue", func(t store.Trail) error { return b.Requeue(b.ctx, []delivery.Delivery{d}, t) }},
		{"CancelDelivery", func(t store.Trail) error { return b.cancel(canceled.ID, at, t) }},
		{"CreateJob", func(t store.Trail) error { return b.CreateJob(b.ctx, r, unopposed, t) }},
		{"AdvanceJob", func(t store.Trail) error { return b.AdvanceJob(b.ctx, r, r, nil, t) }},
	} {
		trail := store.Trail{Receipt: receipt(mine, tt.name, at), Audit: b.entry(mine, tt.name, account.EndpointUpdated), Announce: []*store.Append{b.compose(mine, "a.b", 9), b.compose(theirs, "a.b", 9)}}
		b.ok(tt.call(trail))
		got, err := b.Receipt(b.ctx, mine, tt.name)
		b.ok(err)
		b.equal(tt.name+": receipt", got, *trail.Receipt)
		entries, _, err := b.ListAudit(b.ctx, account.AuditFilter{Space: mine, Object: tt.name}, store.Page[string]{Limit: 2})
		b.ok(err)
		b.equal(tt.name+": audit", entries, []account.Entry{*trail.Audit})
		for _, a := range trail.Announce {
			d, err := b.Delivery(b.ctx, a.Event.Space, a.Deliveries[0].ID)
			b.ok(err)
			b.equal(tt.name+": announced", d.Delivery, a.Deliveries[0])
		}
	}
	// Each fails, because of the change or because of the announcement's name.
	trail := store.Trail{Receipt: receipt(mine, "none", at), Audit: b.entry(mine, "none", account.EndpointUpdated), Announce: []*store.Append{b.compose(mine, "a.b", 9), b.compose(theirs, "a.b", 9)}}
	missing := *e
	missing.ID = "we_missing"
	b.code(b.writeEndpoint(&missing, trail), fault.NotFound)
	b.code(b.deleteEndpoint(99, at, trail), fault.NotFound)
	b.code(b.RevokeKey(b.ctx, "key_9", at, trail), fault.NotFound)
	b.code(b.CreateKey(b.ctx, &k, trail), fault.Invalid)
	b.absent(trail.Announce[0])
	taken := trail
	taken.Announce = []*store.Append{b.composeCustom(mine, "evt_1234567890abcdef", 9)}
	b.commit(b.composeCustom(mine, "evt_1234567890abcdef"))
	renamed := *e
	renamed.Description = "renamed"
	if err := b.writeEndpoint(&renamed, taken); err == nil {
		b.Error("announced under a name that is taken")
	}
	got, err := b.Endpoint(b.ctx, mine, e.ID)
	b.ok(err)
	b.equal("description", got.Description, e.Description)
	_, err = b.Receipt(b.ctx, mine, "none")
	b.code(err, fault.NotFound)
	entries, _, err := b.ListAudit(b.ctx, account.AuditFilter{Space: mine, Object: "none"}, store.Page[string]{Limit: 1})
	b.ok(err)
	b.equal("entries of what failed", len(entries), 0)
}

func testPrivateReceipt(b *bundle) {
	want := receipt(mine, "k", now())
	want.Private = true
	b.ok(b.Audit(b.ctx, b.entry(mine, "we_1", account.SecretRevealed), want))
	got, err := b.Receipt(b.ctx, mine, "k")
	b.ok(err)
	b.equal("receipt", got, *want)
	again := b.compose(mine, "a.b", 7)
	again.Receipt = receipt(mine, "k", now())
	b.commit(again)
	if again.Replay == nil {
		b.Fatal("the key was forgotten")
	}
	b.equal("replay", *again.Replay, *want)
}
