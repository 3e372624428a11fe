// Package postgres stores data in a PostgreSQL database, which many nodes share.
//
// It owns SQL and the connections. It must not know HTTP, lanes or its callers. It uses nothing
// beyond plain PostgreSQL: no extension, no superuser.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a [store.Store] in a PostgreSQL database.
type Store struct {
	relational.Store
	pool   *pgxpool.Pool // for lists and upkeep
	hot    *pgxpool.Pool // for transactions that write and for reads of lanes; see hotSettings
	nodes  *pgxpool.Pool // for operations that must not wait for a connection: leases, messages, readiness
	pooled bool          // no state is kept on a connection
	limits Limits
	member membership
	days   days
}

var _ store.Store = (*Store)(nil)

const (
	minConns       = 2
	maxConns       = 16
	listConns      = 4 // one in this many connections is for lists and upkeep
	nodeConns      = 3
	connectTimeout = 5 * time.Second
	migrationLock  = 0x706f737468617374
	startLock      = migrationLock + 1
)

// Open opens the store in the database at a URL or a list of keywords, in the form of libpq;
// several hosts may be named, and the one that accepts writes is used. It upgrades the schema.
// Secrets are encrypted with ring's keys, as in the embedded store. The caller must Close it.
//
// With the parameter pooling=transaction no state is kept on a connection between transactions,
// as poolers such as PgBouncer in transaction mode require.
func Open(ctx context.Context, target string, ring *seal.Ring, limits Limits) (_ *Store, err error) {
	config, err := parse(target)
	if err != nil {
		return nil, err
	}
	limits.setDefaults()
	limits.apply(config)
	if err := migrate(ctx, config.ConnConfig); err != nil {
		return nil, unavailable("bring "+name(config.ConnConfig)+" up to date", err)
	}
	s := &Store{pooled: config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeExec, limits: limits}
	if err := s.connect(ctx, config); err != nil {
		return nil, unavailable("open "+name(config.ConnConfig), err)
	}
	s.Store = relational.Store{DB: stdlib.OpenDBFromPool(s.pool), Hot: stdlib.OpenDBFromPool(s.hot), Ring: ring, Dialect: &dialect{}, Name: name(config.ConnConfig), Transact: s.transact, Node: s.number, Fault: unavailable}
	s.DB.SetMaxIdleConns(0) // the pools keep them
	s.Hot.SetMaxIdleConns(0)
	if err = s.makeFirstPartitions(ctx); err == nil {
		err = s.CheckSeal(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// hotSettings are the planner's settings for frequent statements. Their plan follows from their
// indexes, for all parameters and table sizes. So one plan is cached; planning takes longer than
// running the statement.
const hotSettings = `SELECT set_config(name, CASE name WHEN 'plan_cache_mode' THEN 'force_generic_plan' ELSE 'off' END, false) FROM pg_settings
	WHERE name IN ('plan_cache_mode', 'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit')`

// connect creates the pools. Behind a pooler no settings are kept on a connection, and one pool
// is for everything except the operations that must not wait.
func (s *Store) connect(ctx context.Context, config *pgxpool.Config) (err error) {
	defer func() {
		if err != nil {
			s.closePools()
		}
	}()
	apart := config.Copy()
	apart.MinConns, apart.MaxConns = 1, nodeConns
	if s.nodes, err = pgxpool.NewWithConfig(ctx, apart); err != nil {
		return err
	}
	if s.pooled {
		s.pool, err = pgxpool.NewWithConfig(ctx, config)
		s.hot = s.pool
		return err
	}
	lists, hot := config.Copy(), config.Copy()
	lists.MaxConns = max(config.MaxConns/listConns, 1)
	lists.MinConns = min(config.MinConns, lists.MaxConns)
	hot.MaxConns = max(config.MaxConns-lists.MaxConns, 1)
	hot.MinConns = min(config.MinConns, hot.MaxConns)
	limit := hot.AfterConnect
	hot.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if err := limit(ctx, conn); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, hotSettings, pgx.QueryExecModeExec); err != nil {
			return fmt.Errorf("set the planner's settings: %w", err)
		}
		return nil
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, lists); err != nil {
		return err
	}
	s.hot, err = pgxpool.NewWithConfig(ctx, hot)
	return err
}

func (s *Store) closePools() {
	for _, p := range []*pgxpool.Pool{s.pool, s.hot, s.nodes} {
		if p != nil {
			p.Close()
		}
	}
}

// Migrate upgrades the schema of a database and does nothing else.
func Migrate(ctx context.Context, target string) error {
	config, err := parse(target)
	if err != nil {
		return err
	}
	return unavailable("bring "+name(config.ConnConfig)+" up to date", migrate(ctx, config.ConnConfig))
}

// Probe connects, changes nothing, and returns the server's version and the difference between
// its clock and this machine's. It fails if the server does not accept writes.
func Probe(ctx context.Context, target string) (version string, ahead time.Duration, err error) {
	config, err := parse(target)
	if err != nil {
		return "", 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return "", 0, unavailable("connect to "+name(config.ConnConfig), err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var now time.Time
	var reading bool
	began := time.Now()
	if err := conn.QueryRow(ctx, `SELECT 'PostgreSQL ' || current_setting('server_version'), clock_timestamp(), pg_is_in_recovery()`).Scan(&version, &now, &reading); err != nil {
		return "", 0, unavailable("ask "+name(config.ConnConfig), err)
	}
	if reading {
		return "", 0, fmt.Errorf("%s is a standby and takes no writes", name(config.ConnConfig))
	}
	return version, now.Sub(began.Add(time.Since(began) / 2)), nil
}

// parse parses a target. Its errors do not repeat it, because it may contain a password.
func parse(target string) (*pgxpool.Config, error) {
	target, pooled := cutPooling(target)
	config, err := pgxpool.ParseConfig(target)
	if err != nil {
		return nil, errors.New("the database URL is not one such as postgres://user@host:5432/database?sslmode=verify-full")
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if !strings.Contains(target, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.MinConns = min(minConns, config.MaxConns)
	config.ConnConfig.RuntimeParams["application_name"] = "posthaste"
	if config.ConnConfig.ValidateConnect == nil && len(config.ConnConfig.Fallbacks) > 0 {
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if pooled {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		config.ConnConfig.StatementCacheCapacity, config.ConnConfig.DescriptionCacheCapacity = 0, 0
		delete(config.ConnConfig.RuntimeParams, "application_name")
	}
	return config, nil
}

// cutPooling removes our own parameter from a target.
func cutPooling(target string) (rest string, pooled bool) {
	if u, err := url.Parse(target); err == nil && u.Scheme != "" {
		q := u.Query()
		pooled = q.Get("pooling") == "transaction"
		q.Del("pooling")
		u.RawQuery = q.Encode()
		return u.String(), pooled
	}
	const word = "pooling=transaction"
	return strings.ReplaceAll(target, word, ""), strings.Contains(target, word)
}

// Name returns a target without its password, for messages.
func Name(target string) string {
	config, err := parse(target)
	if err != nil {
		return "a database with a malformed URL"
	}
	return name(config.ConnConfig)
}

// name describes the database without its password, for messages.
func name(c *pgx.ConnConfig) string {
	return fmt.Sprintf("database %s on %s:%d", c.Database, c.Host, c.Port)
}

// migrate upgrades the schema. If several nodes start at once, one does it and the others wait.
func migrate(ctx context.Context, c *pgx.ConnConfig) (err error) {
	db := stdlib.OpenDB(*c)
	defer func() { err = errors.Join(err, db.Close()) }()
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	lock, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Rollback() }()
	// A lock of the transaction, not of the session, because a pooler keeps no sessions.
	if _, err := lock.ExecContext(ctx, "SELECT pg_advisory_xact_lock("+strconv.FormatInt(migrationLock, 10)+")"); err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, dir)
	if err != nil {
		return err
	}
	current, latest, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > latest {
		return &fault.Error{Code: fault.Unavailable, Message: fmt.Sprintf(
			"the data was written by a newer version (schema %d, this version knows %d)", current, latest),
			Hint: "run the newer version, or restore a backup made before the upgrade"}
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	return lock.Commit()
}

// Size implements [store.Upkeep].
func (s *Store) Size(ctx context.Context) (n int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&n)
	return n, unavailable("measure the database", err)
}

// Close closes all connections.
func (s *Store) Close() error {
	err := errors.Join(s.DB.Close(), s.Hot.Close())
	s.closePools()
	return err
}

// Ready takes the locks of a commit, and writes a row that only this node writes: no edit
// blocks it.
func (s *Store) Ready(ctx context.Context) error {
	const op = "check store"
	no, instance := -1, ""
	if m := s.member.Load(); m != nil {
		no, instance = m.no, m.instance
	}
	var there bool
	if err := s.nodes.QueryRow(ctx, `SELECT probe($1, $2)`, no, instance).Scan(&there); err != nil {
		return unavailable(op, err)
	}
	if !there {
		return fmt.Errorf("%s: %w", op, store.ErrFenced)
	}
	return nil
}

// dialect implements [relational.Dialect].
type dialect struct {
	spelled sync.Map // queries in PostgreSQL's syntax, by their text in this code
	count   atomic.Int64
}

// mostSpelled bounds the number of cached queries: those of lists contain a variable number of
// values.
const mostSpelled = 2_000

var hints = regexp.MustCompile(` INDEXED BY \w+`)

// Spell implements [relational.Dialect].
func (d *dialect) Spell(query string) string {
	if s, ok := d.spelled.Load(query); ok {
		return s.(string)
	}
	// SQLite's CROSS JOIN keeps the order of the tables; here the planner has statistics.
	plain := strings.ReplaceAll(hints.ReplaceAllString(query, ""), "CROSS JOIN", "JOIN")
	var b strings.Builder
	n := 0
	for _, c := range plain {
		if c == '?' {
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	if d.count.Add(1) <= mostSpelled {
		d.spelled.Store(query, b.String())
	}
	return b.String()
}

// Contains implements [relational.Dialect].
func (*dialect) Contains(column string) string {
	return "position(CAST(? AS BYTEA) IN " + column + ") > 0"
}

// Seek implements [relational.Dialect]. The database starts to read at the given row, and stops
// at the end of the last column of the prefix, which is not compared by equality: otherwise it
// could use another index in the order of the remaining columns. The prefix is hidden from the
// planner: from the first column of a row alone it would conclude that almost no row precedes
// it, and sort all of them.
func (*dialect) Seek(r relational.Range) (condition string, args []any, rest string, restArgs []any) {
	near, far, to, end := r.Low, r.High, " > ", " <= "
	if r.Down {
		near, far, to, end = r.High, r.Low, " < ", " >= "
	}
	back := map[string]string{" > ": " < ", " < ": " > "}[to]
	last := max(len(r.Prefix)-1, 0)
	prefix := slices.Clone(r.Prefix)
	for i := range r.Given {
		typ := "BIGINT"
		if _, ok := r.Given[i].(string); ok {
			typ = "TEXT"
		}
		prefix[i] = "(SELECT CAST(? AS " + typ + "))"
	}
	for i, value := range prefix {
		if i == last {
			condition += r.Columns[i] + end + value + " AND "
		} else {
			condition += r.Columns[i] + " = " + value + " AND "
		}
	}
	places := func(prefix []string) string {
		return "(" + strings.Join(slices.Concat(prefix, slices.Repeat([]string{"?"}, len(near))), ", ") + ")"
	}
	args = r.Given
	if len(r.Given) > 0 {
		args = slices.Concat(args, r.Given[last:])
	}
	condition += "(" + strings.Join(r.Columns[last:], ", ") + ")" + to + places(prefix[min(last, len(prefix)):])
	return condition, slices.Concat(args, near), "(" + strings.Join(r.Columns[len(r.Prefix):], ", ") + ")" + back + places(nil), far
}

// Each implements [relational.Dialect]. A query with a limit or an offset is not flattened: it
// runs once per row. With an order, the planner has no cheaper way than the index.
func (*dialect) Each(join, table, alias, condition, order string, limit int) string {
	name, _, _ := strings.Cut(table, " ")
	query := "SELECT * FROM " + name + " " + alias + " WHERE " + condition + " OFFSET 0"
	if order != "" {
		query = "SELECT * FROM " + name + " " + alias + " WHERE " + condition + " ORDER BY " + order + " LIMIT " + strconv.Itoa(limit)
	}
	return " " + join + " LATERAL (" + query + ") " + alias + " ON TRUE"
}

// Lock implements [relational.Dialect].
func (*dialect) Lock() string { return " FOR UPDATE" }

// Share implements [relational.Dialect].
func (*dialect) Share() string { return " FOR SHARE" }

// EventIDs implements [relational.Dialect].
func (*dialect) EventIDs() string { return "event_ids" }

// KeysOf implements [relational.Dialect].
func (*dialect) KeysOf() string { return "event = ? AND event = ?" }

// FanOutOrder implements [relational.Dialect].
func (*dialect) FanOutOrder() string { return "seq" }

// Version implements [relational.Dialect]. It is evaluated once per query.
func (*dialect) Version() string { return "(SELECT version FROM versions WHERE no = 1)" }

// unavailable wraps an error of the database. Unless it is about text that the database cannot
// store, the user can only retry.
func unavailable(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return fmt.Errorf("%s: %w", op, err)
	}
	f := &fault.Error{Code: fault.Unavailable, Message: "the store is unavailable", RetryAfter: time.Second, Err: fmt.Errorf("%s: %w", op, err)}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		// No response, or none in time. Errors of values that the driver refuses to send are not
		// network errors.
		var network net.Error
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
			f.Err = fmt.Errorf("%w: %w: %w", f.Err, store.ErrMedium, store.ErrLate)
		case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), pgconn.SafeToRetry(err):
			f.Err = fmt.Errorf("%w: %w", f.Err, store.ErrMedium)
		}
		return f
	}
	switch e.Code {
	case "22021", "22P05": // a zero byte in text
		return &fault.Error{Code: fault.Invalid, Reason: "text_invalid", Message: "Strings must not contain a zero byte (\\u0000).", Err: f.Err}
	case "25006":
		f.Hint = "the database is read-only; the server recovers when this host, or another one, is the primary"
	case "53100":
		f.Hint = "free disk space of the database; the server then recovers without a restart"
	case "53200":
		f.Hint = "the database is out of memory or of locks (max_locks_per_transaction); the server then recovers without a restart"
	case "53300":
		f.Hint = "the database is out of connections (max_connections); the server then recovers without a restart"
	}
	if blameless(e.Code) {
		f.Err = fmt.Errorf("%w: %w", f.Err, store.ErrMedium)
	}
	if e.Code == "55P03" || e.Code == "57014" { // a lock or a statement took too long
		f.Err = fmt.Errorf("%w: %w", f.Err, store.ErrLate)
	}
	return f
}

// blameless reports whether an error of the database does not depend on the written rows: the
// same write may succeed later.
func blameless(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", "53", "57", "58", "55", "40", "25": // connection, resources, intervention, system, state, rollback, transaction
		return true
	}
	return false
}
