package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
	"github.com/posthaste-hq/posthaste/internal/store/storetest"
)

func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), dir)
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

func newAppend(keys *event.Keys, size int) *store.Append {
	key := keys.Next()
	id := event.FormatID(event.PrefixEvent, key, 1)
	return &store.Append{
		Event:      event.Event{Key: key, Nonce: 1, ID: id, Space: 2, Type: "a.b", Created: 1, Body: []byte(`{"x":"` + strings.Repeat("x", size) + `"}`)},
		Deliveries: []delivery.Delivery{delivery.New(delivery.ID{Event: key, Endpoint: 1}, 2)},
	}
}

func TestOpen_secondIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := sqlite.Open(context.Background(), dir)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unavailable || f.Reason != "data_directory_in_use" || f.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestOpen_again(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	a := newAppend(event.NewKeys(time.Now, 0), 10)
	if err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{a}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(context.Background(), &store.Batch{}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("a closed store says %v", err)
	}
	got, err := open(t, dir).Event(context.Background(), 2, a.Event.ID)
	if err != nil || string(got.Body) != string(a.Event.Body) {
		t.Errorf("after opening again: %+v, %v", got, err)
	}
}

func TestOpen_newerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlite.Open(context.Background(), dir)
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
	if _, err := sqlite.Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("got %v", err)
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

// A full file refuses a batch whole, keeps what it had, and goes on once there is
// room.
func TestCommit_full(t *testing.T) {
	s := open(t, t.TempDir())
	keys := event.NewKeys(time.Now, 0)
	before := newAppend(keys, 10)
	if err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{before}}); err != nil {
		t.Fatal(err)
	}
	room := sqlite.LimitPages(t, s, 60)
	small, large := newAppend(keys, 10), newAppend(keys, 1<<20)
	err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{small, large}})
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unavailable || !strings.Contains(f.Hint, "disk space") {
		t.Fatalf("got %v", err)
	}
	for _, a := range []*store.Append{small, large} {
		if _, err := s.Event(context.Background(), 2, a.Event.ID); fault.CodeOf(err) != fault.NotFound {
			t.Errorf("half-written: %v", err)
		}
	}
	room()
	if err := s.Commit(context.Background(), &store.Batch{Appends: []*store.Append{small, large}}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for _, a := range []*store.Append{before, small, large} {
		if _, err := s.Event(context.Background(), 2, a.Event.ID); err != nil {
			t.Errorf("%v", err)
		}
	}
}
