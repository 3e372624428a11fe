package adminui

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// input is a field of an endpoint on the form, or a member of one.
type input struct {
	*endpoint.Field
	group *endpoint.Field // group that the field is a member of; nil: none
	Input string          // its name on the form
}

// Box reports whether the input is a checkbox.
func (in *input) Box() bool { return in.Kind == endpoint.ChoiceField && in.Options[1].Label == "yes" }

// inputs contains all inputs of the form, in the order of [endpoint.Fields].
var inputs = func() (all []input) {
	names := map[string]string{"enabled_events": "others", "status": "enabled", "validation": "validated", "type": "transport"}
	add := func(f, group *endpoint.Field) {
		name := names[f.Name]
		if name == "" {
			name = f.Name
		}
		all = append(all, input{f, group, name})
	}
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		if f.Kind != endpoint.GroupField {
			add(f, nil)
		}
		for j := range f.Members {
			add(&f.Members[j], f)
		}
	}
	return all
}()

// endpointForm is the form of a webhook, as submitted.
type endpointForm struct {
	Texts  map[string]string // by input
	Events []string          // selected event types
	Held   map[string]string // by input: stored values that the form does not show
	Drop   map[string]bool   // by field: values to remove
}

// formOfEndpoint returns the form of a webhook as submitted without a change.
func formOfEndpoint(e *endpoint.Endpoint, known []event.Definition) endpointForm {
	f := endpointForm{Texts: map[string]string{}}
	for _, in := range inputs {
		f.Texts[in.Input] = in.Text(e)
	}
	f.hold(e)
	var others []string
	for _, p := range e.Events {
		if slices.ContainsFunc(known, func(d event.Definition) bool { return d.Name == p }) || p == "*" {
			f.Events = append(f.Events, p)
		} else {
			others = append(others, p)
		}
	}
	f.Texts["others"] = strings.Join(others, ", ")
	return f
}

// endpointForm returns the submitted form.
func (rq *request) endpointForm() endpointForm {
	_ = rq.PostFormValue("") // parses the form
	return formPosted(rq.PostForm)
}

func formPosted(posted url.Values) endpointForm {
	f := endpointForm{Texts: map[string]string{}, Events: posted["event"], Drop: map[string]bool{}}
	for _, in := range inputs {
		switch text := posted.Get(in.Input); {
		case in.Box() && text != "":
			f.Texts[in.Input] = in.Options[1].Value
		case in.Box():
			f.Texts[in.Input] = in.Options[0].Value
		case posted.Has(in.Input):
			f.Texts[in.Input] = text
		}
	}
	for i := range endpoint.Fields {
		f.Drop[endpoint.Fields[i].Name] = posted.Has("drop_" + endpoint.Fields[i].Name)
	}
	return f
}

// hold records which secrets a webhook has, for the form to mention.
func (f *endpointForm) hold(e *endpoint.Endpoint) {
	f.Held = map[string]string{}
	for _, in := range inputs {
		if !in.Secret {
			continue
		}
		switch v := in.Value(e).(type) {
		case string:
			if v != "" {
				f.Held[in.Input] = "unchanged"
			}
		case map[string]string:
			f.Held[in.Input] = strings.Join(slices.Sorted(maps.Keys(v)), ", ")
		}
	}
}

// forget removes the entered secrets, which no page shows.
func (f *endpointForm) forget() {
	for _, in := range inputs {
		if in.Secret {
			delete(f.Texts, in.Input)
		}
	}
}

// text returns the entered text of a field.
func (f *endpointForm) text(input string) string {
	return strings.TrimSpace(strings.ReplaceAll(f.Texts[input], "\r\n", "\n"))
}

// Chosen reports whether a type is selected.
func (f *endpointForm) Chosen(t string) bool { return slices.Contains(f.Events, t) }

// subscription returns the selected and entered event types. "*" replaces all others except
// those that name the server's notices.
func (f *endpointForm) subscription() []string {
	typed, _ := (&endpoint.Field{Kind: endpoint.ListField}).Parse(f.Texts["others"]) // any text is a list
	types := slices.Concat(f.Events, typed.([]string))
	if slices.Contains(types, "*") {
		types = slices.DeleteFunc(types, func(p string) bool { return p != "*" && !endpoint.SelectsNotices(p) })
	}
	return types
}

// params converts the form to parameters for the service. have is the stored webhook; fields
// that the form lacks keep their values. Errors: fault.Invalid.
func (f *endpointForm) params(have *endpoint.Endpoint, by endpoint.Setter) (endpoint.Params, error) {
	p := endpoint.Params{"enabled_events": f.subscription()}
	for _, in := range inputs {
		text, posted := f.Texts[in.Input]
		if in.Name == "enabled_events" || !posted || in.Secret && strings.TrimSpace(text) == "" || in.group == nil && !in.SetBy(by) || !f.applies(&in) {
			continue
		}
		v, err := in.Parse(text)
		if err != nil {
			return nil, err
		}
		to := p
		if in.group != nil {
			if p.Group(in.group.Name) == nil {
				p[in.group.Name] = endpoint.Params{}
			}
			to = p.Group(in.group.Name)
		}
		to[in.Name] = v
	}
	for i := range endpoint.Fields {
		field := &endpoint.Fields[i]
		switch old := field.Value(have).(type) {
		case map[string]string:
			if typed, given := p[field.Name].(map[string]*string); given && !field.Secret || f.Drop[field.Name] {
				p[field.Name] = replacing(old, typed)
			}
		case endpoint.Params:
			if f.Drop[field.Name] && !p.Mentions(field.Name) {
				p[field.Name] = endpoint.Params(nil)
			}
		}
	}
	return p, nil
}

// applies reports whether an input applies to the selected transport.
func (f *endpointForm) applies(in *input) bool {
	transport := f.Texts["transport"]
	return in.For == nil || slices.Contains(in.For, transport) || transport == string(endpoint.AuthOAuth) && slices.Contains(in.For, f.Texts["grant_type"])
}

// replacing returns the changes that turn pairs into the entered ones.
func replacing(old map[string]string, typed map[string]*string) map[string]*string {
	changes := map[string]*string{}
	for k := range old {
		changes[k] = nil
	}
	maps.Copy(changes, typed)
	return changes
}

// MarshalJSON encodes the visible values, by label: they contain no secret.
func (f endpointForm) MarshalJSON() ([]byte, error) {
	shown := map[string]any{"Events": f.Events}
	for _, in := range inputs {
		switch {
		case in.Secret:
			shown["Has: "+in.Label] = f.Held[in.Input]
		case in.Box():
			shown[in.Label] = f.Texts[in.Input] == in.Options[1].Value
		default:
			shown[in.Label] = f.Texts[in.Input]
		}
	}
	return json.Marshal(shown)
}

// UnmarshalJSON decodes the result of MarshalJSON, and keeps the entered secrets.
func (f *endpointForm) UnmarshalJSON(text []byte) error {
	var shown map[string]any
	if err := json.Unmarshal(text, &shown); err != nil {
		return err
	}
	f.Events = nil
	events, _ := shown["Events"].([]any)
	for _, e := range events {
		if name, ok := e.(string); ok {
			f.Events = append(f.Events, name)
		}
	}
	for _, in := range inputs {
		switch v := shown[in.Label].(type) {
		case bool:
			f.Texts[in.Input] = in.Options[0].Value
			if v {
				f.Texts[in.Input] = in.Options[1].Value
			}
		case string:
			f.Texts[in.Input] = v
		}
	}
	return nil
}

// formInput is an input as shown in the form.
type formInput struct {
	input
	Text    string
	Held    string
	Problem string
}

// On reports whether a checkbox is checked.
func (in *formInput) On() bool { return in.Text == in.Options[1].Value }

// Inputs returns the inputs of a section, without the event types, the status and the members
// of the authentication, which are shown elsewhere.
func (v *endpointFormView) Inputs(section endpoint.Section) (all []formInput) {
	for _, in := range inputs {
		at := in.Section
		if in.group != nil {
			at = in.group.Section
		}
		if at == section && in.Name != "enabled_events" && in.Name != "status" && (in.group == nil || in.group.Name != "authentication") {
			all = append(all, v.input(in)...)
		}
	}
	return all
}

// Members returns the inputs of the members of the authentication.
func (v *endpointFormView) Members() (all []formInput) {
	for _, in := range inputs {
		if in.group != nil && in.group.Name == "authentication" && in.For != nil {
			all = append(all, v.input(in)...)
		}
	}
	return all
}

// input returns an input with its entered text, or nothing if the caller may not set it.
func (v *endpointFormView) input(in input) []formInput {
	if !in.SetBy(v.By) || in.group != nil && !in.group.SetBy(v.By) || in.Creation && v.ID != "" {
		return nil
	}
	param := in.Name
	if in.group != nil {
		param = in.group.Name + "[" + in.Name + "]"
	}
	return []formInput{{in, v.Form.Texts[in.Input], v.Form.Held[in.Input], v.At(param)}}
}

// Open reports whether a collapsed section has values to show.
func (v *endpointFormView) Open(section endpoint.Section) bool {
	return slices.ContainsFunc(v.Inputs(section), func(in formInput) bool {
		return in.Held != "" || in.Problem != "" || in.Text != "" && in.Text != in.Default
	})
}

// fact is a field of a webhook as shown on its page.
type fact struct {
	Label, Text string
	Code        bool
}

// Facts returns the fields that differ from their default, except those that the page shows
// elsewhere.
func (v endpointView) Facts() (all []fact) {
	for i := range endpoint.Fields {
		f := &endpoint.Fields[i]
		text := f.Text(v.Endpoint)
		if text == "" || text == f.Default || f.Name == "url" || f.Name == "status" || f.Name == "enabled_events" {
			continue
		}
		for _, o := range f.Options {
			if o.Value == text {
				text = o.Label
			}
		}
		if f.PEM {
			text = "given"
		}
		all = append(all, fact{f.Label, text, f.Code})
	}
	return all
}

// Number reports whether the input is a number.
func (in *input) Number() bool {
	return in.Kind == endpoint.IntegerField || in.Kind == endpoint.NumberField || in.Kind == endpoint.SecondsField
}

// Removes reports whether the checkbox that removes the field belongs to the input.
func (in *input) Removes() bool {
	return in.group == nil || in.Name == in.group.Members[len(in.group.Members)-1].Name
}

// Root returns the field of the input, or that it is a member of.
func (in *input) Root() string {
	if in.group != nil {
		return in.group.Name
	}
	return in.Name
}
