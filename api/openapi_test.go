package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/schema_validation"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"

	"github.com/posthaste-hq/posthaste/api"
)

func read(t *testing.T) (libopenapi.Document, *v3.Document) {
	t.Helper()
	d, err := libopenapi.NewDocument(api.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	return d, &m.Model
}

// The description is OpenAPI 3.1 by the specification's own schema.
func TestOpenAPI_isValid(t *testing.T) {
	d, m := read(t)
	if !strings.HasPrefix(m.Version, "3.1.") {
		t.Errorf("openapi: %s", m.Version)
	}
	v, errs := validator.NewValidator(d)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, problems := v.ValidateDocument(); len(problems) > 0 {
		for _, p := range problems {
			t.Errorf("%s: %s %v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
}

// Every request with a body and every response has an example, and each example is valid by its
// schema.
func TestOpenAPI_examples(t *testing.T) {
	_, m := read(t)
	schemas := schema_validation.NewSchemaValidator()
	operations, examples := 0, 0
	for path, item := range m.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			operations++
			bodies := map[string]*v3.MediaType{}
			if op.RequestBody != nil {
				for kind, body := range op.RequestBody.Content.FromOldest() {
					bodies["request "+kind] = body
				}
			}
			for code, resp := range op.Responses.Codes.FromOldest() {
				if resp.Content != nil {
					for kind, body := range resp.Content.FromOldest() {
						bodies[code+" "+kind] = body
					}
				}
			}
			if op.Responses.Default != nil {
				bodies["errors"] = op.Responses.Default.Content.GetOrZero("application/json")
			}
			for name, body := range bodies {
				where := fmt.Sprintf("%s %s, %s", method, path, name)
				values := valuesOf(t, body)
				if len(values) == 0 {
					t.Errorf("%s: no example", where)
				}
				if strings.HasSuffix(name, "urlencoded") {
					continue // the values of a form are all text
				}
				for _, v := range values {
					examples++
					if _, problems := schemas.ValidateSchemaObject(body.Schema.Schema(), v); len(problems) > 0 {
						for _, p := range problems {
							t.Errorf("%s: %s %v", where, p.Reason, p.SchemaValidationErrors)
						}
					}
				}
			}
		}
	}
	if operations < 75 || examples < 200 {
		t.Errorf("only %d operations and %d examples", operations, examples)
	}
	t.Logf("%d operations, %d examples", operations, examples)
}

func valuesOf(t *testing.T, body *v3.MediaType) (out []any) {
	t.Helper()
	add := func(decode func(any) error) {
		var v any
		if err := decode(&v); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var plain any // as it is sent
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		out = append(out, plain)
	}
	if body == nil {
		return nil
	}
	if body.Example != nil {
		add(body.Example.Decode)
	}
	if body.Examples != nil {
		for _, e := range body.Examples.FromOldest() {
			add(e.Value.Decode)
		}
	}
	return out
}
