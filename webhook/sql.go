package webhook

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Dialect is the SQL dialect of a database.
type Dialect int

// The dialects.
const (
	SQLite Dialect = iota
	PostgreSQL
	MySQL
)

// SQL is a [Seen] in a database table, which all processes of a receiver share. Use [NewSQL].
type SQL struct {
	db                         *sql.DB
	create, look, mark, forget string
}

// NewSQL returns a store in the given table; [SQL.CreateTable] creates it. The table's name is
// inserted into statements unquoted: letters, digits, underscores and dots. Errors: the name
// contains other characters.
func NewSQL(db *sql.DB, dialect Dialect, table string) (*SQL, error) {
	if table == "" || strings.Trim(table, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" {
		return nil, fmt.Errorf("webhook: %q is not a valid table name", table)
	}
	first, second, insert, ignore := "?", "?", "INSERT INTO ", " ON CONFLICT (id) DO NOTHING"
	switch dialect {
	case SQLite:
	case PostgreSQL:
		first, second = "$1", "$2"
	case MySQL:
		insert, ignore = "INSERT IGNORE INTO ", ""
	default:
		return nil, errors.New("webhook: unknown SQL dialect")
	}
	return &SQL{
		db:     db,
		create: "CREATE TABLE IF NOT EXISTS " + table + " (id VARCHAR(128) NOT NULL PRIMARY KEY, processed_at BIGINT NOT NULL)",
		look:   "SELECT 1 FROM " + table + " WHERE id = " + first,
		mark:   insert + table + " (id, processed_at) VALUES (" + first + ", " + second + ")" + ignore,
		forget: "DELETE FROM " + table + " WHERE processed_at < " + first,
	}, nil
}

// CreateTable creates the table if it does not exist: id, the key, and processed_at in Unix
// seconds.
func (s *SQL) CreateTable(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, s.create); err != nil {
		return fmt.Errorf("make the table of processed events: %w", err)
	}
	return nil
}

// Processed implements [Seen].
func (s *SQL) Processed(ctx context.Context, id string) (bool, error) {
	var one int
	switch err := s.db.QueryRowContext(ctx, s.look, id).Scan(&one); {
	case err == nil:
		return true, nil
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	default:
		return false, fmt.Errorf("look up processed event: %w", err)
	}
}

// MarkProcessed implements [Seen].
func (s *SQL) MarkProcessed(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, s.mark, id, time.Now().Unix()); err != nil {
		return fmt.Errorf("mark event processed: %w", err)
	}
	return nil
}

// Forget removes events that were processed before t. Call it from time to time.
func (s *SQL) Forget(ctx context.Context, t time.Time) error {
	if _, err := s.db.ExecContext(ctx, s.forget, t.Unix()); err != nil {
		return fmt.Errorf("forget processed events: %w", err)
	}
	return nil
}
