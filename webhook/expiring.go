package webhook

import (
	"context"
	"time"
)

// KeyValue is what [Expiring] needs of a store whose keys expire, such as Redis. An
// adapter of a client is a few lines: EXISTS key, and SET key 1 EX seconds.
type KeyValue interface {
	Exists(ctx context.Context, key string) (bool, error)
	SetFor(ctx context.Context, key string, life time.Duration) error
}

// Expiring is a [Seen] in a store whose keys expire. Use [NewExpiring].
type Expiring struct {
	kv     KeyValue
	prefix string
	life   time.Duration
}

// NewExpiring returns a store of keys that begin with prefix and live for life; it
// should be longer than the sender's retries last.
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
