package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
)

// A node whose lease has ended can write until another one finds that out, and
// nothing after.
func TestNodes(t *testing.T) {
	ctx := context.Background()
	url := database(t, template)
	a, b := open(t, url), open(t, url)
	va, err := a.Join(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	vb, err := b.Join(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if va.Self == vb.Self || vb.Generation <= va.Generation || len(vb.Members) != 2 || vb.Settled() {
		t.Errorf("joined as %+v and %+v", va, vb)
	}
	for _, s := range []store.Nodes{a, b, a} {
		if va, err = s.Beat(ctx, vb.Generation, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if !va.Settled() {
		t.Errorf("all acknowledged, and it is not settled: %+v", va)
	}

	keys := event.NewKeys(time.Now, uint8(va.Self))
	commit := func(s store.Store) error {
		return s.Commit(ctx, &store.Batch{Appends: []*store.Append{newAppend(keys)}})
	}
	if _, err := a.Beat(ctx, vb.Generation, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := commit(a); err != nil {
		t.Errorf("with a lease that has ended, that nobody has noticed: %v", err)
	}
	after, err := b.Beat(ctx, vb.Generation, time.Minute)
	for err == nil && len(after.Members) > 1 { // until the millisecond is over
		after, err = b.Beat(ctx, vb.Generation, time.Minute)
	}
	if err != nil || len(after.Members) != 1 || after.Generation <= vb.Generation {
		t.Fatalf("b sees %+v, %v", after, err)
	}
	if err := commit(a); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a writes on: %v", err)
	}
	if err := a.CreateAccount(ctx, &account.Account{ID: "acct_1"}, store.Trail{}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a changes on: %v", err)
	}
	if _, err := a.Beat(ctx, 0, time.Minute); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a renews its lease: %v", err)
	}
	if err := commit(b); err != nil {
		t.Error(err)
	}
	if err := b.Leave(ctx); err != nil {
		t.Error(err)
	}
	if err := commit(b); !errors.Is(err, store.ErrFenced) {
		t.Errorf("b writes after it left: %v", err)
	}
}

func newAppend(keys *event.Keys) *store.Append {
	key := keys.Next()
	return &store.Append{Event: event.Event{Key: key, Nonce: 1, ID: event.FormatID(event.PrefixEvent, key, 1), Space: 2, Type: "a.b", Created: 1, Body: []byte(`{}`)}}
}

// What one node changes, the others get to know, and hear of.
func TestChanges(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url := database(t, template)
	a, b := open(t, url), open(t, url)
	start, err := b.Changes(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	acct := account.Account{ID: "acct_1", Name: "n"}
	if err := a.CreateAccount(ctx, &acct, store.Trail{}); err != nil {
		t.Fatal(err)
	}
	key, _ := account.NewKey("key_1", "sk_test_1234567890abcdef", "n", acct.No, time.UnixMilli(1))
	if err := a.CreateKey(ctx, &key, store.Trail{}); err != nil {
		t.Fatal(err)
	}
	c, err := b.Changes(ctx, start.Version)
	if err != nil || len(c.Accounts) != 1 || len(c.Keys) != 1 || c.Accounts[0].ID != acct.ID || c.Keys[0].ID != key.ID {
		t.Fatalf("b sees %+v, %v", c, err)
	}
	if err := a.UseKeys(ctx, map[string]time.Time{key.ID: time.Now()}); err != nil { // of no interest
		t.Fatal(err)
	}
	if again, err := b.Changes(ctx, c.Version); err != nil || again.Version != c.Version || len(again.Keys) != 0 {
		t.Errorf("b sees again %+v, %v", again, err)
	}

	heard := make(chan string, 100)
	listening, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.Hear(listening, func(m string) { heard <- m }) }()
	for said := false; !said; {
		if err := a.Tell(ctx, "hello"); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-heard:
			said = m == "hello"
		case <-time.After(50 * time.Millisecond): // it does not listen yet
		case <-ctx.Done():
			t.Fatal("nothing was heard")
		}
	}
	stop()
	<-done
}

// Several nodes can start at once on an empty database.
func TestOpen_together(t *testing.T) {
	for range 5 {
		url := database(t, "")
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				s, err := postgres.Open(context.Background(), url, testRing)
				if err == nil {
					_, err = s.Join(context.Background(), time.Minute)
					err = errors.Join(err, s.Close())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// A node that starts waits for a lock on a table that it needs a partition of, past the time
// after which it would leave the table to others.
func TestOpen_waitsForPartitions(t *testing.T) {
	ctx := context.Background()
	url := database(t, template) // which has no partitions yet
	conn := connect(t, url)
	for _, query := range []string{"BEGIN", "LOCK TABLE events IN ACCESS EXCLUSIVE MODE"} {
		if _, err := conn.Exec(ctx, query); err != nil {
			t.Fatal(query, err)
		}
	}
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(ctx, url, testRing)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	watch := connect(t, url)
	waiting := func(want bool) {
		t.Helper()
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			var n int
			if err := watch.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n > 0 == want {
				tick.Stop()
				return
			}
			select {
			case err := <-opened:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
		}
	}
	waiting(true)
	waiting(false) // it gave the lock up
	waiting(true)
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// After a while in which nobody could renew a lease, none is taken for dead.
func TestBeat_afterAnOutage(t *testing.T) {
	ctx := context.Background()
	url := database(t, template)
	a, b := open(t, url), open(t, url)
	const lease = 300 * time.Millisecond
	for _, s := range []store.Nodes{a, b} {
		if _, err := s.Join(ctx, lease); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(2 * lease)
	for _, s := range []store.Nodes{a, b, a} {
		if v, err := s.Beat(ctx, 0, lease); err != nil || len(v.Members) != 2 {
			t.Errorf("after the outage: %+v, %v", v, err)
		}
	}
	for end := time.Now().Add(time.Minute); ; { // now one beats, and the other does not
		v, err := a.Beat(ctx, 0, lease)
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", v, err)
		}
		if len(v.Members) == 1 {
			break
		}
	}
}
