package adminui_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

// Every sign-in compares one password, at the same cost: the duration of a response does not
// reveal whether a user exists.
func TestSignIn_comparesForUnknownNames(t *testing.T) {
	d := newDesk(t, false)
	yes := true
	d.change("member", auth.UserParams{Disabled: &yes})
	for _, tt := range []struct {
		who, name, password string
		status              int
	}{
		{"a user", "viewer", password, http.StatusSeeOther},
		{"a user with a wrong password", "viewer", "not the password", http.StatusUnauthorized},
		{"a user without a password", "viewer", "", http.StatusUnauthorized},
		{"a user with a password too long", "viewer", strings.Repeat("x", account.MaxPassword+1), http.StatusUnauthorized},
		{"an unknown user", "unknown", password, http.StatusUnauthorized},
		{"an unknown user with a password too long", "unknown", strings.Repeat("x", 1000), http.StatusUnauthorized},
		{"no name", "", password, http.StatusUnauthorized},
		{"a name in other letters", "VIEWER", password, http.StatusUnauthorized},
		{"a name that cannot be", "viewer' OR '1'='1", password, http.StatusUnauthorized},
		{"who may not sign in", "member", password, http.StatusUnauthorized},
	} {
		d.compared = nil
		a := d.ask("POST", "/admin/sign-in", "", url.Values{"name": {tt.name}, "password": {tt.password}})
		if a.StatusCode != tt.status || (a.Header.Get("Set-Cookie") != "") != (tt.status == http.StatusSeeOther) {
			t.Errorf("%s: %d, want %d", tt.who, a.StatusCode, tt.status)
		}
		if len(d.compared) != 1 {
			t.Errorf("%s: %d comparisons, want 1", tt.who, len(d.compared))
			continue
		}
		if cost, err := bcrypt.Cost([]byte(d.compared[0])); err != nil || cost != cheap {
			t.Errorf("%s: a comparison at the cost %d, want %d, %v", tt.who, cost, cheap, err)
		}
	}
}

// A session begins with signing in, with a fresh token, and ends with signing out. A changed
// password ends all other sessions of the user.
func TestSignIn_sessions(t *testing.T) {
	for _, https := range []bool{false, true} {
		d := newDesk(t, https)
		name := "posthaste_session"
		if https {
			name = "__Host-posthaste"
		}
		cookie := func(token string) []string { return []string{"Cookie", name + "=" + token} }
		opens := func(token string) bool {
			return d.ask("GET", "/admin/profile", "", nil, cookie(token)...).StatusCode == http.StatusOK
		}
		seen := []string{"planted-by-an-attacker-000000000", d.session("viewer")}
		signIn := func(carried string) string {
			t.Helper()
			a := d.ask("POST", "/admin/sign-in?"+name+"="+seen[0]+"&session="+seen[0], "", url.Values{"name": {"member"}, "password": {password}, "session": {seen[0]}, "form_token": {account.FormToken(carried)}}, cookie(carried)...)
			set := a.Cookies()
			if a.StatusCode != http.StatusSeeOther || len(set) != 2 { // the session's, and the browser's
				t.Fatalf("signing in: %d and %d cookies", a.StatusCode, len(set))
			}
			c := set[0]
			if b := set[1]; b.Name != strings.TrimSuffix(name, "_session")+"_browser" || !b.HttpOnly || b.Secure != https || b.SameSite != http.SameSiteLaxMode || b.Path != "/" {
				t.Errorf("over https=%v the browser's cookie is %q", https, b.Name)
			}
			if c.Name != name || !c.HttpOnly || c.Secure != https || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !c.Expires.After(d.service.Now()) {
				t.Errorf("over https=%v the cookie's attributes are %q", https, strings.Split(a.Header.Get("Set-Cookie"), ";")[1:])
			}
			if slices.Contains(seen, c.Value) || len(c.Value) < 32 {
				t.Error("the session was known before")
			}
			seen = append(seen, c.Value)
			return c.Value
		}
		planted := signIn(seen[0]) // an unknown one
		another := signIn(seen[1]) // that of another user, who planted it
		first, kept := signIn(""), signIn(planted)
		if opens(seen[0]) {
			t.Error("a session that was planted has become one")
		}
		for what, token := range map[string]string{"planted": planted, "of another user": another, "first": first, "second": kept} {
			if !opens(token) {
				t.Errorf("the session after one that was %s does not open", what)
			}
		}
		if opens("") || opens(first+"x") || opens(first[1:]) || opens(strings.ToUpper(first)) {
			t.Error("a part of a session opens")
		}

		a := d.ask("POST", "/admin/sign-out", "", url.Values{"form_token": {account.FormToken(first)}}, cookie(first)...)
		if set := a.Cookies(); len(set) != 1 || set[0].Name != name || set[0].Value != "" || set[0].MaxAge >= 0 {
			t.Errorf("signing out sets %q", a.Header.Get("Set-Cookie"))
		}
		if opens(first) || !opens(kept) {
			t.Error("signing out ends another session, or not its own")
		}
		form := url.Values{"form_token": {account.FormToken(kept)}, "old_password": {password}, "password": {"another good password"}, "again": {"another good password"}}
		if a := d.ask("POST", "/admin/profile", "", form, cookie(kept)...); a.StatusCode != http.StatusSeeOther {
			t.Fatalf("a new password: %d", a.StatusCode)
		}
		if opens(planted) || opens(another) || !opens(kept) || !opens(seen[1]) {
			t.Error("a new password leaves another session of the user, or ends its own or another user's")
		}
		if d.ask("POST", "/admin/sign-in", "", url.Values{"name": {"member"}, "password": {password}}).StatusCode != http.StatusUnauthorized {
			t.Error("the old password is of use")
		}
	}
}
