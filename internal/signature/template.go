package signature

import (
	"cmp"
	"fmt"
	"strings"
)

// Limits of a template.
const (
	MaxContent = 500 // bytes
	MaxHeader  = 100
	MaxValue   = 500
)

// Template is a profile that people write, for senders without a profile of their own. Empty
// fields have defaults: sha256, hex, "{body}" and "{signature}".
//
// Content may have the placeholders {id}, {type}, {timestamp} and {body}, and Value {id},
// {type}, {timestamp} and {signature}. Timestamps are Unix seconds.
type Template struct {
	Algorithm string `json:"algorithm,omitempty"`
	Encoding  string `json:"encoding,omitempty"`
	Content   string `json:"content,omitempty"`
	Header    string `json:"header,omitempty"` // name of the header with the signature
	Value     string `json:"value,omitempty"`  // of that header
}

// Algorithms and Encodings are the values of a template, the default first.
var (
	Algorithms = []string{"sha256", "sha1", "sha512"}
	Encodings  = []string{"hex", "base64"}
)

// Profile returns the profile that the template describes.
func (t Template) Profile() *Profile {
	return &Profile{
		Algorithm: cmp.Or(t.Algorithm, Algorithms[0]), Encoding: cmp.Or(t.Encoding, Encodings[0]),
		Content: cmp.Or(t.Content, "{body}"), Headers: []Header{{t.Header, cmp.Or(t.Value, "{signature}")}},
	}
}

// Invalid returns the JSON name of the first field that is not valid and the reason, or nothing.
// It does not judge the name of the header.
func (t Template) Invalid() (field, reason string) {
	p := t.Profile()
	known := map[string]string{"id": "", "type": "", "timestamp": "", "body": ""}
	switch _, err := expand(p.Content, known); {
	case algorithms[p.Algorithm] == nil:
		return "algorithm", "must be sha256, sha1 or sha512"
	case encodings[p.Encoding] == nil:
		return "encoding", "must be hex or base64"
	case len(p.Content) > MaxContent:
		return "content", fmt.Sprintf("is longer than %d bytes", MaxContent)
	case err != nil:
		return "content", "is invalid: " + err.Error() + "; use {id}, {type}, {timestamp} and {body}"
	case strings.Count(p.Content, "{body}") != 1:
		return "content", "must have the placeholder {body} once, because a signature without the body protects nothing"
	}
	delete(known, "body")
	known["signature"] = ""
	value := p.Headers[0].Value
	switch _, err := expand(value, known); {
	case len(value) > MaxValue:
		return "value", fmt.Sprintf("is longer than %d bytes", MaxValue)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(value) != value:
		return "value", "contains a character other than printable ASCII, or begins or ends with a space"
	case err != nil:
		return "value", "is invalid: " + err.Error() + "; use {id}, {type}, {timestamp} and {signature}"
	case !strings.Contains(value, "{signature}"):
		return "value", "must have the placeholder {signature}"
	}
	return "", ""
}
