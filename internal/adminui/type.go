package adminui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// typeGroup contains event types with a common first part.
type typeGroup struct {
	Name  string
	Types []event.Definition
}

// grouped groups types by their first part.
func grouped(all []event.Definition) (out []typeGroup) {
	for _, d := range all {
		name := groupOf(d.Name)
		i := slices.IndexFunc(out, func(g typeGroup) bool { return g.Name == name })
		if i < 0 {
			i, out = len(out), append(out, typeGroup{Name: name})
		}
		out[i].Types = append(out[i].Types, d)
	}
	return out
}

// groupOf returns the first part of the name of a type: "payment" of "payment.succeeded",
// "orders" of "/orders/created".
func groupOf(name string) string {
	const between = "./:"
	name = strings.TrimLeft(name, between)
	if i := strings.IndexAny(name, between); i >= 0 {
		return name[:i]
	}
	return name
}

// types returns the defined event types: the account's own, by name, and the built-in ones.
func (rq *request) types() (own, builtIn []event.Definition, err error) {
	all, err := rq.ui.Service.Types(rq.Context(), rq.call)
	for _, d := range all {
		if d.No != 0 {
			own = append(own, d)
		} else {
			builtIn = append(builtIn, d)
		}
	}
	slices.SortFunc(own, func(a, b event.Definition) int { return strings.Compare(a.Name, b.Name) })
	return own, builtIn, err
}

// offered returns the types that a form offers.
func (rq *request) offered() ([]event.Definition, error) {
	own, builtIn, err := rq.types()
	return append(slices.DeleteFunc(own, func(d event.Definition) bool { return d.Deprecated }), builtIn...), err
}

type typesView struct {
	Own    []event.Definition
	Groups []typeGroup
}

func listTypes(rq *request) error {
	own, builtIn, err := rq.types()
	if err != nil {
		return err
	}
	return rq.render("types", typesView{own, grouped(builtIn)})
}

type typeView struct {
	*event.Definition
	Sample   string // the data to send
	Text     string // of the schema
	Versions []schemaVersion
	Own      bool // the account has defined it
	Reserved bool // only the server announces it
	Problem  *problem
}

// schemaVersion is a current or earlier schema of the type.
type schemaVersion struct {
	event.SchemaVersion
	Text string
}

func showType(rq *request) error { return typePage(rq, "", nil) }

// typePage shows a type; data is entered data that replaces the sample.
func typePage(rq *request, data string, problem error) error {
	d, err := rq.knownType(rq.PathValue("type"))
	if err != nil {
		return err
	}
	v := typeView{Definition: d, Sample: data, Text: indented(d.Schema), Own: d.No != 0, Reserved: event.Operational(d.Name), Problem: errorView(problem)}
	if data == "" {
		if v.Sample = indented(d.Sample()); !v.Own || v.Sample == "" {
			v.Sample = string(event.Sample(d.Name, rq.ui.Service.Now().Unix()))
		}
	}
	if v.Own {
		versions, err := rq.ui.Service.TypeVersions(rq.Context(), rq.call, d.Name)
		if err != nil {
			return err
		}
		for _, s := range versions {
			v.Versions = append(v.Versions, schemaVersion{s, indented(s.Schema)})
		}
	}
	return rq.renderForm("type", v, problem)
}

// knownType returns the definition of a type. An undefined type has an empty one, because its
// events are delivered too.
func (rq *request) knownType(name string) (*event.Definition, error) {
	if !event.ValidType(name) {
		return nil, fault.Missing("event type", name)
	}
	d, err := rq.ui.Service.Type(rq.Context(), rq.call, name)
	if fault.Is(err, fault.NotFound) {
		return &event.Definition{Name: name, Validation: event.ValidateOff, Schema: event.Schema(name)}, nil
	}
	return d, err
}

// indented formats JSON with indentation.
func indented(raw []byte) string {
	var out bytes.Buffer
	if len(raw) == 0 || json.Indent(&out, raw, "", "  ") != nil {
		return string(raw)
	}
	return out.String()
}

// sendSample sends an event of the type to all subscribed endpoints, like any sender.
func sendSample(rq *request) error {
	name, data := rq.PathValue("type"), rq.PostFormValue("data")
	e, err := rq.ui.Service.SendEvent(rq.Context(), rq.call, fmt.Appendf(nil, `{"type":%q,"data":%s}`, name, data))
	if err != nil {
		return typePage(rq, data, err)
	}
	return rq.done("sent", "events", e.ID)
}

// typeForm is the form of a type, as submitted.
type typeForm struct {
	Name, Description, Validation, Schema string
	Deprecated                            bool
	Samples                               []string
}

type typeFormView struct {
	origin
	Name    string // empty: a new one
	Form    typeForm
	Problem *problem
}

// At returns the error message of a field.
func (v *typeFormView) At(field string) string {
	if v.Problem == nil || !within(v.Problem.Param, field) {
		return ""
	}
	if v.Problem.Param != field { // a place in a schema or a sample
		return v.Problem.Message + " (" + v.Problem.Param + ")"
	}
	return v.Problem.Message
}

// within reports whether a parameter's path is a field or inside it.
func within(path, field string) bool {
	rest, in := strings.CutPrefix(path, field)
	return in && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Fields returns the samples, and an empty one for a further sample.
func (f *typeForm) Fields() []string {
	if len(f.Samples) < event.MaxSamples {
		return append(slices.Clone(f.Samples), "")
	}
	return f.Samples
}

func formOf(d *event.Definition) typeForm {
	f := typeForm{Name: d.Name, Description: d.Description, Validation: string(d.Validation), Schema: indented(d.Schema), Deprecated: d.Deprecated}
	for _, s := range d.Samples {
		f.Samples = append(f.Samples, indented(s))
	}
	return f
}

// newType is the form of a new type or, for a built-in one, of its definition.
func newType(rq *request) error {
	name := rq.URL.Query().Get("name")
	v := &typeFormView{Form: typeForm{Name: name, Validation: string(event.ValidateOff)}}
	if d, err := rq.ui.Service.Type(rq.Context(), rq.call, name); err == nil && d.No == 0 && !event.Operational(name) {
		v.Form = formOf(d)
	}
	return rq.render("type-form", v)
}

func editType(rq *request) error {
	d, err := rq.ui.Service.Type(rq.Context(), rq.call, rq.PathValue("type"))
	if err == nil && d.No == 0 {
		err = fault.Missing("event type", d.Name)
	}
	if err != nil {
		return err
	}
	f := formOf(d)
	o, err := originOf(d.Revision, f)
	if err != nil {
		return err
	}
	return rq.render("type-form", &typeFormView{origin: o, Name: d.Name, Form: f})
}

func (rq *request) typeForm() (f typeForm, p service.TypeParams) {
	v := rq.PostFormValue
	f = typeForm{Name: strings.TrimSpace(v("name")), Description: v("description"), Validation: v("validation"), Schema: strings.TrimSpace(v("schema")), Deprecated: v("deprecated") != ""}
	samples := []json.RawMessage{}
	for _, s := range rq.PostForm["sample"] {
		if s = strings.TrimSpace(s); s != "" {
			f.Samples, samples = append(f.Samples, s), append(samples, json.RawMessage(s))
		}
	}
	schema := []byte(f.Schema)
	return f, service.TypeParams{Name: f.Name, Description: &f.Description, Validation: &f.Validation, Deprecated: &f.Deprecated, Schema: &schema, Samples: &samples}
}

func createType(rq *request) error {
	f, p := rq.typeForm()
	d, err := rq.ui.Service.CreateType(rq.Context(), rq.call, p)
	if err != nil {
		return rq.renderForm("type-form", &typeFormView{Form: f, Problem: errorView(err)}, err)
	}
	return rq.done("type_created", "types", d.Name)
}

func updateType(rq *request) error {
	name := rq.PathValue("type")
	f, p := rq.typeForm()
	f.Name = name
	o := rq.origin()
	_, err := rq.ui.Service.UpdateType(rq.Context(), rq.call, name, p)
	for stale(err) {
		d, err2 := rq.ui.Service.Type(rq.Context(), rq.call, name)
		if err2 != nil {
			return err2
		}
		current := formOf(d)
		now, err2 := originOf(d.Revision, current)
		if err2 != nil {
			return err2
		}
		if now.Changes, err2 = catchUp(o, &f, current); err2 != nil {
			return err2
		}
		if len(now.Changes) > 0 {
			return rq.renderStatus(http.StatusPreconditionFailed, "type-form", &typeFormView{origin: now, Name: name, Form: f})
		}
		rq.call.Revisions = []int64{d.Revision}
		_, err = rq.ui.Service.UpdateType(rq.Context(), rq.call, name, p)
	}
	if err != nil {
		return rq.renderForm("type-form", &typeFormView{origin: o, Name: name, Form: f, Problem: errorView(err)}, err)
	}
	return rq.done("saved", "types", name)
}

func deleteType(rq *request) error {
	if err := rq.ui.Service.DeleteType(rq.Context(), rq.call, rq.PathValue("type")); err != nil {
		return err
	}
	return rq.done("type_deleted", "types")
}
