package event

import (
	"bytes"
	"encoding/base64"
	"mime"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// DefaultContentType is the content type of raw bytes without a given one.
const DefaultContentType = "application/octet-stream"

// MaxContentType is the maximum length of a content type, in bytes.
const MaxContentType = 200

// Raw contains bytes to be delivered unchanged. They are stored in the data of the event,
// beside "object", as "raw":{"content_type":…,"base64":…}.
type Raw struct {
	ContentType string
	Base64      string // canonical, so that equal bytes are equal text

	given bool // Base64 was in the request, not only its content type
}

// Size returns the number of the raw bytes.
func (r *Raw) Size() int {
	return base64.StdEncoding.DecodedLen(len(r.Base64)) - strings.Count(r.Base64, "=")
}

// ValidContentType reports whether s is a media type that a request can have.
func ValidContentType(s string) bool {
	media, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(media, "/") && len(s) <= MaxContentType && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// check refuses bytes and content types that cannot be delivered, and sets the default content
// type. Errors: fault.Invalid.
func (r *Raw) check() error {
	if !r.given {
		return fault.Param("content_type", "parameter_invalid", "The content type is that of raw bytes. Set raw, or leave content_type out.")
	}
	if r.ContentType == "" {
		r.ContentType = DefaultContentType
	}
	if !ValidContentType(r.ContentType) {
		return fault.Param("content_type", "parameter_invalid", "The content type must be a media type of at most %d ASCII characters, such as application/xml.", MaxContentType)
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(r.Base64); err != nil || strings.ContainsAny(r.Base64, "\r\n") {
		return fault.Param("raw", "parameter_invalid", "The raw bytes must be standard base64 with padding. POST /v1/events/raw takes the bytes themselves.")
	}
	return nil
}

// within returns data with the raw bytes as its last member. data is in stable form and has an
// object; nil stands for data with an empty object.
func (r *Raw) within(data []byte) ([]byte, error) {
	if data == nil {
		data = []byte(`{"object":{}}`)
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(data, &members, jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, err
	}
	if _, taken := members["raw"]; taken {
		return nil, fault.Param("data.raw", "parameter_invalid", "The raw bytes of an event take this place in its data. Rename the member raw of data.")
	}
	contentType, err := jsontext.AppendQuote(nil, r.ContentType)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(data)+len(contentType)+len(r.Base64)+50)
	out = append(append(out, data[:len(data)-1]...), `,"raw":{"content_type":`...)
	out = append(append(append(out, contentType...), `,"base64":"`...), r.Base64...)
	return append(out, `"}}`...), nil
}

// RawOf returns the raw bytes and the content type in an event's data; false if it has none.
func RawOf(data []byte) (body []byte, contentType string, ok bool) {
	if !bytes.Contains(data, []byte(`"raw":{`)) { // avoids parsing most events
		return nil, "", false
	}
	var d struct {
		Raw struct {
			ContentType *string `json:"content_type"`
			Base64      *string `json:"base64"`
		} `json:"raw"`
	}
	if json.Unmarshal(data, &d, jsontext.AllowInvalidUTF8(true)) != nil || d.Raw.Base64 == nil || d.Raw.ContentType == nil || !ValidContentType(*d.Raw.ContentType) {
		return nil, "", false
	}
	body, err := base64.StdEncoding.Strict().DecodeString(*d.Raw.Base64)
	return body, *d.Raw.ContentType, err == nil
}
