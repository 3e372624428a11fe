// Package event owns events: the [Event] and its stable body, the identifiers of all objects,
// and the rules for names of event types.
//
// It does no I/O and must not know endpoints, deliveries, SQL or HTTP.
package event

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Space is one account's test data or its live data: account number times two,
// plus one for live. Nothing in one space is ever visible in another.
type Space int64

// SpaceOf returns the space of an account (its store number) in one mode.
func SpaceOf(account int64, live bool) Space {
	s := Space(account << 1)
	if live {
		s |= 1
	}
	return s
}

// Live reports whether the space holds live data.
func (s Space) Live() bool { return s&1 == 1 }

// Account returns the account's store number.
func (s Space) Account() int64 { return int64(s >> 1) }

// Event is an accepted event. It never changes, except that its payload can be erased.
type Event struct {
	Key     Key
	ID      string // public identifier; also the webhook-id of every attempt
	Custom  bool   // the sender chose ID; otherwise ID is FormatID(Key, Nonce)
	Nonce   uint32 // the random part of a generated ID
	Space   Space
	Type    string
	Created int64  // Unix seconds; the sender may set it, so it is not acceptance time
	Body    []byte // the stable body: stored, signed and sent unchanged
	Trace   Trace  // nil: none. Lists of events do not include it
	Headers Headers

	// Erased is when the payload was erased, zero while it is stored. Body, Trace and Headers of an erased
	// event are empty.
	Erased time.Time

	// Warnings are problems of an accepted event, for its sender. They are not stored.
	Warnings []*fault.Error
}

// Trace is the event's position in a trace, so that its attempts become part of the trace, on
// any node and at any time. Only package telemetry interprets the bytes.
type Trace []byte

// HasPayload reports whether the payload is stored. The payload of an erased event is not.
func (e *Event) HasPayload() bool { return len(e.Body) > 0 }

// Accepted returns when the event was accepted.
func (e *Event) Accepted() time.Time { return e.Key.Time() }

// Data returns the part of Body that is the value of "data". It shares memory with Body.
func (e *Event) Data() []byte {
	// No part before "data" can contain this text: id and type are plain names.
	const mark = `,"data":`
	i := strings.Index(string(e.Body[:min(len(e.Body), maxEnvelope)]), mark)
	if i < 0 || len(e.Body) == 0 {
		return nil
	}
	return e.Body[i+len(mark) : len(e.Body)-1]
}

// SplitBody returns the time of creation and the data of a body made by [NewBody], and false
// for any other. The data shares memory with the body.
func SplitBody(body []byte) (created int64, data []byte, ok bool) {
	const mark = `,"created":`
	data = (&Event{Body: body}).Data()
	i := bytes.Index(body[:min(len(body), maxEnvelope)], []byte(mark))
	if data == nil || i < 0 {
		return 0, nil, false
	}
	digits := body[i+len(mark) : len(body)-len(data)-1]
	digits, ok = bytes.CutSuffix(digits, []byte(`,"data":`))
	created, err := strconv.ParseInt(string(digits), 10, 64)
	return created, data, ok && err == nil
}

// maxEnvelope bounds the bytes before the value of "data": id, type, created and the
// punctuation around them.
const maxEnvelope = MaxIDLength + MaxTypeLength + 64

// Limits of names, in bytes.
const (
	MaxTypeLength = 128
	MaxIDLength   = 128
)

// TypeRule is the rule of [ValidType], for messages.
const TypeRule = "letters, digits and the characters . _ - / :, with at least one letter or digit"

// Separator reports whether c separates the words of an event type. The prefix of a
// pattern ends with a separator.
func Separator(c byte) bool { return c == '.' || c == '_' || c == '-' || c == '/' || c == ':' }

// ValidType reports whether s can name an event type: letters, digits and separators in
// any arrangement with a letter or digit, so that no name is a dot segment of a path.
// Types of other webhook servers are valid: payment-method.added, /orders/created,
// iam:user:created.
func ValidType(s string) bool {
	if len(s) > MaxTypeLength {
		return false
	}
	named := false
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z':
			named = true
		case !Separator(c):
			return false
		}
	}
	return named
}

// ValidPattern reports whether s can select event types: a type, "*" for all,
// or a prefix that ends with a separator, such as "payment.*".
func ValidPattern(s string) bool {
	if s == "*" {
		return true
	}
	prefix, ok := strings.CutSuffix(s, "*")
	return ValidType(prefix) && (!ok || Separator(prefix[len(prefix)-1]))
}

// IDRule is the rule of [ValidID], for messages.
const IDRule = "letters, digits and the characters _ - :, not beginning with " + CursorPrefix

// CursorPrefix begins cursors between two objects, which parameters take in the place of ids.
const CursorPrefix = "cur_"

// ValidID reports whether a sender may use id for an event: up to [MaxIDLength] letters, digits,
// underscores, hyphens and colons, such as a UUID. A dot is refused because the Standard Webhooks
// signature joins id, timestamp and body with dots.
func ValidID(id string) bool {
	for _, c := range []byte(id) {
		if c != '_' && c != '-' && c != ':' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return id != "" && len(id) <= MaxIDLength && !strings.HasPrefix(id, CursorPrefix)
}

// CheckExternalID returns a fault if id cannot be a user's own id for an object. It can have up to
// [MaxIDLength] letters, digits and the characters _ - . : @, and needs at least one letter or
// digit. It must not begin with the prefix of the server's ids for such objects, and must not be
// reserved. An empty id means that the object has none, and is valid.
func CheckExternalID(id, prefix string, reserved ...string) error {
	named := false
	for _, c := range []byte(id) {
		switch {
		case '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z':
			named = true
		case !strings.ContainsRune("_-.:@", rune(c)):
			return invalidExternalID(prefix)
		}
	}
	if id != "" && (!named || len(id) > MaxIDLength || strings.HasPrefix(id, prefix) || slices.Contains(reserved, id)) {
		return invalidExternalID(prefix)
	}
	return nil
}

func invalidExternalID(prefix string) error {
	return fault.Param("external_id", "parameter_invalid", "An external id must consist of letters, digits and the characters _ - . : @, with at least one letter or digit, have at most %d characters, and not begin with %s.", MaxIDLength, prefix)
}
