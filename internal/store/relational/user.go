package relational

import (
	"context"
	"encoding/json"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// CreateUser implements [store.Users].
func (s *Store) CreateUser(ctx context.Context, u *account.User, trail store.Trail) error {
	return s.write(ctx, "create user", func(t *Tx) error {
		n, err := t.changed(`INSERT INTO users (id, name, role, password, disabled, created) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			u.ID, u.Name, string(u.Role), u.Password, u.Disabled, Millis(u.Created))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Param("name", "user_exists", "There is a user of this name already.")
		}
		return t.leave(trail)
	})
}

// UpdateUser implements [store.Users].
func (s *Store) UpdateUser(ctx context.Context, u *account.User, keep account.Hash, trail store.Trail) error {
	return s.write(ctx, "update user", func(t *Tx) error {
		n, err := t.changed(`UPDATE users SET role = ?, password = ?, disabled = ? WHERE id = ?`, string(u.Role), u.Password, u.Disabled, u.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing("user", u.ID)
		}
		if err := t.exec(`DELETE FROM sessions WHERE user_id != '' AND user_id = ? AND hash != ?`, u.ID, keep[:]); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

const userColumns = `id, name, role, password, disabled, created`

func scanUser(row scanner) (u account.User, err error) {
	var created int64
	err = row.Scan(&u.ID, &u.Name, &u.Role, &u.Password, &u.Disabled, &created)
	u.Created = instant(created)
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
func (s *Store) CreateSession(ctx context.Context, n *account.Session, trail store.Trail) error {
	portal := []byte{}
	if n.Portal != nil {
		var err error
		if portal, err = json.Marshal(n.Portal); err != nil {
			return err
		}
	}
	return s.write(ctx, "create session", func(t *Tx) error {
		if err := t.exec(`INSERT INTO sessions (hash, user_id, portal, created, expires) VALUES (?, ?, ?, ?, ?)`,
			n.Hash[:], n.User, string(portal), Millis(n.Created), Millis(n.Expires)); err != nil {
			return err
		}
		return t.leave(trail)
	})
}

// Session implements [store.Users].
func (s *Store) Session(ctx context.Context, h account.Hash) (account.Session, error) {
	n := account.Session{Hash: h}
	var portal []byte
	var created, expires int64
	err := s.queryRow(ctx, `SELECT user_id, portal, created, expires FROM sessions WHERE hash = ?`, h[:]).Scan(&n.User, &portal, &created, &expires)
	if isNone(err) {
		return n, fault.Missing("session", "…")
	}
	n.Created, n.Expires = instant(created), instant(expires)
	if err == nil && len(portal) > 0 {
		n.Portal = new(account.Portal)
		err = json.Unmarshal(portal, n.Portal)
	}
	return n, s.Fault("read session", err)
}

// EndSession implements [store.Users].
func (s *Store) EndSession(ctx context.Context, h account.Hash, trail store.Trail) error {
	return s.write(ctx, "end session", func(t *Tx) error {
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
