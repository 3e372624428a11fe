package expression

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// nested returns a chain of loops in which each element is made from the one before.
func nested(levels int, element string) string {
	b := strings.Builder{}
	b.WriteString("[1]")
	for i := range levels {
		name := fmt.Sprintf("a%d", i)
		b.WriteString(".map(" + name + "," + strings.ReplaceAll(element, "x", name) + ")")
	}
	return b.String()
}

// maxAllocated bounds the allocations while one expression is compiled, in bytes: a measure of
// work that does not depend on the machine. The expressions of the documentation allocate some
// 100 KB; those that double from loop to loop would allocate gigabytes.
const maxAllocated = 64 << 20

func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// If types were inferred through loops, compiling each of these would take seconds to for ever,
// or gigabytes. It does not matter whether they are accepted.
func TestCompile_isBoundedForAllTypes(t *testing.T) {
	for name, source := range map[string]string{
		"objects named by elements":     nested(12, "{x:x}") + ".size() > 0",
		"as long as they may be":        nested(30, "{x:x}") + ".size() > 0",
		"deep objects":                  nested(3, "{x:{x:{x:{x:{x:{x:{x:{x:x}}}}}}}}") + ".size() > 0",
		"lists of elements":             nested(25, "[x,x]") + ".size() > 0",
		"names of objects":              `{}` + strings.Repeat(".transformMap(k, v, k)", 20) + ".size() > 0",
		"elements of an empty list":     `[].all(a, [].all(b, [].all(c, b == {a:a} && c == {b:b} && a == {c:c})))`,
		"values of unknown type":        `[data.a["x"]].all(a, [data.b["x"]].all(b, b == {a:a}))`,
		"optional values":               nested(12, "{x:[x][?0]}") + ".size() > 0",
		"optional values bound to name": `[1][?0]` + strings.Repeat(".optMap(x, {x:x})", 40) + ".hasValue()",
		"flat optional values":          `[1][?0]` + strings.Repeat(".optFlatMap(x, [{x:x}][?0])", 30) + ".hasValue()",
		"conditions":                    nested(20, "true?{x:x}:{x:x}") + ".size() > 0",
		"many operands":                 strings.Repeat("1==1||", 160) + "true",
		"long selection":                "data" + strings.Repeat(".a", 480) + " == 1",
		"deep lists":                    strings.Repeat("[", 45) + strings.Repeat("]", 45) + " == data.a",
		"deep calls":                    strings.Repeat("size([", 20) + "1" + strings.Repeat("])", 20) + " == 1",
		"unclosed brackets":             strings.Repeat("[{(", 300),
		"conditions in conditions":      strings.Repeat("true?", 45) + "true" + strings.Repeat(":true", 45),
	} {
		if allocated := allocatedBy(func() { _, _ = compile(filter, "filter", source[:min(len(source), MaxLength)]) }); allocated > maxAllocated {
			t.Errorf("%s: compiling allocates %d MB", name, allocated>>20)
		}
		wrapped := `{"object": [` + strings.TrimSuffix(source, ".size() > 0") + `]}`
		if allocated := allocatedBy(func() { _, _ = compile(transformation, "transform", wrapped) }); allocated > maxAllocated {
			t.Errorf("%s, as a transformation: compiling allocates %d MB", name, allocated>>20)
		}
	}
}

// generator writes random expressions, mostly ones that compile.
type generator struct {
	random *rand.Rand
	names  []string
	left   int // parts that may still be generated
}

// write generates an expression of any type.
func (g *generator) write(depth int) string {
	g.left--
	if depth == 0 || g.left <= 0 {
		return g.pick(append([]string{"1", `"a"`, "data.a", `data.b["x"]`, "[]", "{}", "null", "2.5", "data"}, g.names...)...)
	}
	switch depth--; g.random.IntN(9) {
	case 0, 1:
		return "{" + g.pick(`"k"`, g.write(depth), g.write(0)) + ":" + g.write(depth) + "}"
	case 2, 3, 4:
		return g.list(depth)
	case 5:
		return "(" + g.write(depth) + "==" + g.write(depth) + "?" + g.write(depth) + ":" + g.write(depth) + ")"
	case 6:
		return g.list(depth) + "[?0]" + g.pick("", ".orValue("+g.write(depth)+")")
	case 7:
		return g.list(depth) + "[0]"
	}
	return "(" + g.write(depth) + " in " + g.list(depth) + ")"
}

// list generates an expression that is a list, or an object to loop over.
func (g *generator) list(depth int) string {
	g.left--
	if depth <= 0 || g.left <= 0 {
		return g.pick("[1]", "[]", "{}", "data.a", "[data]", `{"x":[]}`)
	}
	depth--
	from, name := g.list(depth), fmt.Sprintf("v%d", len(g.names))
	g.names = append(g.names, name)
	defer func() { g.names = g.names[:len(g.names)-1] }()
	body := g.write(depth)
	switch g.random.IntN(8) {
	case 0, 1, 2, 3:
		return from + ".map(" + name + "," + body + ")"
	case 4:
		return from + ".filter(" + name + "," + body + "==" + g.write(0) + ")"
	case 5:
		return from + ".transformMap(" + name + ",w," + body + ")"
	case 6:
		return from + ".transformList(w," + name + "," + body + ")"
	}
	return "[" + strings.ReplaceAll(body, name, "id") + "]"
}

func (g *generator) pick(all ...string) string { return all[g.random.IntN(len(all))] }

// For any expression: compiling it and one evaluation end soon.
func TestCompile_endsSoonForGeneratedExpressions(t *testing.T) {
	const rounds = 500
	data := `{"a":[1,2,{"x":[1,2,3]},"` + strings.Repeat("x", 1000) + `"],"b":{"x":{"y":[[],{}]}}}`
	g := &generator{random: rand.New(rand.NewPCG(18, 4))}
	var worst uint64
	accepted := 0
	for range rounds {
		g.names, g.left = nil, 300
		source := "{'o':" + g.write(3+g.random.IntN(9)) + "}"
		if len(source) > MaxTransform {
			source = source[:MaxTransform]
		}
		allocated := allocatedBy(func() {
			x, err := compile(transformation, "transform", source)
			if err != nil {
				return
			}
			accepted++
			_, _ = (&Transform{x}).Apply(input(data))
		})
		if worst = max(worst, allocated); allocated > maxAllocated {
			t.Fatalf("%d MB allocated: %s", allocated>>20, source)
		}
	}
	t.Logf("%d of %d compiled; the worst allocated %d KB", accepted, rounds, worst>>10)
	if accepted < rounds/10 {
		t.Errorf("only %d of %d expressions compiled: they test nothing", accepted, rounds)
	}
}

// Loops with almost no work in a round are counted too.
func TestMatch_countsEveryRound(t *testing.T) {
	long := `{"object":{"a":[` + strings.Repeat("1,", 120_000) + `1],"m":{"k":{}},"s":"` + strings.Repeat("x", 100_000) + `"}}`
	for _, source := range []string{
		`data.object.a.filter(x, false).size() > 0`,
		`data.object.a.all(x, true)`,
		`data.object.a.exists(x, false)`,
		`data.object.a.exists_one(x, false)`,
		`data.object.a.map(x, false, x).size() > 0`,
		`data.object.a.map(x, 1).size() > 0`,
		`data.object.a.all(i, x, true)`,
		`data.object.a.transformList(i, x, 1).size() > 0`,
		`data.object.a.transformMap(i, x, 1).size() > 0`,
		`[1,2,3].all(x, [1,2,3].all(y, data.object.a.all(z, true)))`,
		`data.object.a == data.object.a`,
		`2 in data.object.a`,
		`[data.object.a][0] != [data.object.a][0]`,
		`data.object.s.size() > 3 && data.object.s.contains("xy")`,
		`data.object.s + data.object.s == "x"`,
		`int(data.object.s) == 1`,
		`{data.object.s + "1": 1}.size() == 1 && {data.object.s + "2": 1}.size() == 1`,
	} {
		x, err := Compile("filter", source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if _, err := x.Match(input(long)); fmt.Sprint(err) != "it took more than 10000 steps" {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// All filters share the budget of an event.
func TestMatch_allFiltersOfAnEventTogether(t *testing.T) {
	x, err := Compile("filter", `data.object.a.all(x, x == 1)`)
	if err != nil {
		t.Fatal(err)
	}
	in := input(`{"object":{"a":[` + strings.Repeat("1,", 1_000) + `1]}}`)
	evaluated := 0
	for range 1_000 {
		if ok, err := x.Match(in); ok && err == nil {
			evaluated++
		} else if !strings.Contains(fmt.Sprint(err), "steps") {
			t.Fatal(err)
		}
	}
	if evaluated < 20 || evaluated > maxInputCost/1_000 {
		t.Errorf("%d filters were evaluated over an event", evaluated)
	}
}

func TestTried_doesNotDisplaceUsedExpressions(t *testing.T) {
	const used = `data.object.id == "in use"`
	x, err := Cached("filter", used)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxKept + maxTried {
		if i%16 > 0 { // most are refused, which is a valid result too
			_, err = try(filter, "filter", fmt.Sprintf("nope%d", i))
		} else {
			_, err = Compile("filter", fmt.Sprintf("created == %d", i))
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	}
	if again, _ := Cached("filter", used); again != x {
		t.Error("the expression in use was displaced by others that were only tried")
	}
}
