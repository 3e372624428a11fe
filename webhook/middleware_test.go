package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/webhook"
)

const middlewareSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func deliver(ctx context.Context, h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Payment-Signature", webhook.Sign(middlewareSecret, []byte(body)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A sender without a response in time sends the event again while the first request is
// processed.
func TestMiddleware_sameEventAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first         int // the response of the handler to the first request
		calls, second int
	}{
		{"the first succeeds", 200, 1, 200},
		{"the first fails", 500, 2, 204},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				finish := make(chan struct{})
				var mu sync.Mutex
				calls := 0
				h := verifier(t, 1000, middlewareSecret).Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					mu.Lock()
					calls++
					n := calls
					mu.Unlock()
					if n == 1 {
						<-finish
						w.WriteHeader(tt.first)
						return
					}
					w.WriteHeader(http.StatusNoContent)
				}), webhook.WithSeen(webhook.NewMemory(time.Hour)))
				const body = `{"id":"evt_1"}`
				var one, two, gone *httptest.ResponseRecorder
				go func() { one = deliver(t.Context(), h, body) }()
				synctest.Wait()
				go func() { two = deliver(t.Context(), h, body) }()
				ctx, cancel := context.WithCancel(t.Context())
				go func() { gone = deliver(ctx, h, body) }()
				synctest.Wait()
				if calls != 1 || two != nil {
					t.Fatalf("%d calls while the first is worked on", calls)
				}
				cancel()
				synctest.Wait()
				if gone == nil {
					t.Error("a client that has gone is waited for")
				}
				if other := deliver(t.Context(), h, `{"id":"evt_2"}`); other.Code != http.StatusNoContent {
					t.Errorf("another event meanwhile: %d", other.Code)
				}
				calls-- // do not count the call for the other event
				close(finish)
				synctest.Wait()
				if one.Code != tt.first || two.Code != tt.second || calls != tt.calls {
					t.Errorf("first %d, second %d, %d calls; want %d, %d, %d", one.Code, two.Code, calls, tt.first, tt.second, tt.calls)
				}
			})
		})
	}
}

func TestMiddleware_panicIsNotProcessed(t *testing.T) {
	calls := 0
	h := verifier(t, 1000, middlewareSecret).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if calls++; calls == 1 {
			panic("handler")
		}
	}), webhook.WithSeen(webhook.NewMemory(time.Hour)))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		deliver(t.Context(), h, `{"id":"evt_1"}`)
	}()
	if w := deliver(t.Context(), h, `{"id":"evt_1"}`); w.Code != 200 || calls != 2 {
		t.Errorf("after a panic: %d after %d calls", w.Code, calls)
	}
}

// For a body without an id, a signed webhook-id is used, and an unsigned one is not.
func TestMiddleware_idOfTheHeader(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signed bool
		calls  int
	}{{"signed", true, 1}, {"not signed", false, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			h := verifier(t, 1000, middlewareSecret).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }),
				webhook.WithSeen(webhook.NewMemory(time.Hour)))
			body := []byte(`{"type":"payment.succeeded"}`)
			for range 2 {
				r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
				r.Header.Set("Webhook-Id", "evt_1")
				if tt.signed {
					signature, err := webhook.SignStandard(middlewareSecret, "evt_1", time.Unix(1000, 0), body)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Webhook-Timestamp", strconv.Itoa(1000))
					r.Header.Set("Webhook-Signature", signature)
				} else {
					r.Header.Set("Payment-Signature", webhook.Sign(middlewareSecret, body))
				}
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 200 {
					t.Errorf("answer %d", w.Code)
				}
			}
			if calls != tt.calls {
				t.Errorf("%d calls, want %d", calls, tt.calls)
			}
		})
	}
}

// brokenSeen returns the errors that it is given.
type brokenSeen struct{ look, mark error }

func (b brokenSeen) Processed(context.Context, string) (bool, error) { return false, b.look }
func (b brokenSeen) MarkProcessed(context.Context, string) error     { return b.mark }

func TestMiddleware_storeFails(t *testing.T) {
	for _, tt := range []struct {
		name  string
		seen  brokenSeen
		code  int
		calls int
	}{
		{"when looked up, the sender tries again", brokenSeen{look: errors.New("down")}, 503, 0},
		{"when marked, the event was processed all the same", brokenSeen{mark: errors.New("down")}, 200, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			h := verifier(t, 1000, middlewareSecret).Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }),
				webhook.WithSeen(tt.seen), webhook.WithLogger(slog.New(slog.DiscardHandler)))
			if w := deliver(t.Context(), h, `{"id":"evt_1"}`); w.Code != tt.code || calls != tt.calls {
				t.Errorf("answer %d after %d calls", w.Code, calls)
			}
		})
	}
}

func TestMiddleware_logsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	h := verifier(t, 1000, middlewareSecret).Middleware(http.NotFoundHandler(), webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	forged := strings.Repeat("ab", 32)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"card":"4242"}`))
	r.Header.Set("Payment-Signature", forged)
	h.ServeHTTP(httptest.NewRecorder(), r)
	line := log.String()
	if !strings.Contains(line, "webhook refused") || !strings.Contains(line, "remote=") {
		t.Errorf("log: %s", line)
	}
	for _, secret := range []string{"whsec_", "4242", forged} {
		if strings.Contains(line, secret) {
			t.Errorf("the log holds %s: %s", secret, line)
		}
	}
}
