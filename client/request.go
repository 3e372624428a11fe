package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// The largest response that is read, in bytes: the response to a full batch of refused events
// has about 2 MB.
const maxAnswer = 16 << 20

// call makes one request with additional headers and returns the response if it is 2xx. Errors:
// [*Error] for other responses.
func (c *Client) call(ctx context.Context, method, path string, more http.Header, body []byte) (status int, text []byte, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	var r io.Reader = http.NoBody
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("posthaste: %s %s: %w", method, path, err)
	}
	for name, values := range c.opts.Header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "posthaste-go")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, more)
	var w way
	resp, err := c.http.Do(req.WithContext(httptrace.WithClientTrace(ctx, w.trace())))
	switch {
	case err != nil && w.unsent():
		return 0, nil, nil, &notSent{err}
	case err != nil:
		return 0, nil, nil, fmt.Errorf("posthaste: no response: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return resp.StatusCode, nil, nil, fmt.Errorf("posthaste: read the response: %w", err)
	}
	header = resp.Header
	switch {
	case len(text) > maxAnswer:
		return resp.StatusCode, nil, header, &unexpected{resp.StatusCode, "the body is too large"}
	case resp.StatusCode/100 != 2:
		e := &Error{Status: resp.StatusCode, RequestID: header.Get("Request-Id"), RetryAfter: retryAfter(resp.Header)}
		var said struct{ Error wireError }
		if json.Unmarshal(text, &said) == nil {
			said.Error.fill(e)
		}
		return resp.StatusCode, nil, header, e
	}
	return resp.StatusCode, text, header, nil
}

// way records how far a request came.
type way struct{ looked, connected atomic.Bool }

func (w *way) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.looked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	}
}

// unsent reports whether no part of the request can have been written: the transport looked
// for a connection and got none. A transport without httptrace support reports neither.
func (w *way) unsent() bool { return w.looked.Load() && !w.connected.Load() }

// wireError is the API's error object.
type wireError struct{ Type, Code, Message, Param string }

func (w wireError) fill(e *Error) {
	e.Type, e.Code, e.Message, e.Param = w.Type, w.Code, w.Message, w.Param
}

// post sends events in one request and returns an error or nil for each.
//
// The request has no idempotency key: each event has its id, which the server accepts once,
// even if a retry groups the events differently.
func (c *Client) post(ctx context.Context, events [][]byte) []error {
	body := batchBody(events)
	status, text, header, err := c.call(ctx, http.MethodPost, "/v1/events/batch", nil, body)
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusRequestEntityTooLarge && len(events) > 1 {
		c.batchBytes.Store(min(c.batchBytes.Load(), int64(len(body)/2)))
		half := len(events) / 2
		return append(c.post(ctx, events[:half]), c.post(ctx, events[half:])...)
	}
	out := make([]error, len(events))
	if err == nil {
		err = readBatch(status, text, header.Get("Request-Id"), out)
	}
	if err != nil {
		for i := range out {
			out[i] = err
		}
	}
	return out
}

func batchBody(events [][]byte) []byte {
	size := len(`{"events":[]}`)
	for _, e := range events {
		size += len(e) + 1
	}
	b := append(make([]byte, 0, size), `{"events":[`...)
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	return append(b, "]}"...)
}

// readBatch reads the response to a batch of len(out) events into out. A response of another
// form is an error.
func readBatch(status int, text []byte, requestID string, out []error) error {
	var answer struct {
		Object string
		Data   []struct {
			Status int
			ID     string
			Error  *wireError
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return &unexpected{status, "the body is not a JSON object"}
	}
	if answer.Object != "event_batch" || len(answer.Data) != len(out) {
		return &unexpected{status, fmt.Sprintf("object %.40q with %d results for %d events", answer.Object, len(answer.Data), len(out))}
	}
	for i, d := range answer.Data {
		switch {
		case d.Error != nil:
			e := &Error{Status: d.Status, RequestID: requestID}
			d.Error.fill(e)
			out[i] = e
		case d.Status/100 != 2 || d.ID == "":
			return &unexpected{status, fmt.Sprintf("result %d is neither an id nor an error", i)}
		}
	}
	return nil
}
