//go:build unix

package sqlite_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// The operating system refuses to write, in the middle of a transaction. The limit that causes
// this applies to a whole process, so the test runs in a separate one.
func TestCommit_writeError(t *testing.T) {
	const inside = "POSTHASTE_TEST_WRITE_ERROR"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCommit_writeError$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ) // then the write fails instead
	ctx, dir, keys := context.Background(), t.TempDir(), event.NewKeys(time.Now, 0)
	s := open(t, dir)
	var kept []*store.Append
	commit := func(sizes ...int) error {
		b := &store.Batch{}
		for _, size := range sizes {
			b.Appends = append(b.Appends, newAppend(keys, size))
		}
		err := s.Commit(ctx, b)
		if err == nil {
			kept = append(kept, b.Appends...)
		}
		return err
	}
	if err := commit(100); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, sqlite.FileName+"-wal"))
	if err != nil {
		t.Fatal(err)
	}
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &usual); err != nil {
		t.Fatal(err)
	}
	limit := usual
	limit.Cur = uint64(info.Size())
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); fault.CodeOf(err) != fault.Unavailable || !errors.Is(err, store.ErrMedium) {
		t.Errorf("nothing can be written, and Ready says %v", err)
	}
	limit.Cur += 50_000
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := commit(100, 100_000, 100); fault.CodeOf(err) != fault.Unavailable || !errors.Is(err, store.ErrMedium) {
			t.Errorf("got %v", err)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &usual); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(ctx); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := commit(100, 100_000, 100); err != nil {
		t.Errorf("when it can again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, dir)
	items, _, err := s.ListEvents(ctx, 2, store.EventFilter{}, store.Page[event.Key]{Limit: 100})
	if err != nil || len(items) != len(kept) || len(kept) != 4 {
		t.Errorf("%d events are kept, want %d of 4: %v", len(items), len(kept), err)
	}
	for i, e := range items {
		if want := kept[len(kept)-1-i].Event; e.ID != want.ID || string(e.Body) != string(want.Body) {
			t.Errorf("event %s came back as %s or with another body", want.ID, e.ID)
		}
	}
}
