package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/httpapi/apitest"
)

// world is the real API over a real store, reached without a network, so that the test controls
// time and can fail requests.
type world struct {
	t   *testing.T
	api http.Handler

	mu       sync.Mutex
	fault    func(n int, next http.Handler, w http.ResponseWriter, r *http.Request) error // of the nth request, from 0
	requests []seen
}

// seen is a request as it was sent.
type seen struct {
	at     time.Time
	events int
	header http.Header
}

func newWorld(t *testing.T) *world { return &world{t: t, api: apitest.New(t)} }

// RoundTrip implements [http.RoundTripper].
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body, r.RequestURI, r.RemoteAddr = io.NopCloser(strings.NewReader(string(body))), r.URL.RequestURI(), "192.0.2.1:1"
	var sent struct{ Events []json.RawMessage }
	_ = json.Unmarshal(body, &sent)
	w.mu.Lock()
	n, fault := len(w.requests), w.fault
	w.requests = append(w.requests, seen{time.Now(), len(sent.Events), r.Header})
	w.mu.Unlock()
	answer := httptest.NewRecorder()
	if fault != nil {
		if err := fault(n, w.api, answer, r); err != nil {
			return nil, err
		}
	} else {
		w.api.ServeHTTP(answer, r)
	}
	return answer.Result(), nil
}

func (w *world) sent() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests
}

func (w *world) client(opts Options) *Client {
	w.t.Helper()
	opts.HTTP = &http.Client{Transport: w}
	c, err := New("https://posthaste.example", apitest.Key, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	c.random = func() float64 { return 0.5 }
	w.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Close(ctx)
	})
	return c
}

// stored returns the ids of all events in the server's store, oldest first.
func (w *world) stored() []string { return apitest.Stored(w.t, w.api) }

func payment(n int) Event {
	return Event{Type: "payment.succeeded", ID: fmt.Sprintf("evt_%016d", n), Object: map[string]any{"n": n}}
}
