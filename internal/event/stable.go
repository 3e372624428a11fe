package event

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// MaxDepth is the maximum nesting of a body, because receivers' parsers have limits too.
const MaxDepth = 100

// AppendStable appends the stable form of the JSON value src to dst: the one that
// JSON.stringify(JSON.parse(…)) returns unchanged (ECMA-262, sections JSON.parse,
// JSON.stringify, Number::toString and OrdinaryOwnPropertyKeys).
//
// A value without such a form of the same meaning is refused with a fault.Invalid whose Param
// is the JSON path, beginning with path.
func AppendStable(dst, src []byte, path string) ([]byte, error) {
	w := getWriter(src)
	defer w.free()
	w.prefix = path
	out, err := w.value(dst, 0, false)
	if err == nil {
		err = w.end()
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// stableWriter copies one JSON text in stable form. It does not know which fields a request
// has.
type stableWriter struct {
	in      bytes.Buffer
	dec     *jsontext.Decoder
	members []member // of the open objects, outermost first
	scratch []byte
	prefix  string
	source  []byte // the input
}

// member is the position of an object's member in the output.
type member struct {
	start, end int
	index      int64 // value of its name as an array index, -1 for any other name
}

var writers = sync.Pool{New: func() any {
	w := &stableWriter{}
	w.dec = jsontext.NewDecoder(&w.in)
	return w
}}

func getWriter(src []byte) *stableWriter {
	w := writers.Get().(*stableWriter)
	w.in = *bytes.NewBuffer(src) // the decoder reads a Buffer's bytes in place and does not change them
	w.dec.Reset(&w.in)
	w.prefix, w.source = "", src
	return w
}

func (w *stableWriter) free() {
	w.in, w.source = bytes.Buffer{}, nil
	w.members = w.members[:0]
	if cap(w.scratch) <= 64<<10 {
		writers.Put(w)
	}
}

// end refuses anything after the value.
func (w *stableWriter) end() error {
	at := w.dec.InputOffset()
	if _, err := w.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fault.Param(w.prefix, "json_invalid", "Unexpected text after the JSON value, which ends at byte %d.", at)
	}
	return nil
}

// value copies the next value. inConstructor means that it is the value of a member named
// "constructor".
func (w *stableWriter) value(dst []byte, depth int, inConstructor bool) ([]byte, error) {
	switch w.dec.PeekKind() {
	case '{':
		return w.object(dst, depth+1, inConstructor)
	case '[':
		return w.array(dst, depth+1)
	}
	raw, err := w.dec.ReadValue()
	if err != nil {
		return nil, w.syntax(err)
	}
	switch raw.Kind() {
	case '"':
		return w.str(dst, raw)
	case '0':
		return w.number(dst, raw)
	}
	return append(dst, raw...), nil // true, false, null
}

func (w *stableWriter) open(depth int) error {
	if _, err := w.dec.ReadToken(); err != nil {
		return w.syntax(err)
	}
	if depth > MaxDepth {
		return w.refuse("json_too_deep", "The JSON is nested more than %d levels deep.", MaxDepth)
	}
	return nil
}

func (w *stableWriter) array(dst []byte, depth int) ([]byte, error) {
	if err := w.open(depth); err != nil {
		return nil, err
	}
	dst = append(dst, '[')
	for first := true; w.dec.PeekKind() != ']'; first = false {
		if !first {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = w.value(dst, depth, false); err != nil {
			return nil, err
		}
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return nil, w.syntax(err)
	}
	return append(dst, ']'), nil
}

func (w *stableWriter) object(dst []byte, depth int, inConstructor bool) ([]byte, error) {
	if err := w.open(depth); err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	base, ordered, last := len(w.members), true, int64(-1)
	for w.dec.PeekKind() != '}' {
		start := len(dst)
		raw, err := w.dec.ReadValue()
		if err != nil {
			return nil, w.syntax(err)
		}
		nameAt := len(dst)
		if dst, err = w.str(dst, raw); err != nil {
			return nil, err
		}
		name := dst[nameAt+1 : len(dst)-1] // stable escapes; the names compared below have none
		if err := w.checkName(name, inConstructor); err != nil {
			return nil, err
		}
		constructor := string(name) == "constructor"
		index := arrayIndex(name)
		// The required order: indexes ascending, then all other names.
		if index >= 0 && (index < last || len(w.members) > base && w.members[len(w.members)-1].index < 0) {
			ordered = false
		}
		last = max(last, index)
		dst = append(dst, ':')
		if dst, err = w.value(dst, depth, constructor); err != nil {
			return nil, err
		}
		w.members = append(w.members, member{start, len(dst), index})
		dst = append(dst, ',')
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return nil, w.syntax(err)
	}
	members := w.members[base:]
	if !ordered {
		dst = w.reorder(dst, members)
	}
	if len(members) > 0 {
		dst = dst[:len(dst)-1] // the last comma
	}
	w.members = w.members[:base]
	return append(dst, '}'), nil
}

// reorder moves the members whose names are array indexes to the front, ascending.
func (w *stableWriter) reorder(dst []byte, members []member) []byte {
	start := members[0].start
	w.scratch = append(w.scratch[:0], dst[start:]...)
	slices.SortStableFunc(members, func(a, b member) int {
		switch {
		case a.index < 0 && b.index < 0:
			return 0
		case a.index < 0:
			return 1
		case b.index < 0:
			return -1
		}
		return int(a.index - b.index)
	})
	dst = dst[:start]
	for _, m := range members {
		dst = append(dst, w.scratch[m.start-start:m.end-start]...)
		dst = append(dst, ',')
	}
	return dst
}

// arrayIndex returns the ECMAScript array index of a name, -1 for any other name: "0" to
// "4294967294" without leading zeros.
func arrayIndex(name []byte) int64 {
	if len(name) == 0 || len(name) > 10 || name[0] == '0' && len(name) > 1 {
		return -1
	}
	n := int64(0)
	for _, c := range name {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	if n >= math.MaxUint32 {
		return -1
	}
	return n
}

// checkName refuses names that common parsers refuse: Fastify's rejects them because they can
// pollute prototypes.
func (w *stableWriter) checkName(name []byte, inConstructor bool) error {
	if string(name) == "__proto__" || inConstructor && string(name) == "prototype" {
		return w.refuse("key_forbidden", "The key %q is refused by common JSON parsers, because it enables prototype pollution. Rename it.", name)
	}
	return nil
}

// str copies a string. One without escapes is stable already.
func (w *stableWriter) str(dst []byte, raw jsontext.Value) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return append(dst, raw...), nil
	}
	text, err := jsontext.AppendUnquote(w.scratch[:0], raw)
	if err != nil {
		return nil, w.syntax(err)
	}
	w.scratch = text
	return appendQuoted(dst, text), nil
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes a string as JSON.stringify does (ECMA-262,
// QuoteJSONString). text is valid UTF-8.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		default:
			if i := strings.IndexByte("\b\t\n\f\r", c); i >= 0 {
				dst = append(dst, '\\', "btnfr"[i])
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
		}
	}
	return append(dst, '"')
}

// number copies a number in ECMAScript form.
func (w *stableWriter) number(dst []byte, raw jsontext.Value) ([]byte, error) {
	if plain(raw) {
		return append(dst, raw...), nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil { // the syntax is valid, so it is out of range
		return nil, w.refuse("number_not_representable", "The number %s is too large; send it as a string.", shown(raw))
	}
	start := len(dst)
	dst = appendNumber(dst, f)
	was, is := parseDecimal(raw), parseDecimal(dst[start:])
	switch {
	case was.equal(is):
		return dst, nil
	case f == 0:
		return nil, w.refuse("number_not_representable", "The number %s is too small to be distinguished from zero; send it as a string.", shown(raw))
	case was.integer():
		return nil, w.refuse("number_not_representable",
			"The integer %s cannot be represented exactly by receivers that read numbers as doubles; send it as a string.", shown(raw))
	case len(was.digits) > maxDigits:
		return nil, w.refuse("number_not_representable",
			"The number %s has more digits than receivers that read numbers as doubles keep; send it as a string.", shown(raw))
	}
	return dst, nil
}

// maxDigits is the maximum number of significant digits of a double.
const maxDigits = 17

func shown(raw []byte) string {
	if len(raw) > 40 {
		return string(raw[:40]) + "…"
	}
	return string(raw)
}

// plain reports whether raw is certainly in ECMAScript's notation: an integer or a decimal
// fraction of up to 15 digits, which every double represents, without an exponent, needless
// zeros or a value so small that it would have one.
func plain(raw []byte) bool {
	digits := raw
	if digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) > 16 || digits[0] == '0' && len(digits) == 1 && len(raw) > 1 {
		return false
	}
	point := -1
	for i, c := range digits {
		switch {
		case c == '.':
			point = i
		case c < '0' || c > '9':
			return false
		}
	}
	if point < 0 {
		return len(digits) <= 15
	}
	if digits[len(digits)-1] == '0' {
		return false
	}
	return point > 1 || digits[0] != '0' || !bytes.HasPrefix(digits, []byte("0.00000"))
}

// appendNumber formats f like ECMAScript (ECMA-262, Number::toString).
func appendNumber(dst []byte, f float64) []byte {
	if f == 0 {
		return append(dst, '0') // negative zero too
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') { // e-07 is e-7
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// decimal is a number as its significant digits, without zeros at either end, times ten to the
// exponent.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

func (d decimal) equal(o decimal) bool {
	return d.digits == o.digits && (d.digits == "" || d.negative == o.negative && d.exponent == o.exponent)
}

func (d decimal) integer() bool { return d.exponent >= 0 }

func parseDecimal(raw []byte) (d decimal) {
	mantissa := string(raw)
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		// Out of int's range only if the value is zero or was refused.
		d.exponent, _ = strconv.Atoi(mantissa[i+1:])
		mantissa = mantissa[:i]
	}
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	d.exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(digits, "0")
	d.exponent += len(digits) - len(d.digits)
	return d
}

// refuse returns the fault for the value that was read last.
func (w *stableWriter) refuse(reason fault.Reason, format string, args ...any) error {
	return fault.Param(w.path(w.dec.StackPointer()), reason, format, args...)
}

// syntax converts the decoder's error to a fault.
func (w *stableWriter) syntax(err error) error {
	subject := "This"
	if w.prefix == "" {
		subject = "The request body"
	}
	return Malformed(subject, w.source, err, func(at jsontext.Pointer) string {
		if at == "" {
			at = w.dec.StackPointer()
		}
		return w.path(at)
	})
}

// path formats a JSON pointer as data.object.items[3].amount.
func (w *stableWriter) path(p jsontext.Pointer) string {
	var b strings.Builder
	b.WriteString(w.prefix)
	for token := range p.Tokens() {
		switch {
		case arrayIndex([]byte(token)) >= 0:
			b.WriteString("[" + token + "]")
		case token == "" || strings.ContainsFunc(token, oddInPath):
			b.WriteString("[" + strconv.Quote(shown([]byte(token))) + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(token)
		}
	}
	return b.String()
}

func oddInPath(r rune) bool {
	return r != '_' && r != '-' && r != '$' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
}
