package httpapi_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

func TestAuth(t *testing.T) {
	w := newWorld(t)
	e := w.register("*")
	path := "/v1/webhooks/" + e.text("id")
	accounts := w.must("GET", "/v1/accounts", "", with(adminKey)...).list()
	other := accounts[0].text("id")
	if other == w.account.ID {
		t.Fatal("the newest account is not the other one")
	}
	basic := func(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":")) }
	ok := refusal{status: http.StatusOK}
	unknown := refusal{http.StatusUnauthorized, "authentication_error", "api_key_invalid", ""}
	none := refusal{http.StatusUnauthorized, "authentication_error", "api_key_missing", ""}
	foreign := refusal{http.StatusForbidden, "authorization_error", "account_forbidden", "Payment-Account"}
	operatorsOnly := refusal{http.StatusForbidden, "authorization_error", "operator_key_required", ""}
	for _, c := range []struct {
		name, method, path string
		header             []string
		want               refusal
	}{
		{"its key", "GET", path, with(testKey), ok},
		{"its key, scheme in lower case", "GET", path, []string{"Authorization", "bearer " + testKey}, ok},
		{"its key by Basic", "GET", path, []string{"Authorization", basic(testKey)}, ok},
		{"its key naming its account", "GET", path, append(with(testKey), "Payment-Account", w.account.ID), ok},
		{"its key naming account and mode", "GET", path, append(with(testKey), "Payment-Account", w.account.ID, "Payment-Mode", "test"), ok},
		{"no key", "GET", path, []string{"Authorization", ""}, none},
		{"empty key", "GET", path, []string{"Authorization", "Bearer  "}, none},
		{"another scheme", "GET", path, []string{"Authorization", "Digest " + testKey}, none},
		{"unknown key", "GET", path, with("sk_test_nobodyknowsthis12"), unknown},
		{"unknown key by Basic", "GET", path, []string{"Authorization", basic("sk_test_nobody")}, unknown},
		{"a part of its key", "GET", path, with(testKey[:len(testKey)-1]), unknown},
		{"revoked key", "GET", path, with(goneKey), refusal{http.StatusUnauthorized, "authentication_error", "api_key_revoked", ""}},
		{"key of another account", "GET", path, with(otherKey), missing("id")},
		{"key of the other mode", "GET", path, with(liveKey), missing("id")},
		{"its key naming another account", "GET", path, append(with(testKey), "Payment-Account", other), foreign},
		{"its key naming no account there is", "GET", path, append(with(testKey), "Payment-Account", "acct"+noID), foreign},
		{"its key naming the other mode", "GET", path, append(with(testKey), "Payment-Account", w.account.ID, "Payment-Mode", "live"),
			refusal{http.StatusForbidden, "authorization_error", "mode_forbidden", "Payment-Mode"}},
		{"operator for its account", "GET", path, w.asOperator(), ok},
		{"operator for its account and mode", "GET", path, append(w.asOperator(), "Payment-Mode", "test"), ok},
		{"operator for the other mode", "GET", path, append(w.asOperator(), "Payment-Mode", "live"), missing("id")},
		{"operator for an odd mode", "GET", path, append(w.asOperator(), "Payment-Mode", "sandbox"), invalid("parameter_invalid", "Payment-Mode")},
		{"operator for another account", "GET", path, append(with(adminKey), "Payment-Account", other), missing("id")},
		{"operator for no account", "GET", path, with(adminKey), invalid("account_missing", "Payment-Account")},
		{"operator for no account there is", "GET", path, append(with(adminKey), "Payment-Account", "acct"+noID), missing("Payment-Account")},

		{"list of another account", "GET", "/v1/events", with(otherKey), ok},
		{"member lists accounts", "GET", "/v1/accounts", with(testKey), operatorsOnly},
		{"member reads its account", "GET", "/v1/accounts/" + w.account.ID, with(testKey), operatorsOnly},
		{"member makes an account", "POST", "/v1/accounts", with(testKey), operatorsOnly},
		{"member makes a key", "POST", "/v1/api_keys", with(testKey), operatorsOnly},
		{"member revokes a key", "DELETE", "/v1/api_keys/key" + noID, with(testKey), operatorsOnly},
		{"member lists its keys", "GET", "/v1/api_keys", with(testKey), ok},
		{"delete with a foreign key", "DELETE", path, with(otherKey), missing("id")},
		{"enable with a foreign key", "POST", path + "/enable", with(otherKey), missing("id")},
		{"test with a foreign key", "POST", path + "/test", with(liveKey), missing("id")},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := w.everything()
			a := w.call(c.method, c.path, "", c.header...)
			a.t = t
			if c.want.status == http.StatusOK {
				if a.status != http.StatusOK {
					t.Errorf("%d %s", a.status, a.body)
				}
			} else {
				a.check(c.want)
			}
			if challenge := a.header.Get("Www-Authenticate"); (challenge != "") != (a.status == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate %q with %d", challenge, a.status)
			}
			if w.everything() != before {
				t.Error("something has changed")
			}
		})
	}
}

// Every route of the API requires a key before it reads anything else.
func TestAuth_everyRoute(t *testing.T) {
	w := newWorld(t)
	for _, route := range v1Routes() {
		method, path, _ := strings.Cut(route, " ")
		if path == "/v1/meta" || strings.HasPrefix(path, "/v1/consents/") { // these are public
			continue
		}
		a := w.call(method, strings.ReplaceAll(path, "{id}", "x"), "{not json", "Authorization", "")
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", route, a.status, a.body)
		}
	}
}

// A revoked key is refused at once.
func TestAuth_revokedAtOnce(t *testing.T) {
	w := newWorld(t)
	k := w.must("POST", "/v1/api_keys", `{"name":"short-lived"}`, w.asOperator()...)
	fresh := with(k.text("secret"))
	w.must("GET", "/v1/events", "", fresh...)
	w.must("DELETE", "/v1/api_keys/"+k.text("id"), "", w.asOperator()...)
	w.call("GET", "/v1/events", "", fresh...).check(refusal{http.StatusUnauthorized, "authentication_error", "api_key_revoked", ""})
}
