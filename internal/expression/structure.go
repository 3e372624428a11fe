package expression

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

const (
	// maxLoops bounds the loops (all, exists, filter, map …) of an expression.
	maxLoops = 30
	// typicalSize is the length of lists for which the cost of a new expression is estimated: two
	// loops within each other are affordable, three are not.
	typicalSize = 20
)

// structure is a summary of a parsed expression.
type structure struct {
	loops int
	cost  int64 // estimate for an evaluation in which lists have typicalSize elements
}

// structureOf walks through an expression, in linear time.
func structureOf(e ast.Expr) structure {
	var s structure
	s.cost = s.estimate(e)
	return s
}

// estimate returns the cost of an expression, including its loops.
func (s *structure) estimate(e ast.Expr) int64 {
	cost := price(e)
	if e.Kind() == ast.ComprehensionKind {
		s.loops++
		c := e.AsComprehension()
		rounds := int64(typicalSize)
		if c.IterRange().Kind() == ast.ListKind {
			rounds = int64(c.IterRange().AsList().Size())
		}
		body := s.estimate(c.LoopCondition()) + s.estimate(c.LoopStep())
		return cost + s.estimate(c.IterRange()) + s.estimate(c.AccuInit()) + s.estimate(c.Result()) + rounds*(1+body)
	}
	for _, child := range children(e) {
		cost += s.estimate(child)
	}
	return cost
}

// round returns the cost of one round of a loop, without the cost of loops within it, which
// charge for their own rounds.
func round(c ast.ComprehensionExpr) int64 { return 1 + once(c.LoopCondition()) + once(c.LoopStep()) }

// once returns the cost of an expression without the rounds of its loops.
func once(e ast.Expr) int64 {
	cost := price(e)
	if e.Kind() == ast.ComprehensionKind {
		c := e.AsComprehension()
		return cost + once(c.IterRange()) + once(c.AccuInit()) + once(c.Result())
	}
	for _, child := range children(e) {
		cost += once(child)
	}
	return cost
}

// price returns the cost of a part of an expression without its children, in steps.
func price(e ast.Expr) int64 {
	switch e.Kind() {
	case ast.LiteralKind:
		return 0
	case ast.CallKind:
		switch e.AsCall().FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.NotStrictlyFalse:
			return 0
		}
	}
	return 1
}

// children returns the parts of an expression that is not a loop.
func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		c := e.AsCall()
		if c.IsMemberFunction() {
			return append([]ast.Expr{c.Target()}, c.Args()...)
		}
		return c.Args()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		var all []ast.Expr
		for _, entry := range e.AsMap().Entries() {
			all = append(all, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
		return all
	}
	return nil
}

// metered changes an expression so that it charges for its evaluation: for each round of a
// loop, and for what a call reads of values whose size the source does not bound. The
// identifiers of the source's own parts do not change, so that errors name the right position.
func metered(parsed *cel.Ast) {
	tree := parsed.NativeRep()
	w := &wrapper{make: ast.NewExprFactory(), last: ast.MaxID(tree)}
	var all []ast.Expr
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) { all = append(all, e) }))
	for _, e := range all {
		switch e.Kind() {
		case ast.ComprehensionKind:
			w.loop(e)
		case ast.CallKind:
			w.call(e)
		case ast.MapKind:
			w.object(e)
		}
	}
}

// wrapper adds metering calls to the parts of an expression.
type wrapper struct {
	make ast.ExprFactory
	last int64 // the last identifier in use
}

func (w *wrapper) id() int64 {
	w.last++
	return w.last
}

func (w *wrapper) wrap(name string, e ast.Expr, more ...ast.Expr) ast.Expr {
	args := append([]ast.Expr{w.make.NewIdent(w.id(), meterName), e}, more...)
	return w.make.NewCall(w.id(), name, args...)
}

func (w *wrapper) loop(e ast.Expr) {
	c := e.AsComprehension()
	each := w.wrap(eachName, c.IterRange(), w.make.NewLiteral(w.id(), types.Int(round(c))))
	e.SetKindCase(w.make.NewComprehensionTwoVar(e.ID(), each, c.IterVar(), c.IterVar2(), c.AccuVar(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()))
}

// object charges for names that are not literals.
func (w *wrapper) object(e ast.Expr) {
	var entries []ast.EntryExpr
	for _, entry := range e.AsMap().Entries() {
		m := entry.AsMapEntry()
		entries = append(entries, w.make.NewMapEntry(entry.ID(), w.paid(payName, m.Key()), m.Value(), m.IsOptional()))
	}
	e.SetKindCase(w.make.NewMap(e.ID(), entries))
}

// paid wraps a part in a metering call unless the source bounds its size.
func (w *wrapper) paid(name string, e ast.Expr) ast.Expr {
	if e.Kind() == ast.LiteralKind || e.Kind() == ast.ListKind && !hasVariables(e) {
		return e
	}
	return w.wrap(name, e)
}

// hasVariables reports whether the value of an expression is not a constant.
func hasVariables(e ast.Expr) bool {
	for _, child := range children(e) {
		if hasVariables(child) {
			return true
		}
	}
	return e.Kind() != ast.LiteralKind && e.Kind() != ast.ListKind
}

// call charges for the arguments of a call that reads all of them.
func (w *wrapper) call(e ast.Expr) {
	c := e.AsCall()
	args := c.Args()
	replace := func(name string, which ...int) {
		changed := append([]ast.Expr(nil), args...)
		for _, i := range which {
			changed[i] = w.paid(name, args[i])
		}
		if c.IsMemberFunction() {
			e.SetKindCase(w.make.NewMemberCall(e.ID(), c.FunctionName(), w.paid(name, c.Target()), changed...))
		} else {
			e.SetKindCase(w.make.NewCall(e.ID(), c.FunctionName(), changed...))
		}
	}
	switch c.FunctionName() {
	case operators.Equals, operators.NotEquals:
		// With a literal, the call reads no more than the literal's length.
		if len(args) == 2 && args[0].Kind() != ast.LiteralKind && args[1].Kind() != ast.LiteralKind {
			replace(walkName, 0, 1)
		}
	case operators.In:
		switch {
		case len(args) != 2:
		case hasVariables(args[1]):
			replace(walkName, 0, 1)
		default:
			replace(payName, 0)
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if len(args) == 2 && args[0].Kind() != ast.LiteralKind && args[1].Kind() != ast.LiteralKind {
			replace(payName, 0, 1)
		}
	case operators.Add:
		if len(args) == 2 {
			replace(payName, 0, 1)
		}
	case operators.Index, operators.OptIndex:
		if len(args) == 2 {
			replace(payName, 1)
		}
	case "size", "contains", "startsWith", "endsWith", "string", "int", "double":
		which := make([]int, len(args))
		for i := range args {
			which[i] = i
		}
		replace(payName, which...)
	}
}
