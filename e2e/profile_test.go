package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// With the signature scheme of another sender, the library of that sender accepts deliveries
// with the existing secret of its receivers, also during a rotation.
func TestSignatureSchemes_node(t *testing.T) {
	t.Parallel()
	secrets := object{"stripe": "whsec_of-stripe-as-it-is", "github": "It's a Secret to Everybody", "svix": "v1,whsec_plJ3nmyCDGBKInavdOK15jsl"}
	env, err := json.Marshal(object{"stripe": secrets["stripe"], "github": secrets["github"], "svix": strings.TrimPrefix(secrets.text("svix"), "v1,")})
	if err != nil {
		t.Fatal(err)
	}
	app := node(t, []string{"SECRETS=" + string(env)}, "node/profiles.mjs")
	s := serve(t, "", "--test-schedule", "")
	base := "http://127.0.0.1:" + app.out.await(t, `ready (\d+)`)[1] + "/"
	for scheme := range secrets {
		e := s.register(base+scheme, "signature_schemes", []string{scheme}, "secret", secrets[scheme])
		rotated := s.must("POST", "/v1/webhooks/"+e.text("id")+"/rotate_secret", object{"expires_in": 30 * 86400})
		if rotated.text("secret") == e.text("secret") {
			t.Errorf("%s: the secret was not rotated", scheme)
		}
	}
	id := s.send("payment.succeeded", object{"id": "pay_1", "text": "größer ✓"}).text("id")
	for _, d := range s.settled(id) {
		if d.text("status") != "succeeded" {
			t.Errorf("%v", d)
		}
	}
	for scheme := range secrets {
		if !strings.Contains(app.out.String(), "checked /"+scheme+" true []") {
			t.Errorf("%s: the receiver says %s", scheme, app.out.String())
		}
	}
}
