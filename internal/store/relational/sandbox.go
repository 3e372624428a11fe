package relational

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// PutSandbox implements [store.Sandbox].
func (s *Store) PutSandbox(ctx context.Context, objects []store.SandboxObject, trail store.Trail) error {
	return s.write(ctx, "put sandbox objects", func(t *Tx) error {
		for i := range objects {
			o := &objects[i]
			if o.Was != nil {
				n, err := t.changed(`UPDATE sandbox_objects SET body = ?, updated = ? WHERE space = ? AND kind = ? AND id = ? AND body = ?`,
					nonNil(o.Body), Millis(o.Updated), int64(o.Space), o.Kind, o.ID, o.Was)
				if err != nil {
					return err
				}
				if n == 0 {
					return store.ErrRaced
				}
				continue
			}
			if err := t.exec(`INSERT INTO sandbox_objects (space, kind, id, parent, body, updated) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (space, kind, id) DO UPDATE SET parent = excluded.parent, body = excluded.body, updated = excluded.updated`,
				int64(o.Space), o.Kind, o.ID, o.Parent, nonNil(o.Body), Millis(o.Updated)); err != nil {
				return err
			}
		}
		return t.leave(trail)
	})
}

const sandboxColumns = `space, kind, id, parent, body, updated`

func scanSandbox(row scanner) (o store.SandboxObject, err error) {
	var updated int64
	err = row.Scan(&o.Space, &o.Kind, &o.ID, &o.Parent, &o.Body, &updated)
	o.Updated = instant(updated)
	return o, err
}

// SandboxObject implements [store.Sandbox].
func (s *Store) SandboxObject(ctx context.Context, space event.Space, kind, id string) (store.SandboxObject, error) {
	var n narrowing
	n.and("kind = ? AND id = ?", kind, id)
	if space != store.AnySpace {
		n.and("space = ?", int64(space))
	}
	o, err := scanSandbox(s.queryRow(ctx, `SELECT `+sandboxColumns+` FROM sandbox_objects`+n.String(), n.args...))
	if isNone(err) {
		return o, fault.Missing(kind, id)
	}
	return o, s.Fault("read sandbox object", err)
}

// ListSandbox implements [store.Sandbox].
func (s *Store) ListSandbox(ctx context.Context, space event.Space, kind, parent string, p store.Page[string]) ([]store.SandboxObject, bool, error) {
	var n narrowing
	n.and("space = ? AND kind = ?", int64(space), kind)
	if parent != "" {
		n.and("parent = ?", parent)
	}
	return page(ctx, s, "list sandbox objects", scanSandbox, `SELECT `+sandboxColumns+` FROM sandbox_objects`, &n, "id", p)
}

// PurgeSandbox implements [store.Upkeep].
func (s *Store) PurgeSandbox(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge sandbox", `DELETE FROM sandbox_objects WHERE (space, kind, id) IN (
		SELECT space, kind, id FROM sandbox_objects WHERE updated < ? ORDER BY updated LIMIT ?)`, Millis(before), limit)
}
