package webhook

import (
	"context"
	"sync"
	"time"
)

// MemoryIDs is the most events that a [Memory] stores.
const MemoryIDs = 1_000_000

// Memory is a [Seen] in memory. It forgets events after a while, and the oldest ones if there
// are more than [MemoryIDs]. Use [NewMemory].
type Memory struct {
	life time.Duration
	most int
	now  func() time.Time

	mu    sync.Mutex
	ids   map[string]time.Time
	order []string // oldest first
}

// NewMemory returns a memory that forgets an event after life, which should be longer than the
// sender's retries.
func NewMemory(life time.Duration) *Memory {
	return &Memory{life: life, most: MemoryIDs, now: time.Now, ids: map[string]time.Time{}}
}

// Processed implements [Seen].
func (m *Memory) Processed(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(0)
	_, ok := m.ids[id]
	return ok, nil
}

// MarkProcessed implements [Seen].
func (m *Memory) MarkProcessed(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.ids[id]; ok {
		return nil
	}
	m.forget(1)
	m.ids[id] = m.now()
	m.order = append(m.order, id)
	return nil
}

// forget removes expired events, and the oldest ones to make room for more.
func (m *Memory) forget(more int) {
	old := m.now().Add(-m.life)
	n := 0
	for n < len(m.order) && (m.ids[m.order[n]].Before(old) || len(m.order)-n+more > m.most) {
		delete(m.ids, m.order[n])
		n++
	}
	m.order = m.order[n:]
}
