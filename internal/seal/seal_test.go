package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/seal"
)

func TestRing_opensSealedRecords(t *testing.T) {
	r := seal.NewRing(seal.NewKey())
	for _, plain := range []string{"", "x", "whsec_secret", strings.Repeat("long ", 10_000)} {
		record := r.Seal([]byte(plain), "we_1")
		got, err := r.Open(record, "we_1")
		if err != nil || string(got) != plain {
			t.Errorf("%d bytes: got %d bytes, %v", len(plain), len(got), err)
		}
		if len(plain) > 4 && bytes.Contains(record, []byte(plain[:5])) {
			t.Error("the record shows its content")
		}
		if bytes.Equal(record, r.Seal([]byte(plain), "we_1")) {
			t.Error("the same content twice makes the same record")
		}
	}
}

func TestRing_refuses(t *testing.T) {
	key := seal.NewKey()
	r := seal.NewRing(key)
	record := r.Seal([]byte("whsec_secret"), "we_1")
	if _, err := r.Open(record, "we_2"); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("with another context: %v", err)
	}
	if _, err := seal.NewRing(seal.NewKey()).Open(record, "we_1"); !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), key.ID().String()) {
		t.Errorf("under another key: %v, want ErrNoKey that names %s", err, key.ID())
	}
	for i := range record {
		changed := bytes.Clone(record)
		changed[i] ^= 1
		if _, err := r.Open(changed, "we_1"); err == nil {
			t.Errorf("opens with byte %d of %d changed", i, len(record))
		}
		if _, err := r.Open(record[:i], "we_1"); err == nil {
			t.Errorf("opens cut to %d bytes", i)
		}
	}
}

func TestRing_Reseal(t *testing.T) {
	old, young := seal.NewKey(), seal.NewKey()
	record := seal.NewRing(old).Seal([]byte("whsec_secret"), "we_1")
	both := seal.NewRing(young, old)
	if got, err := both.Open(record, "we_1"); err != nil || string(got) != "whsec_secret" {
		t.Fatalf("an old key no longer opens: %q, %v", got, err)
	}
	again, changed, err := both.Reseal(record, "we_1")
	if err != nil || !changed {
		t.Fatalf("changed %t, %v", changed, err)
	}
	if got, err := seal.NewRing(young).Open(again, "we_1"); err != nil || string(got) != "whsec_secret" {
		t.Errorf("under the new key alone: %q, %v", got, err)
	}
	if _, err := seal.NewRing(old).Open(again, "we_1"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("under the old key alone: %v", err)
	}
	if _, changed, err := both.Reseal(again, "we_1"); err != nil || changed {
		t.Errorf("a second time: changed %t, %v", changed, err)
	}
	if _, _, err := seal.NewRing(young).Reseal(record, "we_1"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the old key: %v", err)
	}
	if _, _, err := both.Reseal(record, "we_2"); !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("with another context: %v", err)
	}
}

func TestParseKey(t *testing.T) {
	k := seal.NewKey()
	got, err := seal.ParseKey(k.Text())
	if err != nil || got.ID() != k.ID() || got.Text() != k.Text() {
		t.Errorf("got %v, %v", got, err)
	}
	for _, printed := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k)} {
		if strings.Contains(printed, k.Text()[6:20]) {
			t.Errorf("printing shows the key: %s", printed)
		}
	}
	for _, bad := range []string{"", "phmk_", k.Text()[1:], k.Text() + "=", k.Text()[:40], k.Text() + "\n", strings.Repeat("A", 44), "phmk_" + strings.Repeat("A", 42) + "B="} {
		if _, err := seal.ParseKey(bad); !errors.Is(err, seal.ErrBadKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	r, err := seal.ParseRing(k.Text() + ",\n " + seal.NewKey().Text() + "\n")
	if err != nil || len(r.Keys()) != 2 || r.Current().ID() != k.ID() {
		t.Errorf("two keys: %v", err)
	}
	for _, bad := range []string{"", " ,\n", k.Text() + ",x"} {
		if _, err := seal.ParseRing(bad); !errors.Is(err, seal.ErrBadKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := seal.NewRing(seal.NewKey())
	good := r.Seal([]byte("content"), "c")
	f.Add(good, "c")
	f.Add([]byte{1}, "")
	f.Fuzz(func(t *testing.T, record []byte, context string) {
		if _, err := r.Open(record, context); err == nil && (!bytes.Equal(record, good) || context != "c") {
			t.Errorf("opens an unsealed text")
		}
		_, _, _ = r.Reseal(record, context)
	})
}

func BenchmarkOpen(b *testing.B) {
	r := seal.NewRing(seal.NewKey())
	record := r.Seal(make([]byte, 200), "we_1234567890")
	for b.Loop() {
		if _, err := r.Open(record, "we_1234567890"); err != nil {
			b.Fatal(err)
		}
	}
}

// For any text: keys that are parsed are written the same way, and errors do not contain the
// text.
func FuzzParseRing(f *testing.F) {
	key := seal.NewKey().Text()
	for _, s := range []string{key, key + "," + key, key + "\n", "", ",", seal.KeyPrefix, key[:len(key)-1], key + "="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := seal.ParseKeys(text)
		if err != nil {
			if !errors.Is(err, seal.ErrBadKey) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, k := range keys {
			if again, err := seal.ParseKey(k.Text()); err != nil || again.ID() != k.ID() || !strings.Contains(text, k.Text()) {
				t.Errorf("%q is read as a key that is written as %q", text, k.Text())
			}
		}
	})
}
