package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// Each field of an endpoint, and each member of a group, has a flag that sets it.
func TestFields_everyOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("X-Sample: sample\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sample := map[endpoint.FieldKind]string{endpoint.ListField: "a.b,c.d", endpoint.PairsField: "a=b", endpoint.IntegerField: "3", endpoint.NumberField: "2.5",
		endpoint.SecondsField: "1m", endpoint.DelaysField: "10s,1h", endpoint.ChoiceField: "fifo", endpoint.TextField: "some text"}
	want := map[endpoint.FieldKind]string{endpoint.ListField: `["a.b","c.d"]`, endpoint.PairsField: `{"a":"b"}`, endpoint.IntegerField: "3", endpoint.NumberField: "2.5",
		endpoint.SecondsField: "60", endpoint.DelaysField: "[10,3600]", endpoint.ChoiceField: `"fifo"`, endpoint.TextField: `"some text"`}
	for _, creates := range []bool{true, false} {
		cmd := &cobra.Command{}
		endpointFlags(cmd, creates)
		set, wanted := map[string]any{}, map[string]any{}
		note := func(f, group *endpoint.Field, to map[string]any) {
			name, value, expected := flagOf(f, group), sample[f.Kind], want[f.Kind]
			if f.Secret || f.PEM {
				value, expected = file, `"X-Sample: sample"`
				if f.Kind == endpoint.PairsField {
					expected = `{"X-Sample":"sample"}`
				}
			}
			if err := cmd.Flags().Set(name, value); err != nil {
				t.Errorf("--%s: %v", name, err)
			}
			var v any
			if err := json.Unmarshal([]byte(expected), &v); err != nil {
				t.Fatal(err)
			}
			to[f.Name] = v
		}
		for i := range endpoint.Fields {
			f := &endpoint.Fields[i]
			switch {
			case f.Kind == endpoint.GroupField:
				members := map[string]any{}
				for j := range f.Members {
					note(&f.Members[j], f, members)
				}
				wanted[f.Name] = members
			case creates && f.Name == "url" || !creates && f.Creation:
			default:
				note(f, nil, wanted)
			}
		}
		got, err := endpointFields(cmd, creates)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(got)
		if err == nil {
			err = json.Unmarshal(text, &set)
		}
		if err != nil || !reflect.DeepEqual(set, wanted) {
			t.Errorf("the flags set %v, want %v (%v)", set, wanted, err)
		}
	}
	var columns []string
	for _, c := range endpointColumns() {
		columns = append(columns, c.field)
	}
	if !slices.Equal(columns, []string{"id", "url", "enabled_events", "status", "created"}) {
		t.Errorf("a list has the columns %v", columns)
	}
}

// An update with --if-match applies only to the version that get --etag prints.
func TestUpdate_ifMatch(t *testing.T) {
	var matched []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		matched = append(matched, r.Method+" "+r.Header.Get("If-Match"))
		w.Header().Set("ETag", `"7a"`)
		_, _ = w.Write([]byte(`{"id":"we_1"}`))
	}))
	defer server.Close()
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := endpointsCommand(func(string) (string, bool) { return "", false })
		cmd.SetArgs(append(args, "--server", server.URL, "--api-key", "sk_test_1234567890abcdef"))
		cmd.SetOut(&out)
		if err := cmd.Execute(); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	etag := run("get", "we_1", "--etag")
	run("update", "we_1", "--description", "a", "--if-match", etag)
	run("update", "we_1", "--description", "a")
	if want := []string{"GET ", `POST "7a"`, "POST "}; etag != `"7a"` || !slices.Equal(matched, want) {
		t.Errorf("the ETag is %s and the requests are %q, want %q", etag, matched, want)
	}
}
