package delivery

import (
	"strconv"
	"strings"
	"time"
)

// Header is a request's header as "Name: value" lines. Lines that follow from the attempt are
// stored as one byte each, because every attempt has a header: [Header.Lines] expands them.
type Header string

// The bytes that stand for lines, and for the beginning of one. Headers do not contain them
// otherwise.
const (
	lineIdentity  = '\x01' // Accept-Encoding: identity
	lineJSON      = '\x02' // Content-Type: application/json
	lineID        = '\x03' // Webhook-Id, of the event
	lineTimestamp = '\x04' // Webhook-Timestamp, the start of the attempt
	startV1       = '\x05' // Webhook-Signature: v1,
)

const (
	textIdentity = "Accept-Encoding: identity"
	textJSON     = "Content-Type: application/json"
	nameID       = "Webhook-Id"
	nameTime     = "Webhook-Timestamp"
	textV1       = "Webhook-Signature: v1,"
)

// AppendHeaderLine appends a line to the bytes of a [Header].
func AppendHeaderLine(dst []byte, name, value, eventID string, started time.Time) []byte {
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	switch name {
	case "Accept-Encoding":
		if value == "identity" {
			return append(dst, lineIdentity)
		}
	case "Content-Type":
		if value == "application/json" {
			return append(dst, lineJSON)
		}
	case nameID:
		if value == eventID {
			return append(dst, lineID)
		}
	case nameTime:
		var buf [20]byte
		if value == string(strconv.AppendInt(buf[:0], started.Unix(), 10)) {
			return append(dst, lineTimestamp)
		}
	case "Webhook-Signature":
		if rest, ok := strings.CutPrefix(value, "v1,"); ok {
			return append(append(dst, startV1), rest...)
		}
	}
	return append(append(append(dst, name...), ": "...), value...)
}

// Lines returns all lines of the header of an attempt of the event that started then.
func (h Header) Lines(eventID string, started time.Time) string {
	if h == "" {
		return ""
	}
	var b strings.Builder
	b.Grow(len(h) + 200)
	for line := range strings.SplitSeq(string(h), "\n") {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		if line == "" {
			continue
		}
		switch line[0] {
		case lineIdentity:
			b.WriteString(textIdentity)
		case lineJSON:
			b.WriteString(textJSON)
		case lineID:
			b.WriteString(nameID + ": " + eventID)
		case lineTimestamp:
			b.WriteString(nameTime + ": " + strconv.FormatInt(started.Unix(), 10))
		case startV1:
			b.WriteString(textV1 + line[1:])
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}
