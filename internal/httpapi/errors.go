package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/intake"
)

// wire maps each kind of fault to its HTTP form (contract, section 1).
var wire = map[fault.Code]struct {
	status int
	typ    string
}{
	fault.Invalid:             {http.StatusBadRequest, "invalid_request_error"},
	fault.Unauthenticated:     {http.StatusUnauthorized, "authentication_error"},
	fault.Forbidden:           {http.StatusForbidden, "authorization_error"},
	fault.Declined:            {http.StatusPaymentRequired, "payment_error"},
	fault.NotFound:            {http.StatusNotFound, "not_found_error"},
	fault.IdempotencyConflict: {http.StatusConflict, "idempotency_conflict"},
	fault.IdempotencyMismatch: {http.StatusUnprocessableEntity, "idempotency_replay_mismatch"},
	fault.PreconditionFailed:  {http.StatusPreconditionFailed, "invalid_request_error"},
	fault.RateLimited:         {http.StatusTooManyRequests, "rate_limit_error"},
	fault.Unavailable:         {http.StatusServiceUnavailable, "api_error"},
	fault.Unsure:              {http.StatusServiceUnavailable, "api_error"},
	fault.Internal:            {http.StatusInternalServerError, "api_error"},
}

// Reasons whose status differs from their code's.
const (
	reasonTooLarge              = intake.TooLarge
	reasonTooSlow               = intake.TooSlow
	reasonEncoding fault.Reason = "content_encoding_unsupported"
	reasonMethod   fault.Reason = "method_not_allowed"
)

var statusOf = map[fault.Reason]int{
	reasonTooLarge: http.StatusRequestEntityTooLarge, reasonTooSlow: http.StatusRequestTimeout, reasonEncoding: http.StatusUnsupportedMediaType, reasonMethod: http.StatusMethodNotAllowed,
}

func tooLarge(limit int64) error {
	return &fault.Error{Code: fault.Invalid, Reason: reasonTooLarge, Message: fmt.Sprintf("The request body is larger than %d bytes.", limit)}
}

type errorBody struct {
	Error errorView `json:"error"`
}

type errorView struct {
	Type    string `json:"type"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param,omitzero"`
}

// WriteError responds with an error and returns the status. An error that is not a
// [fault.Error] is internal, and its text is not sent.
func WriteError(w http.ResponseWriter, err error) int {
	f := &fault.Error{Code: fault.Internal}
	errors.As(err, &f)
	status, view := viewError(err)
	if f.Code == fault.Unavailable {
		w.Header().Set("Retry-After", "1")
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="api"`)
	}
	body, err := encode(errorBody{view})
	if err != nil {
		panic(err) // three strings
	}
	return writeJSON(w, status, body)
}

// viewError returns the status and the body for an error.
func viewError(err error) (status int, view errorView) {
	f := &fault.Error{Code: fault.Internal}
	errors.As(err, &f)
	reason := f.Reason
	view = errorView{Type: wire[f.Code].typ, Message: f.Message, Param: f.Param}
	switch f.Code {
	case fault.Internal:
		reason, view.Message, view.Param = "internal_error", "An internal error occurred. Report the Request-Id to the operator of the server.", ""
	case fault.Unavailable:
		reason, view.Message = cmp.Or(reason, "unavailable"), "The server is temporarily unavailable; nothing was done. Retry later."
	}
	view.Code = cmp.Or(string(reason), string(f.Code))
	// Both can repeat parts of the request.
	view.Message, view.Param = clip(view.Message, maxMessage), clip(view.Param, maxParam)
	return cmp.Or(statusOf[f.Reason], wire[f.Code].status), view
}

// Limits of the parts of a request that an error repeats, in bytes.
const (
	maxMessage = 1000
	maxParam   = 200
)

// logError returns the loggable attributes of an error: the kind of a user's error, and an
// internal one in full. Messages and parameters repeat users' data.
func logError(err error) []slog.Attr {
	var f *fault.Error
	if errors.As(err, &f) && f.Code != fault.Internal && f.Code != fault.Unavailable {
		return []slog.Attr{slog.String("code", string(f.Code)), slog.String("reason", string(f.Reason))}
	}
	return []slog.Attr{slog.Any("err", err)}
}
