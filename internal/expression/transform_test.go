package expression

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestApply_valuesOfEvents(t *testing.T) {
	for source, want := range map[string]string{
		`{"object": {"id": data.object.id, "amount": data.object.amount, "rate": data.object.rate}}`:                 `{"object":{"amount":4200,"id":"pay_1","rate":1.5}}`,
		`{"object": data.object.transformMap(k, v, !(k in ["customer", "items", "metadata", "rate", "amount"]), v)}`: `{"object":{"currency":"EUR","id":"pay_1","note":null,"object":"payment","paid":true}}`,
		`data.object.metadata`: `{"Order Id":"7"}`,
		`{"object": {"skus": data.object.items.map(i, i.sku), "n": size(data.object.items), "cents": int(data.object.amount * 1.5)}}`: `{"object":{"cents":6300,"n":2,"skus":["a","b"]}}`,
		`{"object": {"text": "a\"\u00e9\n" + data.object.id, "type": type, "at": created}}`:                                           `{"object":{"at":1699564800,"text":"a\"é\npay_1","type":"payment.succeeded"}}`,
		`data.object.paid == true ? {"paid": data.object.items[1]} : {"paid": {}}`:                                                    `{"paid":{"n":2,"sku":"b"}}`,
		`{}`: `{}`,
	} {
		x, err := CompileTransform("transform", source, false)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		for range 3 {
			if got, err := x.Apply(input(payment)); err != nil || string(got) != want {
				t.Errorf("%s is %s, %v; want %s", source, got, err, want)
			}
		}
	}
}

func TestCompileTransform_refusesOtherTypes(t *testing.T) {
	for source, want := range map[string]string{
		`1`:                "must be an object",
		`data.a == 1`:      "has the type bool",
		``:                 `{"object": {"id": data.object.id}}`,
		`{"object": nope}`: "At character 12, there is no nope.",
		`{"object": "` + strings.Repeat("a", MaxTransform) + `"}`: "the limit is 2048",
	} {
		_, err := CompileTransform("transform", source, false)
		if fault.CodeOf(err) != fault.Invalid || !strings.HasPrefix(fmt.Sprint(err), "transform: ") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.40q: %v\nwant %q", source, err, want)
		}
	}
}

func TestApply_saysWhyItCannot(t *testing.T) {
	long := `{"object":{"a":"` + strings.Repeat("x", 100_000) + `"}}`
	for _, tt := range []struct{ source, data, want string }{
		{`{"object": data.object.missing}`, payment, "no such key: missing"},
		{`data.object.id`, payment, "its result is not an object"},
		{`{"object": {"a": 1.0 / 0.0}}`, payment, "its result contains a number that JSON cannot represent"},
		{`{1: data}`, payment, "its result contains an object with a key that is not a string"},
		{`{"object": {"a": data.object.?missing}}`, payment, "its result contains a value of type optional_type"},
		// A few steps with a result of gigabytes.
		{`{"object": [data].map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a])}`, long,
			fmt.Sprintf("its result is larger than %d bytes", len(long)+maxGrowth)},
	} {
		x, err := CompileTransform("transform", tt.source, false)
		if err != nil {
			t.Errorf("%s: %v", tt.source, err)
			continue
		}
		if got, err := x.Apply(input(tt.data)); fmt.Sprint(err) != tt.want {
			t.Errorf("%s: %.80s %v, want %s", tt.source, got, err, tt.want)
		}
	}
}

func TestCachedTransform_isNotTheFilterOfTheSameText(t *testing.T) {
	const source = `data.object.id == "pay_1"`
	if _, err := Cached("filter", source); err != nil {
		t.Error(err)
	}
	if _, err := CachedTransform("transform", source, false); err == nil {
		t.Error("a filter is accepted as a transformation")
	}
}

func TestTransform_Body(t *testing.T) {
	for source, want := range map[string]string{
		`{"text": "Paid: " + data.object.id, "n": [9007199254740993, 1000000.0, 1e21, 0.1]}`: `application/json {"n":[9007199254740993,1000000,1e+21,0.1],"text":"Paid: pay_1"}`,
		`[data.object.id]`: `application/json ["pay_1"]`,
		`"id=" + data.object.id + "&paid=" + string(data.object.paid)`: `text/plain; charset=utf-8 id=pay_1&paid=true`,
		`b"\xff\x00"`: "application/octet-stream \xff\x00",
		`data.object.rate > 100.0 ? data.object : type`: `text/plain; charset=utf-8 payment.succeeded`,
	} {
		x, err := CompileTransform("transform", source, true)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, media, err := x.Body(input(payment)); err != nil || media+" "+string(got) != want {
			t.Errorf("%s is %s %q, %v; want %q", source, media, got, err, want)
		}
	}
	for _, source := range []string{`1`, `true`, `null`, `created`, `1 / 0`} {
		if _, err := CompileTransform("transform", source, true); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: %v", source, err)
		}
	}
	x, err := CompileTransform("transform", `data.object.amount`, true)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := x.Body(input(payment)); err == nil || got != nil {
		t.Errorf("a number is the body %q", got)
	}
}

// For any expression and event: JSON or an error comes soon, and the result is deterministic.
func FuzzTransform(f *testing.F) {
	for _, s := range []string{`data`, `{"object": data.object}`, `data.object.transformMap(k, v, k != "id", v)`, `{"a": [data, [data.?b]], "": b"\xff"}`, `{"a": -0.0, "b": 1e300, "c": 9007199254740993}`} {
		f.Add(s, payment)
		f.Add(s, `{"object":{"a":[1,2,[3]],"":{"\ud800":-0.5e-300}}}`)
	}
	f.Fuzz(func(t *testing.T, source, data string) {
		x, err := CompileTransform("transform", source, false)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%q: %v", source, err)
			}
			return
		}
		got, err := x.Apply(input(data))
		again, errAgain := x.Apply(input(data))
		if string(got) != string(again) || fmt.Sprint(err) != fmt.Sprint(errAgain) || len(got) > 2*(len(data)+maxGrowth)+MaxTransform {
			t.Errorf("%q: %d bytes, %v; again %d bytes, %v", source, len(got), err, len(again), errAgain)
		}
		whole, err := CompileTransform("transform", source, true)
		if err != nil {
			t.Fatalf("%q can be the data and not the body: %v", source, err)
		}
		body, media, err := whole.Body(input(data))
		if err == nil && media == JSONBody && !jsontext.Value(body).IsValid() {
			t.Errorf("%q is the body %q", source, body)
		}
	})
}
