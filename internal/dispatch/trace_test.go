package dispatch_test

import (
	"fmt"
	"hash"
	"hash/fnv"
	"os"
	"sync"
	"time"
)

// trace is a hash of all events of a world, in order. Two runs with the same hash had the same
// events.
type trace struct {
	began time.Time
	show  bool

	mu    sync.Mutex
	sum   hash.Hash64
	steps int
}

func newTrace(show bool) *trace { return &trace{began: time.Now(), show: show, sum: fnv.New64a()} }

func (t *trace) note(format string, args ...any) {
	line := fmt.Sprintf("%d ", time.Since(t.began)) + fmt.Sprintf(format, args...) + "\n"
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps++
	_, _ = t.sum.Write([]byte(line)) // never fails
	if t.show {
		_, _ = os.Stdout.WriteString(line)
	}
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%016x after %d steps", t.sum.Sum64(), t.steps)
}
