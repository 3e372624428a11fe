package endpoint

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewSecret(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := NewSecret("sec_1", now)
	text, ok := strings.CutPrefix(s.Value, "whsec_")
	if !ok {
		t.Fatalf("no whsec_ in front: %d characters", len(s.Value))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 {
		t.Errorf("%d bytes of key, %v; want 32 in standard base64", len(raw), err)
	}
	if !s.Created.Equal(now) || !s.Expires.IsZero() {
		t.Errorf("made %s, expires %s", s.Created, s.Expires)
	}
	if NewSecret("sec_1", now).Value == s.Value {
		t.Error("two secrets are the same")
	}
}

func values(secrets []Secret) (out []string) {
	for _, s := range secrets {
		out = append(out, s.Value)
	}
	return out
}

func TestEndpoint_LiveSecrets(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	e := &Endpoint{Secrets: []Secret{
		{Value: "expired", Expires: now.Add(-time.Second)},
		{Value: "expires now", Expires: now},
		{Value: "old", Expires: now.Add(time.Nanosecond)},
		{Value: "new"},
	}}
	if got := values(e.LiveSecrets(now)); !slices.Equal(got, []string{"old", "new"}) {
		t.Errorf("got %v, want those that live, oldest first", got)
	}
	if got := values(e.Secrets); len(got) != 4 || got[0] != "expired" {
		t.Errorf("the endpoint, which others read, was changed: %v", got)
	}
}

func TestSelects(t *testing.T) {
	for _, tt := range []struct {
		pattern, typ string
		want         bool
	}{
		{"*", "a", true}, {"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"a.*", "a.b", true}, {"a.*", "a.b.c", true},
		{"a.*", "a", false}, {"a.*", "ab.c", false},
		{"a-*", "a-b", true}, {"/a/*", "/a/b", true}, {"/a/*", "/ab", false}, {"a:b:*", "a:b:c", true}, {"a_*", "a_b.c", true}, {"a.*", "a-b", false},
	} {
		if got := Selects(tt.pattern, tt.typ); got != tt.want {
			t.Errorf("%s selects %s: %t, want %t", tt.pattern, tt.typ, got, tt.want)
		}
	}
}
