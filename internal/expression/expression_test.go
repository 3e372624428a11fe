package expression

import (
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

const payment = `{"object":{"id":"pay_1","object":"payment","amount":4200,"rate":1.5,"currency":"EUR","paid":true,"note":null,"customer":{"country":"DE"},` +
	`"items":[{"sku":"a","n":1},{"sku":"b","n":2}],"metadata":{"Order Id":"7"}}}`

func input(data string) *Input {
	return NewInput("evt_1", "payment.succeeded", 1699564800, []byte(data))
}

func TestMatch_valuesOfEvents(t *testing.T) {
	for source, want := range map[string]bool{
		`type == "payment.succeeded" && id == "evt_1" && created == 1699564800`: true,
		`type.startsWith("refund.")`:                                                   false,
		`data.object.amount >= 1000`:                                                   true,
		`data.object.amount == 4200 && data.object.amount == 4200.0`:                   true,
		`data.object.amount * 2.0 > 8399.5`:                                            true,
		`int(data.object.amount) % 100 != 0`:                                           false,
		`data.object.currency in ["USD", "GBP"]`:                                       false,
		`data.object.currency in ["USD", "EUR"] && data.object.customer.country != ""`: true,
		`has(data.object.refunded) && data.object.refunded == true`:                    false,
		`data.object.?refunded.orValue(false) == false`:                                true,
		`data.object.paid == true && data.object.note == null`:                         true,
		`!data.object.paid`:                                                            false,
		`data.object.items.exists(i, i.sku == "b" && i.n > 1)`:                         true,
		`data.object.items.all(i, i.n > 1)`:                                            false,
		`data.object.items.filter(i, i.n > 1).size() == 1`:                             true,
		`data.object.items.map(i, i.sku) == ["a", "b"]`:                                true,
		`data.object.metadata["Order Id"] == "7"`:                                      true,
		`data.object.customer == data.object.customer`:                                 true,
		`data.object.missing == 1 || data.object.amount > 1`:                           true, // one true side is enough
		"data.object.amount > 1\n  && data.object.id.contains(\"pay\")":                true,
	} {
		x, err := Compile("filter", source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := x.Match(input(payment)); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", source, got, err, want)
		}
	}
}

func TestCompile_errorsNameProblemAndPlace(t *testing.T) {
	for source, want := range map[string]string{
		``:                                  "Set an expression",
		" \n":                               "Set an expression",
		`amount > 1`:                        "At character 1, there is no amount. An event has id, type, created and data",
		`é"é" == a`:                         "At character 1, this is not an expression",
		`"é" == a`:                          "At character 8, there is no a.",
		"type == 1":                         "At character 6, == cannot be applied to (string, int).",
		"true &&\n  a":                      "At line 2, character 3, there is no a.",
		`type ==`:                           "is incomplete",
		`type == "a`:                        "At character 9,",
		`type.name == "a"`:                  "has no fields",
		`data.object.amount * 2.0 == 2`:     "write 2.0 rather than 2",
		`data.object.paid`:                  "Compare it with a value",
		`created`:                           "has the type int",
		`type.matches("a+")`:                "At character 13, the function matches is unknown",
		`timestamp(created) > timestamp(0)`: "the function timestamp is unknown",
		`google.protobuf.Struct{} == data`:  "the function google.protobuf.Struct is unknown",
		strings.Repeat("(", 200) + "true":   "nested too deeply",
		`"` + strings.Repeat("a", MaxLength) + `"`:               "1026 bytes long; the limit is 1024",
		`data.a.all(x, data.a.all(y, data.a.all(z, x + y > z)))`: "costs too much",
	} {
		_, err := Compile("filter", source)
		if fault.CodeOf(err) != fault.Invalid || !strings.HasPrefix(fmt.Sprint(err), "filter: ") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.40q: %v\nwant %q", source, err, want)
		}
	}
}

func TestMatch_saysWhyItCannot(t *testing.T) {
	list := `{"object":{"a":[` + strings.Repeat("1,", 5_000) + `1]}}`
	long := `{"object":{"a":[` + strings.Repeat("1,", 400) + `1],"b":"` + strings.Repeat("x", 200_000) + `"}}`
	for _, tt := range []struct{ source, data, want string }{
		{`data.object.missing == 1`, payment, "no such key: missing"},
		{`data.object.items[7].n == 1`, payment, "index out of bounds: 7"},
		{`data.object.amount * 2 == 1`, payment, "no such overload"},
		{`data.object.currency > 1`, payment, "no such overload"},
		{`int(data.object.currency) == 1`, payment, "a value has an unexpected type"}, // not: "EUR"
		{`created / 0 == 1`, payment, "division by zero"},
		{`data.object.a.all(x, data.object.a.all(y, x == y))`, list, "it took more than 10000 steps"},
		// Expensive steps: each walks through the whole event.
		{`data.object.a.all(x, data == data)`, long, "it took more than 10000 steps"},
		{`data.object.a.all(x, size(data.object.b) > 0)`, long, "it took more than 10000 steps"},
		{`data.object.a.all(x, !(data.object.b in [data.object.b + "x"]))`, long, "it took more than 10000 steps"},
		{`data.object.a == 1`, `no JSON`, "no such key: object"},
	} {
		x, err := Compile("filter", tt.source)
		if err != nil {
			t.Errorf("%s: %v", tt.source, err)
			continue
		}
		if ok, err := x.Match(input(tt.data)); ok || fmt.Sprint(err) != tt.want {
			t.Errorf("%s: %v %v, want %s", tt.source, ok, err, tt.want)
		}
	}
}

func TestCached_isBounded(t *testing.T) {
	c, was := cache{all: map[cacheKey]outcome{}}, kept.all
	kept.all = c.all
	defer func() { kept.all = was }()
	first, err := Cached("filter", "1 == 1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Cached("filter", "1 == 1"); again != first || err != nil {
		t.Error("a cached expression was compiled again")
	}
	for i := range maxKept - 1 {
		kept.all[cacheKey{filter, fmt.Sprint("x", i)}] = outcome{}
	}
	if _, err := Cached("filter", "2 == 1"); err != nil || len(kept.all) != maxKept {
		t.Errorf("%d are kept, %v", len(kept.all), err)
	}
	if _, err := Cached("filter", "nothing"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an invalid expression: %v", err)
	}
}

// For any expression and event: the result or an error comes soon, and an expression that is
// refused is the caller's fault.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{`type == "a"`, `data.object.a.all(x, x > 1)`, `data.?a[?0].orValue(1) == 1`, `"\x00" in data`, `1/0 == 1`, `[[[[1]]]] == [data]`, `{"a": 1}.a == 1`,
		`data.map(k, data[k]).size() > 1u`, "-9223372036854775808 == -created", `b"\xff" == b""`, `optional.none() == data.?b`, "((((((", "a.b.c.d()", `type.type == type(type)`, "\xff"} {
		f.Add(s, payment)
		f.Add(s, `{"object":{"a":[1,2,[3]],"":{"\ud800":-0.5e-300}}}`)
	}
	f.Fuzz(func(t *testing.T, source, data string) {
		x, err := Compile("filter", source)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%q: %v", source, err)
			}
			return
		}
		if ok, err := x.Match(input(data)); ok && err != nil || err != nil && len(err.Error()) > 2*maxReason {
			t.Errorf("%q: %v %v", source, ok, err)
		}
	})
}

const typicalFilter = `type == "payment.succeeded" && data.object.amount >= 1000 && data.object.currency in ["EUR", "USD"]`

func BenchmarkCompile(b *testing.B) {
	environment()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compile(filter, "filter", typicalFilter); err != nil {
			b.Fatal(err)
		}
	}
}

// The first expression that reads an event's data decodes it, and the others use the result.
func BenchmarkMatch(b *testing.B) {
	x, err := Compile("filter", typicalFilter)
	if err != nil {
		b.Fatal(err)
	}
	decoded := input(payment)
	for name, in := range map[string]func() *Input{"first": func() *Input { return input(payment) }, "further": func() *Input {
		decoded.spent.Store(0)
		return decoded
	}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := x.Match(in()); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// The most expensive evaluation.
func BenchmarkMatch_hostile(b *testing.B) {
	list := `{"object":{"a":[` + strings.Repeat("1,", 5_000) + `1],"b":"` + strings.Repeat("x", 200_000) + `"}}`
	for _, source := range []string{`data.object.a.all(x, data.object.a.all(y, x == y))`, `data.object.a.all(x, data == data)`} {
		x, err := Compile("filter", source)
		if err != nil {
			b.Fatal(err)
		}
		in := input(list)
		b.Run(source, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in.spent.Store(0)
				if _, err := x.Match(in); err == nil {
					b.Fatal("it did not exceed the limit")
				}
			}
		})
	}
}
