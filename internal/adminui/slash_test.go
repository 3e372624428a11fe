package adminui_test

import (
	"net/http"
	"testing"
)

// A trailing slash redirects to the page. A path without a page, and a POST, is a 404.
func TestSlashAtTheEnd(t *testing.T) {
	d := newDesk(t, false)
	base := "/admin/" + d.account.ID + "/test"
	for _, tt := range []struct {
		method, path, to string
		status           int
	}{
		{"GET", "/admin/", "/admin", http.StatusPermanentRedirect},
		{"GET", "/admin/sign-in/", "/admin/sign-in", http.StatusPermanentRedirect},
		{"GET", "/admin/sign-in/?next=%2Fadmin%2Fusers", "/admin/sign-in?next=%2Fadmin%2Fusers", http.StatusPermanentRedirect},
		{"GET", base + "/webhooks/", base + "/webhooks", http.StatusPermanentRedirect},
		{"GET", base + "/webhooks/we_1%2F2/", base + "/webhooks/we_1%2F2", http.StatusPermanentRedirect},
		{"GET", base + "/", base, http.StatusPermanentRedirect},
		{"GET", base, "", http.StatusSeeOther}, // to sign in
		{"GET", "/portal/pst_1/webhooks/", "/portal/pst_1/webhooks", http.StatusPermanentRedirect},
		{"GET", "/portal/pst_1/", "/portal/pst_1", http.StatusPermanentRedirect},
		{"GET", "/admin/nothing/", "", http.StatusNotFound},
		{"GET", "/admin/sign-out/", "", http.StatusNotFound}, // a form only
		{"POST", "/admin/sign-in/", "", http.StatusNotFound},
	} {
		a := d.ask(tt.method, tt.path, "", nil)
		if a.StatusCode != tt.status || tt.to != "" && a.Header.Get("Location") != tt.to {
			t.Errorf("%s %s: %d to %q, want %d to %q", tt.method, tt.path, a.StatusCode, a.Header.Get("Location"), tt.status, tt.to)
		}
	}
}
