package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Reasons for which an event has not been sent.
var (
	// ErrQueueFull is the result if the queue is full and [Options.Refuse] is set.
	ErrQueueFull = errors.New("posthaste: the queue is full")
	// ErrClosed is the result of events that a closed client has not sent.
	ErrClosed = errors.New("posthaste: the client is closed")
	// ErrUnknown is joined to another error if a request with the event was sent, at least in
	// part, and its result is unknown: the event may have been accepted. Send it again with the
	// same ID. After an error without it, the server does not have the event.
	ErrUnknown = errors.New("the event may have been accepted")
)

// Error is an error response of the server.
type Error struct {
	Status     int           // of HTTP
	Type       string        // such as "invalid_request_error"; empty: the response is an intermediary's
	Code       string        // such as "parameter_unknown"
	Message    string        // what is wrong and how to resolve it
	Param      string        // the field at fault, such as "data.object.amount"
	RequestID  string        // also in the server's log
	RetryAfter time.Duration // the shortest pause before a retry; 0: not stated
}

func (e *Error) Error() string {
	s := "posthaste: the server answered " + strconv.Itoa(e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Param != "" {
		s += " (" + e.Param + ")"
	}
	if e.RequestID != "" {
		s += " [" + e.RequestID + "]"
	}
	return s
}

// Temporary reports whether the same request may succeed later.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.Status >= 500
}

// undone reports whether the response means that the request had no effect.
func (e *Error) undone() bool {
	return e.Status < 500 || e.Status == http.StatusServiceUnavailable && e.Type != ""
}

// unexpected is the error of a response that a Posthaste server does not send.
type unexpected struct {
	status int
	what   string
}

func (u *unexpected) Error() string {
	return fmt.Sprintf("posthaste: the response (%d) is not one of a Posthaste server: %s", u.status, u.what)
}

// notSent is the error of a request without a connection: the server did not receive any of it.
type notSent struct{ err error }

func (n *notSent) Error() string { return "posthaste: no connection: " + n.err.Error() }

func (n *notSent) Unwrap() error { return n.err }

// temporary reports whether to try again after an error of a request.
func temporary(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Temporary()
	}
	return true // no response, or an intermediary's
}

// undone reports whether an error means that the request had no effect.
func undone(err error) bool {
	var e *Error
	var n *notSent
	return errors.As(err, &e) && e.undone() || errors.As(err, &n)
}
