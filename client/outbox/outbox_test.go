package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/posthaste-hq/posthaste/client"
	"github.com/posthaste-hq/posthaste/client/outbox"
	"github.com/posthaste-hq/posthaste/client/outbox/pgxoutbox"
	"github.com/posthaste-hq/posthaste/internal/httpapi/apitest"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

// A relay that is to be killed runs in a process of its own: this program, whose environment
// variables say what to relay.
const (
	relayOf = "OUTBOX_TEST_RELAY"
	relayAt = "OUTBOX_TEST_DATABASE"
	relayTo = "OUTBOX_TEST_SERVER"
)

const patience = 30 * time.Second

var cluster = sync.OnceValues(func() (*pgtest.Cluster, error) {
	return pgtest.Start("fsync=off", "synchronous_commit=off", "full_page_writes=off")
})

func TestMain(m *testing.M) {
	if kind := os.Getenv(relayOf); kind != "" {
		b, err := open(context.Background(), kind, os.Getenv(relayAt))
		if err != nil {
			panic(err)
		}
		c, err := client.New(os.Getenv(relayTo), apitest.Key, client.Options{})
		if err != nil {
			panic(err)
		}
		outbox.NewRelay(b.store, c, outbox.Options{Batch: 50, Every: 10 * time.Millisecond}).Run(context.Background())
	}
	code := m.Run()
	if !testing.Short() {
		if c, err := cluster(); err == nil {
			_ = c.Stop()
		}
	}
	os.Exit(code)
}

// box is an outbox of one kind and the database of an application around it.
type box struct {
	kind, at string
	store    outbox.Store
	create   func(context.Context) error
	add      func(ctx context.Context, commit bool, events ...client.Event) ([]string, error)
	exec     func(ctx context.Context, query string) error
	number   func(ctx context.Context, query string) (int, error)
	close    func()
}

var errRollback = errors.New("roll back")

const table = outbox.DefaultTable

func open(ctx context.Context, kind, at string) (*box, error) {
	b := &box{kind: kind, at: at}
	if kind == "pgx" {
		pool, err := pgxpool.New(ctx, at)
		if err != nil {
			return nil, err
		}
		s, err := pgxoutbox.New(pool, table)
		if err != nil {
			return nil, err
		}
		b.store, b.create, b.close = s, s.CreateTable, pool.Close
		b.add = func(ctx context.Context, commit bool, events ...client.Event) (ids []string, err error) {
			err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				for _, e := range events {
					id, err := s.Add(ctx, tx, e)
					if err != nil {
						return err
					}
					ids = append(ids, id)
				}
				if !commit {
					return errRollback
				}
				return nil
			})
			return ids, err
		}
		b.exec = func(ctx context.Context, query string) error {
			_, err := pool.Exec(ctx, query)
			return err
		}
		b.number = func(ctx context.Context, query string) (n int, err error) {
			err = pool.QueryRow(ctx, query).Scan(&n)
			return n, err
		}
		return b, nil
	}
	driver, dialect := "pgx", outbox.PostgreSQL
	if kind == "sqlite" {
		driver, dialect = "sqlite", outbox.SQLite
	}
	db, err := sql.Open(driver, at)
	if err != nil {
		return nil, err
	}
	s, err := outbox.New(db, dialect, table)
	if err != nil {
		return nil, err
	}
	b.store, b.create, b.close = s, s.CreateTable, func() { _ = db.Close() }
	b.add = func(ctx context.Context, commit bool, events ...client.Event) (ids []string, err error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return nil, err
		}
		defer func() { _ = tx.Rollback() }()
		for _, e := range events {
			id, err := s.Add(ctx, tx, e)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		if !commit {
			return ids, errRollback
		}
		return ids, tx.Commit()
	}
	b.exec = func(ctx context.Context, query string) error {
		_, err := db.ExecContext(ctx, query)
		return err
	}
	b.number = func(ctx context.Context, query string) (n int, err error) {
		err = db.QueryRowContext(ctx, query).Scan(&n)
		return n, err
	}
	return b, nil
}

// each runs a test on every kind of outbox, with an empty table.
func each(t *testing.T, f func(t *testing.T, b *box)) {
	for _, kind := range []string{"sqlite", "postgres", "pgx"} {
		t.Run(kind, func(t *testing.T) {
			at := "file:" + filepath.Join(t.TempDir(), "app.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)"
			if kind != "sqlite" {
				if testing.Short() {
					t.Skip("needs PostgreSQL, which make test-fast does without")
				}
				c, err := cluster()
				if err != nil {
					t.Fatal(err)
				}
				if at, err = c.NewDatabase(""); err != nil {
					t.Fatal(err)
				}
			}
			b, err := open(t.Context(), kind, at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.close)
			for range 2 { // the second call does nothing
				if err := b.create(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			f(t, b)
		})
	}
}

func (b *box) must(t *testing.T, events ...client.Event) []string {
	t.Helper()
	ids, err := b.add(t.Context(), true, events...)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func (b *box) count(t *testing.T, where string) int {
	t.Helper()
	n, err := b.number(t.Context(), "SELECT count(*) FROM "+table+" WHERE "+where)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// await waits until n rows fulfil a condition.
func (b *box) await(t *testing.T, n int, where string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); b.count(t, where) != n; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d rows have %s, waited for %d", b.count(t, where), where, n)
		}
	}
}

// server is the real API on loopback, behind a middleware that can fail requests.
type server struct {
	*httptest.Server
	api http.Handler

	mu     sync.Mutex
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
	events int // that came in requests
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{api: apitest.New(t)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		before := s.before
		s.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		answer := httptest.NewRecorder()
		s.api.ServeHTTP(answer, r)
		s.mu.Lock()
		s.events += strings.Count(answer.Body.String(), `"status":200`)
		s.mu.Unlock()
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) stand(before func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// sent returns how many events were in requests with a response. The requests of another
// process have ended when their rows are marked, which the race detector cannot see.
func (s *server) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events
}

// relay runs a relay until the returned function, or the end of the test.
func (s *server) relay(t *testing.T, b *box, opts outbox.Options) (r *outbox.Relay, stop func()) {
	t.Helper()
	c, err := client.New(s.URL, apitest.Key, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = slog.New(slog.DiscardHandler)
	if opts.Every == 0 {
		opts.Every = 10 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	r = outbox.NewRelay(b.store, c, opts)
	ended := make(chan struct{})
	go func() {
		r.Run(ctx)
		close(ended)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

func payment(n int) client.Event {
	return client.Event{Type: "payment.succeeded", Object: map[string]any{"n": n}}
}

func payments(n int) (out []client.Event) {
	for i := range n {
		out = append(out, payment(i))
	}
	return out
}

// An event is in the table if its transaction was committed, in the order of the table, and is
// deleted once it is sent.
func TestRelay_sendsCommittedEvents(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := serve(t)
		want := b.must(t, payments(1100)...)
		if _, err := b.add(t.Context(), false, payments(3)...); !errors.Is(err, errRollback) {
			t.Fatal(err)
		}
		r, _ := s.relay(t, b, outbox.Options{Every: time.Hour})
		b.await(t, 0, "true")
		want = append(want, b.must(t, payment(1))...)
		r.Wake()
		b.await(t, 0, "true")
		if got := apitest.Stored(t, s.api); !slices.Equal(got, want) {
			t.Errorf("%d events stored, want %d, or not in their order", len(got), len(want))
		}
	})
}

// A relay that is killed after the server accepted events and before their rows were deleted
// sends them again, and the server ignores the duplicates.
func TestRelay_killedBetweenSendingAndMarking(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := serve(t)
		want := b.must(t, payments(120)...)
		const kills = 3
		for life := range kills + 1 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), relayOf+"="+b.kind, relayAt+"="+b.at, relayTo+"="+s.URL)
			started, killed := make(chan struct{}), make(chan struct{})
			if life < kills {
				kill := sync.OnceFunc(func() {
					<-started // the test can ask before Start has returned
					_ = cmd.Process.Kill()
					close(killed)
				})
				s.stand(func(_ http.ResponseWriter, r *http.Request) bool {
					s.api.ServeHTTP(httptest.NewRecorder(), r)
					kill()
					panic(http.ErrAbortHandler)
				})
			} else {
				s.stand(nil)
			}
			err := cmd.Start()
			close(started)
			if err != nil {
				t.Fatal(err)
			}
			if life < kills {
				<-killed
				_ = cmd.Wait()
				continue
			}
			b.await(t, 0, "true")
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		got := apitest.Stored(t, s.api)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d events stored, %d added", len(got), len(want))
		}
		if n := s.sent(); n < 120 {
			t.Errorf("the last relay sent %d events: the others had marked some", n)
		}
	})
}

// An event that the server will never accept stays in the table with the reason and does not
// stop others.
func TestRelay_refused(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := serve(t)
		bad := client.Event{Type: "payment.succeeded", Object: map[string]any{"n": 1 << 60}}
		ids := b.must(t, payment(1), bad, payment(2))
		if err := b.exec(t.Context(), "INSERT INTO "+table+" (id, body, added_at) VALUES ('x', 'no event', 0)"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var told []string
		s.relay(t, b, outbox.Options{OnRefused: func(r client.Result) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, r.ID)
		}})
		b.await(t, 2, "refused_at IS NOT NULL AND error IS NOT NULL")
		b.await(t, 2, "true")
		if n := b.count(t, "error LIKE '%data.object.n%' AND id = '"+ids[1]+"'"); n != 1 {
			t.Error("the error does not state the cause")
		}
		if got := apitest.Stored(t, s.api); !slices.Equal(got, []string{ids[0], ids[2]}) {
			t.Errorf("stored %v", got)
		}
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(told)
		if want := []string{"", ids[1]}; !slices.Equal(told, want) {
			t.Errorf("OnRefused was called with %q", told)
		}
	})
}

// No event is lost while the server is unavailable or the key is revoked.
func TestRelay_waitsForTheServer(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := serve(t)
		ids := b.must(t, payments(3)...)
		requests := make(chan struct{}, 100)
		var n int
		s.stand(func(w http.ResponseWriter, _ *http.Request) bool {
			status, body := http.StatusUnauthorized, `{"error":{"type":"authentication_error","code":"api_key_unknown"}}`
			switch n++; n % 4 {
			case 1:
				status, body = http.StatusServiceUnavailable, `{"error":{"type":"api_error","code":"unavailable"}}`
			case 2:
				status, body = http.StatusBadRequest, "<html>a firewall"
			case 3:
				status, body = http.StatusNotFound, `{"error":{"type":"not_found_error"}}`
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			requests <- struct{}{}
			return true
		})
		s.relay(t, b, outbox.Options{Timeout: 50 * time.Millisecond})
		for range 5 {
			select {
			case <-requests:
			case <-time.After(patience):
				t.Fatal("the relay has stopped trying")
			}
		}
		if n := b.count(t, "refused_at IS NULL"); n != 3 {
			t.Fatalf("%d events wait, want 3", n)
		}
		s.stand(nil)
		b.await(t, 0, "true")
		if got := apitest.Stored(t, s.api); !slices.Equal(got, ids) {
			t.Errorf("stored %v", got)
		}
	})
}

func TestRelay_keepsSent(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		s := serve(t)
		b.must(t, payments(3)...)
		_, stop := s.relay(t, b, outbox.Options{KeepSent: time.Hour})
		b.await(t, 3, "sent_at IS NOT NULL")
		stop()
		if err := b.exec(t.Context(), fmt.Sprintf("UPDATE %s SET sent_at = %d WHERE seq = 1", table, time.Now().Add(-time.Hour-time.Second).UnixMilli())); err != nil {
			t.Fatal(err)
		}
		s.relay(t, b, outbox.Options{KeepSent: time.Hour})
		b.await(t, 2, "true")
	})
}

// Several relays share the table of a PostgreSQL database: no event is sent by two of them.
func TestRelay_several(t *testing.T) {
	each(t, func(t *testing.T, b *box) {
		if b.kind == "sqlite" {
			t.Skip("one relay is what SQLite takes")
		}
		s := serve(t)
		want := b.must(t, payments(1000)...)
		for range 3 {
			s.relay(t, b, outbox.Options{Batch: 40})
		}
		b.await(t, 0, "true")
		got := apitest.Stored(t, s.api)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || s.sent() != len(want) {
			t.Errorf("%d events stored and %d sent, want %d", len(got), s.sent(), len(want))
		}
	})
}

func TestNew_refusesNames(t *testing.T) {
	for _, name := range []string{"", "a b", "a;DROP TABLE a", `a"`} {
		if _, err := outbox.New(nil, outbox.SQLite, name); err == nil {
			t.Errorf("%q is a table", name)
		}
		if _, err := pgxoutbox.New(nil, name); err == nil {
			t.Errorf("%q is a table", name)
		}
	}
	if _, err := outbox.New(nil, outbox.Dialect(9), "a"); err == nil {
		t.Error("an unknown dialect is accepted")
	}
}
