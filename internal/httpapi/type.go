package httpapi

import (
	"bytes"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// typeView is the event_type object. Its id is its name.
type typeView struct {
	ID          string           `json:"id"`
	Object      string           `json:"object"`
	Name        string           `json:"name"`
	Description *string          `json:"description"`
	Schema      jsontext.Value   `json:"schema"`
	Version     *int             `json:"version"` // of the schema
	Samples     []jsontext.Value `json:"samples"`
	Validation  event.Validation `json:"validation"`
	Deprecated  bool             `json:"deprecated"`
	BuiltIn     bool             `json:"built_in"`
	Livemode    bool             `json:"livemode"`
	Created     *int64           `json:"created"`
	Updated     *int64           `json:"updated"`

	Revision revision `json:"-"`
}

func viewType(d *event.Definition) typeView {
	v := typeView{ID: d.Name, Object: "event_type", Name: d.Name, Description: orNull(d.Description), Schema: jsontext.Value("null"),
		Version: orNull(d.Version), Samples: make([]jsontext.Value, len(d.Samples)), Validation: d.Validation, Deprecated: d.Deprecated,
		BuiltIn: d.Created.IsZero(), Livemode: d.Space.Live(), Created: seconds(d.Created), Updated: seconds(d.Updated), Revision: revision(d.Revision)}
	if len(d.Schema) > 0 {
		v.Schema = jsontext.Value(d.Schema)
	}
	for i, s := range d.Samples {
		v.Samples[i] = jsontext.Value(s)
	}
	return v
}

// typeVersionView is a current or earlier schema of a type.
type typeVersionView struct {
	Object  string         `json:"object"`
	Version int            `json:"version"`
	Schema  jsontext.Value `json:"schema"`
	Created int64          `json:"created"`
}

func viewTypeVersion(s *event.SchemaVersion) typeVersionView {
	v := typeVersionView{Object: "event_type_version", Version: s.Number, Schema: jsontext.Value("null"), Created: s.Created.Unix()}
	if len(s.Schema) > 0 {
		v.Schema = jsontext.Value(s.Schema)
	}
	return v
}

// typeParams reads the event type parameters of a request.
func typeParams(p *params) service.TypeParams {
	out := service.TypeParams{Description: p.text("description"), Validation: p.text("validation"), Deprecated: p.boolean("deprecated")}
	if raw, given := p.raw("schema"); given {
		out.Schema = &raw
	}
	if raw, given := p.raw("samples"); given {
		samples := []json.RawMessage{}
		if raw != nil {
			if err := json.Unmarshal(raw, &samples); err != nil {
				p.fail("samples", `The samples must be a list of events' data: [{"object":{…}}].`)
			}
		}
		out.Samples = &samples
	}
	return out
}

// raw returns a parameter as written in JSON, nil for null. A form contains JSON as text.
func (p *params) raw(name string) (_ []byte, given bool) {
	v, ok := p.take(name)
	if !ok {
		return nil, false
	}
	if p.form {
		text, isText := v.(string)
		if !isText || text != "" && !json.Valid([]byte(text)) {
			p.fail(name, "The parameter %s must be JSON.", name)
		}
		if text == "" {
			return nil, true
		}
		return []byte(text), true
	}
	if v == nil {
		return nil, true
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(p.source, &all); err != nil {
		p.err = malformed(p.source, err)
	}
	return bytes.Clone(all[name]), true
}

func createType(rq *request) (answer, error) {
	p := rq.params()
	in := typeParams(p)
	in.Name = p.given("name")
	return act(rq, p, tagged(viewType), func() (*event.Definition, error) { return rq.service().CreateType(rq.Context(), rq.call, in) })
}

func updateType(rq *request) (answer, error) {
	p := rq.params()
	in := typeParams(p)
	return act(rq, p, tagged(viewType), func() (*event.Definition, error) {
		return rq.service().UpdateType(rq.Context(), rq.call, rq.id(), in)
	})
}

func getType(rq *request) (answer, error) { return one(rq, rq.service().Type, tagged(viewType)) }

func listTypes(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), viewType, rq.service().ListTypes)
}

// listTypeVersions lists all versions at once, because there are few.
func listTypeVersions(rq *request) (answer, error) {
	return one(rq, rq.service().TypeVersions, func(items []event.SchemaVersion) (answer, error) { return list(rq, items, false, viewTypeVersion) })
}

func deleteType(rq *request) (answer, error) {
	if err := rq.service().DeleteType(rq.Context(), rq.call, rq.id()); err != nil {
		return answer{}, err
	}
	return inJSON(deletedView{rq.id(), "event_type", true})
}
