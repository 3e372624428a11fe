// Package expression owns the language of endpoints' filters and transformations: a part of
// CEL, the Common Expression Language, over the fields of an event's body.
//
// Expressions are pure: they read no clock and no file, and the cost of an evaluation is
// bounded. The package does no I/O and must not know endpoints or HTTP.
package expression

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

const (
	// MaxLength bounds a filter, in bytes.
	MaxLength = 1024
	// MaxTransform bounds a transformation, which is longer than a filter.
	MaxTransform = 2048
	// maxDepth bounds how deeply an expression is nested.
	maxDepth = 50
	// maxCost bounds one evaluation, in steps: one for each identifier, field and call that
	// is evaluated, and one for each ten bytes of text that a step reads.
	maxCost = 10_000
)

// Expression is a compiled expression. It is safe for concurrent use.
type Expression struct {
	program cel.Program
	steps   int64 // of an evaluation, without its loops
}

// environment is the language, the same for all expressions. It is made once.
var environment = sync.OnceValue(func() *cel.Env {
	env, err := cel.NewEnv(append(metering(),
		cel.Variable("id", cel.StringType), cel.Variable("type", cel.StringType),
		cel.Variable("created", cel.IntType), cel.Variable("data", cel.MapType(cel.StringType, cel.DynType)),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true),
		cel.ParserRecursionLimit(maxDepth), cel.ParserExpressionSizeLimit(MaxTransform),
		ext.TwoVarComprehensions(),
	)...)
	if err != nil {
		panic(fmt.Sprintf("make the environment of expressions: %v", err)) // the arguments are constant
	}
	return env
})

// functions are the functions that an expression may call. The other functions of CEL cost more
// than their price (regular expressions, before the limit can stop them) or have results that
// depend on the machine (time zones).
var functions = map[string]bool{
	operators.Conditional: true, operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true,
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	operators.Add: true, operators.Subtract: true, operators.Multiply: true, operators.Divide: true, operators.Modulo: true, operators.Negate: true,
	operators.Index: true, operators.OptIndex: true, operators.OptSelect: true, operators.In: true,
	operators.NotStrictlyFalse: true, "cel.@mapInsert": true, // in the expansions of all, exists and transformMap
	"size": true, "contains": true, "startsWith": true, "endsWith": true,
	"string": true, "int": true, "double": true,
	"hasValue": true, "value": true, "orValue": true, "or": true,
}

// kind is a use of expressions.
type kind struct {
	limit   int                            // of the source, in bytes
	example string                         // for errors about an empty expression
	check   func(*cel.Type) (wrong string) // checks the result's type; an empty result means that it is allowed
}

var filter = &kind{MaxLength, `data.object.currency == "EUR"`, func(t *cel.Type) string {
	switch {
	case t.IsExactType(types.DynType):
		return "The expression must be true or false, and the type of this one is unknown. Compare it with a value, as in data.object.paid == true."
	case !t.IsExactType(types.BoolType):
		return fmt.Sprintf("The expression must be true or false; this one has the type %s. Compare it with a value.", t)
	}
	return ""
}}

// Compile compiles an expression whose result must be true or false. Errors: fault.Invalid for
// the named parameter; the message says what is wrong and where. Compiling takes a few
// milliseconds at most, and almost no time if the same expression was compiled recently: call
// Compile before a lock is taken or a transaction begins, so that the call within it is fast.
func Compile(param, source string) (*Expression, error) { return try(filter, param, source) }

func compile(k *kind, param, source string) (*Expression, error) {
	invalid := func(format string, args ...any) error {
		return fault.Param(param, "expression_invalid", format, args...)
	}
	switch {
	case len(source) > k.limit:
		return nil, invalid("The expression is %d bytes long; the limit is %d.", len(source), k.limit)
	case strings.TrimSpace(source) == "":
		return nil, invalid(`Set an expression such as %s, or leave it out.`, k.example)
	}
	env := environment()
	parsed, issues := env.Parse(source)
	if issues.Err() != nil {
		return nil, invalid("%s", syntaxProblem(source, issues))
	}
	if at, name, ok := forbidden(parsed); ok {
		return nil, invalid("%s the function %s is unknown. Use size, contains, startsWith, endsWith, string, int, double, has, all, exists, exists_one, filter, map and transformMap.", place(source, at), name)
	}
	shape := structureOf(parsed.NativeRep().Expr())
	switch {
	case shape.loops > maxLoops:
		return nil, invalid("The expression has %d loops (all, exists, filter, map); the limit is %d.", shape.loops, maxLoops)
	case shape.cost > maxCost:
		return nil, invalid("The expression costs too much: up to %d steps over lists of %d elements, and %d is the limit. Nest fewer loops (all, exists, filter, map).", shape.cost, typicalSize, maxCost)
	}
	steps := once(parsed.NativeRep().Expr())
	metered(parsed)
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, invalid("%s", typeProblem(source, issues))
	}
	if wrong := k.check(checked.OutputType()); wrong != "" {
		return nil, invalid("%s", wrong)
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil { // a constant part fails, as 1 / 0 does
		return nil, invalid("The expression can never be evaluated: %s.", reason(err))
	}
	return &Expression{program, steps}, nil
}

// forbidden returns the first call of a function that is not allowed.
func forbidden(parsed *cel.Ast) (at int, name string, found bool) {
	tree := parsed.NativeRep()
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch {
		case found:
			return
		case e.Kind() == ast.StructKind:
			name = e.AsStruct().TypeName()
		case e.Kind() == ast.CallKind && !functions[e.AsCall().FunctionName()]:
			name = e.AsCall().FunctionName()
		default:
			return
		}
		found = true
		if r, ok := tree.SourceInfo().GetOffsetRange(e.ID()); ok {
			at = int(r.Start)
		}
		if s, ok := operators.FindReverse(name); ok {
			name = s
		}
	}))
	return at, name, found
}

// Match evaluates the expression over an event.
func (x *Expression) Match(in *Input) (bool, error) {
	out, err := x.eval(in)
	if err != nil {
		return false, err
	}
	matched, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the expression is neither true nor false")
	}
	return matched, nil
}

// eval evaluates the expression and charges its steps to the event.
func (x *Expression) eval(in *Input) (ref.Val, error) {
	e, err := in.begin(x.steps)
	if err != nil {
		return nil, err
	}
	before := e.meter.left + x.steps
	out, _, err := x.program.Eval(e)
	in.spent.Add(before - max(e.meter.left, 0))
	if err != nil {
		return nil, errors.New(reason(err))
	}
	return out, nil
}
