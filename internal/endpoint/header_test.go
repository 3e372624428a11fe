package endpoint

import (
	"maps"
	"strings"
	"testing"
)

func TestEventHeaders(t *testing.T) {
	long := strings.Repeat("x", maxHeaderValue)
	many := map[string]string{}
	for i := range MaxHeaders + 1 {
		many["X-"+strings.Repeat("n", i+1)] = "v"
	}
	for _, tt := range []struct {
		given map[string]string
		want  string // stored
		param string // at fault
	}{
		{nil, "", ""},
		{map[string]string{"x-tenant": "acme", "A": "é\"<"}, `{"A":"é\"\u003c","X-Tenant":"acme"}`, ""},
		{map[string]string{"X-A": "1", "x-a": "2"}, "", "headers[x-a]"},
		{map[string]string{"payment-signature": "x"}, "", "headers[payment-signature]"},
		{map[string]string{"Webhook-Id": "x"}, "", "headers[Webhook-Id]"}, {map[string]string{"Content-Type": "a/b"}, "", "headers[Content-Type]"},
		{map[string]string{"Transfer-Encoding": "chunked"}, "", "headers[Transfer-Encoding]"}, {map[string]string{"Host": "h"}, "", "headers[Host]"},
		{map[string]string{"X A": "x"}, "", "headers[X A]"}, {map[string]string{"": "x"}, "", "headers[]"},
		{map[string]string{"X": "a\r\nY: b"}, "", "headers[X]"}, {map[string]string{"X": " a"}, "", "headers[X]"}, {map[string]string{"X": long + "x"}, "", "headers[X]"},
		{map[string]string{"X": long, "Y": long}, "", "headers"}, {many, "", "headers"},
	} {
		got, err := EventHeaders(tt.given, "Payment-Signature")
		if (err != nil) != (tt.param != "") || err != nil && paramOf(err) != tt.param || string(got) != tt.want {
			t.Errorf("%.100v: %s %v, want %s and a fault of %q", tt.given, got, err, tt.want, tt.param)
		}
	}
	h, err := EventHeaders(map[string]string{"X-A": "<é>\x7e"}, "")
	if values, verr := h.Values(); err != nil || verr != nil || !maps.Equal(values, map[string]string{"X-A": "<é>~"}) {
		t.Errorf("%v %v %v", values, err, verr)
	}
}

// For any headers: accepted ones can be sent, and the store returns them unchanged.
func FuzzEventHeaders(f *testing.F) {
	for _, s := range [][2]string{{"X-Tenant", "acme"}, {"webhook-id", ""}, {"x_a!", "\t"}, {"Ü", "é\u2028"}, {"X", "\xff<"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		h, err := EventHeaders(map[string]string{name: value}, "Payment-Signature")
		if err != nil {
			return
		}
		canonical, ok := HeaderName(name, "Payment-Signature")
		values, err := h.Values()
		if err != nil || !ok || len(values) != 1 || values[canonical] != strings.ToValidUTF8(value, "\ufffd") || !HeaderValue(values[canonical]) {
			t.Errorf("%q: %q became %s", name, value, h)
		}
	})
}
