package webhook_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	svix "github.com/svix/svix-webhooks/go"

	"github.com/posthaste-hq/posthaste/webhook"
)

// library is the common interface of the independent implementations.
type library interface {
	Sign(id string, at time.Time, body []byte) (string, error)
	Verify(body []byte, header http.Header) error
}

func libraries(t *testing.T, secret string) map[string]library {
	t.Helper()
	standard, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := svix.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]library{"standardwebhooks": standard, "svix": s}
}

// Other libraries verify the signatures of this package, and this package theirs.
func TestInterop(t *testing.T) {
	now := time.Now() // the clock of the libraries cannot be set
	for _, v := range vectors(t) {
		for name, lib := range libraries(t, v.Secret) {
			t.Run(name+"/"+v.Name, func(t *testing.T) {
				body := []byte(v.Body)
				ours, err := webhook.SignStandard(v.Secret, v.ID, now, body)
				if err != nil {
					t.Fatal(err)
				}
				theirs, err := lib.Sign(v.ID, now, body)
				if err != nil || theirs != ours {
					t.Errorf("theirs %s, %v, ours %s", theirs, err, ours)
				}
				header := func(signature string) http.Header {
					return http.Header{"Webhook-Id": {v.ID}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {signature}}
				}
				if err := lib.Verify(body, header("v1a,AAAA "+ours)); err != nil {
					t.Errorf("they refuse ours: %v", err)
				}
				receiver := verifier(t, now.Unix(), v.Secret)
				if err := receiver.Verify(header(theirs), body); err != nil {
					t.Errorf("we refuse theirs: %v", err)
				}
				changed := append([]byte("x"), body...)
				if lib.Verify(changed, header(ours)) == nil || receiver.Verify(header(theirs), changed) == nil {
					t.Error("a changed body is accepted")
				}
			})
		}
	}
}

// During a rotation, a library with one of the two secrets verifies a delivery.
func TestInterop_twoSecrets(t *testing.T) {
	const older, newer = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="
	now, body := time.Now(), []byte(`{"id":"evt_1"}`)
	var both string
	for _, s := range []string{newer, older} {
		one, err := webhook.SignStandard(s, "evt_1", now, body)
		if err != nil {
			t.Fatal(err)
		}
		if both != "" {
			both += " "
		}
		both += one
	}
	header := http.Header{"Webhook-Id": {"evt_1"}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {both}}
	for _, secret := range []string{older, newer} {
		for name, lib := range libraries(t, secret) {
			if err := lib.Verify(body, header); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
