package expression

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// The names in metered expressions. No source can contain them, because names in it have no @.
const (
	meterName = "@meter" // variable: the meter of the evaluation
	eachName  = "@each"  // function: a list or object that charges for each element that is taken
	payName   = "@pay"   // function: its argument; charges for the length of a text
	walkName  = "@walk"  // function: its argument; charges for everything in it
)

// meterType is the CEL type of a meter.
var meterType = types.NewOpaqueType("meter")

// meter counts the steps of one evaluation and cancels it if there are too many. CEL's own cost
// tracking does not count iterations with a constant body, and its overhead for each step grows
// with the number of steps.
type meter struct{ left int64 }

// charge charges steps.
func (m *meter) charge(steps int64) {
	if m.left -= steps; m.left < 0 {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "too many steps"})
	}
}

// Value implements [ref.Val], as the following methods do.
func (m *meter) Value() any { return m }

// Type returns the type of all meters.
func (m *meter) Type() ref.Type { return meterType }

// Equal reports whether other is the same meter.
func (m *meter) Equal(other ref.Val) ref.Val { return types.Bool(other == m) }

// ConvertToType returns an error: a meter cannot be converted.
func (m *meter) ConvertToType(ref.Type) ref.Val { return types.NewErr("a meter cannot be converted") }

// ConvertToNative returns an error: a meter cannot be converted.
func (m *meter) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("a meter cannot be converted")
}

// metering declares the names of metered expressions.
func metering() []cel.EnvOption {
	a := cel.TypeParamType("A")
	keep := func(weigh func(ref.Val, int64) int64) cel.OverloadOpt {
		return cel.BinaryBinding(func(m, v ref.Val) ref.Val {
			paid := m.(*meter)
			paid.charge(weigh(v, paid.left))
			return v
		})
	}
	return []cel.EnvOption{
		cel.Variable(meterName, cel.DynType),
		// The result is dynamic, so that no variable has a type that is composed of other types: the
		// check of types that grow from loop to loop would not end.
		cel.Function(eachName, cel.Overload(eachName+"_list", []*cel.Type{cel.DynType, cel.ListType(a), cel.IntType}, cel.DynType),
			cel.Overload(eachName+"_map", []*cel.Type{cel.DynType, cel.MapType(a, cel.TypeParamType("B")), cel.IntType}, cel.DynType),
			cel.SingletonFunctionBinding(each)),
		cel.Function(payName, cel.Overload(payName, []*cel.Type{cel.DynType, a}, a, keep(func(v ref.Val, _ int64) int64 { return length(v) }))),
		cel.Function(walkName, cel.Overload(walkName, []*cel.Type{cel.DynType, a}, a, keep(weight))),
	}
}

// each returns a list or an object that charges a price for each element that is taken, and
// other values unchanged: a loop over them fails.
func each(args ...ref.Val) ref.Val {
	m, price := args[0].(*meter), int64(args[2].(types.Int))
	switch v := args[1].(type) {
	case traits.Mapper:
		return &meteredMap{v, m, price}
	case traits.Lister:
		return &meteredList{v, m, price}
	}
	return args[1]
}

// meteredList is a list that charges a price for each element that is taken.
type meteredList struct {
	traits.Lister
	m     *meter
	price int64
}

// Get returns an element, for loops with an index.
func (l *meteredList) Get(index ref.Val) ref.Val {
	l.m.charge(l.price)
	return l.Lister.Get(index)
}

// Iterator returns the elements, for loops without an index.
func (l *meteredList) Iterator() traits.Iterator {
	return &meteredIterator{l.Lister.Iterator(), l.m, l.price}
}

// meteredMap is an object that charges a price for each name that is taken.
type meteredMap struct {
	traits.Mapper
	m     *meter
	price int64
}

// Iterator returns the names. CEL lists all of them when the iteration begins.
func (o *meteredMap) Iterator() traits.Iterator {
	size, _ := o.Size().(types.Int)
	o.m.charge(int64(size) / 4)
	return &meteredIterator{o.Mapper.Iterator(), o.m, o.price}
}

type meteredIterator struct {
	traits.Iterator
	m     *meter
	price int64
}

// Next returns the next element.
func (it *meteredIterator) Next() ref.Val {
	v := it.Iterator.Next()
	it.m.charge(it.price + length(v)/10)
	return v
}

// length returns how many steps it takes to read the text of a value; other values take one.
func length(v ref.Val) int64 {
	switch v := v.(type) {
	case types.String:
		return 1 + int64(len(v))/10
	case types.Bytes:
		return 1 + int64(len(v))/10
	}
	return 1
}

// weight returns how many steps it takes to walk through a value, and stops at about most.
func weight(v ref.Val, most int64) int64 {
	switch v := v.(type) {
	case traits.Mapper:
		n := int64(1)
		if size, ok := v.Size().(types.Int); ok && int64(size) > most { // CEL lists all names when the iteration begins
			return int64(size)
		}
		for it := v.Iterator(); n <= most && it.HasNext() == types.True; {
			key := it.Next()
			n += length(key)
			if n <= most {
				n += weight(v.Get(key), most-n)
			}
		}
		return n
	case traits.Lister:
		n := int64(1)
		for it := v.Iterator(); n <= most && it.HasNext() == types.True; {
			n += weight(it.Next(), most-n)
		}
		return n
	case *types.Optional:
		if v.HasValue() {
			return 1 + weight(v.GetValue(), most)
		}
		return 1
	}
	return length(v)
}
