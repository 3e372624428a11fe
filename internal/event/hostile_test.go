package event

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// allocated returns the number of bytes that a function allocates: a measure of work that is
// independent of the machine.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Each of these took seconds and up to gigabytes to compile.
func TestCompileSchema_isBoundedForAllPatterns(t *testing.T) {
	repeated := func(n int, format string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(parts, ",")
	}
	for name, tt := range map[string]struct {
		schema string
		want   string // empty: it is accepted
	}{
		"repetition of repetitions":      {`{"pattern":"((abcdefghijkl){30}){30}"}`, "too large after expanding their repetitions"},
		"many repetitions":               {`{"properties":{` + repeated(200, `"p%[1]d":{"pattern":"x{1000}y%[1]d"}`) + `}}`, "too large after expanding their repetitions"},
		"repetition in a name":           {`{"patternProperties":{"(xabcdef){900}":{},"(yabcdefg){900}":{}}}`, "too large after expanding their repetitions"},
		"long classes":                   {`{"pattern":"` + strings.Repeat(`\\pL`, 400) + `"}`, "at most 1000 bytes,"},
		"many long classes":              {`{"properties":{` + repeated(36, `"p%[1]d":{"pattern":"`+strings.Repeat(`\\pL`, 70)+`%[1]d"}`) + `}}`, "too large after"},
		"many patterns":                  {`{"properties":{` + repeated(400, `"p%[1]d":{"pattern":"^abcdefghijklmnopqrstuvwxyz%[1]d$"}`) + `}}`, "all patterns of a schema together"},
		"repeated classes":               {`{"properties":{` + repeated(30, `"p%[1]d":{"pattern":"(\\pL\\pN){300}%[1]d"}`) + `}}`, "too large after expanding their repetitions"},
		"not a valid regular expression": {`{"pattern":"(a"}`, "missing closing"},
		"a chain of references":          {`{"$ref":"#/$defs/d0","$defs":{` + repeated(900, `"d%[1]d":{"$ref":"#/$defs/d1%[1]d"}`) + `}}`, "The schema has no part at"},
		"an address and a name":          {`{"properties":{"mail":{"pattern":"^[^@\\s]{1,64}@[^@\\s]{1,255}$"},"name":{"pattern":"^\\p{L}[\\p{L} '-]{0,99}$"}}}`, ""},
		"a number and an identifier":     {`{"patternProperties":{"^x-[a-z0-9-]+$":{"type":"string"}},"properties":{"id":{"pattern":"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}}}`, ""},
	} {
		var err error
		if bytes := allocated(func() { _, err = compileSchema([]byte(tt.schema)) }); bytes > 64<<20 {
			t.Errorf("%s: compiling allocates %d MB", name, bytes>>20)
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(fmt.Sprint(err), tt.want)):
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// The acceptance of a schema by its depth does not depend on the order of measuring.
func TestCompileSchema_depthDoesNotDependOnTheOrder(t *testing.T) {
	var defs strings.Builder
	const chain = maxSchemaDepth
	for i := range chain {
		fmt.Fprintf(&defs, `"d%d":{"$ref":"#/$defs/d%d"},`, i, i+1)
	}
	schema := fmt.Sprintf(`{"$defs":{%s"d%d":{}},"$ref":"#/$defs/d0"}`, defs.String(), chain)
	for range 20 {
		if _, err := compileSchema([]byte(schema)); !strings.Contains(fmt.Sprint(err), "levels") {
			t.Fatalf("a chain of %d references: %v", chain, err)
		}
	}
}

// Each of these took seconds to validate.
func TestFits_isBoundedForAllEvents(t *testing.T) {
	numbers := "[" + strings.Repeat("1,", 60_000) + "1]"
	objects := "[" + strings.Repeat(`{"a":1,"b":"x"},`, 8_000) + "{}]"
	text := `"` + strings.Repeat("a", 200_000) + `"`
	names := func(n int) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(`"name_%d":1`, i)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	many := func(n int, part string) string { return strings.TrimSuffix(strings.Repeat(part+",", n), ",") }
	// All items have the same hash in an algorithm that does not separate texts.
	var colliding strings.Builder
	for i := range 4_000 {
		parts := []string{}
		for bit := range 12 {
			if i>>bit&1 == 1 {
				parts = append(parts, `"a","b"`)
			} else {
				parts = append(parts, `"a\u0004b"`)
			}
		}
		colliding.WriteString("[" + strings.Join(parts, ",") + "],")
	}
	for name, tt := range map[string]struct{ part, value string }{
		"a dear pattern":           {`{"pattern":"(x+x+)+y|(a|aa|aaa|aaaa)*b|.*c.*d.*e.*f"}`, text},
		"many patterns of a text":  {`{"allOf":[` + many(500, `{"pattern":"[ab]*a[ab]{8}$"}`) + `]}`, text},
		"patterns of names":        {`{"patternProperties":{"(n|na|nam)*e.*_.*9$":{},"(n|na|nam)*e.*_.*8$":{},"[a-z]*[a-z]*_[0-9]*[0-9]*x":{}}}`, names(12_000)},
		"many values of an enum":   {`{"items":{"enum":[` + many(4_000, "2") + `]}}`, numbers},
		"an enum of objects":       {`{"items":{"enum":[` + many(400, `{"a":1,"b":"y"}`) + `]}}`, objects},
		"many ways to fit":         {`{"items":{"anyOf":[` + many(1_000, `{"type":"string"}`) + `]}}`, numbers},
		"many ways that all count": {`{"items":{"unevaluatedProperties":false,"anyOf":[` + many(500, `{"properties":{"a":{}}}`) + `]}}`, objects},
		"one way of many":          {`{"items":{"oneOf":[` + many(1_000, `{"minimum":2}`) + `]}}`, numbers},
		"names that are looked at": {`{"propertyNames":{"enum":[` + many(2_000, `"x"`) + `]}}`, names(12_000)},
		"contains":                 {`{"contains":{"allOf":[` + many(500, `{"const":{"a":2}}`) + `]}}`, objects},
		"items that differ":        {`{"items":{"uniqueItems":true}}`, "[[" + colliding.String() + "[]]]"},
		"multiples":                {`{"items":{"allOf":[` + many(300, `{"multipleOf":1e-300}`) + `]}}`, strings.ReplaceAll(numbers, "1", "1e+300")},
	} {
		schema := []byte(`{"properties":{"data":{"properties":{"object":` + tt.part + `}}}}`)
		one, err := compileSchema(schema)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c := &checker{source: schema, idle: make(chan *compiledSchema, 1)}
		c.once.Do(func() {})
		c.idle <- one
		body := NewBody("evt_1234567890abcdef", "a.b", 1, []byte(`{"object":`+tt.value+`}`))
		var wrong *fault.Error
		began := time.Now()
		if bytes := allocated(func() { wrong = c.check(body) }); bytes > 400<<20 {
			t.Errorf("%s: checking allocates %d MB", name, bytes>>20)
		}
		if again := c.check(NewBody("evt_1234567890abcdef", "a.b", 1, []byte(`{"object":[]}`))); again != nil && again.Reason == "schema_too_costly" {
			t.Errorf("%s: the next check has no steps of its own: %v", name, again)
		}
		t.Logf("%s: %v %v", name, time.Since(began), wrong)
	}
}

// Large events of a real shop take a small part of the allowed steps.
func TestFits_largeHonestEvents(t *testing.T) {
	schema := `{"properties":{"data":{"properties":{"object":{"required":["id","items"],"properties":{"id":{"pattern":"^ord_[0-9a-z]{16}$"},
		"note":{"type":"string","maxLength":300000,"pattern":"^[^<>]*$"},
		"items":{"type":"array","uniqueItems":true,"items":{"type":"object","required":["sku","n"],"additionalProperties":false,"properties":{
			"sku":{"type":"string","pattern":"^[A-Z0-9-]{3,40}$"},"n":{"type":"integer","minimum":1},"kind":{"enum":["a","b","c"]}}}}}}}}}}`
	var items []string
	for i := range 2_000 {
		items = append(items, fmt.Sprintf(`{"kind":"b","n":%d,"sku":"SKU-%d"}`, i+1, i))
	}
	object := `{"id":"ord_0123456789abcdef","items":[` + strings.Join(items, ",") + `],"note":"` + strings.Repeat("a note ", 15_000) + `"}`
	c := newChecker([]byte(schema))
	if err := c.check(NewBody("evt_1234567890abcdef", "a.b", 1, []byte(`{"object":`+object+`}`))); err != nil {
		t.Error(err)
	}
	one := <-c.idle
	if one == nil {
		one = <-c.idle
	}
	if one != nil {
		t.Logf("%d of %d steps were taken", maxCheckSteps-one.steps.left, maxCheckSteps)
	}
}
