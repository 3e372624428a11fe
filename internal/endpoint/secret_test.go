package endpoint

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/webhook"
)

var noon = time.Unix(1_700_000_000, 0)

// expiries shows an endpoint's secrets, oldest first, each with the time from noon
// until it expires.
func expiries(e *Endpoint) string {
	var parts []string
	for _, s := range e.Secrets {
		left := "for ever"
		if !s.Expires.IsZero() {
			left = s.Expires.Sub(noon).String()
		}
		parts = append(parts, s.ID+" "+left)
	}
	return strings.Join(parts, ", ")
}

func named(id string, expires time.Duration) Secret {
	s := NewSecret(id, noon)
	if expires != 0 {
		s.Expires = noon.Add(expires)
	}
	return s
}

func paramOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Code == fault.Invalid {
		return f.Param
	}
	return fmt.Sprint(err)
}

func TestEndpoint_Rotate(t *testing.T) {
	for _, tt := range []struct {
		name string
		have []Secret
		life time.Duration
		want string
	}{
		{"at once", []Secret{named("a", 0)}, 0, "new for ever"},
		{"an hour", []Secret{named("a", 0)}, time.Hour, "a 1h0m0s, new for ever"},
		{"30 days", []Secret{named("a", 0)}, 720 * time.Hour, "a 720h0m0s, new for ever"},
		{"a day", []Secret{named("a", 0)}, 24 * time.Hour, "a 24h0m0s, new for ever"},
		{"no old one lives longer than it would have", []Secret{named("a", time.Hour), named("b", 0)}, 6 * time.Hour, "a 1h0m0s, b 6h0m0s, new for ever"},
		{"all old ones at most as long", []Secret{named("a", 24*time.Hour), named("b", 0)}, time.Hour, "a 1h0m0s, b 1h0m0s, new for ever"},
		{"at once with an overlap running", []Secret{named("a", time.Hour), named("b", 0)}, 0, "new for ever"},
		{"expired ones go", []Secret{named("a", -time.Second), named("b", 0)}, 3 * time.Hour, "b 3h0m0s, new for ever"},
		{"expired ones do not count", []Secret{named("a", -1), named("b", -1), named("c", 1), named("d", 1), named("e", 1), named("f", 0)}, time.Hour, "c 1ns, d 1ns, e 1ns, f 1h0m0s, new for ever"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Endpoint{Secrets: tt.have}
			before := expiries(e)
			if err := e.Rotate(named("new", 0), tt.life, noon); err != nil {
				t.Fatal(err)
			}
			if got := expiries(e); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if after := expiries(&Endpoint{Secrets: tt.have}); after != before {
				t.Errorf("the secrets that others read became %s", after)
			}
		})
	}
}

func TestEndpoint_Rotate_refuses(t *testing.T) {
	five := []Secret{named("a", 1), named("b", 1), named("c", 1), named("d", 1), named("e", 0)}
	for _, tt := range []struct {
		name string
		next Secret
		life time.Duration
		want string
	}{
		{"a sixth", named("new", 0), time.Hour, "expires_in"},
		{"another time", named("new", 0), 2 * time.Hour, "expires_in"},
		{"31 days", named("new", 0), 744 * time.Hour, "expires_in"},
		{"days and hours", named("new", 0), 25 * time.Hour, "expires_in"},
		{"a time in the past", named("new", 0), -time.Hour, "expires_in"},
		{"one that is there", five[2], 0, "secret"},
	} {
		e := &Endpoint{Secrets: five}
		if got := paramOf(e.Rotate(tt.next, tt.life, noon)); got != tt.want || len(e.Secrets) != 5 {
			t.Errorf("%s: got %s and %d secrets", tt.name, got, len(e.Secrets))
		}
	}
	if err := (&Endpoint{Secrets: five}).Rotate(named("new", 0), 0, noon); err != nil {
		t.Errorf("with five live ones, at once: %v", err)
	}
}

func TestEndpoint_Revoke(t *testing.T) {
	three := []Secret{named("a", time.Hour), named("b", time.Hour), named("c", 0)}
	for _, tt := range []struct{ id, param, want string }{
		{"a", "", "b 1h0m0s, c for ever"},
		{"b", "", "a 1h0m0s, c for ever"},
		{"", "", "c for ever"},
		{"c", "secret_id", ""},
		{"x", "secret_id", ""},
	} {
		e := &Endpoint{Secrets: three}
		err := e.Revoke(tt.id, noon)
		switch {
		case tt.param != "" && (paramOf(err) != tt.param || len(e.Secrets) != 3):
			t.Errorf("%q: %v, %s", tt.id, err, expiries(e))
		case tt.param == "" && (err != nil || expiries(e) != tt.want):
			t.Errorf("%q: %v, got %s, want %s", tt.id, err, expiries(e), tt.want)
		}
	}
	if three[0].ID != "a" || three[1].ID != "b" {
		t.Error("the secrets that others read were changed")
	}
	for _, one := range [][]Secret{{named("c", 0)}, {named("a", -1), named("c", 0)}} {
		if got := paramOf((&Endpoint{Secrets: one}).Revoke("", noon)); got != "secret_id" {
			t.Errorf("without an old one: %s", got)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	encoded := func(n int) string {
		b := make([]byte, n)
		rand.Read(b)
		return base64.StdEncoding.EncodeToString(b)
	}
	for _, n := range []int{24, 32, 64} {
		if err := CheckSecret("whsec_" + encoded(n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	good := encoded(32)
	for _, bad := range []string{"", "whsec_", good, "whsec_" + encoded(23), "whsec_" + encoded(65), "whsec_" + strings.TrimRight(good, "="), "WHSEC_" + good,
		"whsec_" + good + "\n", "whsec_" + good[:20] + "\n" + good[20:], " whsec_" + good, "whsec_" + strings.Repeat("_-__", 11)} {
		err := CheckSecret(bad)
		if paramOf(err) != "secret" || len(bad) > 8 && strings.Contains(err.Error(), bad[8:]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSecret_signingKey(t *testing.T) {
	s := NewSecret("a", noon)
	if s.PublicKey() != "" {
		t.Error("a public key without a private one")
	}
	s.AddSigningKey()
	first := s.Signing
	s.AddSigningKey()
	if s.Signing != first {
		t.Error("the key was replaced")
	}
	key, err := webhook.ParseSigningKey(s.Signing)
	if err != nil || key.Public() != s.PublicKey() {
		t.Errorf("the signing library reads %v, %v; want the public key %s", key, err, s.PublicKey())
	}
}
