package expression

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"cel.dev/cel-go/interpreter"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxInputCost bounds the cost of all evaluations over one event together.
const maxInputCost = 20 * maxCost

// Input is an event for evaluations. It is safe for concurrent use.
type Input struct {
	id, typ string
	created int64
	size    int          // of the data
	spent   atomic.Int64 // steps of all evaluations
	decode  func() map[string]any
}

// NewInput returns an event whose data is stable JSON. The first expression that reads the data
// decodes it.
func NewInput(id, typ string, created int64, data []byte) *Input {
	return &Input{id: id, typ: typ, created: created, size: len(data), decode: sync.OnceValue(func() map[string]any {
		var d map[string]any
		// A stable body may contain escapes of lone surrogates, as JSON.stringify writes them.
		if json.Unmarshal(data, &d, jsontext.AllowInvalidUTF8(true)) != nil {
			return nil
		}
		return d
	})}
}

// ResolveName implements [interpreter.Activation].
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case "id":
		return in.id, true
	case "type":
		return in.typ, true
	case "created":
		return in.created, true
	case "data":
		return in.decode(), true
	}
	return nil, false
}

// Parent implements [interpreter.Activation].
func (in *Input) Parent() interpreter.Activation { return nil }

// Cost returns about how much processor time the evaluations of the event and the decoding of
// its data took.
func (in *Input) Cost() time.Duration {
	const step, perByte = 50 * time.Nanosecond, 10 * time.Nanosecond
	return time.Duration(in.spent.Load())*step + time.Duration(in.size)*perByte
}

// evaluation is one evaluation of an event, with its budget.
type evaluation struct {
	*Input
	meter meter
}

// ResolveName implements [interpreter.Activation].
func (e *evaluation) ResolveName(name string) (any, bool) {
	if name == meterName {
		return &e.meter, true
	}
	return e.Input.ResolveName(name)
}

// begin returns an evaluation with its budget, or an error if earlier evaluations used up the
// event's.
func (in *Input) begin(steps int64) (*evaluation, error) {
	left := maxInputCost - in.spent.Load()
	if left <= 0 {
		return nil, fmt.Errorf("the expressions over this event took more than %d steps together", maxInputCost)
	}
	return &evaluation{Input: in, meter: meter{min(left, maxCost) - steps}}, nil
}
