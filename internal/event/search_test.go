package event_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func TestSearchKeys(t *testing.T) {
	body := func(data string) []byte { return event.NewBody("evt_0000000000000001", "a.b", 1, []byte(data)) }
	for _, tt := range []struct {
		data, paths, want string
	}{
		{`{"object":{"id":"pay_1"}}`, "data.object.id", "data.object.id=pay_1"},
		{`{"object":{"amount":{"id":"x"},"id":"pay_1","rest":[1]}}`, "data.object.id", "data.object.id=pay_1"},
		{`{"object":{"id":17}}`, "data.object.id", "data.object.id=17"},
		{`{"object":{"id":true}}`, "data.object.id", "data.object.id=true"},
		{`{"object":{"id":"é\n\"x\""}}`, "data.object.id", "data.object.id=é\n\"x\""},
		{`{"object":{"id":null}}`, "data.object.id", ""},
		{`{"object":{"id":{"id":"x"}}}`, "data.object.id", ""},
		{`{"object":["id"]}`, "data.object.id", ""},
		{`{"object":{}}`, "data.object.id", ""},
		{`{"object":"x"}`, "data.object.id data.object", "data.object=x"},
		{`{"object":{"customer":{"email":"a@b.c","id":"cus_1"},"id":"pay_1"}}`, "data.object.customer.email data.object.id data.object.customer.id", "data.object.customer.email=a@b.c data.object.customer.id=cus_1 data.object.id=pay_1"},
		{`{"object":{"customer_id":"x","customer":{"id":"y"}}}`, "data.object.customer.id", "data.object.customer.id=y"},
		{`{"tenant":"t","object":{"id":"pay_1"}}`, "data.tenant data.object.id", "data.object.id=pay_1 data.tenant=t"},
		{`{"object":{"id":"pay_1"}}`, "", ""},
	} {
		e := event.Event{Space: 2, Body: body(tt.data)}
		var got []string
		for _, k := range e.SearchKeys(strings.Fields(tt.paths)) {
			got = append(got, k.Path+"="+k.Value)
			if !e.Holds(k.Path, k.Sum(2)) || e.Holds(k.Path, k.Sum(3)) || e.Holds(k.Path, event.SearchKey{Path: k.Path, Value: k.Value + "x"}.Sum(2)) {
				t.Errorf("%s: Holds is wrong about %v", tt.data, k)
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s by %s: got %q, want %q", tt.data, tt.paths, s, tt.want)
		}
	}
	if (&event.Event{}).SearchKeys([]string{event.ObjectID}) != nil {
		t.Error("an erased event has search keys")
	}
}

func TestValidSearchPath(t *testing.T) {
	for path, want := range map[string]bool{"data.object.id": true, "data.tenant": true, "data.object.née": true, "data": false, "id": false, "data.": false, "data..id": false,
		"object.id": false, "data.a\n": false, "data." + strings.Repeat("x", 200): false, "data.a.b.c.d.e.f.g.h": false} {
		if got := event.ValidSearchPath(path); got != want {
			t.Errorf("%q: got %t", path, got)
		}
	}
}

func BenchmarkSearchKeys(b *testing.B) {
	data := fmt.Appendf(nil, `{"object":{"amount":5,"note":"%s","customer":{"id":"cus_1","email":"a@b.c"},"id":"pay_1"}}`, strings.Repeat("x", 900))
	e := event.Event{Space: 2, Body: event.NewBody("evt_0000000000000001", "a.b", 1, data)}
	for _, paths := range [][]string{{event.ObjectID}, {event.ObjectID, "data.object.customer.id", "data.object.customer.email"}} {
		b.Run(fmt.Sprint(len(paths)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, k := range e.SearchKeys(paths) {
					_ = k.Sum(2).Hash()
				}
			}
		})
	}
}
