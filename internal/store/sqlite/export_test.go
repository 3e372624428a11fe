package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// LimitPages makes the file full at n pages until the function it returns is called.
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

// RefuseWrites makes the file read-only for s until the function it returns is called.
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

// BreakDown makes the file system one that gave up its journal, from the next commit on.
func BreakDown(s *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intact = func() error { return errors.New("read-only file system") }
}

// PlanOfListDeliveries returns how the database goes about a page of deliveries.
func PlanOfListDeliveries(t *testing.T, s *Store, space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) string {
	t.Helper()
	query, args := relational.QueryOfListDeliveries(space, f, p)
	rows, err := s.DB.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}

// PageSize returns the file's page size in bytes.
func PageSize(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.DB.QueryRow("PRAGMA page_size").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Exec runs a statement as somebody with the file could.
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
