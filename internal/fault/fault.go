// Package fault owns the kinds of failure that callers and users distinguish.
//
// Every layer may return a [*Error]; everything else is an internal fault whose
// text must not reach a user. The package knows no HTTP status and no SQL: the
// API surface maps a [Code] to its wire form in one table.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is a kind of failure. Code that handles failures depends on it alone.
type Code string

// The kinds. A fault without one of these is treated as [Internal].
const (
	Invalid             Code = "invalid"              // the request is invalid; Param names the parameter
	Unauthenticated     Code = "unauthenticated"      // no key, or an unknown or revoked one
	Forbidden           Code = "forbidden"            // the key is valid but may not do this
	Declined            Code = "declined"             // the card of a payment in the sandbox was declined
	NotFound            Code = "not_found"            // no such object in this account and mode
	IdempotencyConflict Code = "idempotency_conflict" // the first request with this key is still running
	IdempotencyMismatch Code = "idempotency_mismatch" // the key was used with another request
	PreconditionFailed  Code = "precondition_failed"  // the object was changed since the caller read it
	RateLimited         Code = "rate_limited"         // a limit of the account was exceeded
	Unavailable         Code = "unavailable"          // the store is not available; the request had no effect
	Unsure              Code = "unsure"               // it is unknown whether the request had an effect
	Internal            Code = "internal"             // a fault of the server
)

// Error is a failure for which there is a remedy.
//
// Message is shown to the user of the API, so it contains no internals and no secrets. Hint
// tells the operator what to run or set. Err is the cause; it is logged, and never shown.
type Error struct {
	Code       Code
	Reason     Reason        // machine-readable detail, such as "parameter_unknown"
	Param      string        // the request parameter at fault, such as "enabled_events[0]"
	Message    string        // one or two sentences: what is wrong and how to resolve it
	Hint       string        // the remedy for the operator; may be empty
	RetryAfter time.Duration // for RateLimited and Unavailable: when to try again; 0 is unknown
	Err        error
}

func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = string(e.Code)
	}
	if e.Param != "" {
		s = e.Param + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [*Error] in err's chain, [Internal] for
// any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Is reports whether err carries code.
func Is(err error, code Code) bool { return CodeOf(err) == code }

// Param returns an [Invalid] fault for one request parameter.
// The reason is the machine-readable detail; the rest is a format.
func Param(param string, reason Reason, format string, args ...any) *Error {
	return &Error{Code: Invalid, Reason: reason, Param: param, Message: fmt.Sprintf(format, args...)}
}

// Unknown returns an [Unsure] fault: it is unknown whether an object, such as "the event", was
// stored. The caller may set a hint.
func Unknown(what string, err error) *Error {
	return &Error{Code: Unsure, Reason: "outcome_unknown", Err: err,
		Message: "The outcome is unknown: " + what + " may or may not have been stored. Retry with the same id or Idempotency-Key."}
}

// Missing returns a [NotFound] fault for an object of the given kind and id.
func Missing(kind, id string) *Error {
	return &Error{
		Code: NotFound, Reason: "resource_missing", Param: "id",
		Message: fmt.Sprintf("No such %s: '%s'.", kind, id),
	}
}
