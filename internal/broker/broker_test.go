package broker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func TestParseSpecs(t *testing.T) {
	for _, tt := range []struct{ text, want, err string }{
		{"", "", ""},
		{"orders=nats://u:p@a:1  audit=kafka://k1:9092,k2:9092", "orders nats a:1,audit kafka k1:9092,k2:9092", ""},
		{"orders", "", "broker 1: write name=url"},
		{"Orders=nats://a", "", "small letters"},
		{"a=nats://secret@%zz", "", "broker a: give a URL"},
		{"a=nats:", "", "give a URL"},
		{"a=nats://x a=nats://y", "", "two have this name"},
	} {
		specs, err := ParseSpecs(tt.text)
		var got []string
		for _, s := range specs {
			got = append(got, s.Name+" "+s.URL.Scheme+" "+s.URL.Host)
		}
		if strings.Join(got, ",") != tt.want || (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: got %q, %v", tt.text, got, err)
		}
	}
}

func TestParseSources(t *testing.T) {
	for _, text := range []string{"orders/IN/a.b>=acct_1:live", "a/q=acct_2:test"} {
		all, err := ParseSources(text)
		if err != nil || len(all) != 1 || all[0].String() != text {
			t.Errorf("%q: got %v, %v", text, all, err)
		}
	}
	for _, text := range []string{"orders=acct_1:live", "orders/=acct_1:live", "orders/q", "orders/q=acct_1", "orders/q=acct_1:both"} {
		if all, err := ParseSources(text); err == nil {
			t.Errorf("%q: got %v", text, all)
		}
	}
}

// A message without an event id gets one that it has each time it comes; all else
// stays as it is.
func TestIdentified(t *testing.T) {
	s := SourceSpec{Broker: "orders", Address: "IN"}
	var ids []string
	for _, tt := range []struct{ id, body string }{
		{"1", ` {"type":"a.b","data":{}}`}, {"1", `{"type":"a.b","data":{}}`}, {"2", `{"type":"a.b","data":{}}`}, {"1", `{}`},
	} {
		var got map[string]any
		if err := json.Unmarshal(identified(s, Message{ID: tt.id, Body: []byte(tt.body)}), &got); err != nil {
			t.Fatalf("%s: %v", tt.body, err)
		}
		id := got["id"].(string)
		if _, err := event.ParseInput([]byte(`{"id":"` + id + `","type":"a.b","data":{"object":{}}}`)); err != nil {
			t.Errorf("the id %s: %v", id, err)
		}
		ids = append(ids, id)
	}
	if ids[0] != ids[1] || ids[0] == ids[2] {
		t.Errorf("ids %v", ids)
	}
	for _, m := range []Message{
		{ID: "1", Body: []byte(`{"id":"evt_own","type":"a.b"}`)}, {ID: "1", Body: []byte(`{"type":"a.b","id":null}`)},
		{Body: []byte(`{"type":"a.b"}`)}, {ID: "1", Body: []byte(`[]`)}, {ID: "1", Body: []byte(`{"a"`)}, {ID: "1"},
	} {
		if got := identified(s, m); m.ID == "" && string(got) != string(m.Body) || strings.Contains(string(m.Body), "evt_own") && string(got) != string(m.Body) || string(m.Body) == "[]" && string(got) != "[]" {
			t.Errorf("%s became %s", m.Body, got)
		}
	}
}
