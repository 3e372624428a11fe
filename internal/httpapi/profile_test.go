package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestProfiles_areForOperators(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		key    string
		status int
		code   string
	}{
		{"", http.StatusUnauthorized, "api_key_missing"},
		{"Bearer sk_admin_wrong1234567890", http.StatusUnauthorized, "api_key_invalid"},
		{"Bearer " + goneKey, http.StatusUnauthorized, "api_key_revoked"},
		{"Bearer " + testKey, http.StatusForbidden, "operator_key_required"},
		{"Bearer " + liveKey, http.StatusForbidden, "operator_key_required"},
	} {
		for _, path := range []string{"", "heap", "cmdline", "profile?seconds=30", "nothing"} {
			a := w.call("GET", "/debug/pprof/"+path, "", "Authorization", c.key)
			if a.status != c.status || !strings.Contains(a.body, c.code) || strings.Contains(a.body, "profile of") {
				t.Errorf("%q with %q: %d %s", path, c.key, a.status, a.body)
			}
		}
	}
	for path, want := range map[string]string{"": "profile of /debug/pprof/", "heap": "profile of /debug/pprof/heap"} {
		if a := w.call("GET", "/debug/pprof/"+path, "", "Authorization", "Bearer "+adminKey); a.status != http.StatusOK || a.body != want {
			t.Errorf("%q: %d %s", path, a.status, a.body)
		}
	}
	if a := w.call("GET", "/debug//pprof/", "", "Authorization", "Bearer "+adminKey); a.status != http.StatusNotFound {
		t.Errorf("another spelling: %d", a.status)
	}
}
