package broker

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func TestParseSpecs(t *testing.T) {
	for _, tt := range []struct{ text, want, err string }{
		{"", "", ""},
		{"orders=nats://u:p@a:1  audit=kafka://k1:9092,k2:9092", "orders nats a:1,audit kafka k1:9092,k2:9092", ""},
		{"a=kafka://BÜCHER.test:1,bu\u0308cher.test:2 b=nats://[2001:DB8::1]:2", "a kafka xn--bcher-kva.test:1,xn--bcher-kva.test:2,b nats [2001:db8::1]:2", ""},
		{"a=nats://secret@a..b:1", "", "broker a: The URL's host is not a valid name"},
		{"orders", "", "broker 1: use name=url"},
		{"Orders=nats://a", "", "lower-case letters"},
		{"a=nats://secret@%zz", "", "broker a: use a URL"},
		{"a=nats:", "", "use a URL"},
		{"a=nats://x a=nats://y", "", "duplicate name"},
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

// A message without an event id gets one that is the same in every redelivery and sorts by the
// message's time; everything else is unchanged.
func TestIdentified(t *testing.T) {
	s := SourceSpec{Broker: "orders", Address: "IN"}
	at := time.UnixMilli(1699564800000)
	var ids []string
	for _, tt := range []struct {
		id   string
		at   time.Time
		body string
	}{
		{"1", at, ` {"type":"a.b","data":{}}`}, {"1", at, `{"type":"a.b","data":{}}`}, {"2", at, `{"type":"a.b","data":{}}`}, {"1", at, `{}`},
		{"0", at.Add(time.Millisecond), `{}`}, {"3", at.Add(-time.Millisecond), `{}`},
	} {
		var got map[string]any
		key, body := identified(s, Message{ID: tt.id, Time: tt.at, Body: []byte(tt.body)})
		if err := json.Unmarshal(body, &got); err != nil || key != "" {
			t.Fatalf("%s: %q %v", tt.body, key, err)
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
	before, after := event.FormatID(event.PrefixEvent, event.KeyAt(at)-1, 1<<32-1), event.FormatID(event.PrefixEvent, event.KeyAt(at.Add(time.Millisecond)), 0)
	if !(ids[5] <= before+"~" && before < ids[0] && before < ids[2] && ids[0] < after && ids[2] < after && after <= ids[4]) {
		t.Errorf("%s and %s do not sort among %s, %s, %s and %s", ids[0], ids[2], ids[5], before, after, ids[4])
	}
	for _, m := range []Message{
		{ID: "1", Time: at, Body: []byte(`{"id":"evt_own","type":"a.b"}`)}, {ID: "1", Time: at, Body: []byte(`[]`)}, {ID: "1", Time: at, Body: []byte(`{"a"`)}, {ID: "1", Time: at},
		{Time: at, Body: []byte(`{"type":"a.b"}`)},
	} {
		if key, got := identified(s, m); string(got) != string(m.Body) || key != "" {
			t.Errorf("%s became %s, known by %q", m.Body, got, key)
		}
	}
	// For a message without a time, the server makes the id, and the key identifies the message.
	one, body := identified(s, Message{ID: "1", Body: []byte(`{"type":"a.b"}`)})
	again, _ := identified(s, Message{ID: "1", Body: []byte(`{"type":"a.b"}`)})
	other, _ := identified(s, Message{ID: "2", Body: []byte(`{"type":"a.b"}`)})
	if null, body := identified(s, Message{ID: "1", Time: at, Body: []byte(`{"id":null}`)}); null != one || string(body) != `{"id":null}` {
		t.Errorf("an id that is null: %q, %s", null, body)
	}
	if string(body) != `{"type":"a.b"}` || one == "" || one != again || one == other {
		t.Errorf("keys %q, %q and %q of %s", one, again, other, body)
	}
}
