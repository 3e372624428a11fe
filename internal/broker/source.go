package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second
)

// Run takes messages from sources until ctx ends, and retries while a broker is unavailable.
// take stores the event of a message, given as the body of a request, for the source's account,
// once for each key that is not empty; it returns [ErrRefused] for a message that can never be
// stored. interrupted is called when the connection of a source breaks.
func (n Named) Run(ctx context.Context, sources []SourceSpec, log *slog.Logger, take func(ctx context.Context, s SourceSpec, key string, body []byte) error, interrupted func(SourceSpec)) {
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() {
			var failing atomic.Bool // log once, and not for each message
			for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
				err := n[s.Broker].Consume(ctx, s.Address, func(ctx context.Context, m Message) error {
					pause = firstPause
					key, body := identified(s, m)
					err := take(ctx, s, key, body)
					switch {
					case err == nil:
						failing.Store(false)
					case errors.Is(err, ErrRefused):
						log.Warn("message refused", "source", s.String(), "message", m.ID, "err", err)
					case ctx.Err() == nil && !failing.Swap(true):
						log.Warn("messages cannot be stored; the broker redelivers them", "source", s.String(), "err", err)
					}
					return err
				})
				if ctx.Err() != nil {
					return
				}
				interrupted(s)
				log.Warn("source interrupted", "source", s.String(), "err", err, "again_in", pause)
				t := time.NewTimer(pause)
				select {
				case <-t.C:
				case <-ctx.Done():
					t.Stop()
				}
			}
		})
	}
	wg.Wait()
}

// identified adds an id to an event without one. The id is derived from the message's id and
// time, so that a redelivered message creates no second event. For a message without a time,
// it returns a key for deduplication instead, and the server generates the id.
func identified(s SourceSpec, m Message) (key string, body []byte) {
	var members map[string]json.RawMessage
	body = bytes.TrimLeft(m.Body, " \t\r\n")
	if m.ID == "" || len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &members) != nil {
		return "", m.Body
	}
	own, has := members["id"]
	if has && string(own) != "null" {
		return "", m.Body
	}
	sum := sha256.Sum256([]byte(s.Broker + "/" + s.Address + "\x00" + m.ID))
	if m.Time.IsZero() || has {
		return hex.EncodeToString(sum[:]), m.Body
	}
	id := `{"id":"` + event.DerivedID(event.PrefixEvent, m.Time, sum) + `"`
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	if rest[0] != '}' {
		id += ","
	}
	return "", append([]byte(id), rest...)
}
