package webhook_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/webhook"
)

type keyVector struct {
	Name, Private, Public, ID, Body, Standard string
	Timestamp                                 int64
}

func keyVectors(t testing.TB) (all []keyVector, refused []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Ed25519     []keyVector
		KeysRefused []string `json:"keys_refused"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Ed25519) == 0 || len(file.KeysRefused) == 0 {
		t.Fatal("a part of the vectors is missing")
	}
	return file.Ed25519, file.KeysRefused
}

func TestVectors_ed25519(t *testing.T) {
	all, _ := keyVectors(t)
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			k, err := webhook.ParseSigningKey(v.Private)
			if err != nil {
				t.Fatal(err)
			}
			if got := k.SignStandard(v.ID, v.Timestamp, []byte(v.Body)); got != v.Standard || k.Public() != v.Public {
				t.Errorf("signature %s, public key %s", got, k.Public())
			}
			h := http.Header{"Webhook-Id": {v.ID}, "Webhook-Timestamp": {strconv.FormatInt(v.Timestamp, 10)}, "Webhook-Signature": {v.Standard}}
			if err := verifier(t, v.Timestamp, v.Public).Verify(h, []byte(v.Body)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVectors_keysRefused(t *testing.T) {
	_, refused := keyVectors(t)
	for _, s := range refused {
		if _, err := webhook.NewVerifier(s); err == nil {
			t.Errorf("%q makes a verifier", s)
		}
	}
}

func TestSigningKey(t *testing.T) {
	k, err := webhook.GenerateSigningKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	again, err := webhook.ParseSigningKey(k.Encoded())
	if err != nil || again.Public() != k.Public() {
		t.Errorf("got %v, %v", again, err)
	}
	other, err := webhook.GenerateSigningKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// With the seed of one key and the public key of another, a signature would reveal the seed.
	mixed := k.Encoded()[:48] + other.Encoded()[48:]
	for _, bad := range []string{"", "whsk_", k.Public(), k.Encoded()[1:], k.Encoded() + "\n", mixed, "whsk_" + strings.Repeat("AAAA", 16)} {
		if _, err := webhook.ParseSigningKey(bad); !errors.Is(err, webhook.ErrBadKey) {
			t.Errorf("%d characters: %v", len(bad), err)
		}
	}
	if s := fmt.Sprintf("%v %s", k, k); strings.Contains(s, k.Encoded()[6:20]) {
		t.Errorf("printing shows the key: %s", s)
	}
	if _, err := webhook.GenerateSigningKey(strings.NewReader("short")); err == nil {
		t.Error("a key of too little randomness")
	}
}

// For any headers and body: no panic, and only the signature of a known key is accepted.
func FuzzVerify_ed25519(f *testing.F) {
	all, _ := keyVectors(f)
	k, err := webhook.ParseSigningKey(all[0].Private)
	if err != nil {
		f.Fatal(err)
	}
	v := verifier(f, all[0].Timestamp, k.Public())
	for _, one := range all {
		f.Add(one.ID, strconv.FormatInt(one.Timestamp, 10), one.Standard, one.Body)
		f.Add(one.ID, strconv.FormatInt(one.Timestamp, 10), "v1a, v1a,AA== "+one.Standard+" v1,x", one.Body)
	}
	f.Fuzz(func(t *testing.T, id, stamp, list, body string) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {list}}
		if v.Verify(h, []byte(body)) != nil {
			return
		}
		seconds, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || !strings.Contains(" "+list+" ", " "+k.SignStandard(id, seconds, []byte(body))+" ") {
			t.Errorf("accepted what was never signed: %q %q %q", id, stamp, list)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	all, refused := keyVectors(f)
	for _, v := range all {
		f.Add(v.Private)
		f.Add(v.Public)
	}
	for _, s := range refused {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := webhook.ParseSigningKey(s); err == nil {
			if _, err := webhook.NewVerifier(k.Public()); err != nil {
				t.Errorf("the public key of %q is refused: %v", s, err)
			}
		}
		if v, err := webhook.NewVerifier(s); err == nil {
			v.Now = func() time.Time { return time.Unix(1, 0) }
			h := http.Header{"Webhook-Id": {"a"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1a,AA== v1,AA=="}}
			if v.Verify(h, nil) == nil {
				t.Errorf("%q verifies anything", s)
			}
		}
	})
}
