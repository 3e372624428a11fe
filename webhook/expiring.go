package webhook

import (
	"context"
	"time"
)

// KeyValue is the part of a store with expiring keys, such as Redis, that [Expiring] uses. An
// adapter of a client is a few lines: EXISTS key, and SET key 1 EX seconds.
type KeyValue interface {
	Exists(ctx context.Context, key string) (bool, error)
	SetFor(ctx context.Context, key string, life time.Duration) error
}

// Expiring is a [Seen] in a store with expiring keys. Use [NewExpiring].
type Expiring struct {
	kv     KeyValue
	prefix string
	life   time.Duration
}

// NewExpiring returns a store whose keys begin with prefix and expire after life, which should
// be longer than the sender's retries.
func NewExpiring(kv KeyValue, prefix string, life time.Duration) *Expiring {
	return &Expiring{kv, prefix, life}
}

// Processed implements [Seen].
func (e *Expiring) Processed(ctx context.Context, id string) (bool, error) {
	return e.kv.Exists(ctx, e.prefix+id)
}

// MarkProcessed implements [Seen].
func (e *Expiring) MarkProcessed(ctx context.Context, id string) error {
	return e.kv.SetFor(ctx, e.prefix+id, e.life)
}
