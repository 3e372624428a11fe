package event

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Limits of the regular expressions of a schema. A few characters can stand for a program of a
// million instructions, or for a thousand ranges of characters.
const (
	maxPattern        = 1_000  // bytes of one
	maxPatterns       = 8_000  // bytes of all
	maxPatternProgram = 10_000 // instructions of all, about
	maxPatternRunes   = 200_000
)

// maxCheckSteps bounds one validation: about one step for each value that a part of the schema
// is applied to, for each value that it is compared with, and for each 64 instructions of a
// regular expression per character.
const maxCheckSteps = 300_000

// instructionsPerStep is the number of a regular expression's instructions per step.
const instructionsPerStep = 64

// tooManySteps ends a validation by a panic, because the library cannot be interrupted
// otherwise.
type tooManySteps struct{}

// steps counts the steps of one validation.
type steps struct{ left int }

func (s *steps) take(n int) {
	if s.left -= n; s.left < 0 {
		panic(tooManySteps{})
	}
}

// patterns compiles the regular expressions of one schema within the limits.
type patterns struct {
	steps          *steps
	bytes, program int
	runes          int // ends of the ranges of all character classes
	known          map[string]*pattern
}

// tooLargePattern is the error of a too large regular expression.
type tooLargePattern struct{ what string }

func (e *tooLargePattern) Error() string { return e.what }

// compile implements [jsonschema.RegexpEngine].
func (c *patterns) compile(source string) (jsonschema.Regexp, error) {
	if p := c.known[source]; p != nil {
		return p, nil
	}
	if c.bytes += len(source); len(source) > maxPattern || c.bytes > maxPatterns {
		return nil, &tooLargePattern{fmt.Sprintf("A pattern may have at most %d bytes, and all patterns of a schema together %d bytes.", maxPattern, maxPatterns)}
	}
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := programSize(tree)
	c.program, c.runes = c.program+size, c.runes+countRunes(tree)
	if c.program > maxPatternProgram || c.runes > maxPatternRunes {
		return nil, &tooLargePattern{fmt.Sprintf("The patterns of the schema are too large after expanding their repetitions: more than %d instructions. Use smaller counts than in a{1000}, and fewer classes such as \\p{L}.", maxPatternProgram)}
	}
	compiled, err := regexp.Compile(source)
	if err != nil {
		return nil, err
	}
	p := &pattern{compiled, size, c.steps}
	if c.known == nil {
		c.known = map[string]*pattern{}
	}
	c.known[source] = p
	return p, nil
}

// programSize returns the approximate number of instructions of a regular expression before it
// is compiled. It stops soon after the limit.
func programSize(tree *syntax.Regexp) int {
	const most = 10 * maxPatternProgram
	size := 1
	for _, sub := range tree.Sub {
		size = min(size+programSize(sub), most)
	}
	switch tree.Op {
	case syntax.OpLiteral:
		size += len(tree.Rune)
	case syntax.OpCharClass:
		size += bits.Len(uint(len(tree.Rune))) // to find a character's range
	case syntax.OpRepeat:
		times := max(tree.Max, tree.Min+1, 1)
		size = min(size*times, most)
	}
	return size
}

func countRunes(tree *syntax.Regexp) int {
	n := len(tree.Rune)
	for _, sub := range tree.Sub {
		n += countRunes(sub)
	}
	return n
}

// pattern is a compiled regular expression that counts the steps of each match.
type pattern struct {
	*regexp.Regexp
	size  int
	steps *steps
}

// MatchString reports whether the pattern is found in s.
func (p *pattern) MatchString(s string) bool {
	p.steps.take(1 + (len(s)+1)*p.size/instructionsPerStep)
	return p.Regexp.MatchString(s)
}

// metered makes all parts of a compiled schema count steps.
func metered(root *jsonschema.Schema, s *steps) {
	seen := map[*jsonschema.Schema]bool{}
	var visit func(*jsonschema.Schema)
	visit = func(part *jsonschema.Schema) {
		if part == nil || seen[part] || part.Bool != nil {
			return
		}
		seen[part] = true
		for _, sub := range inPlace(part) {
			visit(sub)
		}
		for _, sub := range elsewhere(part) {
			visit(sub)
		}
	}
	visit(root)
	for part := range seen {
		if part.UniqueItems {
			part.UniqueItems = false
			part.Extensions = append(part.Extensions, unique{s})
		}
		m := &tariff{part: part, steps: s}
		for _, sub := range inPlace(part) {
			m.inPlace += fixedCost(sub)
		}
		// The library asserts no formats; it calls the format of a part first.
		part.Format = &jsonschema.Format{Name: "steps", Validate: m.pay}
	}
}

// inPlace returns the parts of a schema that are applied to the same value.
func inPlace(s *jsonschema.Schema) []*jsonschema.Schema {
	all := []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else}
	all = append(append(append(all, s.AllOf...), s.AnyOf...), s.OneOf...)
	for _, sub := range s.DependentSchemas {
		all = append(all, sub)
	}
	for _, sub := range s.Dependencies {
		if sub, ok := sub.(*jsonschema.Schema); ok {
			all = append(all, sub)
		}
	}
	return all
}

// elsewhere returns the parts of a schema that are applied to members or elements of the value.
func elsewhere(s *jsonschema.Schema) []*jsonschema.Schema {
	all := append([]*jsonschema.Schema{s.Items2020, s.Contains, s.UnevaluatedItems}, s.PrefixItems...)
	return append(all, forMembers(s)...)
}

// forMembers returns the parts of a schema that are applied to the members of an object.
func forMembers(s *jsonschema.Schema) []*jsonschema.Schema {
	all := []*jsonschema.Schema{s.PropertyNames, s.UnevaluatedProperties, s.ContentSchema}
	if sub, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		all = append(all, sub)
	}
	for _, sub := range s.Properties {
		all = append(all, sub)
	}
	for _, sub := range s.PatternProperties {
		all = append(all, sub)
	}
	return all
}

// fixedCost returns the steps of applying a part to any value, besides its own metering.
func fixedCost(s *jsonschema.Schema) int {
	if s == nil {
		return 0
	}
	n := 1 + len(s.Required)
	if s.Enum != nil {
		for _, v := range s.Enum.Values {
			n += comparing(v)
		}
	}
	if s.Const != nil {
		n += comparing(*s.Const)
	}
	for _, names := range s.DependentRequired {
		n += 1 + len(names)
	}
	return n
}

// comparing returns the steps of comparing a value with one of a schema.
func comparing(v any) int {
	const number = 4
	switch v := v.(type) {
	case json.Number:
		return number
	case string:
		return 1 + len(v)/100
	}
	return number * values(v)
}

// tariff determines the steps of a part of a schema.
type tariff struct {
	part    *jsonschema.Schema
	inPlace int // for the parts that are applied to the same value
	steps   *steps
}

// pay counts the steps of applying the part to a value, and the fixed cost of the parts that
// are applied to its members or elements.
func (t *tariff) pay(v any) error {
	n, s := 1+t.inPlace, t.part
	switch v := v.(type) {
	case map[string]any:
		each := 1 + fixedCost(s.PropertyNames) + fixedCost(s.UnevaluatedProperties)
		if sub, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			each += fixedCost(sub)
		}
		for _, sub := range s.PatternProperties {
			each += fixedCost(sub)
		}
		n += len(v) * each
		for name := range v {
			n += fixedCost(s.Properties[name])
		}
		n += t.unevaluated(len(v))
	case []any:
		n += len(v) * (1 + fixedCost(s.Items2020) + fixedCost(s.Contains) + fixedCost(s.UnevaluatedItems))
		for _, sub := range s.PrefixItems {
			n += fixedCost(sub)
		}
		n += t.unevaluated(len(v))
	case string:
		n += len(v) / 100
	case json.Number:
		const compare = 4
		n += compare
	}
	t.steps.take(n)
	return nil
}

// unevaluated returns the steps of tracking the members that no part has evaluated: a list of
// them for each part.
func (t *tariff) unevaluated(members int) int {
	s := t.part
	if s.UnevaluatedProperties == nil && s.UnevaluatedItems == nil {
		return 0
	}
	return members * (1 + len(inPlace(s)))
}

// unique implements uniqueItems. The library's implementation never ends for items that were
// made to have the same hash.
type unique struct{ steps *steps }

// Validate implements [jsonschema.SchemaExt].
func (u unique) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, ok := v.([]any)
	if !ok {
		return
	}
	u.steps.take(2 * values(v))
	first := make(map[string]int, len(items))
	for i, item := range items {
		text, err := json.Marshal(item) // members sorted; numbers and texts of the body have one form
		if err != nil {
			return
		}
		u.steps.take(len(text) / 100)
		if j, found := first[string(text)]; found {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{j, i}})
			return
		}
		first[string(text)] = i
	}
}
