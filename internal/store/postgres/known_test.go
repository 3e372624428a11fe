package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// A batch of a hundred events takes as many statements as one of a single event, each with an
// id and an idempotency key of the sender's.
func TestCommit_statements(t *testing.T) {
	ctx := context.Background()
	s, proxy := behindProxy(t, database(t, template))
	keys := event.NewKeys(time.Now, 0)
	sent := 0
	commit := func(events int) (statements int) {
		t.Helper()
		b := &store.Batch{}
		for range events {
			sent++
			a := newAppend(keys)
			a.Event.ID, a.Event.Custom = fmt.Sprintf("evt_own_%012d", sent), true
			a.Receipt = &store.Receipt{Space: a.Event.Space, Key: a.Event.ID, Status: 200, Body: []byte("{}"), Created: time.Now()}
			b.Appends = append(b.Appends, a)
		}
		before := proxy.Statements()
		if err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		for _, a := range b.Appends {
			if a.Refused() {
				t.Errorf("refused: %+v", a)
			}
		}
		return proxy.Statements() - before
	}
	commit(1)
	if one, many := commit(1), commit(100); many != one {
		t.Errorf("%d statements with one event, %d with a hundred", one, many)
	}
}
