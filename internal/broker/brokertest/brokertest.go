// Package brokertest has the tests that every broker must pass, against a running one. It is
// linked into no program.
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/broker"
)

// Setup is a broker and the addresses that the tests use.
type Setup struct {
	Broker  broker.Broker
	Sink    string // an address to publish to
	Source  string // an address to consume the messages of Sink from
	Nowhere string // an address whose messages are not stored
	Skips   bool   // only the broker's client skips refused messages
}

const patience = time.Minute

// Run tests a broker.
func Run(t *testing.T, s *Setup) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const messages = 200
	var sent sync.Map
	var wg sync.WaitGroup
	for i := range messages {
		wg.Go(func() {
			m := broker.Message{ID: fmt.Sprintf("evt_%016d", i), Body: []byte(fmt.Sprintf(`{"n":%d,"text":"ü"}`, i)),
				Header: map[string]string{"Webhook-Id": fmt.Sprintf("evt_%016d", i), "Webhook-Signature": "v1,abc v1,def"}}
			receipt, err := s.Broker.Publish(ctx, s.Sink, m)
			if err != nil || receipt == "" {
				t.Errorf("publish: %q, %v", receipt, err)
			}
			sent.Store(string(m.Body), m)
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}

	// Each message fails once, and a tenth is refused for good.
	var mu sync.Mutex
	seen, taken := map[string]int{}, 0
	consuming, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- s.Broker.Consume(consuming, s.Source, func(_ context.Context, m broker.Message) error {
			mu.Lock()
			defer mu.Unlock()
			was, ok := sent.Load(string(m.Body))
			if !ok {
				t.Errorf("there came %s", m.Body)
				return nil
			}
			want := was.(broker.Message)
			for k, v := range want.Header {
				if m.Header[k] != v {
					t.Errorf("header %s is %q, was %q", k, m.Header[k], v)
				}
			}
			if m.ID == "" {
				t.Error("a message without an id")
			}
			seen[string(m.Body)]++
			if taken++; taken == 2*messages {
				defer stop()
			}
			switch {
			case seen[string(m.Body)] == 1 && (taken%10 != 0 || s.Skips):
				return errors.New("not now")
			case seen[string(m.Body)] == 1:
				taken++ // it is not redelivered
				if taken >= 2*messages {
					defer stop()
				}
				return fmt.Errorf("%w: never", broker.ErrRefused)
			}
			return nil
		})
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("%d messages of %d were taken", taken, 2*messages)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != messages {
		t.Errorf("%d of %d messages came", len(seen), messages)
	}
	for body, n := range seen {
		if n > 2 {
			t.Errorf("%s came %d times", body, n)
		}
	}

	if s.Nowhere != "" {
		if receipt, err := s.Broker.Publish(ctx, s.Nowhere, broker.Message{ID: "evt_1", Body: []byte("{}")}); !errors.Is(err, broker.ErrRefused) {
			t.Errorf("publish where nothing is kept: %q, %v", receipt, err)
		}
	}
	if _, err := s.Broker.Publish(ctx, s.Sink, broker.Message{ID: "evt_2", Body: []byte("{}")}); err != nil {
		t.Errorf("publish after a refusal: %v", err)
	}
	if err := s.Broker.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
