package storetest

import (
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

func testSandbox(b *bundle) {
	var all, of1 []store.SandboxObject // newest first
	for i := range 6 {
		o := store.SandboxObject{Space: mine, Kind: "payment", ID: fmt.Sprint("pay_", i), Parent: fmt.Sprint(i % 2), Body: []byte("{\"x\":\"\x00é\"}"), Updated: now()}
		same, kin := o, o
		same.Space = theirs
		kin.Kind, kin.Body = "refund", []byte("{}")
		b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{o, kin}, store.Trail{Receipt: receipt(mine, o.ID, now())}))
		b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{same}, store.Trail{}))
		all = append([]store.SandboxObject{o}, all...)
		if i%2 == 1 {
			of1 = append([]store.SandboxObject{o}, of1...)
		}
		_, err := b.Receipt(b.ctx, mine, o.ID)
		b.ok(err)
	}
	list := func(space event.Space, parent string) func(store.Page[string]) ([]store.SandboxObject, bool, error) {
		return func(p store.Page[string]) ([]store.SandboxObject, bool, error) {
			return b.ListSandbox(b.ctx, space, "payment", parent, p)
		}
	}
	cursor := func(o store.SandboxObject) string { return o.ID }
	pages(b, "payments", all, cursor, list(mine, ""))
	pages(b, "of one parent", of1, cursor, list(mine, "1"))
	pages(b, "of nobody", nil, cursor, list(live, ""))

	changed := all[0]
	changed.Body, changed.Parent = []byte("[]"), "moved"
	b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{changed}, store.Trail{}))
	got, err := b.SandboxObject(b.ctx, mine, "payment", changed.ID)
	b.ok(err)
	b.equal("changed", got, changed)
	other, err := b.SandboxObject(b.ctx, theirs, "payment", changed.ID)
	b.ok(err)
	b.equal("another account's of the same id", string(other.Body), string(all[0].Body))
	_, err = b.SandboxObject(b.ctx, live, "payment", changed.ID)
	b.code(err, fault.NotFound)
	_, err = b.SandboxObject(b.ctx, mine, "order", changed.ID)
	b.code(err, fault.NotFound)
	only := store.SandboxObject{Space: theirs, Kind: "receipt", ID: "r", Body: []byte("1")}
	b.ok(b.PutSandbox(b.ctx, []store.SandboxObject{only}, store.Trail{}))
	got, err = b.SandboxObject(b.ctx, store.AnySpace, "receipt", "r")
	b.ok(err)
	b.equal("of whatever space", got, only)
}
