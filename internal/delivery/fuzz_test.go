package delivery

import "testing"

// Every accepted identifier is the one that its parts result in.
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"dlv_00000000000000000001", ID{Event: 1 << 62, Endpoint: 1<<32 - 1}.String(), "evt_00000000000000000001", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := ParseID(s); ok && id.String() != s {
			t.Errorf("%q is read as %q", s, id)
		}
	})
}
