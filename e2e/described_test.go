package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/posthaste-hq/posthaste/api"
)

// components are the schemas of the API's description, by name.
var components = sync.OnceValues(func() (map[string]any, error) {
	var d struct {
		Components struct{ Schemas map[string]any }
	}
	err := yaml.Unmarshal(api.OpenAPI, &d)
	return d.Components.Schemas, err
})

// described compares the JSON on a page with the API's description: an object of the API with
// the schema of its kind, of which a page may show a part; anything else with the schema that
// the page names.
func described(t *testing.T, named string, shown object) error {
	all, err := components()
	if err != nil {
		return err
	}
	if named == "thin event" {
		return thin(t, shown)
	}
	if named != "" {
		return fits(all, named, shown, false)
	}
	kind := shown.text("object")
	if kind == "" && shown.text("type") != "" && shown["data"] != nil {
		kind = "event"
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		part, ok := all[name].(map[string]any)
		if !ok || kind == "" || kindOf(all, part) != kind || (name == "Deleted") != (shown["deleted"] != nil) || strings.HasPrefix(name, "New") != (shown["secret"] != nil) {
			continue
		}
		if shown.text("secret") == "{secret}" { // the pages write secrets like this
			shown["secret"] = "whsec_" + strings.Repeat("A", 43) + "="
		}
		return fits(all, name, shown, true)
	}
	return errors.New("name the block's schema in api/openapi.yaml before it: <!-- schema: NAME -->")
}

// kindOf returns the value of "object" in a schema or in the schemas that it consists of.
func kindOf(all map[string]any, schema map[string]any) string {
	if properties, ok := schema["properties"].(map[string]any); ok {
		if o, ok := properties["object"].(map[string]any); ok {
			kind, _ := o["const"].(string)
			return kind
		}
	}
	parts, _ := schema["allOf"].([]any)
	for _, p := range parts {
		ref, _ := p.(map[string]any)["$ref"].(string)
		if part, ok := all[ref[min(len(ref), len("#/components/schemas/")):]].(map[string]any); ok {
			if kind := kindOf(all, part); kind != "" {
				return kind
			}
		}
	}
	return ""
}

// fits returns the difference of a value from a schema. In a part, missing members are allowed,
// and unknown ones are not.
func fits(all map[string]any, name string, v object, part bool) error {
	raw, err := json.Marshal(object{"components": object{"schemas": all}})
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	schema, ok := doc.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
	if !ok {
		return fmt.Errorf("api/openapi.yaml has no schema %s", name)
	}
	if part {
		demandNothing(doc)
		schema["unevaluatedProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("urn:api", doc); err != nil {
		return err
	}
	compiled, err := c.Compile("urn:api#/components/schemas/" + name)
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(v); err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return compiled.Validate(instance)
}

func demandNothing(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, list := v["required"].([]any); list {
			delete(v, "required")
		}
		for _, m := range v {
			demandNothing(m)
		}
	case []any:
		for _, m := range v {
			demandNothing(m)
		}
	}
}

// thin compares with a thin event that a server sends; the description of the API does not
// contain it, because no response does.
func thin(t *testing.T, shown object) error {
	r := receive(t, answers(http.StatusOK))
	s := serve(t, "")
	s.register(r.URL, "payload_format", "thin")
	s.settled(s.send("payment.succeeded", object{"id": "pay_1", "object": "payment"}).text("id"))
	var sent object
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := json.Unmarshal(r.bodies[0], &sent); err != nil {
		return err
	}
	return alike("", sent, shown)
}

// alike compares the members of two objects, and their kinds.
func alike(path string, a, b map[string]any) error {
	if keys := slices.Sorted(maps.Keys(a)); !slices.Equal(keys, slices.Sorted(maps.Keys(b))) {
		return fmt.Errorf("%s has the members %v", path, keys)
	}
	for k, v := range a {
		if fmt.Sprintf("%T", v) != fmt.Sprintf("%T", b[k]) {
			return fmt.Errorf("%s.%s is a %T", path, k, v)
		}
		if m, ok := v.(map[string]any); ok {
			if err := alike(path+"."+k, m, b[k].(map[string]any)); err != nil {
				return err
			}
		}
	}
	return nil
}

// The check finds mistakes.
func TestDescribed_refuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		named string
		shown object
		fits  bool
	}{
		{"", object{"object": "webhook_endpoint", "id": "we_1", "status": "enabled"}, true},
		{"", object{"object": "webhook_endpoint", "id": "we_1", "status": "enabled", "secret": "{secret}"}, true},
		{"", object{"object": "webhook_endpoint", "id": "we_1", "status": "on"}, false},
		{"", object{"object": "webhook_endpoint", "id": "evt_1"}, false},
		{"", object{"object": "webhook_endpoint", "state": "enabled"}, false},
		{"", object{"object": "webhook"}, false},
		{"", object{"type": "a.b", "data": object{}}, true},
		{"", object{"type": "a.b", "data": object{}, "livemode": "yes"}, false},
		{"", object{"url": "https://example.com"}, false},
		{"EndpointParams", object{"url": "https://example.com"}, true},
		{"EndpointParams", object{"uri": "https://example.com"}, false},
		{"NewEndpointParams", object{"url": "https://example.com"}, false},
		{"EndPointParams", object{}, false},
	} {
		if err := described(t, tt.named, tt.shown); (err == nil) != tt.fits {
			t.Errorf("%s %v: %v", tt.named, tt.shown, err)
		}
	}
}
