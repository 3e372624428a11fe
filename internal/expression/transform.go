package expression

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/go-json-experiment/json/jsontext"
)

// maxGrowth is by how much the result of a transformation may be larger than its input, in
// bytes. A few steps can write the same list many times.
const maxGrowth = 256 << 10

// Transform is an expression whose result replaces an event's data or the whole body of its
// delivery.
type Transform struct{ x *Expression }

var transformation = &kind{MaxTransform, `{"object": {"id": data.object.id}}`, func(t *cel.Type) string {
	if t.Kind() != types.MapKind && !t.IsExactType(types.DynType) {
		return fmt.Sprintf(`The expression must be an object, such as {"object": {"id": data.object.id}}; this one has the type %s.`, t)
	}
	return ""
}}

// wholeBody is the kind of transformations whose result is the whole body.
var wholeBody = &kind{MaxTransform, `{"text": "Paid: " + data.object.id}`, func(t *cel.Type) string {
	switch t.Kind() {
	case types.MapKind, types.ListKind, types.StringKind, types.BytesKind, types.DynKind:
		return ""
	}
	return fmt.Sprintf("The expression must be an object, a list, a text or bytes, because it is the whole body; this one has the type %s.", t)
}}

func transformKind(whole bool) *kind {
	if whole {
		return wholeBody
	}
	return transformation
}

// CompileTransform compiles a transformation, for data or, if whole is true, for a body. Errors
// are those of [Compile].
func CompileTransform(param, source string, whole bool) (*Transform, error) {
	x, err := try(transformKind(whole), param, source)
	return &Transform{x}, err
}

// CachedTransform is [CompileTransform] for a transformation that was accepted before.
func CachedTransform(param, source string, whole bool) (*Transform, error) {
	x, err := cached(transformKind(whole), param, source)
	return &Transform{x}, err
}

// The media types of transformed bodies, by the type of the result.
const (
	JSONBody  = "application/json"
	TextBody  = "text/plain; charset=utf-8"
	BytesBody = "application/octet-stream"
)

// Body returns the body that the transformation makes of an event, and its media type. In JSON,
// the members of objects are sorted; a text or bytes are the body unchanged.
func (t *Transform) Body(in *Input) (body []byte, media string, err error) {
	out, err := t.x.eval(in)
	if err != nil {
		return nil, "", err
	}
	limit := in.size + maxGrowth
	switch v := out.(type) {
	case types.String:
		body, media = []byte(v), TextBody
	case types.Bytes:
		body, media = v, BytesBody
	case traits.Mapper, traits.Lister:
		body, err = appendJSON(nil, out, limit)
		return body, JSONBody, err
	default:
		return nil, "", fmt.Errorf("its result is of type %s, and a body is an object, a list, a text or bytes", out.Type().TypeName())
	}
	if len(body) > limit {
		return nil, "", errTooLarge(limit)
	}
	return body, media, nil
}

func errTooLarge(limit int) error { return fmt.Errorf("its result is larger than %d bytes", limit) }

// Apply returns the new data of an event as JSON, with the members of objects sorted. It
// depends only on the event.
func (t *Transform) Apply(in *Input) ([]byte, error) {
	out, err := t.x.eval(in)
	if err != nil {
		return nil, err
	}
	if _, ok := out.(traits.Mapper); !ok {
		return nil, errors.New("its result is not an object")
	}
	return appendJSON(nil, out, in.size+maxGrowth)
}

// appendJSON appends a value of an expression as JSON, and stops soon after limit bytes.
func appendJSON(b []byte, v ref.Val, limit int) (_ []byte, err error) {
	if len(b) > limit {
		return nil, errTooLarge(limit)
	}
	switch v := v.(type) {
	case types.Null:
		return append(b, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(b, bool(v)), nil
	case types.Int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case types.Uint:
		return strconv.AppendUint(b, uint64(v), 10), nil
	case types.Double:
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, errors.New("its result contains a number that JSON cannot represent")
		}
		return append(b, jsontext.Float(float64(v)).String()...), nil
	case types.String:
		return appendText(b, string(v))
	case types.Bytes:
		return appendText(b, base64.StdEncoding.EncodeToString(v))
	case traits.Mapper:
		return appendObject(b, v, limit)
	case traits.Lister:
		b = append(b, '[')
		for it, first := v.Iterator(), true; it.HasNext() == types.True; first = false {
			if !first {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, it.Next(), limit); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	}
	return nil, fmt.Errorf("its result contains a value of type %s", v.Type().TypeName())
}

func appendObject(b []byte, v traits.Mapper, limit int) (_ []byte, err error) {
	var names []string
	for it := v.Iterator(); it.HasNext() == types.True; {
		name, ok := it.Next().(types.String)
		if !ok {
			return nil, errors.New("its result contains an object with a key that is not a string")
		}
		names = append(names, string(name))
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendText(b, name); err != nil {
			return nil, err
		}
		if b, err = appendJSON(append(b, ':'), v.Get(types.String(name)), limit); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendText(b []byte, s string) ([]byte, error) {
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		return nil, errors.New("its result contains a string that is not UTF-8")
	}
	return b, nil
}
