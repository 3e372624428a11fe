package webhook

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
)

// Seen stores which events were processed. Its methods are called concurrently. A good
// implementation is a database table with the id as its key; [Memory] is for a single process.
type Seen interface {
	// Processed reports whether the event was processed before.
	Processed(ctx context.Context, eventID string) (bool, error)
	// MarkProcessed stores that the event was processed.
	MarkProcessed(ctx context.Context, eventID string) error
}

// Middleware returns a handler that passes verified deliveries to next, with the raw body to
// read again. It answers 401 to other deliveries, logs and counts them, and answers 200 without
// calling next if the event was processed before. An event is processed once next has answered
// 2xx; if next panics, it is not. While next processes an event, another delivery of the event
// to this handler waits for the result: senders try again if they get no response in time, and
// the first try may still fail.
func (v *Verifier) Middleware(next http.Handler, options ...Option) http.Handler {
	m := &middleware{verifier: v, next: next, maxBody: 1 << 20, log: slog.Default(), refusals: refusals{window: DefaultAlertWindow}, running: map[string]chan struct{}{}}
	for _, o := range options {
		o(m)
	}
	return m
}

// Option changes the handler of [Verifier.Middleware].
type Option func(*middleware)

// WithSeen drops events that were processed before.
func WithSeen(s Seen) Option { return func(m *middleware) { m.seen = s } }

// WithMaxBody refuses bodies above n bytes with 413. The default is 1 MiB.
func WithMaxBody(n int64) Option { return func(m *middleware) { m.maxBody = n } }

// WithLogger sets where refused deliveries are logged; the default is [slog.Default].
func WithLogger(l *slog.Logger) Option { return func(m *middleware) { m.log = l } }

type middleware struct {
	verifier *Verifier
	next     http.Handler
	seen     Seen
	maxBody  int64
	log      *slog.Logger
	alert    func(refused int)

	mu       sync.Mutex
	refusals refusals
	running  map[string]chan struct{} // by event id, while next works on it; closed when it ends
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, m.maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, "Body too large", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "Body could not be read", http.StatusBadRequest)
		return
	}
	signedID, err := m.verifier.verify(r.Header, body)
	if err != nil {
		m.log.WarnContext(r.Context(), "webhook refused", "reason", err.Error(), "remote", r.RemoteAddr)
		m.refuse()
		http.Error(w, "Invalid signature", http.StatusUnauthorized)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if m.seen == nil {
		m.next.ServeHTTP(w, r)
		return
	}
	m.once(w, r, cmp.Or(eventID(body), signedID))
}

// refuse counts a refused delivery and calls the alert if it is due.
func (m *middleware) refuse() {
	m.mu.Lock()
	refused := m.refusals.add(m.verifier.now())
	m.mu.Unlock()
	if refused > 0 && m.alert != nil {
		m.alert(refused)
	}
}

// eventID returns the id in the body, which both schemes sign. The webhook-id is signed by one
// scheme only; it is used for bodies without an id if it was signed.
func eventID(body []byte) string {
	var e struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.ID
}

func (m *middleware) once(w http.ResponseWriter, r *http.Request, id string) {
	if id == "" {
		m.next.ServeHTTP(w, r)
		return
	}
	release, ok := m.claim(r.Context(), id)
	if !ok { // the client has disconnected
		return
	}
	defer release() // also if next panics
	done, err := m.seen.Processed(r.Context(), id)
	if err != nil { // twice is better than never: the sender tries again
		m.log.ErrorContext(r.Context(), "look up processed event", "event", id, "err", err)
		http.Error(w, "Try again", http.StatusServiceUnavailable)
		return
	}
	if done {
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "Event already processed")
		return
	}
	s := &statusWriter{ResponseWriter: w}
	m.next.ServeHTTP(s, r)
	if s.status == 0 || s.status/100 == 2 {
		if err := m.seen.MarkProcessed(context.WithoutCancel(r.Context()), id); err != nil {
			m.log.ErrorContext(r.Context(), "remember processed event", "event", id, "err", err)
		}
	}
}

// claim waits until no other request processes the event, then claims it for the caller. It
// returns false if ctx ends first.
func (m *middleware) claim(ctx context.Context, id string) (release func(), ok bool) {
	for {
		m.mu.Lock()
		other, taken := m.running[id]
		if !taken {
			mine := make(chan struct{})
			m.running[id] = mine
			m.mu.Unlock()
			return func() {
				m.mu.Lock()
				delete(m.running, id)
				m.mu.Unlock()
				close(mine)
			}, true
		}
		m.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// statusWriter records the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the wrapped writer.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
