package relational

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// leave writes the trail of a change.
func (t *Tx) leave(trail store.Trail) error {
	if err := t.audit(trail.Audit); err != nil {
		return err
	}
	rows, err := t.append(trail.Announce)
	if err == nil {
		err = FlushAll(rows...)
	}
	if err != nil {
		return err
	}
	for _, a := range trail.Announce {
		if a.Stale {
			return store.ErrStale
		}
		if a.Refused() {
			return errors.New("an announced event has a name that is taken")
		}
	}
	return t.putReceipt(trail.Receipt)
}

func (t *Tx) audit(e *account.Entry) error {
	if e == nil {
		return nil
	}
	detail, err := json.Marshal(e.Detail)
	if err != nil {
		return fmt.Errorf("encode audit entry %s: %w", e.ID, err)
	}
	node, seq, hash, err := t.chainEntry(e, detail)
	if err != nil {
		return fmt.Errorf("chain audit entry %s: %w", e.ID, err)
	}
	return t.exec(`INSERT INTO audit (id, space, time, actor, action, object, request, remote, detail, chain, seq, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID, int64(e.Space), Millis(e.Time), e.Actor, string(e.Action), e.Object, e.Request, e.Remote, string(detail), node, seq, hash)
}

// Audit implements [store.Accounts].
func (s *Store) Audit(ctx context.Context, e *account.Entry, r *store.Receipt) error {
	return s.write(ctx, "write audit entry", func(t *Tx) error { return t.leave(store.Trail{Audit: e, Receipt: r}) })
}

// ListAudit implements [store.Accounts].
func (s *Store) ListAudit(ctx context.Context, f account.AuditFilter, p store.Page[string]) ([]account.Entry, bool, error) {
	index := prefix{index: "audit_by_space", columns: []string{"space"}, values: []any{int64(f.Space)}}
	switch action := string(f.Action); {
	case f.Object != "" && action != "":
		index = prefix{index: "audit_by_object_and_action", columns: []string{"space", "object", "action"}, values: []any{int64(f.Space), f.Object, action}}
	case f.Object != "":
		index = prefix{index: "audit_by_object", columns: []string{"space", "object"}, values: []any{int64(f.Space), f.Object}}
	case action != "":
		index = prefix{index: "audit_by_action", columns: []string{"space", "action"}, values: []any{int64(f.Space), action}}
	}
	return pageOf(ctx, s, "list audit log", func(row scanner) (e account.Entry, err error) {
		var at int64
		var detail []byte
		if err := row.Scan(&e.ID, &e.Space, &at, &e.Actor, &e.Action, &e.Object, &e.Request, &e.Remote, &detail); err != nil {
			return e, err
		}
		e.Time = instant(at)
		return e, json.Unmarshal(detail, &e.Detail)
	}, `SELECT id, space, time, actor, action, object, request, remote, detail FROM audit`, index, "id", p)
}
