package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second
)

// Run takes messages from sources until ctx ends, and keeps at it when a broker is away.
// take stores what a message says, as the body of a request to send an event, for the
// source's account; it returns [ErrRefused] for what can never be stored. interrupted is
// called when a source has to be asked again.
func (n Named) Run(ctx context.Context, sources []SourceSpec, log *slog.Logger, take func(ctx context.Context, s SourceSpec, body []byte) error, interrupted func(SourceSpec)) {
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() {
			var failing atomic.Bool // tell once, not of each message
			for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, longestPause) {
				err := n[s.Broker].Consume(ctx, s.Address, func(ctx context.Context, m Message) error {
					pause = firstPause
					err := take(ctx, s, identified(s, m))
					switch {
					case err == nil:
						failing.Store(false)
					case errors.Is(err, ErrRefused):
						log.Warn("message refused", "source", s.String(), "message", m.ID, "err", err)
					case ctx.Err() == nil && !failing.Swap(true):
						log.Warn("messages cannot be stored; they will come again", "source", s.String(), "err", err)
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

// identified gives an event without an id one that comes from the message, so that a
// message that comes again makes no second event.
func identified(s SourceSpec, m Message) []byte {
	var has struct{ ID *json.RawMessage }
	body := bytes.TrimLeft(m.Body, " \t\r\n")
	if m.ID == "" || len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &has) != nil || has.ID != nil {
		return m.Body
	}
	sum := sha256.Sum256([]byte(s.Broker + "/" + s.Address + "\x00" + m.ID))
	id := `{"id":"evt_` + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20])) + `"`
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	if rest[0] != '}' {
		id += ","
	}
	return append([]byte(id), rest...)
}
