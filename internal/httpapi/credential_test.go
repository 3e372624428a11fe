package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// Credentials that no response shows are not sent to another origin than they were set for,
// unless the edit that changes the origin sets them again.
func TestCredentials_areBoundToTheirOrigin(t *testing.T) {
	cert, key := clientPair(t)
	secrets := map[string]struct{ make, again, param string }{
		"basic": {`"authentication":{"type":"basic","username":"u","password":"hidden"}`, `"authentication":{"type":"basic","username":"u","password":"new"}`, "authentication[password]"},
		"client secret": {`"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://id.example/token","client_id":"c","client_secret":"hidden"}`,
			`"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"https://id.example/token","client_id":"c","client_secret":"new"}`, "authentication[client_secret]"},
		"password grant": {`"authentication":{"type":"oauth2","grant_type":"password","token_url":"https://id.example/token","username":"u","password":"hidden"}`,
			`"authentication":{"type":"oauth2","grant_type":"password","token_url":"https://id.example/token","username":"u","password":"new"}`, "authentication[password]"},
		"header": {`"headers":{"X-Api-Key":"hidden","X-Team":"a"}`, `"headers":{"x-api-key":"new","X-Team":""}`, "headers[X-Api-Key]"},
		"certificate": {fmt.Sprintf(`"client_certificate":{"certificate":%q,"private_key":%q}`, cert, key),
			fmt.Sprintf(`"client_certificate":{"certificate":%q,"private_key":%q}`, cert, key), "client_certificate"},
	}
	withoutIt := map[string]string{"basic": `"authentication":null`, "client secret": `"authentication":null`, "password grant": `"authentication":null`,
		"header": `"headers":{"X-Api-Key":"","X-Team":""}`, "certificate": `"client_certificate":null`}
	for name, c := range secrets {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			e := w.must("POST", "/v1/webhooks", `{"url":"https://hooks.example/a","enabled_events":["*"],`+c.make+`}`)
			path := "/v1/webhooks/" + e.text("id")
			for _, url := range []string{"https://evil.example/a", "https://hooks.example:8443/a", "http://hooks.example/a", "https://hooks.example.evil.example/a", "https://hooks.example:80/a"} {
				w.call("PATCH", path, `{"url":"`+url+`"}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "credential_required", c.param})
				if name != "header" && name != "certificate" { // an edit without the secret inherits none
					left := strings.NewReplacer(`,"password":"new"`, "", `,"client_secret":"new"`, "").Replace(c.again)
					w.call("PATCH", path, `{"url":"`+url+`",`+left+`}`).check(refusal{http.StatusBadRequest, "invalid_request_error", "credential_required", c.param})
				}
			}
			if got := w.must("GET", path, "").text("url"); got != "https://hooks.example/a" {
				t.Errorf("a refused edit made the URL %s", got)
			}
			for _, url := range []string{"https://hooks.example/b?c=d", "https://HOOKS.example:443/b", "https://hooks.example./b"} { // the same origin
				w.must("PATCH", path, `{"url":"`+url+`"}`)
			}
			w.must("PATCH", path, `{"url":"https://other.example/",`+c.again+`}`)
			entry := w.must("GET", "/v1/audit_log?target="+e.text("id")+"&limit=1", "").list()[0].in("detail")
			if entry.text("old_origin") != "https://hooks.example:443" || entry.text("new_origin") != "https://other.example:443" {
				t.Errorf("the audit log says %v", entry)
			}
			w.must("PATCH", path, `{"url":"https://third.example/",`+withoutIt[name]+`}`)
		})
	}
}

func TestCredentials_areBoundToTheTokenURL(t *testing.T) {
	w := newWorld(t)
	oauth := func(token, secret string) string {
		return `{"authentication":{"type":"oauth2","grant_type":"client_credentials","token_url":"` + token + `","client_id":"c"` + secret + `}}`
	}
	const with = `,"client_secret":"hidden"`
	e := w.must("POST", "/v1/webhooks", `{"url":"https://hooks.example/a","enabled_events":["*"],`+oauth("https://id.example/token", with)[1:])
	path := "/v1/webhooks/" + e.text("id")
	for _, token := range []string{"https://evil.example/token", "https://id.example:8443/token", "http://id.example/token", "https://id.example/other-tenant"} {
		w.call("PATCH", path, oauth(token, "")).check(refusal{http.StatusBadRequest, "invalid_request_error", "credential_required", "authentication[client_secret]"})
	}
	w.must("PATCH", path, oauth("https://id.example/token", ""))
	w.must("PATCH", path, oauth("https://other.example/token", with))
	entry := w.must("GET", "/v1/audit_log?target="+e.text("id")+"&limit=1", "").list()[0].in("detail")
	if entry.text("old_token_origin") != "https://id.example:443" || entry.text("new_token_origin") != "https://other.example:443" {
		t.Errorf("the audit log says %v", entry)
	}
}

// A customer in a portal may be one of many behind a host, so the path counts too.
func TestCredentials_portalInheritsNone(t *testing.T) {
	w := newWorld(t)
	e := w.must("POST", "/v1/webhooks", `{"url":"https://hooks.example/a","enabled_events":["*"],"headers":{"X-Api-Key":"hidden"}}`)
	call, err := w.service.Auth.Authenticate(t.Context(), testKey)
	if err != nil {
		t.Fatal(err)
	}
	portal := w.service.Auth.PortalCall(&account.Portal{ID: "pse_1", Space: call.Space})
	url := "https://hooks.example/b"
	if _, err := w.service.UpdateEndpoint(t.Context(), portal, e.text("id"), endpoint.Params{"url": url}); err == nil {
		t.Error("a customer turned a header to another path of its host")
	}
	value := "new"
	if _, err := w.service.UpdateEndpoint(t.Context(), portal, e.text("id"), endpoint.Params{"url": url, "headers": map[string]*string{"x-api-key": &value}}); err != nil {
		t.Error(err)
	}
}

// clientPair makes a client certificate and its key, PEM.
func clientPair(t *testing.T) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start.Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
