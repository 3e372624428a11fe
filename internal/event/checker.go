package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Limits of a schema with its references resolved.
const (
	maxSchemaSpread = 5_000 // values
	maxSchemaDepth  = 200   // levels
)

// draft is the only supported dialect of JSON Schema.
const draft = "https://json-schema.org/draft/2020-12/schema"

// location is the schema's location for the compiler. Nothing is loaded from it.
const location = "urn:posthaste:schema"

// checker is a schema. It is compiled when it is first needed, and again for each concurrent
// validation, up to a few. It is safe for concurrent use.
type checker struct {
	source []byte
	once   sync.Once
	err    error
	idle   chan *compiledSchema // contains nil for each copy that may still be compiled
}

// compiledSchema is a compiled schema for one validation at a time.
type compiledSchema struct {
	schema *jsonschema.Schema
	steps  steps
}

func newChecker(source []byte) *checker { return &checker{source: source} }

// load compiles the schema. Errors are fault.Invalid.
func (c *checker) load() error {
	c.once.Do(func() {
		var first *compiledSchema
		if first, c.err = compileSchema(c.source); c.err != nil {
			return
		}
		atATime := runtime.GOMAXPROCS(0)
		c.idle = make(chan *compiledSchema, atATime)
		c.idle <- first
		for range atATime - 1 {
			c.idle <- nil
		}
	})
	return c.err
}

// recent contains the schemas that were last compiled for a check, so that one which is then
// stored is not compiled again while other calls wait.
var recent = struct {
	sync.Mutex
	all map[string]*checker
}{all: map[string]*checker{}}

const maxRecent = 64

// checkerOf returns the checker of a schema, compiled, and caches it for a while. Errors are
// fault.Invalid.
func checkerOf(source []byte) (*checker, error) {
	recent.Lock()
	c := recent.all[string(source)]
	if c == nil {
		for old := range recent.all {
			if len(recent.all) < maxRecent {
				break
			}
			delete(recent.all, old)
		}
		c = newChecker(source)
		recent.all[string(source)] = c
	}
	recent.Unlock()
	return c, c.load()
}

func compileSchema(source []byte) (*compiledSchema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	if err != nil {
		return nil, fmt.Errorf("parse a schema that was accepted: %w", err)
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, badSchema("schema", `The schema must be a JSON object, such as {"type":"object"}.`)
	}
	if v, given := root["$schema"]; given && v != draft && v != draft+"#" {
		return nil, badSchema("schema.$schema", "Schemas must use draft 2020-12: %s", draft)
	}
	m := measure{root: root, known: map[string]extent{}}
	if _, err := m.value(root, "schema", 0); err != nil {
		return nil, err
	}
	out := &compiledSchema{}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	compiler.UseRegexpEngine((&patterns{steps: &out.steps}).compile)
	if err := compiler.AddResource(location, doc); err != nil {
		return nil, refusedSchema(err)
	}
	out.steps.left = math.MaxInt // it is validated against the schema of schemas, at a cost proportional to its size
	if out.schema, err = compiler.Compile(location); err != nil {
		return nil, refusedSchema(err)
	}
	metered(out.schema, &out.steps)
	return out, nil
}

// noLoader loads nothing: a schema must not make the server send requests or read files.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("nothing is loaded") }

func badSchema(param, format string, args ...any) *fault.Error {
	return fault.Param(param, "schema_invalid", format, args...)
}

// refusedSchema returns the fault for an invalid schema, with the place.
func refusedSchema(err error) error {
	var wrong *jsonschema.SchemaValidationError
	if errors.As(err, &wrong) {
		var first *jsonschema.ValidationError
		if errors.As(wrong.Err, &first) {
			leaf := deepest(first)
			var large *tooLargePattern
			if format, ok := leaf.ErrorKind.(*kind.Format); ok && errors.As(format.Err, &large) {
				return fault.Param("schema", "schema_too_costly", "%s", large.what)
			}
			at := append([]string{"schema"}, leaf.InstanceLocation...)
			return badSchema(fieldPath(at, func(int) bool { return false }), "This is not a valid JSON Schema: %s.", english(leaf.ErrorKind))
		}
	}
	var pattern *jsonschema.InvalidRegexError
	var large *tooLargePattern
	if errors.As(err, &pattern) && errors.As(pattern.Err, &large) {
		return fault.Param("schema", "schema_too_costly", "%s", large.what)
	}
	if errors.As(err, &pattern) {
		return badSchema("schema", "The pattern %q is not a valid regular expression in RE2 syntax.", shorten(pattern.Regex))
	}
	return &fault.Error{Code: fault.Invalid, Reason: "schema_invalid", Param: "schema", Message: "This is not a valid JSON Schema of draft 2020-12.", Err: err}
}

// extent is the size of a part of a schema with its references resolved.
type extent struct{ values, levels int }

// measure computes the size of a schema with references resolved. It refuses references to
// other documents and cycles.
type measure struct {
	root  map[string]any
	known map[string]extent // by reference; being measured: the zero value
	count int               // of all visited values, so that measuring is bounded
}

func (m *measure) value(v any, at string, depth int) (extent, error) {
	if m.count++; m.count > maxSchemaSpread || depth > maxSchemaDepth {
		return extent{}, tooCostly(at)
	}
	size := extent{values: 1}
	add := func(part extent, err error) error {
		size.values += part.values
		size.levels = max(size.levels, part.levels)
		if err == nil && (size.values > maxSchemaSpread || depth+size.levels > maxSchemaDepth) {
			err = tooCostly(at)
		}
		return err
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if err := add(m.value(item, fmt.Sprintf("%s[%d]", at, i), depth+1)); err != nil {
				return extent{}, err
			}
		}
	case map[string]any:
		for name, item := range v {
			where := at + "." + name
			text, isText := item.(string)
			switch {
			case !isText:
			case name == "$ref":
				if err := add(m.reference(text, where, depth+1)); err != nil {
					return extent{}, err
				}
			case name == "$dynamicRef" || name == "$recursiveRef" || name == "$anchor" || name == "$dynamicAnchor" || name == "$id" && at != "schema":
				return extent{}, badSchema(where, "A $ref may only refer to a part of the same schema by a JSON pointer, such as #/$defs/money; %s is not supported.", name)
			}
			if err := add(m.value(item, where, depth+1)); err != nil {
				return extent{}, err
			}
		}
	}
	size.levels++
	return size, nil
}

func (m *measure) reference(ref, at string, depth int) (extent, error) {
	pointer, own := strings.CutPrefix(ref, "#")
	if !own || pointer != "" && pointer[0] != '/' {
		return extent{}, badSchema(at, "External schemas are not loaded: move the referenced schema to $defs, and refer to it by #/$defs/….")
	}
	if size, seen := m.known[pointer]; seen {
		if size == (extent{}) {
			return extent{}, badSchema(at, "The schema refers to itself. Recursive schemas are not supported.")
		}
		return size, nil
	}
	target, ok := resolvePointer(m.root, pointer)
	if !ok {
		return extent{}, badSchema(at, "The schema has no part at %s.", shorten(ref))
	}
	m.known[pointer] = extent{}
	size, err := m.value(target, shorten(at), depth)
	m.known[pointer] = size
	return size, err
}

func tooCostly(at string) error {
	return fault.Param("schema", "schema_too_costly", "The schema is too large after resolving its references: more than %d values, or %d levels, at %s.", maxSchemaSpread, maxSchemaDepth, shorten(at))
}

// resolvePointer follows a JSON pointer (RFC 6901).
func resolvePointer(v any, pointer string) (any, bool) {
	if pointer == "" {
		return v, true
	}
	for _, token := range strings.Split(pointer[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[token]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// check returns the first mismatch of a body, nil if it matches.
func (c *checker) check(body []byte) *fault.Error {
	wrong, _ := c.take(body)
	return wrong
}

// take is check, and returns the number of steps.
func (c *checker) take(body []byte) (wrong *fault.Error, steps int) {
	one, err := c.acquire()
	if err != nil {
		var known *fault.Error
		if errors.As(err, &known) {
			return known, 0
		}
		return badSchema("type", "The stored schema of this event type is no longer supported. Set a new schema."), 0
	}
	defer func() { c.idle <- one }()
	one.steps.left = maxCheckSteps
	wrong = one.check(body)
	return wrong, maxCheckSteps - max(one.steps.left, 0)
}

func (c *compiledSchema) check(body []byte) *fault.Error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return &fault.Error{Code: fault.Invalid, Reason: "json_invalid", Message: "The body is not valid JSON.", Err: err}
	}
	err = c.validate(doc)
	if err == nil {
		return nil
	}
	var wrong *jsonschema.ValidationError
	if !errors.As(err, &wrong) {
		var known *fault.Error
		if errors.As(err, &known) {
			return known
		}
		return &fault.Error{Code: fault.Invalid, Reason: "schema_mismatch", Message: "The event does not match the schema of its type.", Err: err}
	}
	leaf := deepest(wrong)
	at := slices.Clone(leaf.InstanceLocation)
	switch k := leaf.ErrorKind.(type) { // the missing or surplus field is named
	case *kind.Required:
		at = append(at, slices.Min(k.Missing))
	case *kind.DependentRequired:
		at = append(at, slices.Min(k.Missing))
	case *kind.AdditionalProperties:
		at = append(at, slices.Min(k.Properties))
	}
	return fault.Param(fieldPath(at, indexIn(doc, at)), "schema_mismatch", "The event does not match the schema of its type: %s.", english(leaf.ErrorKind))
}

// acquire returns a compiled schema for one validation. It must be returned to idle.
func (c *checker) acquire() (*compiledSchema, error) {
	if err := c.load(); err != nil {
		return nil, err
	}
	one := <-c.idle
	if one != nil {
		return one, nil
	}
	one, err := compileSchema(c.source)
	if err != nil {
		c.idle <- nil
	}
	return one, err
}

// validate validates a body within the limit of steps.
func (c *compiledSchema) validate(doc any) (err error) {
	defer func() {
		switch v := recover(); v.(type) {
		case nil:
		case tooManySteps:
			err = fault.Param("data", "schema_too_costly", "The event is too large to be validated against the schema of its type: validation takes more than %d steps.", maxCheckSteps)
		default:
			panic(v)
		}
	}()
	return c.schema.Validate(doc)
}

// values counts the values of a body.
func values(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, item := range v {
			n += values(item)
		}
	case []any:
		for _, item := range v {
			n += values(item)
		}
	}
	return n
}

// deepest returns the error that lies deepest in the body: of the alternatives that a value
// could have matched, the nearest one. Of several the first by place is returned, so that the
// same body always has the same error.
func deepest(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return e
	}
	best := deepest(e.Causes[0])
	for _, c := range e.Causes[1:] {
		d := deepest(c)
		switch n := len(d.InstanceLocation) - len(best.InstanceLocation); {
		case n > 0, n == 0 && slices.Compare(d.InstanceLocation, best.InstanceLocation) < 0:
			best = d
		}
	}
	return best
}

// printer formats the library's messages in English.
var printer = message.NewPrinter(language.English)

// printing guards the printer, which is not safe for concurrent use.
var printing sync.Mutex

func english(k jsonschema.ErrorKind) string {
	printing.Lock()
	defer printing.Unlock()
	return k.LocalizedString(printer)
}

// indexIn returns a function that reports whether the i-th step of a path into doc is the index
// of a list.
func indexIn(doc any, at []string) func(i int) bool {
	lists := make([]bool, len(at))
	for i, name := range at {
		switch in := doc.(type) {
		case []any:
			lists[i] = true
			if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < len(in) {
				doc = in[n]
			}
		case map[string]any:
			doc = in[name]
		}
	}
	return func(i int) bool { return lists[i] }
}

// fieldPath formats a place in the notation of errors: data.object.items[0].
func fieldPath(at []string, isIndex func(i int) bool) string {
	var b strings.Builder
	for i, name := range at {
		switch {
		case isIndex(i):
			b.WriteString("[" + name + "]")
		case name == "" || strings.ContainsFunc(name, oddInPath):
			b.WriteString("[" + strconv.Quote(shown([]byte(name))) + "]")
		case b.Len() > 0:
			b.WriteString("." + name)
		default:
			b.WriteString(name)
		}
	}
	return b.String()
}

// shorten truncates text that an error repeats.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
