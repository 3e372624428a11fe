// Package sqlite stores data in one SQLite file: WAL, synced on every commit, one connection
// that writes and a few that read.
//
// It owns SQL and the file. It must not know HTTP, lanes or its callers.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

//go:embed migrations/*.sql
var migrations embed.FS

// FileName is the database's name within a data directory.
const FileName = "posthaste.db"

const (
	readers       = 4
	busyTimeout   = 10_000 // ms; only backups and manual commands use the file besides the server
	pageSize      = 8192   // bytes; seven bodies of 1 KB fill a page well, while 4096 leaves a fifth unused
	checkpointAt  = 2000   // WAL pages
	walKeep       = 64 << 20
	writerCacheKB = 16 << 10
	readerCacheKB = 4 << 10
)

// PageCaches is the maximum part of the file that the connections keep in memory, in total and
// in KiB. The caches fill as the file is read and written, and never shrink.
const PageCaches = writerCacheKB + readers*readerCacheKB

// Store is a [store.Store] in one SQLite file.
type Store struct {
	relational.Store
	dir  string
	lock *dirLock

	mu sync.Mutex // held during writes
	w  *writer

	intact   func() error // checks the file system after each commit
	doubtful atomic.Bool  // the check has failed
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, creating the directory and the file if missing and upgrading the
// schema. Secrets are encrypted with ring's keys; a ring without the key of the data results in
// a fault.Unavailable that says so. Only one process can have a directory open; the next one
// gets a fault.Unavailable that says so too. The caller must Close it.
func Open(ctx context.Context, dir string, ring *seal.Ring) (_ *Store, err error) {
	s := newStore(dir, ring)
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	path, write, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	if s.w, err = openWriter(write); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if s.DB, err = sql.Open("sqlite", dsn(path, readerCacheKB, "query_only(ON)")); err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	s.DB.SetMaxOpenConns(readers)
	s.DB.SetMaxIdleConns(readers)
	if err := s.openReaders(ctx); err != nil {
		return nil, fmt.Errorf("open %s for reading: %w", path, err)
	}
	return s, s.CheckSeal(ctx)
}

// openReaders opens all connections that read: later, a process that has used up its file
// descriptors could not open them, and would read nothing.
func (s *Store) openReaders(ctx context.Context) error {
	var all [readers]*sql.Conn
	var errs []error
	for i := range all {
		var err error
		if all[i], err = s.DB.Conn(ctx); err != nil {
			errs = append(errs, err)
			break
		}
		errs = append(errs, all[i].PingContext(ctx))
	}
	for _, c := range all {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func newStore(dir string, ring *seal.Ring) *Store {
	s := &Store{dir: dir}
	s.Ring, s.Dialect, s.Name, s.Transact, s.Fault, s.Keep = ring, dialect{}, dir, s.transact, unavailable, true
	s.Keyed = s.keyed
	return s
}

// dialect implements [relational.Dialect]: queries are written for SQLite.
type dialect struct{}

func (dialect) Spell(query string) string     { return query }
func (dialect) Contains(column string) string { return "instr(" + column + ", ?) > 0" }
func (dialect) Lock() string                  { return "" } // there is no other writer
func (dialect) Share() string                 { return "" }
func (dialect) Version() string               { return "0" }
func (dialect) EventIDs() string              { return "" }
func (dialect) FanOutOrder() string           { return "event" }

// Seek implements [relational.Dialect]. The query names the index.
func (dialect) Seek(r relational.Range) (condition string, args []any, rest string, restArgs []any) {
	for i, value := range r.Prefix {
		condition += r.Columns[i] + " = " + value + " AND "
	}
	row, place := "("+strings.Join(r.Columns[len(r.Prefix):], ", ")+")", "(?"+strings.Repeat(", ?", len(r.Low)-1)+")"
	return condition + row + " > " + place + " AND " + row + " < " + place, slices.Concat(r.Given, r.Low, r.High), "", nil
}

// Each implements [relational.Dialect]. The table names the index, and neither join changes the
// order of the tables.
func (dialect) Each(join, table, alias, condition, _ string, _ int) string {
	name, hint, _ := strings.Cut(table, " ")
	return " " + join + " " + name + " " + alias + " " + hint + " ON " + condition
}

// Migrate upgrades the schema of the store in dir, creating it if missing, and does nothing
// else. Errors are those of [Open], except those of the master key.
func Migrate(ctx context.Context, dir string) error {
	s := newStore(dir, nil)
	_, _, err := s.prepare(ctx)
	return errors.Join(err, s.Close())
}

// prepare locks the directory and upgrades the schema. It returns the file's path and the
// options to open it for writing.
func (s *Store) prepare(ctx context.Context) (path, write string, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make data directory: %w", err)
	}
	if s.lock, err = lockDir(s.dir); err != nil {
		return "", "", err
	}
	s.intact = s.lock.intact
	// fdatasync makes a commit equally durable, and skips the journal entry for the file's times.
	sqlite.Fdatasync(true)
	path = filepath.Join(s.dir, FileName)
	if err := createPrivate(path); err != nil {
		return "", "", err
	}
	write = dsn(path, writerCacheKB, "synchronous(FULL)", "foreign_keys(OFF)", "secure_delete(ON)", fmt.Sprintf("page_size(%d)", pageSize),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointAt), fmt.Sprintf("journal_size_limit(%d)", walKeep))
	write += "&_journal_mode=WAL" // not a _pragma: the driver runs those in order of name, and in WAL the page size cannot be changed
	if err := migrate(ctx, write); err != nil {
		return "", "", fmt.Errorf("bring %s up to date: %w", path, err)
	}
	return path, write, nil
}

func dsn(path string, cacheKB int, pragmas ...string) string {
	q := url.Values{}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout))
	q.Add("_pragma", fmt.Sprintf("cache_size(-%d)", cacheKB))
	q.Add("_pragma", "temp_store(MEMORY)")
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

// createPrivate creates the file readable by its owner only, because it contains secrets.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make database file: %w", err)
	}
	return f.Close()
}

func migrate(ctx context.Context, dsn string) (err error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return &fault.Error{Code: fault.Unavailable, Message: fmt.Sprintf(
			"the data was written by a newer version (schema %d, this version knows %d)", current, target),
			Hint: "run the newer version, or restore a backup made before the upgrade"}
	}
	_, err = p.Up(ctx)
	return err
}

// Size implements [store.Upkeep]: the file and its log.
func (s *Store) Size(context.Context) (n int64, err error) {
	for _, name := range []string{FileName, FileName + "-wal"} {
		info, err := os.Stat(filepath.Join(s.dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // the log may not exist
		case err != nil:
			return 0, unavailable("measure the store", err)
		default:
			n += info.Size()
		}
	}
	return n, nil
}

// Close writes the log back into the file and releases the directory.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.DB != nil {
		errs = append(errs, s.Release(), s.DB.Close())
	}
	if s.w != nil {
		errs = append(errs, s.w.close())
		s.w = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// Ready rewrites a page and syncs it, which detects a full, read-only or broken disk. Setting a
// column to its current value is not sufficient, because SQLite does not write such a page.
func (s *Store) Ready(ctx context.Context) error {
	return s.transact(ctx, "check store", func(c relational.Conn) error {
		_, err := c.Exec("PRAGMA user_version = 0")
		return err
	})
}

// unavailable wraps an error of the database, for which the user can only retry.
func unavailable(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return fmt.Errorf("%s: %w", op, err)
	}
	f := &fault.Error{Code: fault.Unavailable, Message: "the store is unavailable", RetryAfter: time.Second,
		Err: fmt.Errorf("%s: %w", op, err)}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case 13: // SQLITE_FULL
			f.Hint = "free disk space; the server then recovers without a restart"
		case 8, 14: // SQLITE_READONLY, SQLITE_CANTOPEN
			f.Hint = "make the data directory writable; the server then recovers without a restart"
		case 10: // SQLITE_IOERR
			f.Hint = "check the system's log for disk errors; the server then recovers without a restart"
		default:
			return f
		}
		f.Err = fmt.Errorf("%s: %w: %w", op, store.ErrMedium, err)
	}
	return f
}
