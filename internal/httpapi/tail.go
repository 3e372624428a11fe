package httpapi

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

// logView is one request in the log's tail: without query and body.
type logView struct {
	Object    string  `json:"object"`
	Created   int64   `json:"created"`
	Method    string  `json:"method"`
	Path      string  `json:"path"`
	Status    int     `json:"status"`
	Duration  float64 `json:"duration_ms"`
	RequestID string  `json:"request_id"`
	APIKey    string  `json:"api_key"`
	Error     string  `json:"error,omitzero"` // code of the error
}

const (
	tailQueue = 256 // requests that a slow reader may be behind; further ones are omitted
	tailBeat  = 15 * time.Second
)

// tails contains the readers of each account and mode.
type tails struct {
	mu  sync.Mutex
	all map[chan logView]event.Space
}

func (t *tails) join(space event.Space) chan logView {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[chan logView]event.Space{}
	}
	c := make(chan logView, tailQueue)
	t.all[c] = space
	return c
}

func (t *tails) leave(c chan logView) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, c)
}

// note sends a request to its readers.
func (t *tails) note(rq *request, requestID string, status int, err error, took time.Duration) {
	if rq.call == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.all) == 0 {
		return
	}
	v := logView{Object: "request_log", Created: time.Now().Unix(), Method: rq.Method, Path: rq.URL.Path, Status: status,
		Duration: float64(took.Microseconds()) / 1000, RequestID: requestID, APIKey: rq.call.Key.ID}
	if err != nil {
		v.Error = reasonOf(err)
	}
	for c, space := range t.all {
		if space != rq.call.Space {
			continue
		}
		select {
		case c <- v:
		default: // requests do not wait for readers
		}
	}
}

func reasonOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Reason != "" {
		return string(f.Reason)
	}
	return string(fault.CodeOf(err))
}

// tailLogs writes the requests of the caller's account and mode as they arrive, one JSON object
// per line; an empty line keeps the connection alive.
func tailLogs(w http.ResponseWriter, rq *request) error {
	if err := rq.query().done(); err != nil {
		return err
	}
	if err := rq.call.MustAccount(); err != nil {
		return err
	}
	leave, err := rq.service().Occupy(rq.call, quota.Tails)
	if err != nil {
		return err
	}
	defer leave()
	held, release, err := rq.service().Auth.Hold(rq.Context(), rq.call)
	if err != nil {
		return err
	}
	defer release()
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	c := rq.api.tails.join(rq.call.Space)
	defer rq.api.tails.leave(c)
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	beat := time.NewTicker(tailBeat)
	defer beat.Stop()
	line := []byte("\n")
	for {
		if _, err := w.Write(line); err != nil {
			return nil // the reader has disconnected
		}
		if err := control.Flush(); err != nil {
			return nil
		}
		select {
		case v := <-c:
			text, err := json.Marshal(v)
			if err != nil {
				return nil
			}
			line = append(text, '\n')
		case <-beat.C:
			line = []byte("\n")
		case <-held.Done():
			return nil
		case <-rq.api.Closing:
			return nil
		}
	}
}
