package expression

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// prices says what a call cost. CEL's own prices take the comparison of two trees for
// that of their topmost levels, and the conversion of a text for one step.
type prices struct{}

// CallCost implements cel's ActualCostEstimator.
func (prices) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	cost := uint64(1)
	switch function {
	case operators.Equals, operators.NotEquals:
		cost += min(weight(args[0], maxCost), weight(args[1], maxCost))
	case operators.In:
		// Each element is compared with the first argument.
		cost += weight(args[0], maxCost) + weight(args[1], maxCost)
	case operators.Index, operators.OptIndex, operators.OptSelect:
	case "contains":
		return nil // CEL's price, which is the product of both lengths
	default:
		for _, a := range args {
			if s, ok := a.(types.String); ok {
				cost += uint64(len(s)) / 10
			}
		}
	}
	return &cost
}

// weight returns how many steps it takes to walk through a value, and no more than
// about most.
func weight(v ref.Val, most uint64) uint64 {
	switch v := v.(type) {
	case types.String:
		return 1 + uint64(len(v))/10
	case traits.Mapper:
		n := uint64(1)
		for it := v.Iterator(); n < most && it.HasNext() == types.True; {
			key := it.Next()
			n += weight(key, most-n)
			if n < most {
				n += weight(v.Get(key), most-n)
			}
		}
		return n
	case traits.Lister:
		n := uint64(1)
		for it := v.Iterator(); n < most && it.HasNext() == types.True; {
			n += weight(it.Next(), most-n)
		}
		return n
	}
	return 1
}
