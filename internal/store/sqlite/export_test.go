package sqlite

import (
	"fmt"
	"testing"
)

// LimitPages makes the file full at n pages until the function it returns is called.
func LimitPages(t *testing.T, s *Store, n int) (lift func()) {
	t.Helper()
	limit := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, _, err := (&tx{s.w}).row(1, fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(n)
	return func() { limit(1 << 30) }
}
