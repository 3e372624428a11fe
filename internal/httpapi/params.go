package httpapi

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/intake"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// params contains a request's parameters, from JSON, a form or the query. Getters remove known
// parameters; done returns the first error, or one for a remaining parameter.
type params struct {
	values map[string]any // strings and nested maps from a form; JSON's values from JSON
	form   bool
	err    error
	source []byte // the JSON text of the values
}

const (
	maxPairs = intake.MaxPairs
	maxNest  = 8
)

// Limits of the parameters in a JSON body. Otherwise many tiny values would use a hundred times
// the memory of the body.
const (
	maxValues  = 10_000
	maxDepth   = 100
	valueBytes = 64 // approximate memory of a value
)

// query reads the parameters of the URL.
func (rq *request) query() *params { return formParams(rq.URL.RawQuery) }

// params reads the parameters of the body.
func (rq *request) params() *params {
	if isForm, err := rq.bodyIsForm(); err != nil {
		return &params{err: err}
	} else if isForm {
		return formParams(string(rq.body))
	}
	p := &params{values: map[string]any{}, source: rq.body}
	if p.err = rq.admitJSON(); p.err == nil && len(bytes.TrimSpace(rq.body)) > 0 {
		p.err = decodeJSON(rq.body, &p.values)
	}
	return p
}

// admitJSON refuses a body with too many or too deeply nested values before it is decoded, and
// charges the memory for decoding it.
func (rq *request) admitJSON() error {
	values, depth := measureJSON(rq.body)
	switch {
	case values > maxValues:
		return &fault.Error{Code: fault.Invalid, Reason: "json_too_large", Message: fmt.Sprintf("The request body contains more than %d values.", maxValues)}
	case depth > maxDepth:
		return &fault.Error{Code: fault.Invalid, Reason: "json_too_large", Message: fmt.Sprintf("The request body is nested more than %d levels deep.", maxDepth)}
	case rq.intake == nil:
		return nil
	}
	return rq.intake.Charge(values * valueBytes)
}

// measureJSON returns a lower bound of the number of values in a JSON text, including names,
// and their depth. For an invalid text the result is arbitrary.
func measureJSON(raw []byte) (values, depth int) {
	level, quoted, escaped := 0, false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',' || c == ':':
			values++
		case c == '[' || c == '{':
			values++
			level++
			depth = max(depth, level)
		case c == ']' || c == '}':
			level--
		}
	}
	return values, depth
}

func decodeJSON(raw []byte, to *map[string]any) error {
	err := json.Unmarshal(raw, to)
	var kind *json.SemanticError
	switch {
	case err == nil && *to != nil:
		return nil
	case err == nil, errors.As(err, &kind) && kind.JSONPointer == "":
		return badJSON("The request body must be a JSON object such as {\"limit\":10}; this is %s.", kindOf(raw))
	case errors.As(err, &kind): // only numbers can be invalid in values of type any
		return badJSON("The request body cannot be read: the number %s of %s is out of range.", clip(string(kind.JSONValue), 40), paramAt(kind.JSONPointer))
	}
	return malformed(raw, err)
}

func badJSON(format string, args ...any) error {
	return &fault.Error{Code: fault.Invalid, Reason: "json_invalid", Message: fmt.Sprintf(format, args...)}
}

// malformed returns the fault for a body that is not valid JSON. It names the parameter if the
// error is in one.
func malformed(raw []byte, err error) error {
	err = event.Malformed("The request body", raw, err, paramAt)
	var f *fault.Error
	if errors.As(err, &f) && f.Reason == "json_invalid" {
		f.Param = ""
	}
	return err
}

// kindOf names the kind of a JSON value.
func kindOf(raw []byte) string {
	switch jsontext.Value(raw).Kind() {
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	}
	return "null"
}

// paramAt converts a JSON pointer to the notation of forms and errors: metadata[order].
func paramAt(at jsontext.Pointer) string {
	var b strings.Builder
	for token := range at.Tokens() {
		if b.Len() > 0 {
			token = "[" + token + "]"
		}
		b.WriteString(token)
	}
	return b.String()
}

// bodyIsForm returns whether the body is a form. Without a Content-Type its first character
// decides.
func (rq *request) bodyIsForm() (bool, error) {
	ct := rq.Header.Get("Content-Type")
	if ct == "" {
		first := bytes.TrimSpace(rq.body)
		return len(first) > 0 && first[0] != '{', nil
	}
	media, _, err := mime.ParseMediaType(ct)
	switch {
	case err == nil && media == "application/json":
		return false, nil
	case err == nil && media == "application/x-www-form-urlencoded":
		// curl -d '{…}' declares a form and sends JSON; no form begins with a brace.
		first := bytes.TrimSpace(rq.body)
		return len(first) == 0 || first[0] != '{', nil
	}
	return false, &fault.Error{Code: fault.Invalid, Reason: "content_type_unsupported", Param: "Content-Type",
		Message: "Send application/json or application/x-www-form-urlencoded."}
}

// formParams reads a[b]=1, a[0]=x and a[]=x as nested maps.
func formParams(raw string) *params {
	p := &params{values: map[string]any{}, form: true}
	if raw == "" {
		return p
	}
	if strings.Count(raw, "&") >= maxPairs {
		p.err = &fault.Error{Code: fault.Invalid, Reason: "form_invalid", Message: "The form has too many parameters."}
		return p
	}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err := cmp.Or(err1, err2); err != nil {
			p.err = badForm(name, "The parameter %s is not percent-encoded: %s.", err)
			return p
		}
		if !validText(name) || !validText(value) {
			p.err = badForm(name, "The parameter %s is not UTF-8.")
			return p
		}
		if p.err = put(p.values, name, value); p.err != nil {
			return p
		}
	}
	return p
}

// badForm names an unreadable parameter of a form.
func badForm(name, format string, args ...any) error {
	args = append([]any{clip(strings.ToValidUTF8(name, "\ufffd"), 80)}, args...)
	return &fault.Error{Code: fault.Invalid, Reason: "form_invalid", Message: fmt.Sprintf(format, args...)}
}

func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }

func put(m map[string]any, name, value string) error {
	base, rest, _ := strings.Cut(name, "[")
	path := []string{base}
	if rest != "" {
		inner, ok := strings.CutSuffix(rest, "]")
		if !ok {
			return fault.Param(name, "form_invalid", "The brackets of this parameter do not match.")
		}
		path = append(path, strings.Split(inner, "][")...)
	}
	if base == "" || len(path) > maxNest {
		return fault.Param(name, "form_invalid", "This parameter's name is empty or nested too deeply.")
	}
	for _, key := range path[:len(path)-1] {
		key = orNext(m, key)
		next, ok := m[key].(map[string]any)
		if !ok {
			if m[key] != nil {
				return fault.Param(name, "form_invalid", "This parameter is both a value and a group.")
			}
			next = map[string]any{}
			m[key] = next
		}
		m = next
	}
	key := orNext(m, path[len(path)-1])
	if _, twice := m[key]; twice {
		return fault.Param(name, "form_invalid", "Duplicate parameter.")
	}
	m[key] = value
	return nil
}

// orNext replaces a[] by the next index.
func orNext(m map[string]any, key string) string {
	if key == "" {
		return strconv.Itoa(len(m))
	}
	return key
}

// listOf returns the elements of v if it is a list: a JSON array, or a form's map with the keys
// 0, 1, 2 and so on.
func listOf(v any) ([]any, bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case map[string]any:
		list := make([]any, len(v))
		for i := range list {
			item, ok := v[strconv.Itoa(i)]
			if !ok {
				return nil, false
			}
			list[i] = item
		}
		return list, true
	}
	return nil, false
}

func (p *params) fail(param, format string, args ...any) {
	if p.err == nil {
		p.err = fault.Param(param, "parameter_invalid", format, args...)
	}
}

// take removes a parameter, so that done finds the remaining ones.
func (p *params) take(name string) (any, bool) {
	v, ok := p.values[name]
	delete(p.values, name)
	return v, ok && p.err == nil
}

// done returns the first error, or one for an unknown parameter.
func (p *params) done() error {
	if p.err != nil || len(p.values) == 0 {
		return p.err
	}
	name := slices.Min(slices.Collect(maps.Keys(p.values)))
	return fault.Param(name, "parameter_unknown", "Unknown parameter '%s'.", clip(name, 80))
}

func clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// text returns a string; JSON null counts as empty.
func (p *params) text(name string) *string {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	switch v := v.(type) {
	case string:
		return &v
	case nil:
		return new(string)
	}
	p.fail(name, "The parameter %s must be a string.", name)
	return nil
}

// given returns a string that may be omitted but not empty: an empty variable in a script must
// not mean "all of them".
func (p *params) given(name string) string {
	v, ok := p.take(name)
	if !ok || v == nil {
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		p.fail(name, "The parameter %s must be a string.", name)
	case s == "":
		p.fail(name, "The parameter %s is empty. Leave it out or set a value.", name)
	}
	return s
}

func (p *params) texts(name string) *[]string {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	if v == "" && p.form { // a form's notation for "none"
		return &[]string{}
	}
	list, ok := listOf(v)
	if !ok {
		p.fail(name, "The parameter %s must be a list of strings.", name)
		return nil
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], ok = item.(string); !ok {
			p.fail(fmt.Sprintf("%s[%d]", name, i), "The elements of %s must be strings.", name)
		}
	}
	return &out
}

func (p *params) boolean(name string) *bool {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	switch {
	case v == true, v == "true" && p.form:
		t := true
		return &t
	case v == false, v == "false" && p.form:
		return new(bool)
	}
	p.fail(name, "The parameter %s must be true or false.", name)
	return nil
}

func (p *params) numberOf(param string, v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case string:
		if raw := jsontext.Value(v); p.form && raw.Kind() == '0' && raw.IsValid() { // numbers of JSON, not those of Go
			if f, err := strconv.ParseFloat(v, 64); err == nil {
				return f, true
			}
		}
	case nil:
		return 0, true
	}
	p.fail(param, "The parameter %s must be a number.", param)
	return 0, false
}

func (p *params) number(name string) *float64 {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	f, ok := p.numberOf(name, v)
	if !ok {
		return nil
	}
	return &f
}

// moment returns a time in Unix seconds; JSON null counts as left out.
func (p *params) moment(name string) *time.Time {
	if v, ok := p.values[name]; ok && v == nil {
		delete(p.values, name)
		return nil
	}
	n := p.integer(name)
	if n == nil {
		return nil
	}
	if err := event.CheckTime(name, float64(*n), 0); err != nil {
		p.err = err
		return nil
	}
	t := time.Unix(int64(*n), 0)
	return &t
}

func (p *params) integer(name string) *int {
	f := p.number(name)
	if f == nil {
		return nil
	}
	if *f != math.Trunc(*f) || math.Abs(*f) > 1<<53 {
		p.fail(name, "The parameter %s must be an integer.", name)
		return nil
	}
	i := int(*f)
	return &i
}

// seconds returns a duration given as an integer of seconds.
func (p *params) seconds(name string) *time.Duration {
	i := p.integer(name)
	if i == nil {
		return nil
	}
	d := time.Duration(min(max(*i, -maxSeconds), maxSeconds)) * time.Second
	return &d
}

// maxSeconds fits a time.Duration; the domain refuses values near it.
const maxSeconds = 1 << 31

func (p *params) durations(name string) *[]time.Duration {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	if v == nil || v == "" && p.form { // restores the default
		return new([]time.Duration)
	}
	list, ok := listOf(v)
	if !ok {
		p.fail(name, "The parameter %s must be a list of seconds.", name)
		return nil
	}
	out := make([]time.Duration, len(list))
	for i, item := range list {
		param := fmt.Sprintf("%s[%d]", name, i)
		f, ok := p.numberOf(param, item)
		if ok && f != math.Trunc(f) {
			p.fail(param, "The elements of %s must be integers, in seconds.", name)
		}
		out[i] = time.Duration(min(max(f, -maxSeconds), maxSeconds)) * time.Second
	}
	return &out
}

// textMap returns an object of strings; null values are nil.
func (p *params) textMap(name string) map[string]*string {
	v, ok := p.take(name)
	if !ok {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok && v != nil && (v != "" || !p.form) {
		p.fail(name, "The parameter %s must be an object of strings.", name)
		return nil
	}
	out := make(map[string]*string, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case string:
			out[k] = &v
		case nil:
			out[k] = nil
		default:
			p.fail(name+"["+k+"]", "The values of %s must be strings.", name)
		}
	}
	return out
}

// group returns the parameters within an object, nil for null; given reports whether the object
// is present. The caller must call endGroup afterwards.
func (p *params) group(name string) (_ *params, given bool) {
	v, ok := p.take(name)
	if !ok {
		return nil, false
	}
	m, ok := v.(map[string]any)
	switch {
	case v == nil, v == "" && p.form:
		return nil, true
	case !ok:
		p.fail(name, "The parameter %s must be an object.", name)
		return nil, false
	}
	return &params{values: m, form: p.form}, true
}

// endGroup passes the first error of a group to p.
func (p *params) endGroup(name string, group *params) {
	err := group.done()
	var f *fault.Error
	if err == nil || p.err != nil {
		return
	}
	if errors.As(err, &f) && f.Param != "" {
		first, rest := f.Param, ""
		if i := strings.IndexByte(first, '['); i > 0 {
			first, rest = first[:i], first[i:]
		}
		f.Param = name + "[" + first + "]" + rest
	}
	p.err = err
}

// page reads the parameters of every list.
func (p *params) page() call.Page {
	var out call.Page
	if limit := p.integer("limit"); limit != nil {
		if out.Limit = *limit; out.Limit == 0 {
			out.Limit = -1 // a limit of 0 is refused like any other invalid limit
		}
	}
	out.StartingAfter, out.EndingBefore = p.given("starting_after"), p.given("ending_before")
	return out
}

// searchKey reads object_id=…, or key=… and value=….
func (p *params) searchKey() event.SearchKey {
	id, k := p.given("object_id"), event.SearchKey{Path: p.given("key"), Value: p.given("value")}
	switch {
	case id != "" && k != (event.SearchKey{}):
		p.fail("key", "Search by one key: use object_id, or key and value.")
	case k.Value != "" && k.Path == "":
		p.fail("key", "Set the path of a searchable key, such as data.object.id, with its value.")
	case k.Path != "" && k.Value == "":
		p.fail("value", "Set the value of the searchable key %s.", k.Path)
	case id != "":
		return event.SearchKey{Path: event.ObjectID, Value: id}
	}
	return k
}

// created reads created=… and created[gte|gt|lte|lt]=… as a half-open range.
func (p *params) created() (from, until time.Time) {
	v, ok := p.take("created")
	if !ok {
		return from, until
	}
	m, ok := v.(map[string]any)
	if !ok {
		m = map[string]any{"gte": v, "lte": v}
	}
	for op, v := range m {
		param := "created"
		if ok {
			param += "[" + op + "]"
		}
		f, isNumber := p.numberOf(param, v)
		if !isNumber {
			f = -1
		}
		if err := event.CheckTime(param, f, 0); err != nil {
			p.err = err
			return from, until
		}
		t := time.Unix(int64(f), 0)
		switch op {
		case "gte":
			from = later(from, t)
		case "gt":
			from = later(from, t.Add(time.Second))
		case "lt":
			until = earlier(until, t)
		case "lte":
			until = earlier(until, t.Add(time.Second))
		default:
			p.err = fault.Param(param, "parameter_unknown", "A time range accepts gte, gt, lte and lt.")
			return from, until
		}
	}
	return from, until
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
