package event

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

var fuzzSeeds = []string{
	`{"type":"a.b","data":{"object":{}},"headers":{"X-A":"b","x-a":"\u00e9"}}`, `{"type":"a.b","data":{"object":{}},"headers":{"X":[]}}`,
	`{"type":"a.b","raw":"AP8=","content_type":"a/b; c=\"d\""}`, `{"type":"a.b","raw":"","data":{"object":{}}}`,
	`{}`, `{"b":1,"10":2,"2":3}`, `[1.0,1e400,-0,9007199254740993,1e-400]`, `"\u0041\ud83d\ude00\u2028"`, `{"__proto__":1}`, "\xff", `{"a":1,"a":2}`,
	`{"type":"a.b","data":{"object":{}}}`, `{"type":"a.b","id":"evt_1234567890abcdef","created":1,"data":{"object":{},"x":[1]}}`, `{"data":{"object":1}}`, `[`, `{"type":`,
}

// Every accepted text results in valid JSON that is stable.
func FuzzAppendStable(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		before := bytes.Clone(src)
		out, err := AppendStable(nil, src, "data")
		if !bytes.Equal(before, src) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if !json.Valid(src) || !json.Valid(out) {
			t.Fatalf("accepted %q as %q", src, out)
		}
		again, err := AppendStable(nil, out, "data")
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q became %q and then %q, %v", src, out, again, err)
		}
	})
}

// Every accepted input results in a body that is stable as a whole.
func FuzzParseInput(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := ParseInput(raw)
		if err != nil {
			if fault.CodeOf(err) != fault.Invalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		id := in.ID
		if id == "" {
			id = "evt_00000000000000000001"
		}
		body := NewBody(id, in.Type, 1, in.Data)
		stable, err := AppendStable(nil, body, "")
		if err != nil || !bytes.Equal(stable, body) {
			t.Fatalf("body %q is not stable: %q, %v", body, stable, err)
		}
		e := Event{Body: body}
		if !bytes.Equal(e.Data(), in.Data) {
			t.Fatalf("data of %q is %q", body, e.Data())
		}
		if in.Raw != nil {
			want, _ := base64.StdEncoding.DecodeString(in.Raw.Base64)
			if got, media, ok := RawOf(in.Data); !ok || !bytes.Equal(got, want) || media != in.Raw.ContentType || in.Raw.Size() != len(got) {
				t.Fatalf("raw bytes of %q are %q as %q, %t", body, got, media, ok)
			}
		}
	})
}

func BenchmarkParseInput(b *testing.B) {
	for name, size := range map[string]int{"1KB": 900, "20KB": 20_000} {
		raw := []byte(`{"type":"payment.succeeded","data":{"object":{"id":"pay_1","amount":2999,"customer":{"email":"customer@example.com"},"lines":[`)
		for len(raw) < size {
			raw = append(raw, `{"sku":"A-1","quantity":2,"price":19.99,"note":"as \"agreed\""},`...)
		}
		raw = append(raw[:len(raw)-1], `]}}}`...)
		if _, err := ParseInput(raw); err != nil {
			raw = bytes.Replace(raw, []byte(`"lines":]`), []byte(`"lines":[]`), 1)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				in, err := ParseInput(raw)
				if err != nil {
					b.Fatal(err)
				}
				NewBody("evt_00000000000000000001", in.Type, 1, in.Data)
			}
		})
	}
}
