package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Malformed returns the fault.Invalid for a JSON text that a decoder refused with err. It
// contains the problem and its byte, counted from 0. subject begins the sentence, such as "The
// request body"; path formats the place in the text.
func Malformed(subject string, text []byte, err error, path func(jsontext.Pointer) string) error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		syntax = &jsontext.SyntacticError{ByteOffset: int64(len(text)), Err: err}
	}
	param, at, cause := path(syntax.JSONPointer), syntax.ByteOffset, syntax.Err.Error()
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault.Param(param, "duplicate_key", "Duplicate key in object.")
	case strings.Contains(cause, "surrogate"):
		half, at := halfPair(text, at)
		return fault.Param(param, "string_not_representable",
			"The string contains a lone surrogate, %s at byte %d: half of a surrogate pair, which has no UTF-8 form. Send the whole pair, or remove the half.", half, at)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		cause = "unexpected end of input"
	}
	return &fault.Error{Code: fault.Invalid, Reason: "json_invalid", Param: param, Err: err,
		Message: fmt.Sprintf("%s is not valid JSON: %s at byte %d.", subject, strings.TrimPrefix(cause, "jsontext: "), at)}
}

// halfPair returns the invalid escape of a surrogate at or after an offset, and its place.
func halfPair(text []byte, at int64) (string, int64) {
	const escape = len(`\ud800`)
	rest := text[min(at, int64(len(text))):]
	if i := bytes.Index(rest, []byte(`\u`)); i >= 0 {
		rest, at = rest[i:], at+int64(i)
	}
	return string(rest[:min(escape, len(rest))]), at
}
