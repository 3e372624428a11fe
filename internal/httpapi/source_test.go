package httpapi_test

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Events of a message broker count against the account's rate limit; beyond it they wait
// instead of being refused.
func TestTakeEvent_rateLimit(t *testing.T) {
	w := newWorld(t)
	id := w.account.ID
	w.must("POST", "/v1/accounts/"+id, `{"rate_limit":60}`, with(adminKey)...)
	w.pass(time.Hour)
	take := func(ctx context.Context) error {
		return w.service.TakeEvent(ctx, id, false, "", []byte(`{"type":"a.b","data":{"object":{}}}`))
	}
	for range 60 {
		if err := take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := take(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("an event beyond the limit: %v", err)
	}
	w.pass(time.Minute)
	if err := take(t.Context()); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}
