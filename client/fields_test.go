package client

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// jsonNames returns the JSON names of a struct's fields, including embedded ones.
func jsonNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			names = append(names, jsonNames(f.Type)...)
		} else if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// The client can set and read each field that the server knows.
func TestFields_everyOne(t *testing.T) {
	created, updated, read := jsonNames(reflect.TypeFor[NewEndpoint]()), jsonNames(reflect.TypeFor[EndpointUpdate]()), jsonNames(reflect.TypeFor[Endpoint]())
	groups := map[string][]string{"authentication": jsonNames(reflect.TypeFor[Authentication]()), "client_certificate": jsonNames(reflect.TypeFor[ClientCertificate]()), "signature_template": jsonNames(reflect.TypeFor[SignatureTemplate]())}
	total := 0
	for _, f := range endpoint.Fields {
		if !slices.Contains(created, f.Name) {
			t.Errorf("NewEndpoint lacks %s", f.Name)
		}
		if !slices.Contains(read, f.Name) {
			t.Errorf("Endpoint lacks %s", f.Name)
		}
		if slices.Contains(updated, f.Name) == f.Creation {
			t.Errorf("EndpointUpdate and %s: it is set on creation only: %v", f.Name, f.Creation)
		}
		for _, m := range f.Members {
			if !slices.Contains(groups[f.Name], m.Name) {
				t.Errorf("%s lacks %s", f.Name, m.Name)
			}
		}
		total++
	}
	if len(created) != total {
		t.Errorf("NewEndpoint has %d fields, the server %d", len(created), total)
	}
}

// An update based on an outdated version is refused.
func TestUpdateEndpoint_stale(t *testing.T) {
	c := newWorld(t).client(Options{})
	made, err := c.CreateEndpoint(t.Context(), NewEndpoint{URL: "https://shop.example:8443/hook", EnabledEvents: []string{"*"}, // net.LookupPort belongs to the bubble of another test
		EndpointFields: EndpointFields{Timeout: new(7), RetrySchedule: &[]int{}}, Headers: map[string]string{"X-A": "b"}})
	if err != nil || made.ETag == "" || made.Timeout == nil || *made.Timeout != 7 || made.RetrySchedule == nil || made.Headers["X-A"] == "b" {
		t.Fatalf("%+v %v", made, err)
	}
	read, err := c.Endpoint(t.Context(), made.ID)
	if err != nil || read.ETag != made.ETag {
		t.Fatalf("%+v %v", read, err)
	}
	next, err := c.UpdateEndpoint(t.Context(), read, EndpointUpdate{Description: new("mine"), EndpointFields: EndpointFields{Timeout: new(0), RetrySchedule: new([]int)},
		Headers: map[string]*string{"X-A": nil}, Authentication: &Authentication{Type: "basic", Username: "a", Password: "b"}})
	if err != nil || next.Description != "mine" || next.Timeout != nil || next.RetrySchedule != nil || len(next.Headers) != 0 || next.Authentication.Username != "a" || next.Authentication.Password != "" {
		t.Fatalf("%+v %v", next, err)
	}
	var refused *Error
	if _, err := c.UpdateEndpoint(t.Context(), read, EndpointUpdate{Description: new("theirs")}); !errors.As(err, &refused) || refused.Status != http.StatusPreconditionFailed {
		t.Errorf("a stale update: %v", err)
	}
	if last, err := c.UpdateEndpoint(t.Context(), next, EndpointUpdate{Status: new("disabled")}); err != nil || last.Description != "mine" || last.Status != "disabled" {
		t.Errorf("%+v %v", last, err)
	}
}
