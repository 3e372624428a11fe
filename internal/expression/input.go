package expression

import (
	"sync"

	"cel.dev/cel-go/interpreter"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Input is an event that expressions are evaluated over. It is safe for concurrent use.
type Input struct {
	id, typ string
	created int64
	size    int // of the data
	decode  func() map[string]any
}

// NewInput returns an event whose data is stable JSON. It is decoded once, when the
// first expression looks at it.
func NewInput(id, typ string, created int64, data []byte) *Input {
	return &Input{id: id, typ: typ, created: created, size: len(data), decode: sync.OnceValue(func() map[string]any {
		var d map[string]any
		// A stable body may hold the escapes of lone surrogates, as JSON.stringify writes them.
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
