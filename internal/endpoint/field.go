package endpoint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// FieldKind is the kind of a field's value.
type FieldKind uint8

// The kinds, with the Go types of their values in [Params].
const (
	TextField    FieldKind = iota // string
	ChoiceField                   // string: the value of an Option; empty is the first
	ListField                     // []string
	PairsField                    // map[string]*string; nil removes a key
	IntegerField                  // int; 0 is the default
	NumberField                   // float64; 0 is the default
	SecondsField                  // time.Duration; 0 is the default
	DelaysField                   // []time.Duration; nil is the default
	GroupField                    // Params by the names of Members; nil removes the group
)

// Setter is a class of callers. Each class may set the fields of the classes before it.
type Setter uint8

// The classes.
const (
	Customers Setter = iota // customers in a portal
	Accounts                // users, and keys of an account
	Operators               // keys of the operator
)

// Section is a part of the form that fields are on.
type Section string

// The sections.
const (
	Receiver     Section = "receiver"
	Transport    Section = "transport"
	Subscription Section = "subscription"
	Content      Section = "content" // of a delivery
	Pace         Section = "pace"
)

// Option is a value of a choice.
type Option struct{ Value, Label string }

// Field declares one setting of an endpoint. The parameters and responses of the API, the form
// and page of the Admin UI, the flags and table of the command line and the entries of the
// audit log are derived from the declarations, and a test compares them with the OpenAPI
// description and the Go client.
type Field struct {
	Name    string // of the parameter
	Label   string // on forms
	Help    string // one phrase, without limits and default
	Example string // a value that forms suggest
	Kind    FieldKind
	Section Section
	Options []Option // of a choice or a list; none: any values
	Members []Field  // of a group
	Min     float64  // of a number, or of the seconds of a duration; 0 is the default and may be lower
	Max     float64  // of a number, of seconds, of a text's characters, or of a list's or object's elements
	MaxItem float64  // of the bytes of a value of an object, or of the seconds of an element
	Default string   // meaning of an empty value
	Rows    int      // of a text with several lines on forms
	For     []string // of a member: the types or grants of the group that it applies to; nil: all
	By      Setter   // lowest class of callers that may set it

	Secret   bool // no response, page or log shows it
	Private  bool // the audit log does not show it
	URL      bool
	PEM      bool
	Code     bool // an expression
	Creation bool // set only when the endpoint is created
	Listed   bool // a column of lists

	access
	show  func(*Endpoint) any // value in responses, if the kind does not determine it
	check func(*Endpoint, Rules) error
}

// access reads and writes the value of a field.
type access interface {
	get(*Endpoint) any
	set(*Endpoint, any, *Edit)
}

// at accesses a value at a place in the endpoint.
type at[T any] func(*Endpoint) *T

func (a at[T]) get(e *Endpoint) any             { return *a(e) }
func (a at[T]) set(e *Endpoint, v any, _ *Edit) { *a(e) = v.(T) }

// chosen accesses a choice. The option "none" is stored as the zero value.
type chosen[T ~string] func(*Endpoint) *T

func (a chosen[T]) get(e *Endpoint) any { return string(*a(e)) }
func (a chosen[T]) set(e *Endpoint, v any, _ *Edit) {
	if *a(e) = T(v.(string)); v == "none" {
		*a(e) = ""
	}
}

// by accesses a value through functions.
type by struct {
	read  func(*Endpoint) any
	write func(*Endpoint, any, *Edit)
}

func (b by) get(e *Endpoint) any              { return b.read(e) }
func (b by) set(e *Endpoint, v any, in *Edit) { b.write(e, v, in) }

// Params are the endpoint parameters of a request, by the names of fields. A field that is
// absent is not changed.
type Params map[string]any

// Edit contains the context of applying parameters, besides the endpoint.
type Edit struct {
	By        Setter
	Now       time.Time
	Signature string // the brand's signature header, canonical
	Shape     Shape  // the beginning and source of a shape that the edit creates

	shaped string // the parameter that changes the shape
}

// Apply changes an endpoint. The caller must check the result with [Endpoint.Check]. Errors:
// fault.Invalid and fault.Forbidden.
func (p Params) Apply(e *Endpoint, in Edit) error {
	in.Shape.Format, in.Shape.Transform = e.Format(), e.Transform()
	for i := range Fields {
		f := &Fields[i]
		v, given := p[f.Name]
		if !given {
			continue
		}
		if !f.SetBy(in.By) {
			return &fault.Error{Code: fault.Forbidden, Reason: "parameter_forbidden", Param: f.Name, Message: "You are not allowed to set " + f.Name + ". Leave it out."}
		}
		switch f.Kind {
		case ChoiceField:
			if v == "" && f.Default != "" {
				v = f.Options[0].Value
			}
			if !f.offers(v.(string)) {
				return fault.Param(f.Name, "parameter_invalid", "The parameter %s must be %s.", f.Name, f.choices())
			}
		case ListField:
			if f.Options != nil && !f.offers(strings.Join(slices.Sorted(slices.Values(v.([]string))), ",")) {
				return fault.Param(f.Name, "parameter_invalid", "The elements of %s must be %s.", f.Name, f.choices())
			}
		case GroupField:
			v = f.parts(v.(Params), &in)
		}
		f.set(e, v, &in)
	}
	if in.shaped == "" {
		return nil
	}
	return e.SetShape(in.shaped, in.Shape)
}

// parts returns an endpoint with nothing but the members of a group.
func (f *Field) parts(group Params, in *Edit) (e Endpoint) {
	for i := range f.Members {
		m := &f.Members[i]
		if v, given := group[m.Name]; given {
			m.set(&e, v, in)
		}
	}
	return e
}

func (f *Field) offers(v string) bool {
	return slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == v })
}

// choices returns the options as part of a sentence: "a", "b" or "c".
func (f *Field) choices() string {
	values := make([]string, len(f.Options))
	for i, o := range f.Options {
		values[i] = fmt.Sprintf("%q", o.Value)
	}
	last := len(values) - 1
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// SetBy reports whether callers of a class may set the field.
func (f *Field) SetBy(s Setter) bool { return s >= f.By }

// Names returns the names of the fields in p, in their order.
func (p Params) Names() (names []string) {
	for i := range Fields {
		if _, given := p[Fields[i].Name]; given {
			names = append(names, Fields[i].Name)
		}
	}
	return names
}

// Text returns the text of a field, empty if p does not contain it.
func (p Params) Text(name string) string {
	text, _ := p[name].(string)
	return text
}

// Mentions reports whether p sets a field.
func (p Params) Mentions(name string) bool {
	_, given := p[name]
	return given
}

// Group returns the members of a group in p.
func (p Params) Group(name string) Params {
	group, _ := p[name].(Params)
	return group
}

// Value returns the endpoint's value as [Params] would contain it. A group is a Params without
// its empty members, and nil if it is removed.
func (f *Field) Value(e *Endpoint) any {
	v := f.get(e)
	switch f.Kind {
	case ChoiceField:
		return cmp.Or(v.(string), f.Options[0].Value)
	case GroupField:
		if v == nil {
			return Params(nil)
		}
		group := Params{}
		for i := range f.Members {
			if m := &f.Members[i]; m.get(e) != "" {
				group[m.Name] = m.get(e)
			}
		}
		return group
	}
	return v
}

// Masked replaces a value that responses do not show.
const Masked = "********"

// View returns the field's value in responses, as JSON: null for a default, and no secrets.
func (f *Field) View(e *Endpoint) any {
	if f.show != nil {
		return f.show(e)
	}
	switch v := f.Value(e).(type) {
	case string:
		return orNull(v)
	case int:
		return orNull(v)
	case float64:
		return orNull(v)
	case time.Duration:
		return orNull(int(v / time.Second))
	case []time.Duration:
		return secondsOf(v)
	case map[string]string:
		shown := make(map[string]string, len(v))
		for name, value := range v {
			if shown[name] = value; f.Secret {
				shown[name] = Masked
			}
		}
		return shown
	case Params:
		if v == nil {
			return nil
		}
		shown := maps.Clone(v)
		for i := range f.Members {
			if f.Members[i].Secret {
				delete(shown, f.Members[i].Name)
			}
		}
		return map[string]any(shown)
	default:
		return v
	}
}

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func secondsOf(delays []time.Duration) any {
	if delays == nil {
		return nil
	}
	seconds := make([]int, len(delays))
	for i, d := range delays {
		seconds[i] = int(d / time.Second)
	}
	return seconds
}

// Differences calls note with the values that differ between two states of an endpoint, for the
// audit log: names and values before and after. It omits possible credentials: the queries of
// URLs, passwords, headers, certificates and metadata.
func Differences(old, now *Endpoint, note func(name string, old, now any)) {
	for i := range Fields {
		f := &Fields[i]
		if f.Kind != GroupField {
			f.differ(f.Name, old, now, note)
			continue
		}
		for j := range f.Members {
			m := &f.Members[j]
			name := m.Name
			if name == "type" {
				name = f.Name
			}
			m.differ(name, old, now, note)
		}
	}
}

func (f *Field) differ(name string, old, now *Endpoint, note func(string, any, any)) {
	if f.Secret || f.Private || f.Creation {
		return
	}
	logged := func(e *Endpoint) any {
		switch v := f.Value(e).(type) {
		case []string:
			return strings.Join(v, " ")
		case string:
			if f.URL {
				v, _, _ = strings.Cut(v, "?")
			}
			return v
		default:
			return v
		}
	}
	note(name, logged(old), logged(now))
}
