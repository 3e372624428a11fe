package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Attempts are written in random order, so that pages are split while they contain rows that
// are erased later, and updates leave copies of rows. Afterwards no file contains any of them.
func TestOverwrite(t *testing.T) {
	const events = 1500
	dir, ctx := t.TempDir(), context.Background()
	s, keys, at := open(t, dir), event.NewKeys(time.Now, 0), time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	var all []*store.Append
	for range events {
		a := newAppend(keys, 10)
		a.Event.Body = []byte(`{"marker":"` + mark(a.Event.Key) + strings.Repeat("x", random.IntN(3000)) + `"}`)
		all = append(all, a)
	}
	commit := func(b *store.Batch) {
		t.Helper()
		if err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	commit(&store.Batch{Appends: all})
	for _, i := range random.Perm(events) {
		d := all[i].Deliveries[0]
		attempt := delivery.Attempt{Number: 1, Started: at, Outcome: delivery.OutcomeSucceeded, ResponseBody: []byte(mark(d.ID.Event) + strings.Repeat("y", random.IntN(900)))}
		d.State = delivery.Succeeded
		commit(&store.Batch{Settlements: []store.Settlement{{Delivery: d, Attempt: &attempt}}})
	}
	erased := map[event.Key]bool{}
	for _, a := range all {
		if random.IntN(4) > 0 {
			continue
		}
		erased[a.Event.Key] = true
		if _, err := s.EraseEvent(ctx, 2, a.Event.ID, at, func(*event.Event) (store.Trail, error) { return store.Trail{}, nil }); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.EraseAttempts(ctx, a.Event.Key, 0, at, 10); err != nil {
			t.Fatal(err)
		}
	}
	before := found(t, dir, erased)
	if err := s.Overwrite(ctx); err != nil {
		t.Fatal(err)
	}
	if after := found(t, dir, erased); before == 0 || after != 0 {
		t.Errorf("markers of %d erased events are found %d times, %d times before they were overwritten", len(erased), after, before)
	}
	kept := map[event.Key]bool{}
	for _, a := range all {
		kept[a.Event.Key] = !erased[a.Event.Key]
	}
	if n := found(t, dir, kept); n < 2*(events-len(erased)) { // one in the body, one in the response
		t.Errorf("markers of %d other events are found %d times", events-len(erased), n)
	}
	var result string
	if err := s.DB.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Errorf("integrity: %s, %v", result, err)
	}
}

func mark(k event.Key) string { return fmt.Sprintf("<%016x>", int64(k)) }

// found counts the markers of events in the files of a directory.
func found(t *testing.T, dir string, of map[event.Key]bool) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := bytes.IndexByte(content, '<'); i >= 0 && i+18 <= len(content); {
			var k int64
			if _, err := fmt.Sscanf(string(content[i:i+18]), "<%016x>", &k); err == nil && of[event.Key(k)] {
				n++
			}
			next := bytes.IndexByte(content[i+1:], '<')
			if next < 0 {
				break
			}
			i += 1 + next
		}
	}
	return n
}
