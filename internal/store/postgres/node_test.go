package postgres_test

import (
	"context"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
)

// A node can write until another one removes it, and not afterwards.
func TestNodes(t *testing.T) {
	ctx := context.Background()
	url := database(t, template)
	a, b := open(t, url), open(t, url)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	va, err := a.Join(ctx, time.Minute)
	ok(err)
	vb, err := b.Join(ctx, time.Minute)
	ok(err)
	if va.Self == vb.Self || len(vb.Members) != 0 || len(vb.Joining) != 2 {
		t.Errorf("joined as %+v and %+v", va, vb)
	}
	ok(a.Enter(ctx))
	ok(a.Enter(ctx)) // it has entered
	va, err = a.Beat(ctx, store.Part{}, time.Minute)
	ok(err)
	ok(b.Enter(ctx))
	vb, err = b.Beat(ctx, store.Part{}, time.Minute)
	ok(err)
	if len(vb.Members) != 2 || vb.Generation != va.Generation+1 || vb.Settled() {
		t.Errorf("a entered by %+v, b by %+v", va, vb)
	}
	for _, s := range []store.Nodes{a, b} {
		va, err = s.Beat(ctx, store.Part{Acked: vb.Generation}, time.Minute)
		ok(err)
	}
	if !va.Settled() {
		t.Errorf("all acknowledged, and it is not settled: %+v", va)
	}
	part := store.Part{Acked: vb.Generation, Follows: vb.Generation + 1, Released: []byte{1, 0, 255}}
	_, err = a.Beat(ctx, part, time.Minute)
	ok(err)
	vb, err = b.Beat(ctx, store.Part{Acked: vb.Generation}, time.Minute)
	ok(err)
	if !reflect.DeepEqual(vb.Members[0].Part, part) || len(vb.Members[1].Released) != 0 {
		t.Errorf("a told %+v, and b read %+v", part, vb.Members)
	}
	ok(a.Commit(ctx, &store.Batch{Health: []store.Health{{Endpoint: 2, Breaker: delivery.Breaker{Failures: 3}}, {Endpoint: 3}}}))
	if all, err := a.HealthOf(ctx, []int64{1, 2}); err != nil || len(all) != 1 || all[0].Endpoint != 2 || all[0].Breaker.Failures != 3 {
		t.Errorf("the health of 1 and 2 is %+v, %v", all, err)
	}

	keys := event.NewKeys(time.Now, uint8(va.Self))
	commit := func(s store.Store) error {
		return s.Commit(ctx, &store.Batch{Appends: []*store.Append{newAppend(keys)}})
	}
	seen := member(t, b, 0)
	_, err = a.Beat(ctx, store.Part{Acked: vb.Generation}, time.Minute)
	ok(err)
	if removed, err := b.Remove(ctx, seen); removed || err != nil {
		t.Errorf("removed although it has renewed its lease since: %v, %v", removed, err)
	}
	ok(commit(a))
	if removed, err := b.Remove(ctx, member(t, b, 0)); !removed || err != nil {
		t.Errorf("removed: %v, %v", removed, err)
	}
	after, err := b.Beat(ctx, store.Part{Acked: vb.Generation}, time.Minute)
	if err != nil || len(after.Members) != 1 || after.Generation <= vb.Generation {
		t.Fatalf("b sees %+v, %v", after, err)
	}
	if err := commit(a); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a writes on: %v", err)
	}
	if err := a.CreateAccount(ctx, &account.Account{ID: "acct_1"}, store.Trail{}); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a changes on: %v", err)
	}
	if _, err := a.Beat(ctx, store.Part{}, time.Minute); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a renews its lease: %v", err)
	}
	if err := a.Ready(ctx); !errors.Is(err, store.ErrFenced) {
		t.Errorf("a is ready: %v", err)
	}
	ok(commit(b))
	ok(b.Leave(ctx))
	if err := commit(b); !errors.Is(err, store.ErrFenced) {
		t.Errorf("b writes after it left: %v", err)
	}
}

// member returns a node as another node sees it.
func member(t *testing.T, by *postgres.Store, no int) store.Member {
	t.Helper()
	v, err := by.Beat(context.Background(), store.Part{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(v.Members, v.Joining...) {
		if m.No == no {
			return m
		}
	}
	t.Fatalf("there is no node %d in %+v", no, v)
	return store.Member{}
}

// behindProxy opens a store behind a proxy that can become silent.
func behindProxy(t *testing.T, url string) (*postgres.Store, *pgtest.Proxy) {
	t.Helper()
	server, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := server.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	return open(t, proxy.URL(url[strings.LastIndex(url, "/")+1:strings.LastIndex(url, "?")])), proxy
}

// A node that becomes silent at any point, in a transaction or during the renewal of its lease,
// blocks neither the other nodes' leases nor its own removal, and never commits afterwards.
func TestRemove_silent(t *testing.T) {
	for _, statement := range []string{"pg_advisory_xact_lock_shared", "FROM nodes WHERE no", "INSERT INTO events", "INSERT INTO event_ids", "^commit$"} {
		t.Run(statement, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			direct := database(t, template)
			a, proxy := behindProxy(t, direct)
			b := open(t, direct)
			for _, s := range []store.Nodes{a, b} {
				if _, err := s.Join(ctx, time.Hour); err != nil {
					t.Fatal(err)
				}
				if err := s.Enter(ctx); err != nil {
					t.Fatal(err)
				}
			}
			keys := event.NewKeys(time.Now, 0)
			named := func() *store.Append {
				p := newAppend(keys)
				p.Event.ID, p.Event.Custom = "evt_own_"+p.Event.ID, true
				return p
			}
			if err := a.Commit(ctx, &store.Batch{Appends: []*store.Append{named()}}); err != nil {
				t.Fatal(err)
			}
			silent := proxy.SilenceOn(regexp.MustCompile(statement))
			last := named()
			done := make(chan error, 1)
			go func() { done <- a.Commit(ctx, &store.Batch{Appends: []*store.Append{last}}) }()
			<-silent
			m := member(t, b, 0)
			for removed := false; !removed; {
				var err error
				if removed, err = b.Remove(ctx, m); err != nil {
					t.Fatal(err)
				}
			}
			again := named()
			again.Event.ID = last.Event.ID // which it must not block either
			if err := b.Commit(ctx, &store.Batch{Appends: []*store.Append{again}}); err != nil {
				t.Error(err)
			}
			_, err := b.Event(ctx, last.Event.Space, last.Event.ID)
			stored := err == nil && again.Taken != nil
			proxy.Resume()
			if err := <-done; err == nil != (statement == "^commit$" && stored) && !fault.Is(err, fault.Unsure) {
				t.Errorf("the silent node's transaction: %v; its event is stored: %v", err, stored)
			}
			if statement != "^commit$" && stored {
				t.Error("the silent node's event is stored")
			}
			if err := a.Commit(ctx, &store.Batch{Appends: []*store.Append{named()}}); !errors.Is(err, store.ErrFenced) {
				t.Errorf("it writes on: %v", err)
			}
		})
	}
}

// The transaction of a node that becomes silent and is not removed stays open for a second.
func TestCommit_silent(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	direct := database(t, template)
	a, proxy := behindProxy(t, direct)
	b := open(t, direct)
	keys := event.NewKeys(time.Now, 0)
	named := func() *store.Batch {
		p := newAppend(keys)
		p.Event.ID, p.Event.Custom = "evt_the_same_id_at_two_nodes", true
		return &store.Batch{Appends: []*store.Append{p}}
	}
	silent := proxy.SilenceOn(regexp.MustCompile("INSERT INTO event_ids"))
	done := make(chan error, 1)
	go func() { done <- a.Commit(ctx, named()) }()
	<-silent
	again := named()
	if err := b.Commit(ctx, again); err != nil || again.Appends[0].Refused() {
		t.Errorf("the other node: %v, %+v", err, again.Appends[0])
	}
	proxy.Resume()
	if err := <-done; err != nil { // it was repeated, and found the id taken
		t.Error(err)
	}
}

func newAppend(keys *event.Keys) *store.Append {
	key := keys.Next()
	return &store.Append{Event: event.Event{Key: key, Nonce: 1, ID: event.FormatID(event.PrefixEvent, key, 1), Space: 2, Type: "a.b", Created: 1, Body: []byte(`{}`)}}
}

// The other nodes learn of the changes of one node, and are notified.
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
	if err := a.UseKeys(ctx, map[string]time.Time{key.ID: time.Now()}); err != nil { // it is not announced
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
		if err := a.Tell(ctx, store.Message{To: store.AllNodes, Text: "hello"}); err != nil {
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
				s, err := postgres.Open(context.Background(), url, testRing, postgres.Limits{})
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

// A node that starts waits for a lock on a table that needs a partition, longer than the time
// after which it would otherwise give up.
func TestOpen_waitsForPartitions(t *testing.T) {
	ctx := context.Background()
	url := database(t, template) // without partitions
	conn := connect(t, url)
	for _, query := range []string{"BEGIN", "LOCK TABLE events IN ACCESS EXCLUSIVE MODE"} {
		if _, err := conn.Exec(ctx, query); err != nil {
			t.Fatal(query, err)
		}
	}
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(ctx, url, testRing, postgres.Limits{})
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
	waiting(false) // it gave up the lock
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
