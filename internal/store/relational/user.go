package relational

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// CreateUser implements [store.Users].
func (s *Store) CreateUser(ctx context.Context, u *account.User, trail store.Trail) error {
	return s.write(ctx, "create user", func(t *Tx) error {
		n, err := t.changed(`INSERT INTO users (id, name, role, password, disabled, created) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			u.ID, u.Name, string(u.Role), u.Password, u.Disabled, Millis(u.Created))
		u.Revision = 1
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Param("name", "user_exists", "A user with this name already exists.")
		}
		return t.leave(trail)
	})
}

// EditUser implements [store.Users]. All users are compared with the ones that were read,
// because an edit may depend on the others.
func (s *Store) EditUser(ctx context.Context, id string, keep account.Hash, edit func(u *account.User, others []account.User) (store.Trail, error)) (u account.User, err error) {
	err = s.edit(ctx, func() error {
		all, err := s.AllUsers(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(u account.User) bool { return u.ID == id })
		if i < 0 {
			return fault.Missing("user", id)
		}
		u = all[i]
		trail, err := edit(&u, slices.Concat(all[:i], all[i+1:]))
		if err != nil {
			return err
		}
		return s.write(ctx, "edit user", func(t *Tx) error {
			rows, err := t.rows(2, `SELECT id, version FROM users ORDER BY id`+t.Dialect.Lock())
			if err != nil {
				return err
			}
			if !slices.EqualFunc(rows, all, func(row []any, u account.User) bool { return Text(row[0]) == u.ID && row[1].(int64) == u.Revision }) {
				return store.ErrRaced
			}
			if u.Revision, _, err = t.revise(`UPDATE users SET version = version + 1, role = ?, password = ?, disabled = ? WHERE id = ?`,
				string(u.Role), u.Password, u.Disabled, u.ID); err != nil {
				return err
			}
			if u.Disabled {
				if err := t.endChildren(u.ID, trail.Time()); err != nil {
					return err
				}
			}
			if err := t.exec(`DELETE FROM sessions WHERE user_id != '' AND user_id = ? AND hash != ?`, u.ID, keep[:]); err != nil {
				return err
			}
			return t.leave(trail)
		})
	})
	return u, err
}

// UnlockUser implements [store.Users].
func (s *Store) UnlockUser(ctx context.Context, id string, now time.Time, trail store.Trail) error {
	return s.write(ctx, "unlock user", func(t *Tx) error {
		n, err := t.changed(`UPDATE users SET version = version + 1, unlocked = ? WHERE id = ?`, Millis(now), id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing("user", id)
		}
		return t.leave(trail)
	})
}

const userColumns = `id, name, role, password, disabled, created, unlocked, version`

func scanUser(row scanner) (u account.User, err error) {
	var created, unlocked int64
	err = row.Scan(&u.ID, &u.Name, &u.Role, &u.Password, &u.Disabled, &created, &unlocked, &u.Revision)
	u.Created, u.Unlocked = instant(created), instant(unlocked)
	return u, err
}

// User implements [store.Users].
func (s *Store) User(ctx context.Context, id string) (account.User, error) {
	return s.user(ctx, `SELECT `+userColumns+` FROM users WHERE id = ?`, id)
}

// UserNamed implements [store.Users].
func (s *Store) UserNamed(ctx context.Context, name string) (account.User, error) {
	return s.user(ctx, `SELECT `+userColumns+` FROM users WHERE name = ?`, name)
}

func (s *Store) user(ctx context.Context, query, key string) (account.User, error) {
	u, err := scanUser(s.queryRow(ctx, query, key))
	if isNone(err) {
		return u, fault.Missing("user", key)
	}
	return u, s.Fault("read user", err)
}

// AllUsers implements [store.Users].
func (s *Store) AllUsers(ctx context.Context) ([]account.User, error) {
	return list(ctx, s, "read users", scanUser, `SELECT `+userColumns+` FROM users ORDER BY id`)
}

// CreateSession implements [store.Users].
func (s *Store) CreateSession(ctx context.Context, n *account.Session, password string, trail store.Trail) error {
	portal, space := []byte{}, event.Space(0)
	if n.Portal != nil {
		var err error
		space = n.Portal.Space
		if portal, err = json.Marshal(n.Portal); err != nil {
			return err
		}
	}
	return s.write(ctx, "create session", func(t *Tx) error {
		if err := t.claim(trail.Room); err != nil {
			return err
		}
		if n.User != "" { // the row is locked: a new password ends all existing sessions
			_, found, err := t.row(1, `SELECT version FROM users WHERE id = ? AND password = ? AND disabled = 0`+t.Dialect.Lock(), n.User, password)
			if err != nil {
				return err
			}
			if !found {
				return fault.Missing("user", n.User)
			}
		}
		if err := t.exec(`INSERT INTO sessions (hash, user_id, portal, created, expires, id, space, creator, remote, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			n.Hash[:], n.User, string(portal), Millis(n.Created), Millis(n.Expires), n.ID, int64(space), n.Creator, n.Remote, Raw(n.Agent)); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// Session implements [store.Users].
func (s *Store) Session(ctx context.Context, h account.Hash) (account.Session, error) {
	n, err := scanSession(s.queryRow(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE hash = ?`, h[:]))
	if isNone(err) {
		return n, fault.Missing("session", "…")
	}
	return n, s.Fault("read session", err)
}

const sessionColumns = `hash, user_id, portal, created, expires, id, creator, remote, agent`

func scanSession(row scanner) (n account.Session, err error) {
	var hash, portal []byte
	var created, expires int64
	if err := row.Scan(&hash, &n.User, &portal, &created, &expires, &n.ID, &n.Creator, &n.Remote, &n.Agent); err != nil {
		return n, err
	}
	copy(n.Hash[:], hash)
	n.Created, n.Expires = instant(created), instant(expires)
	if len(portal) > 0 {
		n.Portal = new(account.Portal)
		err = json.Unmarshal(portal, n.Portal)
	}
	return n, err
}

// ListSessions implements [store.Users].
func (s *Store) ListSessions(ctx context.Context, f store.SessionFilter, p store.Page[string]) ([]account.Session, bool, error) {
	var n narrowing
	n.and("id != ?", "") // older ones have no id
	if f.User != "" {
		n.and("user_id = ?", f.User)
	} else {
		n.and("space = ?", int64(f.Space))
	}
	if f.ID != "" {
		n.and("id = ?", f.ID)
	}
	n.and("expires > ?", Millis(f.At))
	return page(ctx, s, "list sessions", scanSession, `SELECT `+sessionColumns+` FROM sessions`, &n, "id", p)
}

// endChildren ends the portals and jobs that were started with a key, in a portal or by a user,
// and the jobs of those portals.
func (t *Tx) endChildren(creator string, now time.Time) error {
	if err := t.exec(`UPDATE recoveries SET state = 'canceled', finished = ? WHERE state = 'running' AND (actor = ? OR
		actor IN (SELECT id FROM sessions WHERE creator = ? AND creator != ''))`, Millis(now), creator, creator); err != nil {
		return err
	}
	return t.exec(`DELETE FROM sessions WHERE creator != '' AND creator = ?`, creator)
}

// EndSession implements [store.Users].
func (s *Store) EndSession(ctx context.Context, h account.Hash, trail store.Trail) error {
	return s.write(ctx, "end session", func(t *Tx) error {
		if err := t.exec(`UPDATE recoveries SET state = 'canceled', finished = ? WHERE state = 'running' AND actor IN
			(SELECT id FROM sessions WHERE hash = ? AND id != '')`, Millis(trail.Time()), h[:]); err != nil {
			return err
		}
		if err := t.exec(`DELETE FROM sessions WHERE hash = ?`, h[:]); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// PurgeSessions implements [store.Upkeep].
func (s *Store) PurgeSessions(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge sessions", `DELETE FROM sessions WHERE hash IN (
		SELECT hash FROM sessions WHERE expires < ? ORDER BY expires LIMIT ?)`, Millis(before), limit)
}
