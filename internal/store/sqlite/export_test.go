package sqlite

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// LimitPages makes the file full at n pages until the function it returns is called.
func LimitPages(t *testing.T, s *Store, n int) (lift func()) {
	t.Helper()
	limit := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, _, err := (&tx{s.w, s.ring}).row(1, fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
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
		if err := (&tx{s.w, s.ring}).exec("PRAGMA query_only = " + on); err != nil {
			t.Fatal(err)
		}
	}
	set("ON")
	return func() { set("OFF") }
}

// PlanOfListDeliveries returns how the database goes about a page of deliveries.
func PlanOfListDeliveries(t *testing.T, s *Store, space event.Space, f store.DeliveryFilter, p store.Page[delivery.ID]) string {
	t.Helper()
	query, args := listDeliveries(space, f, p)
	steps, err := list(context.Background(), s, "explain", func(row scanner) (step string, err error) {
		var id, parent, unused int
		err = row.Scan(&id, &parent, &unused, &step)
		return step, err
	}, "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}

// PageSize returns the file's page size in bytes.
func PageSize(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.rdb.QueryRow("PRAGMA page_size").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Exec runs a statement as somebody with the file could.
func Exec(t *testing.T, s *Store, sql string) {
	t.Helper()
	if err := s.write(context.Background(), "tamper", func(t *tx) error { return t.exec(sql) }); err != nil {
		t.Fatal(err)
	}
}
