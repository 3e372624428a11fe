package account

import (
	"strings"
	"testing"
	"time"
)

// For every accepted key, the hint does not reveal it, and mode and role follow from its
// prefix.
func FuzzNewKey(f *testing.F) {
	for _, s := range []string{"sk_test_1234567890abcdef", "sk_live_1234567890abcdef", "sk_admin_1234567890abcdef", "sk_test_", "sk_test_ 234567890abcdef", "sk_test_\xff234567890abcdef", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, ok := NewKey("key_1", s, "", 7, time.Time{})
		if !ok {
			return
		}
		if len(k.Hint) > len(PrefixAdmin)+len("…")+4 || strings.Contains(k.Hint, s) || k.Hash != HashKey(s) {
			t.Errorf("%q is shown as %q", s, k.Hint)
		}
		if k.Live != strings.HasPrefix(s, PrefixLive) || (k.Role == Operator) != strings.HasPrefix(s, PrefixAdmin) || (k.Account == 0) != (k.Role == Operator) {
			t.Errorf("%q became %+v", s, k)
		}
	})
}
