package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// LimitPages makes the file full at n pages until the returned function is called.
func LimitPages(t *testing.T, s *Store, n int) (lift func()) {
	t.Helper()
	limit := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, err := (&tx{s.w}).Rows(1, fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(n)
	return func() { limit(1 << 30) }
}

// RefuseWrites makes the file read-only for s until the returned function is called.
func RefuseWrites(t *testing.T, s *Store) (lift func()) {
	t.Helper()
	set := func(on string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := (&tx{s.w}).exec("PRAGMA query_only = " + on); err != nil {
			t.Fatal(err)
		}
	}
	set("ON")
	return func() { set("OFF") }
}

// BreakDown simulates a file system that aborts its journal, from the next commit on.
func BreakDown(s *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intact = func() error { return errors.New("read-only file system") }
}

// Plans returns the query plan of each query that is read with while do runs.
func Plans(t *testing.T, s *Store, do func()) (plans map[string]string) {
	t.Helper()
	seen := &recorder{Dialect: s.Dialect}
	s.Dialect = seen
	do()
	s.Dialect = seen.Dialect
	plans = map[string]string{}
	for _, query := range seen.queries {
		rows, err := s.DB.Query("EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		var steps []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			steps = append(steps, step)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		plans[query] = strings.Join(steps, "\n")
	}
	return plans
}

// recorder records the queries that are converted.
type recorder struct {
	relational.Dialect
	queries []string
}

func (r *recorder) Spell(query string) string {
	r.queries = append(r.queries, query)
	return r.Dialect.Spell(query)
}

// PageSize returns the file's page size in bytes.
func PageSize(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.DB.QueryRow("PRAGMA page_size").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Exec runs a statement directly on the file.
func Exec(t *testing.T, s *Store, sql string) {
	t.Helper()
	if err := s.transact(context.Background(), "tamper", func(c relational.Conn) error {
		_, err := c.Exec(sql)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Pragma returns a setting of the connection that writes.
func Pragma(t *testing.T, s *Store, name string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := (&tx{s.w}).Rows(1, "PRAGMA "+name)
	if err != nil || len(rows) != 1 {
		t.Fatal(len(rows), err)
	}
	return fmt.Sprint(rows[0][0])
}
