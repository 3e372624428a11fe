package expression

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/interpreter"
)

// maxReason bounds the text about a failed evaluation, in bytes.
const maxReason = 200

// place describes a position in a text; offset counts characters.
func place(source string, offset int) string {
	before := []rune(source)
	before = before[:min(offset, len(before))]
	line, column := 1, 1
	for _, r := range before {
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	if strings.Contains(strings.TrimSpace(source), "\n") {
		return fmt.Sprintf("At line %d, character %d,", line, column)
	}
	return fmt.Sprintf("At character %d,", column)
}

// first returns the position and the text of the first problem.
func first(source string, issues *cel.Issues) (where, text string) {
	problem := issues.Errors()[0]
	offset := 0
	for range problem.Location.Line() - 1 {
		rest := source[offset:]
		end := strings.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		offset += end + 1
	}
	return place(source, utf8.RuneCountInString(source[:offset])+max(problem.Location.Column(), 0)), problem.Message
}

func syntaxProblem(source string, issues *cel.Issues) string {
	where, text := first(source, issues)
	switch {
	case strings.Contains(text, "recursion") || strings.Contains(text, "expression size"):
		return "The expression is nested too deeply."
	case strings.Contains(text, "<EOF>"):
		return where + " the expression is incomplete, or a bracket or quote is not closed."
	}
	return where + ` this is not an expression. An example is data.object.amount >= 1000 && data.object.currency == "EUR".`
}

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'`)
	noField    = regexp.MustCompile(`does not support field selection`)
)

func typeProblem(source string, issues *cel.Issues) string {
	where, text := first(source, issues)
	if m := undeclared.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s there is no %s. An event has id, type, created and data, as in data.object.amount.", where, m[1])
	}
	if m := noOverload.FindStringSubmatch(text); m != nil {
		name := m[1]
		if name == eachName {
			return where + " this is neither a list nor an object, so it has no elements."
		}
		if s, ok := operators.FindReverse(name); ok && s != "" {
			name = s
		}
		hint := ""
		if strings.Contains(m[2], "double") && strings.Contains(m[2], "int") {
			hint = " Numbers in data are doubles: write 2.0 rather than 2."
		}
		return fmt.Sprintf("%s %s cannot be applied to %s.%s", where, name, m[2], hint)
	}
	if noField.MatchString(text) {
		return where + " this value has no fields. The fields of an event are id, type, created and data."
	}
	return where + " " + clip(text) + "."
}

// reason describes why an evaluation failed. CEL's texts name keys, types and limits; those
// about conversions may quote the value.
func reason(err error) string {
	text := err.Error()
	var canceled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &canceled):
		return fmt.Sprintf("it took more than %d steps", maxCost)
	case strings.HasPrefix(text, "no such key"), strings.HasPrefix(text, "no such overload"), strings.HasPrefix(text, "index out of bounds"),
		strings.HasPrefix(text, "division by zero"), strings.HasPrefix(text, "modulus by zero"):
		return clip(text)
	}
	return "a value has an unexpected type"
}

func clip(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if len(text) > maxReason {
		return strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}
