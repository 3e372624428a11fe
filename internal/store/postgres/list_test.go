package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/store/storetest"
)

// A list reads a bounded number of rows of tables and of indexes for any number of stored events,
// as counted by the database.
func TestLists_rowsRead(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL, which make test-fast does without")
	}
	const events, scan = 30_000, 200
	// Up to five paths are tried, and each entry of the best is joined with a few other tables.
	const most = 40 * scan
	url := database(t, template)
	s := open(t, url+"&pool_max_conns=1")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	autovacuum := func(setting string) { // of the whole server; what it reads would be counted too
		for _, q := range []string{"ALTER SYSTEM " + setting, "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(context.Background(), q); err != nil {
				t.Error(err)
			}
		}
	}
	autovacuum("SET autovacuum = off")
	t.Cleanup(func() {
		autovacuum("RESET autovacuum")
		_ = conn.Close(context.Background())
	})
	read := func() (n int64) {
		t.Helper()
		var flushed any
		if err := s.DB.QueryRowContext(t.Context(), `SELECT pg_stat_force_next_flush()`).Scan(&flushed); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), `SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	worst, of, lists := int64(0), "", 0
	storetest.Lists(t, s, events, scan, func(what string, list func()) {
		if lists == 0 { // as autovacuum does, sooner or later
			if _, err := conn.Exec(t.Context(), "ANALYZE"); err != nil {
				t.Fatal(err)
			}
		}
		lists++
		before := read()
		list()
		n := read() - before
		if n > most {
			t.Errorf("%s: %d rows were read of %d events", what, n, events)
		}
		if n > worst {
			worst, of = n, what
		}
	})
	t.Logf("%d lists of %d events; the worst, %s, reads %d rows", lists, events, of, worst)
}
