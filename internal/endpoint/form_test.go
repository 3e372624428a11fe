package endpoint

import (
	"net/url"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/event"
)

func TestPayload_form(t *testing.T) {
	for object, want := range map[string]string{
		`{"id":"pay_1","amount":2999,"paid":true,"note":null}`:                        `id=pay_1&amount=2999&paid=true&note=`,
		`{"a b":"c&d=é+~","items":[{"sku":"x"},[1,2]],"none":[],"empty":{},"1":-0.5}`: `1=-0.5&a+b=c%26d%3D%C3%A9%2B~&items%5B0%5D%5Bsku%5D=x&items%5B1%5D%5B0%5D=1&items%5B1%5D%5B1%5D=2`,
		`{"":{"":1},"[a]":2}`: `%5B%5D=1&%5Ba%5D=2`,
		`{}`:                  ``,
	} {
		in, err := event.ParseInput([]byte(`{"type":"a.b","data":{"object":` + object + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := shapedEndpoint(t, Form).Payload(1, shapedID, shapedType, event.NewBody(shapedID, shapedType, 1, in.Data))
		if err != nil || string(p.Body) != want || p.ContentType != "application/x-www-form-urlencoded" || !p.Made {
			t.Errorf("%s: %s as %q, %v\nwant %s", object, p.Body, p.ContentType, err, want)
		}
	}
}

// A form repeats names; a small object must not become a huge one.
func TestPayload_form_bounded(t *testing.T) {
	object := `{"` + strings.Repeat("n", 50_000) + `":[` + strings.Repeat("1,", 50_000) + `[[]]]}`
	p, err := shapedEndpoint(t, Form).Payload(1, shapedID, shapedType, event.NewBody(shapedID, shapedType, 1, []byte(`{"object":`+object+`}`)))
	if err == nil || p.Body != nil {
		t.Errorf("%d bytes became %d", len(object), len(p.Body))
	}
}

// Whatever the object: a form that parses, with a value for each scalar, or an error.
func FuzzForm(f *testing.F) {
	for _, s := range []string{`{"a":{"b":[1,"x",null]}}`, `{"é":"\ud800","":""}`, `{"a[b]":1,"a":{"b":2}}`, `[[[[]]]]`, `{"a":1e400}`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		out, err := formEncoded(object)
		if valid := jsontext.Value(object).IsValid(); err != nil {
			if valid && len(object) < 1000 && strings.Count(string(object), "[")+strings.Count(string(object), "{") < 100 {
				t.Errorf("%q: %v", object, err)
			}
			return
		} else if !valid && !strings.Contains(string(object), `\u`) && !strings.ContainsRune(strings.ToValidUTF8(string(object), "\ufffd"), '\ufffd') {
			t.Errorf("%q is no JSON and became %q", object, out)
		}
		if len(out) > 4*len(object)+maxFormGrowth+2 {
			t.Errorf("%d bytes became %d", len(object), len(out))
		}
		values, err := url.ParseQuery(string(out))
		if err != nil {
			t.Fatalf("%q became %q: %v", object, out, err)
		}
		scalars, got := 0, 0
		dec := jsontext.NewDecoder(strings.NewReader(string(object)), jsontext.AllowInvalidUTF8(true))
		for {
			at, n := dec.StackIndex(dec.StackDepth())
			tok, err := dec.ReadToken()
			if err != nil {
				break
			}
			if name := at == '{' && n%2 == 0; !name && strings.ContainsRune(`"0tfn`, rune(tok.Kind())) {
				scalars++
			}
		}
		for _, v := range values {
			got += len(v)
		}
		if got != scalars {
			t.Errorf("%q has %d values and became %q with %d", object, scalars, out, got)
		}
	})
}
