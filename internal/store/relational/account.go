package relational

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// CreateAccount implements [store.Accounts].
func (s *Store) CreateAccount(ctx context.Context, a *account.Account, trail store.Trail) error {
	return s.write(ctx, "create account", func(t *Tx) (err error) {
		a.No, a.Revision, err = t.create(`INSERT INTO accounts (id, name, created, rate, suspended, limits, erase_at, erased, search_keys, external_id, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			a.ID, Raw(a.Name), Millis(a.Created), orNull(a.RateLimit), Millis(a.SuspendedAt), a.Limits.String(), Millis(a.EraseAt), Millis(a.Erased), textsOrNull(a.Searchable), a.ExternalID, pairsOrNull(a.Metadata))
		if err != nil {
			return err
		}
		if err := t.rename(accountIDs, a.No, "", a.ExternalID); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// EditAccount implements [store.Accounts].
func (s *Store) EditAccount(ctx context.Context, id string, edit func(*account.Account) (store.Trail, error)) (a account.Account, err error) {
	err = s.edit(ctx, func() error {
		if a, err = s.Account(ctx, id); err != nil {
			return err
		}
		no, was, erased, name := a.No, a.Revision, a.Erased, a.ExternalID
		trail, err := edit(&a)
		if err != nil {
			return err
		}
		return s.write(ctx, "edit account", func(t *Tx) error {
			revision, found, err := t.revise(`UPDATE accounts SET version = version + 1, name = ?, rate = ?, suspended = ?, limits = ?, erase_at = ?, erased = ?, search_keys = ?, external_id = ?, metadata = ? WHERE no = ? AND version = ?`,
				Raw(a.Name), orNull(a.RateLimit), Millis(a.SuspendedAt), a.Limits.String(), Millis(a.EraseAt), Millis(a.Erased), textsOrNull(a.Searchable), a.ExternalID, pairsOrNull(a.Metadata), no, was)
			if err != nil {
				return err
			}
			if !found {
				return store.ErrRaced
			}
			a.Revision = revision
			if err := t.rename(accountIDs, no, name, a.ExternalID); err != nil {
				return err
			}
			if a.Erased != erased {
				if err := t.exec(`INSERT INTO erasures (event, space) VALUES (0, ?), (0, ?)`, int64(event.SpaceOf(no, false)), int64(event.SpaceOf(no, true))); err != nil {
					return err
				}
			}
			if a.Suspended() {
				if err := t.exec(`UPDATE recoveries SET state = 'canceled', finished = ? WHERE state = 'running' AND space IN (?, ?)`,
					Millis(a.SuspendedAt), int64(event.SpaceOf(no, false)), int64(event.SpaceOf(no, true))); err != nil {
					return err
				}
			}
			return t.leave(trail)
		})
	})
	return a, err
}

// orNull converts a nil pointer to NULL.
func orNull(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

// textsOrNull converts nil to NULL, and other texts to a JSON array.
func textsOrNull(all []string) any {
	if all == nil {
		return nil
	}
	list, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts can be encoded
	}
	return string(list)
}

// pairsOrNull makes an empty object NULL, and another one JSON.
func pairsOrNull(pairs map[string]string) any {
	if len(pairs) == 0 {
		return nil
	}
	object, err := json.Marshal(pairs)
	if err != nil {
		panic(err) // texts can be written
	}
	return object
}

const accountColumns = `no, id, name, created, rate, suspended, limits, version, erase_at, erased, search_keys, external_id, metadata`

func scanAccount(row scanner) (a account.Account, err error) {
	var created, suspended, eraseAt, erased int64
	var limits string
	var searchable sql.NullString
	var metadata []byte
	if err = row.Scan(&a.No, &a.ID, &a.Name, &created, &a.RateLimit, &suspended, &limits, &a.Revision, &eraseAt, &erased, &searchable, &a.ExternalID, &metadata); err != nil {
		return a, err
	}
	if a.Limits, err = quota.Parse(limits); err == nil && searchable.Valid {
		err = json.Unmarshal([]byte(searchable.String), &a.Searchable)
	}
	if err == nil && len(metadata) > 0 {
		err = json.Unmarshal(metadata, &a.Metadata)
	}
	a.Created, a.SuspendedAt, a.EraseAt, a.Erased = instant(created), instant(suspended), instant(eraseAt), instant(erased)
	return a, err
}

// Account implements [store.Accounts].
func (s *Store) Account(ctx context.Context, id string) (account.Account, error) {
	a, err := scanAccount(s.queryRow(ctx, `SELECT `+accountColumns+` FROM accounts WHERE id = ?`, id))
	if isNone(err) {
		a, err = scanAccount(s.queryRow(ctx, `SELECT `+accountColumns+` FROM accounts WHERE no = `+external, accountIDs, id))
	}
	if isNone(err) {
		return a, fault.Missing("account", id)
	}
	return a, s.Fault("read account", err)
}

// AllAccounts implements [store.Accounts].
func (s *Store) AllAccounts(ctx context.Context) ([]account.Account, error) {
	return list(ctx, s, "read accounts", scanAccount, `SELECT `+accountColumns+` FROM accounts ORDER BY no`)
}

// ListAccounts implements [store.Accounts].
func (s *Store) ListAccounts(ctx context.Context, p store.Page[int64]) ([]account.Account, bool, error) {
	var n narrowing
	return page(ctx, s, "list accounts", scanAccount, `SELECT `+accountColumns+` FROM accounts`, &n, "no", p)
}

// CreateKey implements [store.Accounts].
func (s *Store) CreateKey(ctx context.Context, k *account.Key, trail store.Trail) error {
	return s.write(ctx, "create key", func(t *Tx) error {
		if err := t.claim(trail.Room); err != nil {
			return err
		}
		n, err := t.changed(`INSERT INTO api_keys (id, account, live, role, name, hint, hash, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (hash) DO NOTHING`, k.ID, k.Account, k.Live, string(k.Role), Raw(k.Name), Raw(k.Hint), k.Hash[:], Millis(k.Created))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Param("secret", "key_in_use", "This API key already exists.")
		}
		return t.leave(trail)
	})
}

const keyColumns = `id, account, live, role, name, hint, hash, created, revoked, used`

func scanKey(row scanner) (k account.Key, err error) {
	var created, revoked, used int64
	var hash []byte
	err = row.Scan(&k.ID, &k.Account, &k.Live, &k.Role, &k.Name, &k.Hint, &hash, &created, &revoked, &used)
	copy(k.Hash[:], hash)
	k.Created, k.Revoked, k.Used = instant(created), instant(revoked), instant(used)
	return k, err
}

// AllKeys implements [store.Accounts].
func (s *Store) AllKeys(ctx context.Context) ([]account.Key, error) {
	return list(ctx, s, "read keys", scanKey, `SELECT `+keyColumns+` FROM api_keys ORDER BY id`)
}

// ListKeys implements [store.Accounts].
func (s *Store) ListKeys(ctx context.Context, f store.KeyFilter, p store.Page[string]) ([]account.Key, bool, error) {
	query, index := `SELECT `+keyColumns+` FROM api_keys`, prefix{index: "api_keys_by_account", columns: []string{"account"}, values: []any{f.Account}}
	if f.TestOnly {
		index = prefix{index: "api_keys_by_mode", columns: []string{"account", "live"}, values: []any{f.Account, 0}}
	}
	return pageOf(ctx, s, "list keys", scanKey, query, index, "id", p)
}

// RevokeKey implements [store.Accounts].
func (s *Store) RevokeKey(ctx context.Context, id string, now time.Time, trail store.Trail) error {
	return s.write(ctx, "revoke key", func(t *Tx) error {
		operators, err := t.rows(1, `SELECT id FROM api_keys WHERE account = (SELECT account FROM api_keys WHERE id = ? AND role = ?) AND role = ? AND revoked = 0 ORDER BY id`+t.Dialect.Lock(),
			id, string(account.Operator), string(account.Operator)) // none if it is not an operator key
		if err != nil {
			return err
		}
		if len(operators) == 1 && Text(operators[0][0]) == id {
			return fault.Param("id", "operator_key_last", "This is the only operator key. Create another one first.")
		}
		n, err := t.changed(`UPDATE api_keys SET revoked = CASE revoked WHEN 0 THEN ? ELSE revoked END WHERE id = ?`, Millis(now), id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing("API key", id)
		}
		if err := t.endChildren(id, now); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// UseKeys implements [store.Accounts].
func (s *Store) UseKeys(ctx context.Context, used map[string]time.Time) error {
	return s.write(ctx, "remember the use of keys", func(t *Tx) error {
		for _, id := range slices.Sorted(maps.Keys(used)) { // in the same order on all nodes
			at := used[id]
			if err := t.exec(`UPDATE api_keys SET used = ? WHERE id = ? AND used < ?`, Millis(at), id, Millis(at)); err != nil {
				return err
			}
		}
		return nil
	})
}

// list reads all rows of a query.
func list[T any](ctx context.Context, s *Store, op string, scan func(scanner) (T, error), query string, args ...any) (items []T, err error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, s.Fault(op, err)
	}
	defer s.closing(rows, &err)
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, s.Fault(op, err)
		}
		items = append(items, item)
	}
	return items, s.Fault(op, rows.Err())
}

// page reads one page of a query whose rows are ordered by one column.
func page[T, C any](ctx context.Context, s *Store, op string, scan func(scanner) (T, error),
	query string, n *narrowing, column string, p store.Page[C],
) ([]T, bool, error) {
	order := column + " DESC"
	switch {
	case p.After != nil:
		n.and(column+" < ?", *p.After)
	case p.Before != nil:
		n.and(column+" > ?", *p.Before)
		order = column
	}
	items, err := list(ctx, s, op, scan, query+n.String()+" ORDER BY "+order+" LIMIT ?", append(n.args, p.Limit+1)...)
	if err != nil {
		return nil, false, err
	}
	items, more := cut(items, p.Limit, p.Before != nil)
	return items, more, nil
}

// prefix contains the first columns of an index, and their values in a list.
type prefix struct {
	index   string
	columns []string
	values  []any
	partial string // condition of the index
}

// pageOf reads one page of a query along an index: the rows with a prefix, ordered by the next
// column.
func pageOf[T any, C string | int64](ctx context.Context, s *Store, op string, scan func(scanner) (T, error),
	query string, x prefix, column string, p store.Page[C],
) ([]T, bool, error) {
	var least, most any = int64(math.MinInt64), int64(math.MaxInt64)
	if _, ok := any(*new(C)).(string); ok {
		least, most = "", "\x7f" // identifiers are ASCII
	}
	columns := append(slices.Clone(x.columns), column)
	order := strings.Join(columns, " DESC, ") + " DESC"
	switch {
	case p.After != nil:
		most = *p.After
	case p.Before != nil:
		least, order = *p.Before, strings.Join(columns, ", ")
	}
	within, args, _, _ := s.Dialect.Seek(Range{Columns: columns, Prefix: slices.Repeat([]string{"?"}, len(x.values)), Given: x.values, Low: []any{least}, High: []any{most}, Down: p.Before == nil})
	items, err := list(ctx, s, op, scan, query+" INDEXED BY "+x.index+" WHERE "+within+x.partial+" ORDER BY "+order+" LIMIT ?", append(args, p.Limit+1)...)
	if err != nil {
		return nil, false, err
	}
	items, more := cut(items, p.Limit, p.Before != nil)
	return items, more, nil
}

// AccountsSince returns accounts that changed after a version, if the database has versions.
func (s *Store) AccountsSince(ctx context.Context, version int64) ([]account.Account, error) {
	return list(ctx, s, "read changed accounts", scanAccount, `SELECT `+accountColumns+` FROM accounts WHERE version > ? ORDER BY no`, version)
}

// KeysSince returns keys that changed after a version, if the database has versions.
func (s *Store) KeysSince(ctx context.Context, version int64) ([]account.Key, error) {
	return list(ctx, s, "read changed keys", scanKey, `SELECT `+keyColumns+` FROM api_keys WHERE version > ? ORDER BY id`, version)
}
