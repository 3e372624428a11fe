package storetest

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// show describes the stored parts of a definition.
func show(d event.Definition) string {
	return fmt.Sprint(d.No, d.Space, d.Name, d.Description, d.Validation, d.Deprecated, fmt.Sprintf("%s", d.Samples), string(d.Schema), d.Version, d.Created, d.Updated)
}

func testTypes(b *bundle) {
	at := now()
	d := event.Definition{Space: mine, Name: "invoice.paid", Description: "é\x00", Validation: event.ValidateWarn, Deprecated: true,
		Samples: []json.RawMessage{[]byte(`{"object":{}}`)}, Schema: []byte(`{"type":"object"}`), Version: 1, Created: at, Updated: at}
	b.ok(b.CreateType(b.ctx, &d, store.Trail{Receipt: receipt(mine, "type", at)}))
	_, err := b.Receipt(b.ctx, mine, "type")
	b.ok(err)
	again := d
	b.code(b.CreateType(b.ctx, &again, store.Trail{}), fault.Invalid)
	other := event.Definition{Space: mine, Name: "invoice.sent", Validation: event.ValidateOff, Created: at, Updated: at}
	b.ok(b.CreateType(b.ctx, &other, store.Trail{}))
	same := d
	same.Space = live
	b.ok(b.CreateType(b.ctx, &same, store.Trail{}))

	got, err := b.Type(b.ctx, mine, d.Name)
	b.ok(err)
	b.equal("created", show(got), show(d))
	_, err = b.Type(b.ctx, theirs, d.Name)
	b.code(err, fault.NotFound)
	all, err := b.ListTypes(b.ctx, mine)
	b.ok(err)
	if len(all) != 2 || all[0].Name != other.Name || all[1].Name != d.Name {
		b.Errorf("listed %v", all)
	}

	d.Description, d.Deprecated, d.Validation, d.Samples, d.Schema, d.Version = "x", false, event.ValidateReject, nil, []byte(`{}`), 2
	b.ok(b.writeType(&d, store.Trail{}))
	b.ok(b.writeType(&d, store.Trail{})) // without a new version
	got, err = b.Type(b.ctx, mine, d.Name)
	b.ok(err)
	b.equal("updated", show(got), show(d))
	versions, err := b.TypeVersions(b.ctx, d.No)
	b.ok(err)
	if len(versions) != 2 || versions[0].Number != 2 || string(versions[0].Schema) != `{}` || string(versions[1].Schema) != `{"type":"object"}` || !versions[1].Created.Equal(at) {
		b.Errorf("versions %v", versions)
	}

	if err := b.DeleteType(b.ctx, d.No, d.Revision-1, now(), store.Trail{}); !errors.Is(err, store.ErrRaced) {
		b.Errorf("a definition that was changed meanwhile is deleted: %v", err)
	}
	b.ok(b.DeleteType(b.ctx, d.No, d.Revision, now(), store.Trail{}))
	if err := b.DeleteType(b.ctx, d.No, d.Revision, now(), store.Trail{}); !errors.Is(err, store.ErrRaced) {
		b.Errorf("deleted twice: %v", err)
	}
	b.code(b.writeType(&d, store.Trail{}), fault.NotFound)
	_, err = b.Type(b.ctx, mine, d.Name)
	b.code(err, fault.NotFound)
	everything, err := b.AllTypes(b.ctx)
	b.ok(err)
	if len(everything) != 2 || everything[0].No != other.No || everything[1].No != same.No {
		b.Errorf("all are %v", everything)
	}
	d.Version = 1
	b.ok(b.CreateType(b.ctx, &d, store.Trail{})) // the name is free again
	versions, err = b.TypeVersions(b.ctx, d.No)
	b.ok(err)
	b.equal("versions of the new one", len(versions), 1)
}
