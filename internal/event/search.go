package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// ObjectID is the default searchable path of an account.
const ObjectID = "data.object.id"

// Limits of searchable keys.
const (
	MaxSearchPaths = 8
	MaxSearchPath  = 200 // bytes
	maxSearchDepth = 8   // names of a path
)

// SearchKey is a scalar value at a path of an event's body, by which the event can be found.
// The text of numbers and booleans is that of the body.
type SearchKey struct{ Path, Value string }

// SearchSum identifies a search key in a space. It is stored instead of the value.
type SearchSum [sha256.Size]byte

// Sum returns the sum of a search key in a space.
func (k SearchKey) Sum(s Space) SearchSum {
	h := sha256.New()
	var space [8]byte
	binary.BigEndian.PutUint64(space[:], uint64(s))
	_, _ = h.Write(space[:])
	_, _ = io.WriteString(h, k.Path)
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, k.Value)
	return SearchSum(h.Sum(nil))
}

// Hash returns the part of a sum that events are indexed by.
func (s SearchSum) Hash() int64 { return int64(binary.BigEndian.Uint64(s[:])) }

// ValidSearchPath reports whether events can be indexed by a path: "data." and names of
// members, joined by dots.
func ValidSearchPath(path string) bool {
	names := strings.Split(path, ".")
	return len(path) <= MaxSearchPath && len(names) > 1 && len(names) <= maxSearchDepth && names[0] == "data" &&
		!slices.Contains(names, "") && !strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}

// CheckSearchPaths returns a fault.Invalid unless an account can declare the paths.
func CheckSearchPaths(param string, paths []string) error {
	if len(paths) > MaxSearchPaths {
		return fault.Param(param, "parameter_invalid", "Set at most %d searchable keys.", MaxSearchPaths)
	}
	for i, p := range paths {
		at := fmt.Sprintf("%s[%d]", param, i)
		if !ValidSearchPath(p) {
			return fault.Param(at, "parameter_invalid", "A searchable key must be a path such as data.object.customer.id, of at most %d bytes.", MaxSearchPath)
		}
		if slices.Contains(paths[:i], p) {
			return fault.Param(at, "parameter_invalid", "Duplicate searchable key.")
		}
	}
	return nil
}

// SearchKeys returns the scalar values at the given paths of the event's body, in no particular
// order. Null and values in arrays are skipped.
func (e *Event) SearchKeys(paths []string) []SearchKey {
	data := e.Data()
	if len(data) == 0 || len(paths) == 0 {
		return nil
	}
	into := make([]searchPath, len(paths))
	for i, p := range paths {
		into[i] = searchPath{whole: p, at: len("data.")}
	}
	w := searchWalk{data: data}
	w.value(into)
	return w.keys
}

// Holds reports whether the event's body has a search key with the given sum.
func (e *Event) Holds(path string, sum SearchSum) bool {
	return slices.ContainsFunc(e.SearchKeys([]string{path}), func(k SearchKey) bool { return k.Sum(e.Space) == sum })
}

// searchPath is a path; the names before at are already matched.
type searchPath struct {
	whole string
	at    int
}

// searchWalk walks along paths through the data of a stable body, which is valid JSON without
// spaces, and skips all other values. It stops if data has another form.
type searchWalk struct {
	data []byte
	i    int // position in data
	keys []SearchKey
}

// next returns the next byte, or 0 at the end.
func (w *searchWalk) next() byte {
	if w.i < len(w.data) {
		return w.data[w.i]
	}
	return 0
}

// value reads a value that contains the end of a path.
func (w *searchWalk) value(into []searchPath) {
	if len(into) == 0 || w.next() != '{' {
		w.skip()
		return
	}
	w.i++
	for {
		switch w.next() {
		case ',':
			w.i++
		case '"':
			name := w.text()
			w.i++ // the colon
			w.member(name, into)
		case '}':
			w.i++
			return
		default:
			w.i = len(w.data)
			return
		}
	}
}

// member reads the value of a member.
func (w *searchWalk) member(name []byte, of []searchPath) {
	var deeper []searchPath
	for _, p := range of {
		rest := p.whole[p.at:]
		switch {
		case !strings.HasPrefix(rest, string(name)):
		case len(rest) == len(name):
			w.scalar(p.whole)
		case rest[len(name)] == '.':
			deeper = append(deeper, searchPath{p.whole, p.at + len(name) + 1})
		}
	}
	w.value(deeper)
}

// scalar adds the value at a path; the position does not change.
func (w *searchWalk) scalar(path string) {
	from := w.i
	switch w.next() {
	case '{', '[', 'n':
	case '"':
		w.keys = append(w.keys, SearchKey{path, string(w.text())})
	default:
		w.skip()
		w.keys = append(w.keys, SearchKey{path, string(w.data[from:w.i])})
	}
	w.i = from
}

// text reads a string. It shares memory with data where it can.
func (w *searchWalk) text() []byte {
	from := w.i
	w.skip()
	quoted := w.data[from:w.i]
	if bytes.IndexByte(quoted, '\\') >= 0 {
		text, _ := jsontext.AppendUnquote(nil, quoted)
		return text
	}
	return bytes.Trim(quoted, `"`)
}

// skip reads a value.
func (w *searchWalk) skip() {
	for depth := 0; w.i < len(w.data); {
		switch w.data[w.i] {
		case '"':
			w.skipText()
		case '{', '[':
			depth++
			w.i++
		case '}', ']':
			depth--
			w.i++
		case ',', ':':
			w.i++
			continue
		default:
			n := bytes.IndexAny(w.data[w.i:], ",}]")
			if n < 0 {
				n = len(w.data) - w.i
			}
			w.i += n
		}
		if depth <= 0 {
			return
		}
	}
}

// skipText reads a string.
func (w *searchWalk) skipText() {
	for w.i++; ; {
		n := bytes.IndexByte(w.data[w.i:], '"')
		if n < 0 {
			w.i = len(w.data)
			return
		}
		escapes := 0
		for w.data[w.i+n-1-escapes] == '\\' {
			escapes++
		}
		if w.i += n + 1; escapes%2 == 0 {
			return
		}
	}
}
