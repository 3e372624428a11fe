package broker

import (
	"reflect"
	"strings"
	"testing"
)

// For any text: a configuration that is accepted reads back unchanged, and errors do not
// contain URLs, which may hold passwords.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"orders=nats://u:p@nats:4222 audit=kafka://k1:9092,k2:9092", "a=b", "a=://", "=", "orders/payments=acct_1:live", "a/b=c=d:test", "a/=b:test", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		specs, err := ParseSpecs(s)
		for _, one := range specs {
			if one.Name == "" || one.URL.Host == "" {
				t.Errorf("%q: %+v", s, one)
			}
		}
		if err != nil && strings.Contains(s, "@") && strings.Contains(err.Error(), "@") {
			t.Errorf("%q: the error repeats a URL: %v", s, err)
		}
		sources, err := ParseSources(s)
		if err != nil {
			return
		}
		var text []string
		for _, one := range sources {
			text = append(text, one.String())
		}
		again, err := ParseSources(strings.Join(text, " "))
		if err != nil || !reflect.DeepEqual(sources, again) {
			t.Errorf("%q is read as %v, which is read as %v, %v", s, sources, again, err)
		}
	})
}
