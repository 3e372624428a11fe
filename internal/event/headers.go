package event

import (
	"encoding/json"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Headers are the custom headers of one event's deliveries: a JSON object of values by
// canonical name, in order of name; empty: none.
type Headers []byte

// EncodeHeaders returns the stored form of headers.
func EncodeHeaders(values map[string]string) Headers {
	if len(values) == 0 {
		return nil
	}
	text, err := json.Marshal(values) // sorts the names
	if err != nil {
		panic(err) // a map of strings can be encoded
	}
	return text
}

// Values returns the headers by name.
func (h Headers) Values() (values map[string]string, err error) {
	if len(h) > 0 {
		err = json.Unmarshal(h, &values)
	}
	return values, err
}

// headers reads the headers of an event. The caller checks names and values.
func (w *stableWriter) headers() (map[string]string, error) {
	notHeaders := func(param string) error {
		return fault.Param(param, "parameter_invalid", `The headers must be an object of strings: {"X-Tenant":"acme"}.`)
	}
	if w.dec.PeekKind() != '{' {
		if _, err := w.dec.ReadValue(); err != nil {
			return nil, w.syntax(err)
		}
		return nil, notHeaders("headers")
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return nil, w.syntax(err)
	}
	all := map[string]string{}
	for w.dec.PeekKind() != '}' {
		name, err := w.dec.ReadToken()
		if err != nil {
			return nil, w.syntax(err)
		}
		key := name.String()
		value, err := w.dec.ReadToken()
		if err != nil {
			return nil, w.syntax(err)
		}
		if value.Kind() != '"' {
			return nil, notHeaders(w.path(w.dec.StackPointer()))
		}
		all[key] = value.String()
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return nil, w.syntax(err)
	}
	return all, nil
}
