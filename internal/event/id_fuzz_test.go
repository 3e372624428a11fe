package event

import "testing"

// Every accepted identifier is the one that its parts result in, so that no two notations name
// one object.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"evt_00000000000000000001", FormatID(PrefixEvent, 1<<62, 1<<31), "evt_", "dlv_00000000000000000001", "evt_zzzzzzzzzzzzzzzzzzzz", "evt_0000000000000000000\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, n, ok := ParseID(PrefixEvent, s)
		if ok && (FormatID(PrefixEvent, k, n) != s || k < 0) {
			t.Errorf("%q is read as %d and %d, which is %q", s, k, n, FormatID(PrefixEvent, k, n))
		}
	})
}
