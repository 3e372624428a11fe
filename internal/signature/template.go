package signature

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limits of a template.
const (
	MaxContent = 500 // bytes
	MaxHeader  = 100
	MaxValue   = 500
	MaxEach    = 100
)

// Template is a profile that users write, for schemes without a named profile. Empty fields
// have defaults: sha256, hex, "{body}" and "{signature}".
//
// Content may have the placeholders {id}, {type}, {timestamp} and {body}, and Value {id},
// {type}, {timestamp} and {signature}. Timestamps are Unix seconds. With Each, the placeholder
// of Value is {signatures}: one for each live secret, which Join separates.
type Template struct {
	Algorithm string `json:"algorithm,omitempty"`
	Encoding  string `json:"encoding,omitempty"`
	Key       string `json:"key,omitempty"` // the form of the key: see Keys
	Content   string `json:"content,omitempty"`
	Header    string `json:"header,omitempty"` // name of the header with the signature
	Value     string `json:"value,omitempty"`  // of that header
	Each      string `json:"each,omitempty"`   // of one signature, with {signature}
	Join      string `json:"join,omitempty"`   // what separates two: see Joins

	// The names of headers with the id, the timestamp and the type; empty: none.
	IDHeader        string `json:"id_header,omitempty"`
	TimestampHeader string `json:"timestamp_header,omitempty"`
	TypeHeader      string `json:"type_header,omitempty"`
}

// Algorithms, Encodings and Keys are the allowed values of a template; the first is the default.
// The key is the secret's text, or the bytes that it encodes after [Prefix].
var (
	Algorithms = []string{"sha256", "sha1", "sha512"}
	Encodings  = []string{"hex", "base64"}
	Keys       = []string{"text", "base64"}
	// Joins are named, because forms and command lines lose spaces.
	Joins = []string{"comma", "space", "semicolon"}
)

var joins = map[string]string{"": ",", "comma": ",", "space": " ", "semicolon": ";"}

// headers returns the headers of a template that have one value each, by their JSON names.
func (t Template) headers() []named {
	return []named{{"id_header", Header{t.IDHeader, "{id}"}}, {"timestamp_header", Header{t.TimestampHeader, "{timestamp}"}}, {"type_header", Header{t.TypeHeader, "{type}"}}}
}

type named struct {
	field string
	Header
}

// HeaderNames returns the names of all headers of the template, by their JSON names.
func (t Template) HeaderNames() map[string]string {
	all := map[string]string{"header": t.Header}
	for _, h := range t.headers() {
		all[h.field] = h.Name
	}
	maps.DeleteFunc(all, func(_, name string) bool { return name == "" })
	return all
}

// Profile returns the profile that the template describes.
func (t Template) Profile() *Profile {
	p := &Profile{
		Algorithm: cmp.Or(t.Algorithm, Algorithms[0]), Encoding: cmp.Or(t.Encoding, Encodings[0]), Decoded: t.Key == Keys[1],
		Content: cmp.Or(t.Content, "{body}"), Each: t.Each,
	}
	value := "{signature}"
	if p.Each != "" {
		p.Join, value = joins[t.Join], "{signatures}"
	}
	for _, h := range t.headers() {
		if h.Name != "" {
			p.Headers = append(p.Headers, h.Header)
		}
	}
	p.Headers = append(p.Headers, Header{t.Header, cmp.Or(t.Value, value)})
	return p
}

// Invalid returns the JSON name of the first invalid field and the reason, or empty texts. It
// does not check the name of the header.
func (t Template) Invalid() (field, reason string) {
	p := t.Profile()
	known := map[string]string{"id": "", "type": "", "timestamp": "", "body": ""}
	switch _, err := expand(p.Content, known); {
	case algorithms[p.Algorithm] == nil:
		return "algorithm", "must be sha256, sha1 or sha512"
	case encodings[p.Encoding] == nil:
		return "encoding", "must be hex or base64"
	case t.Key != "" && !slices.Contains(Keys, t.Key):
		return "key", "must be text or base64"
	case len(p.Content) > MaxContent:
		return "content", fmt.Sprintf("is longer than %d bytes", MaxContent)
	case err != nil:
		return "content", "is invalid: " + err.Error() + "; use {id}, {type}, {timestamp} and {body}"
	case strings.Count(p.Content, "{body}") != 1:
		return "content", "must have the placeholder {body} once, because a signature without the body protects nothing"
	}
	if field, reason := t.invalidEach(); field != "" {
		return field, reason
	}
	delete(known, "body")
	placeholder := "signature"
	if t.Each != "" {
		placeholder = "signatures"
	}
	known[placeholder] = ""
	value := p.Headers[len(p.Headers)-1].Value
	switch _, err := expand(value, known); {
	case len(value) > MaxValue:
		return "value", fmt.Sprintf("is longer than %d bytes", MaxValue)
	case !printable(value) || strings.TrimSpace(value) != value:
		return "value", "contains a character other than printable ASCII, or begins or ends with a space"
	case err != nil:
		return "value", fmt.Sprintf("is invalid: %v; use {id}, {type}, {timestamp} and {%s}", err, placeholder)
	case !strings.Contains(value, "{"+placeholder+"}"):
		return "value", "must have the placeholder {" + placeholder + "}"
	}
	return t.invalidNames()
}

// invalidEach is the part of Invalid for the signatures of several secrets.
func (t Template) invalidEach() (field, reason string) {
	switch _, err := expand(t.Each, map[string]string{"signature": ""}); {
	case joins[t.Join] == "":
		return "join", "must be comma, space or semicolon"
	case t.Each == "":
		return "", ""
	case len(t.Each) > MaxEach:
		return "each", fmt.Sprintf("is longer than %d bytes", MaxEach)
	case err != nil || strings.Count(t.Each, "{signature}") != 1 || !printable(t.Each):
		return "each", "must be printable ASCII with the placeholder {signature} once, and no other"
	}
	return "", ""
}

// invalidNames is the part of Invalid for headers with the same name.
func (t Template) invalidNames() (field, reason string) {
	seen := map[string]bool{strings.ToLower(t.Header): t.Header != ""}
	for _, h := range t.headers() {
		if name := strings.ToLower(h.Name); seen[name] {
			return h.field, "is the name of another header of the template"
		} else if name != "" {
			seen[name] = true
		}
	}
	return "", ""
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
