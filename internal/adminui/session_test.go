package adminui

import "testing"

// A link to the sign-in page cannot redirect the user to another site.
func TestLocalPath_staysOnTheSite(t *testing.T) {
	for _, next := range []string{
		"", "/", "admin/x", "//evil.example", "///evil.example", "//evil.example/admin/", "//admin/x", "/\\evil.example", "\\\\evil.example", "/admin/\\evil.example", "/admin//evil.example",
		"https:evil.example", "https://evil.example/admin/", "https:/admin/x", "HTTPS://evil.example/admin/", "javascript:alert(1)", "data:text/html,x",
		"/%2fevil.example", "/%2Fevil.example/admin/", "/%5cevil.example", "%2f%2fevil.example", "/admin/%2f/evil.example", "/admin/..%2f/evil.example",
		"/\tadmin/x", "/\t/evil.example", "\t//evil.example", " //evil.example", "/\n/evil.example", "/admin/\r\nX-Evil: 1", "/admin/\x00", "/admin/../../evil", "/admin/%2e%2e/%2E./evil", "/admin/x/../../../evil", "/admin/./x", "//x@evil.example/admin/", "/admin/%zz",
	} {
		if to := localPath(next); to != "" {
			t.Errorf("next=%q goes on to %q", next, to)
		}
	}
	for _, next := range []string{"/admin/users", "/admin/acct_1/test/events?type=a.b&before=x"} {
		if to := localPath(next); to != next {
			t.Errorf("next=%q goes on to %q", next, to)
		}
	}
}
