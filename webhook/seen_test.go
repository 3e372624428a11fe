package webhook_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite"

	"github.com/posthaste-hq/posthaste/webhook"
)

// keys is a store with expiring keys.
type keys struct {
	mu   sync.Mutex
	ends map[string]time.Time
}

func (k *keys) Exists(_ context.Context, key string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.ends[key]), nil
}

func (k *keys) SetFor(_ context.Context, key string, life time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ends[key] = time.Now().Add(life)
	return nil
}

func database(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "seen.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func table(t *testing.T) *webhook.SQL {
	t.Helper()
	s, err := webhook.NewSQL(database(t), webhook.SQLite, "processed_events")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.CreateTable(t.Context()), s.CreateTable(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s
}

// The requirements for every store.
func TestSeen(t *testing.T) {
	for name, open := range map[string]func(*testing.T) webhook.Seen{
		"Memory": func(*testing.T) webhook.Seen { return webhook.NewMemory(time.Hour) },
		"SQL":    func(t *testing.T) webhook.Seen { return table(t) },
		"Expiring": func(*testing.T) webhook.Seen {
			return webhook.NewExpiring(&keys{ends: map[string]time.Time{}}, "seen:", time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := open(t), t.Context()
			processed := func(id string, want bool) {
				t.Helper()
				if got, err := s.Processed(ctx, id); err != nil || got != want {
					t.Errorf("%q: %t, %v; want %t", id, got, err, want)
				}
			}
			processed("evt_1", false)
			for range 2 { // marking twice is not an error
				if err := s.MarkProcessed(ctx, "evt_1"); err != nil {
					t.Fatal(err)
				}
			}
			processed("evt_1", true)
			processed("evt_2", false)
			processed("'; DROP TABLE processed_events; --", false)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					id := "evt_" + strconv.Itoa(100+i%10)
					if err := s.MarkProcessed(ctx, id); err != nil {
						t.Error(err)
					}
					processed(id, true)
				})
			}
			wg.Wait()

			// With the middleware: the second delivery does not reach the handler.
			calls := 0
			v := verifier(t, vectors(t)[1].Timestamp, vectors(t)[1].Secret)
			h := v.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }), webhook.WithSeen(s))
			for range 3 {
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(vectors(t)[1].Body))
				r.Header = vectors(t)[1].header()
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					t.Errorf("answer %d", w.Code)
				}
			}
			if calls != 1 {
				t.Errorf("the handler was called %d times", calls)
			}
		})
	}
}

func TestSQL_Forget(t *testing.T) {
	s, ctx := table(t), t.Context()
	if err := s.MarkProcessed(ctx, "evt_1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(ctx, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Processed(ctx, "evt_1"); err != nil || !done {
		t.Errorf("a young event was forgotten: %v", err)
	}
	if err := s.Forget(ctx, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if done, err := s.Processed(ctx, "evt_1"); err != nil || done {
		t.Errorf("an old event was kept: %v", err)
	}
}

func TestSQL_errors(t *testing.T) {
	db := database(t)
	for _, bad := range []string{"", "a b", "a;b", `a"`, "a-b"} {
		if _, err := webhook.NewSQL(db, webhook.SQLite, bad); err == nil {
			t.Errorf("table %q", bad)
		}
	}
	if _, err := webhook.NewSQL(db, 9, "a"); err == nil {
		t.Error("unknown dialect")
	}
	s, err := webhook.NewSQL(db, webhook.SQLite, "missing")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Processed(t.Context(), "x")
	if err == nil || s.MarkProcessed(t.Context(), "x") == nil || s.Forget(t.Context(), time.Now()) == nil {
		t.Error("a missing table goes unnoticed")
	}
}

func TestExpiring_forgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := webhook.NewExpiring(&keys{ends: map[string]time.Time{}}, "seen:", time.Hour)
		if err := s.MarkProcessed(t.Context(), "evt_1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		if done, _ := s.Processed(t.Context(), "evt_1"); !done {
			t.Error("forgot too early")
		}
		time.Sleep(time.Minute)
		if done, _ := s.Processed(t.Context(), "evt_1"); done {
			t.Error("remembers for ever")
		}
	})
}
