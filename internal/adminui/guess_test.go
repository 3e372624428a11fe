package adminui_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Concurrent guesses are limited like sequential ones: each is counted before its password is
// compared.
func TestSignIn_guessesSideBySide(t *testing.T) {
	d := newDesk(t, false)
	var all sync.WaitGroup
	for i := range 150 {
		all.Go(func() {
			a := d.ask("POST", "/admin/sign-in", "", url.Values{"name": {"admin"}, "password": {fmt.Sprint("wrong password ", i)}})
			if a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusTooManyRequests {
				t.Errorf("a guess: %d", a.StatusCode)
			}
		})
	}
	all.Wait()
	if n := len(d.compared); n > 5 || n < 1 {
		t.Errorf("%d of 150 guesses were compared, want 5 at most", n)
	}
	if a := d.ask("POST", "/admin/sign-in", "", url.Values{"name": {"admin"}, "password": {password}}); a.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the right password after them: %d", a.StatusCode)
	}
}

// Guesses of others lock out a user neither at another address nor in a browser in which the
// user has signed in; and an operator can unlock the name.
func TestSignIn_othersDoNotLockOutUsers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: make test runs it")
	}
	d := newDesk(t, false)
	ctx := context.Background()
	try := func(remote, browser, pass string) (auth.SignedIn, error) {
		return d.service.Auth.SignIn(ctx, auth.SignInParams{Name: "admin", Password: pass, Browser: browser, Remote: remote, Request: "req_x"})
	}
	const home = "192.0.2.1:1"
	own, err := try(home, "", password)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 35 { // from as many addresses
		if _, err := try(fmt.Sprintf("198.51.100.%d:1", i), "", "wrong password"); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("guess %d: %v", i, err)
		}
		if i == 30 { // from here on a guess takes a second
			break
		}
	}
	if _, err := try("203.0.113.9:1", "", password); err != nil {
		t.Errorf("the right password from a new address: %v", err)
	}
	for range 5 {
		if _, err := try(home, "", "wrong password"); err == nil {
			t.Fatal("a wrong password is right")
		}
	}
	if _, err := try(home, "", password); !fault.Is(err, fault.RateLimited) {
		t.Errorf("the right password after five wrong ones from the same address: %v", err)
	}
	for what, proof := range map[string]string{"none": "", "another's": "1." + own.Browser, "cut": own.Browser[:len(own.Browser)-1]} {
		if _, err := try(home, proof, password); !fault.Is(err, fault.RateLimited) {
			t.Errorf("with a proof that is %s: %v", what, err)
		}
	}
	if _, err := try(home, own.Browser, password); err != nil {
		t.Errorf("from a browser that has signed in: %v", err)
	}
	for range 5 { // a browser has no more guesses than an address
		_, _ = try(home, own.Browser, "wrong password")
	}
	if _, err := try(home, own.Browser, password); !fault.Is(err, fault.RateLimited) {
		t.Errorf("after five wrong ones from the browser: %v", err)
	}
	u, err := d.store.UserNamed(ctx, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.service.Auth.Unlock(ctx, &call.Call{Key: account.Key{ID: "key_operator", Role: account.Operator}}, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := try(home, "", password); err != nil {
		t.Errorf("after unlocking: %v", err)
	}
	// A new password invalidates the proof.
	hash, err := d.service.Passwords.Hash("another good password")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.EditUser(ctx, u.ID, account.Hash{}, func(u *account.User, _ []account.User) (store.Trail, error) {
		u.Password = hash
		return store.Trail{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if u, err = d.store.UserNamed(ctx, "admin"); err != nil {
		t.Fatal(err)
	}
	if _, ok := account.CheckBrowser(&u, own.Browser, d.service.Now()); ok {
		t.Error("a proof outlives the password")
	}
}

// A user can list the own sessions, and end one of them.
func TestSessions_areListedAndRevoked(t *testing.T) {
	d := newDesk(t, false)
	ctx := context.Background()
	first, second, other := d.session("member"), d.session("member"), d.session("viewer")
	u, err := d.store.UserNamed(ctx, "member")
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.service.Auth.UserSessions(ctx, &u)
	if err != nil || len(all) != 2 || all[0].Remote == "" {
		t.Fatalf("sessions %+v, %v", all, err)
	}
	opens := func(token string) bool {
		return d.ask("GET", "/admin/profile", "", nil, "Cookie", "posthaste_session="+token).StatusCode == http.StatusOK
	}
	form := func(token string) url.Values { return url.Values{"form_token": {account.FormToken(token)}} }
	if a := d.ask("POST", "/admin/sessions/"+all[0].ID, "", form(other), "Cookie", "posthaste_session="+other); a.StatusCode != http.StatusNotFound {
		t.Errorf("ending another user's session: %d", a.StatusCode)
	}
	// The newest is the second one.
	if a := d.ask("POST", "/admin/sessions/"+all[0].ID, "", form(first), "Cookie", "posthaste_session="+first); a.StatusCode != http.StatusSeeOther {
		t.Errorf("ending a session: %d", a.StatusCode)
	}
	if !opens(first) || opens(second) || !opens(other) {
		t.Error("another session ended, or none")
	}
}
