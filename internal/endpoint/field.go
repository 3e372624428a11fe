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

// The kinds, and the Go values that [Params] hold for them.
const (
	TextField    FieldKind = iota // string
	ChoiceField                   // string: the value of an Option; empty is the first
	ListField                     // []string
	PairsField                    // map[string]*string; nil removes a key
	IntegerField                  // int; 0 is the default
	NumberField                   // float64; 0 is the default
	SecondsField                  // time.Duration; 0 is the default
	DelaysField                   // []time.Duration; nil is the default
	GroupField                    // Params by the names of Members; nil removes all of it
)

// Setter is a class of callers, each of which may set what the classes before it may.
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

// Field declares one thing that people set of an endpoint. The parameters and answers of the
// API, the form and the page of the Admin UI, the flags and the table of the command line
// and the entries of the audit log are made of the declarations, and a test holds the
// OpenAPI description and the Go client to them.
type Field struct {
	Name    string // of the parameter
	Label   string // on forms
	Help    string // one phrase for people, without limits and default
	Example string // a value that forms suggest
	Kind    FieldKind
	Section Section
	Options []Option // of a choice and of a list; none: any values
	Members []Field  // of a group
	Min     float64  // of a number, or of the seconds of a duration; 0 stands for the default and may be less
	Max     float64  // of a number, of seconds, of the characters of a text, or of the elements of a list or object
	MaxItem float64  // of the bytes of a value of an object, or of the seconds of an element
	Default string   // what an empty value stands for
	Rows    int      // of a text of several lines on forms
	For     []string // of a member: the types or grants of the group that have it; nil: all
	By      Setter   // the least class of callers who may set it

	Secret   bool // no answer, page or log shows it
	Private  bool // the audit log does not show it
	URL      bool
	PEM      bool
	Code     bool // an expression
	Creation bool // set only when the endpoint is created
	Listed   bool // a column of lists

	access
	show  func(*Endpoint) any // what answers show, where the kind does not say
	check func(*Endpoint, Rules) error
}

// access reads and writes the value of a field.
type access interface {
	get(*Endpoint) any
	set(*Endpoint, any, *Edit)
}

// at is the access to a value at a place in the endpoint.
type at[T any] func(*Endpoint) *T

func (a at[T]) get(e *Endpoint) any             { return *a(e) }
func (a at[T]) set(e *Endpoint, v any, _ *Edit) { *a(e) = v.(T) }

// chosen is at for a choice. The option "none" is stored as the zero value.
type chosen[T ~string] func(*Endpoint) *T

func (a chosen[T]) get(e *Endpoint) any { return string(*a(e)) }
func (a chosen[T]) set(e *Endpoint, v any, _ *Edit) {
	if *a(e) = T(v.(string)); v == "none" {
		*a(e) = ""
	}
}

// by is an access by functions.
type by struct {
	read  func(*Endpoint) any
	write func(*Endpoint, any, *Edit)
}

func (b by) get(e *Endpoint) any              { return b.read(e) }
func (b by) set(e *Endpoint, v any, in *Edit) { b.write(e, v, in) }

// Params is what a request says of an endpoint, by the names of fields. A field that is not
// in it stays as it is.
type Params map[string]any

// Edit is what the effect of parameters depends on besides the endpoint.
type Edit struct {
	By        Setter
	Now       time.Time
	Signature string // the brand's signature header, canonical
	Shape     Shape  // its beginning and source are those of a shape that the edit makes

	shaped string // the parameter that changes the shape
}

// Apply changes an endpoint. The result is to be checked with [Endpoint.Check]. Errors:
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

// parts returns the members of a group in an endpoint that has nothing else.
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

// choices returns the options for a sentence: "a", "b" or "c".
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

// Names returns the fields that p mentions, in their order.
func (p Params) Names() (names []string) {
	for i := range Fields {
		if _, given := p[Fields[i].Name]; given {
			names = append(names, Fields[i].Name)
		}
	}
	return names
}

// Text returns the text of a field, empty if p does not mention it.
func (p Params) Text(name string) string {
	text, _ := p[name].(string)
	return text
}

// Mentions reports whether p sets a field.
func (p Params) Mentions(name string) bool {
	_, given := p[name]
	return given
}

// Group returns the members of a group that p mentions.
func (p Params) Group(name string) Params {
	group, _ := p[name].(Params)
	return group
}

// Value returns what the endpoint has, as [Params] would hold it. A group is a Params without
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

// Masked stands for a value that answers do not show.
const Masked = "********"

// View returns what answers show of the field, as JSON has it: null for a default, and no
// secrets.
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

// Differences returns for the audit log which values differ between two states of an
// endpoint: names and values before and after. It leaves out what may be a credential: the
// queries of URLs, passwords, headers, certificates and metadata.
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
