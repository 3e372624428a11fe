package event

import (
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestAppendStable(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"white space", " { \"a\" : [ 1 , 2 ] }\n", `{"a":[1,2]}`},
		{"index keys first, ascending", `{"b":1,"10":2,"2":3,"a":4}`, `{"2":3,"10":2,"b":1,"a":4}`},
		{"index after name", `{"b":1,"1":2}`, `{"1":2,"b":1}`},
		{"largest index and one more", `{"4294967295":1,"4294967294":2}`, `{"4294967294":2,"4294967295":1}`},
		{"no index: leading zero, sign", `{"b":1,"01":2,"-1":3}`, `{"b":1,"01":2,"-1":3}`},
		{"nested objects reorder", `{"x":{"z":1,"3":{"y":1,"0":2}},"1":[]}`, `{"1":[],"x":{"3":{"0":2,"y":1},"z":1}}`},
		{"numbers", `[1.0,1.50,1e3,1E21,1e21,0.0000001,-0,-0.0,0.000001,-1,123456789012345678]`, ``},
		{"number spelling", `[1.0,1.50,1e3,1E21,0.0000001,-0,-0.0,0.000001,-1,5e-324,0.30000000000000004,100000000000000000000]`,
			`[1,1.5,1000,1e+21,1e-7,0,0,0.000001,-1,5e-324,0.30000000000000004,100000000000000000000]`},
		{"escapes", `"\u0041\u00e9\/\u003c\u007f\u2028\u000a\u0008\u001F\ud83d\ude00\"\\"`, "\"Aé/<\x7f\u2028\\n\\b\\u001f😀\\\"\\\\\""},
		{"escaped key that is an index", `{"a":1,"\u0031":2}`, `{"1":2,"a":1}`},
		{"scalars", `true`, `true`},
		{"empty", `{}`, `{}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AppendStable(nil, []byte(tt.in), "")
			if tt.want == "" {
				if err == nil {
					t.Fatalf("got %s, want a refusal", got)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestAppendStable_refuses(t *testing.T) {
	for _, tt := range []struct {
		name, in, param string
		reason          fault.Reason
	}{
		{"integer beyond 2^53", `{"a":[0,{"amount":9007199254740993}]}`, "data.a[1].amount", "number_not_representable"},
		{"overflow", `{"a":1e400}`, "data.a", "number_not_representable"},
		{"underflow", `{"a":1e-400}`, "data.a", "number_not_representable"},
		{"too many digits", `{"a":0.1000000000000000055511151231257827}`, "data.a", "number_not_representable"},
		{"duplicate key", `{"a":{"b":1,"b":2}}`, "data.a.b", "duplicate_key"},
		{"duplicate after unescaping", `{"a":1,"\u0061":2}`, "data.a", "duplicate_key"},
		{"lone surrogate", `{"a":"\ud800"}`, "data.a", "string_not_representable"},
		{"other half of a pair", `{"a":["x","\udc00"]}`, "data.a[1]", "string_not_representable"},
		{"half a pair before another character", `{"a":"\ud83d\u0041"}`, "data.a", "string_not_representable"},
		{"half a pair in a key", `{"a":{"\ud83d":1}}`, "data.a", "string_not_representable"},
		{"bad UTF-8", "{\"a\":\"\xff\"}", "data.a", "json_invalid"},
		{"prototype", `{"__proto__":{}}`, "data.__proto__", "key_forbidden"},
		{"escaped prototype", `{"\u005f_proto__":{}}`, "data.__proto__", "key_forbidden"},
		{"constructor.prototype", `{"constructor":{"prototype":1}}`, "data.constructor.prototype", "key_forbidden"},
		{"ends early", `{"a":`, "data.a", "json_invalid"},
		{"goes on", `{} {}`, "data", "json_invalid"},
		{"byte order mark", "\ufeff{}", "data", "json_invalid"},
		{"odd key in path", `{"a b":1e999}`, `data["a b"]`, "number_not_representable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := AppendStable(nil, []byte(tt.in), "data")
			f, ok := err.(*fault.Error)
			if !ok {
				t.Fatalf("got %s, %v, want a fault", out, err)
			}
			if f.Code != fault.Invalid || f.Reason != tt.reason || f.Param != tt.param {
				t.Errorf("got %s %s at %q (%v), want %s at %q", f.Code, f.Reason, f.Param, f, tt.reason, tt.param)
			}
		})
	}
}
