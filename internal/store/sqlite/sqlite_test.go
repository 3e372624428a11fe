package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
	"github.com/posthaste-hq/posthaste/internal/store/storetest"
)

func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()) })
}

// A directory has one handle; other tests check that two cannot share it.
func TestContract_shared(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (one, other store.Store) {
		s := open(t, t.TempDir())
		return s, s
	})
}

// noise cannot be compressed.
func noise(size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return string(b)
}

func newAppend(keys *event.Keys, size int) *store.Append {
	key := keys.Next()
	id := event.FormatID(event.PrefixEvent, key, 1)
	return &store.Append{
		Event:      event.Event{Key: key, Nonce: 1, ID: id, Space: 2, Type: "a.b", Created: 1, Body: []byte(`{"x":"` + noise(size) + `"}`)},
		Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: 1}, 2)},
	}
}

func TestOpen_secondIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := sqlite.Open(context.Background(), dir, testRing)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unavailable || f.Reason != "data_directory_in_use" || f.Hint == "" {
		t.Errorf("got %v", err)
	}
}

// All data outlives the process, whether it closed the store or not.
func TestOpen_again(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, s *sqlite.Store, dir string) (next string)
	}{
		{"Closed", func(t *testing.T, s *sqlite.Store, dir string) string {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"Killed", func(t *testing.T, s *sqlite.Store, dir string) string {
			next := t.TempDir() // the files at this moment
			for _, name := range []string{sqlite.FileName, sqlite.FileName + "-wal"} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(next, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { _ = s.Close() })
			return next
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, dir, at := context.Background(), t.TempDir(), time.UnixMilli(1700000000123)
			s, err := sqlite.Open(ctx, dir, testRing)
			if err != nil {
				t.Fatal(err)
			}
			acct := account.Account{ID: "acct_1", Name: "n", Created: at}
			k, _ := account.NewKey("key_1", account.NewSecret(account.PrefixTest), "k", 1, at)
			e := endpoint.Endpoint{ID: "we_1", Space: 2, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"}}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: at},
				Secrets: []endpoint.Secret{endpoint.NewSecret("sec_1", at.UTC())}, Created: at, Updated: at}
			keys := event.NewKeys(time.Now, 0)
			done, waiting := newAppend(keys, 10), newAppend(keys, 10)
			done.Receipt = &store.Receipt{Space: 2, Key: "k", Status: 200, Body: []byte("x"), Created: at}
			d := done.Deliveries[0]
			attempt := delivery.Attempt{Number: 1, Started: at, Outcome: delivery.OutcomeSucceeded, StatusCode: 200, ResponseBody: []byte("ok")}
			d.Settle(&attempt, delivery.Policy{}, at)
			for _, err := range []error{s.CreateAccount(ctx, &acct, store.Trail{}), s.CreateKey(ctx, &k, store.Trail{}), s.CreateEndpoint(ctx, &e, store.Trail{}),
				s.Commit(ctx, &store.Batch{Appends: []*store.Append{done, waiting}}),
				s.Commit(ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &attempt}}, Health: []store.Health{{Endpoint: 1, Breaker: delivery.Breaker{Failures: 2}}}}),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}

			s = open(t, tt.end(t, s, dir))
			same := func(what string, want any) func(got any, err error) {
				return func(got any, err error) {
					t.Helper()
					if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); err != nil || g != w {
						t.Errorf("%s: %v\n got %s\nwant %s", what, err, g, w)
					}
				}
			}
			a, err := s.Account(ctx, acct.ID)
			same("account", acct)(a, err)
			allKeys, err := s.AllKeys(ctx)
			same("keys", []account.Key{k})(allKeys, err)
			w, err := s.Endpoint(ctx, 2, e.ID)
			same("endpoint", e)(w, err)
			ev, err := s.Event(ctx, 2, done.Event.ID)
			same("event", done.Event)(ev, err)
			v, err := s.Delivery(ctx, 2, d.ID)
			same("delivery", d)(v.Delivery, err)
			attempts, _, err := s.ListAttempts(ctx, d.ID, store.AttemptFilter{}, store.Page[int]{Limit: 10})
			same("attempts", []delivery.Attempt{attempt})(attempts, err)
			r, err := s.Receipt(ctx, 2, "k")
			same("receipt", *done.Receipt)(r, err)
			health, err := s.AllHealth(ctx)
			same("health", []store.Health{{Endpoint: 1, Breaker: delivery.Breaker{Failures: 2}}})(health, err)
			outgoing, err := s.LoadLane(ctx, store.LaneScan{Endpoint: 1, Limit: 10, MaxBytes: 1 << 20})
			same("waiting", []delivery.Outgoing{{Delivery: waiting.Deliveries[0], EventID: waiting.Event.ID, Type: "a.b", Body: waiting.Event.Body}})(outgoing, err)
			last, err := s.LastKey(ctx)
			same("last key", waiting.Event.Key)(last, err)
			if err := s.Commit(ctx, &store.Batch{Appends: []*store.Append{newAppend(keys, 10)}}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A commit during a failure of the file system may be undone by the next start: it is not
// acknowledged, and neither is it by the receipt of the request. (./e2e has a real one,
// TestFault_readOnlyRemount.)
func TestCommit_fileSystemBreaksDown(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir)
	keys := event.NewKeys(time.Now, 0)
	receipt := func(key string) *store.Receipt {
		return &store.Receipt{Space: 2, Key: key, Status: 200, Body: []byte("{}"), Created: time.Now()}
	}
	before, after := newAppend(keys, 1), newAppend(keys, 1)
	before.Receipt, after.Receipt = receipt("before"), receipt("after")
	if err := s.Commit(ctx, &store.Batch{Appends: []*store.Append{before}}); err != nil {
		t.Fatal(err)
	}
	sqlite.BreakDown(s)
	if err := s.Commit(ctx, &store.Batch{Appends: []*store.Append{after}}); !fault.Is(err, fault.Unsure) || !errors.Is(err, store.ErrMedium) {
		t.Errorf("committed with %v", err)
	}
	for _, key := range []string{"before", "after"} {
		if _, err := s.Receipt(ctx, 2, key); !fault.Is(err, fault.Unsure) {
			t.Errorf("the receipt of what was done %s: %v", key, err)
		}
	}
	if err := s.Ready(ctx); !fault.Is(err, fault.Unsure) {
		t.Errorf("ready: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := s.Receipt(ctx, 2, "before"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s, err := sqlite.Open(context.Background(), t.TempDir(), testRing)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Commit(context.Background(), &store.Batch{}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("Commit says %v", err)
	}
	if err := s.Ready(context.Background()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("Ready says %v", err)
	}
	if _, err := s.LastKey(context.Background()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("LastKey says %v", err)
	}
}

func TestOpen_oddDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%20e&f=é")
	s := open(t, dir)
	if err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{newAppend(event.NewKeys(time.Now, 0), 10)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, sqlite.FileName)); err != nil {
		t.Error(err)
	}
}

func TestOpen_pageSize(t *testing.T) {
	if n := sqlite.PageSize(t, open(t, t.TempDir())); n != 8192 {
		t.Errorf("pages of %d bytes; the driver runs pragmas in an order of its own", n)
	}
}

func TestOpen_newerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the refused one holds no lock
		_, err := sqlite.Open(context.Background(), dir, testRing)
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Unavailable || f.Hint == "" || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("got %v", err)
		}
	}
}

func TestFiles_arePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir)
	if err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{newAppend(event.NewKeys(time.Now, 0), 10)}}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

// A full file refuses a whole batch, keeps its data, and continues when it can.
func TestCommit_refused(t *testing.T) {
	for _, tt := range []struct {
		name, hint string
		refuse     func(*testing.T, *sqlite.Store) (lift func())
	}{
		{"Full", "disk space", func(t *testing.T, s *sqlite.Store) func() { return sqlite.LimitPages(t, s, 60) }},
		{"ReadOnly", "writable", sqlite.RefuseWrites},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, s, keys := context.Background(), open(t, t.TempDir()), event.NewKeys(time.Now, 0)
			before := newAppend(keys, 10)
			if err := s.Commit(ctx, &store.Batch{Appends: []*store.Append{before}}); err != nil {
				t.Fatal(err)
			}
			small, large := newAppend(keys, 10), newAppend(keys, 1<<20)
			small.Receipt = &store.Receipt{Space: 2, Key: "k", Status: 200, Created: time.Now()}
			done := before.Deliveries[0]
			attempt := delivery.Attempt{Number: 1, Started: time.Now(), Outcome: delivery.OutcomeSucceeded}
			done.Settle(&attempt, delivery.Policy{}, time.Now())
			batch := &store.Batch{Appends: []*store.Append{small, large}, Settlements: []store.Settlement{{Delivery: done, Attempt: &attempt}}}

			lift := tt.refuse(t, s)
			for range 2 {
				err := s.Commit(ctx, batch)
				var f *fault.Error
				if !errors.As(err, &f) || f.Code != fault.Unavailable || !strings.Contains(f.Hint, tt.hint) || f.RetryAfter == 0 {
					t.Fatalf("got %v", err)
				}
			}
			for _, a := range []*store.Append{small, large} {
				if _, err := s.Event(ctx, 2, a.Event.ID); fault.CodeOf(err) != fault.NotFound {
					t.Errorf("half-written: %v", err)
				}
			}
			if _, err := s.Receipt(ctx, 2, "k"); fault.CodeOf(err) != fault.NotFound {
				t.Errorf("half-written: %v", err)
			}
			if v, err := s.Delivery(ctx, 2, done.ID); err != nil || v.State != delivery.Pending || v.Attempts != 0 {
				t.Errorf("half-written: %+v, %v", v, err)
			}

			lift()
			if err := s.Ready(ctx); err != nil {
				t.Errorf("not ready: %v", err)
			}
			if err := s.Commit(ctx, batch); err != nil {
				t.Errorf("when it can again: %v", err)
			}
			for _, a := range []*store.Append{before, small, large} {
				if got, err := s.Event(ctx, 2, a.Event.ID); err != nil || !bytes.Equal(got.Body, a.Event.Body) {
					t.Errorf("%v", err)
				}
			}
			if v, err := s.Delivery(ctx, 2, done.ID); err != nil || v.State != delivery.Succeeded {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

// Every commit was synced: killing a process cannot show the difference, only a power failure
// can.
func TestOpen_syncsEveryTransaction(t *testing.T) {
	st, err := sqlite.Open(t.Context(), t.TempDir(), testRing)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, want := range map[string]string{"synchronous": "2", "journal_mode": "wal"} {
		if got := sqlite.Pragma(t, st, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
