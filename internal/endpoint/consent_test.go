package endpoint

import (
	"strings"
	"testing"
	"time"
)

func TestConsents(t *testing.T) {
	const origin = "pay.example"
	for _, tt := range []struct {
		name, origin, rate string
		want               int
		wrong              string // a part of the error
	}{
		{"to us", "pay.example", "120", 120, ""},
		{"to us, however it is spelt", "PAY.example", "120", 120, ""},
		{"to all", "*", "*", 0, ""},
		{"to all, without a rate", "*", "", 0, ""},
		{"at a rate beyond counting", "*", "99999999999999999999999", 0, ""},
		{"none", "", "120", 0, "without WebHook-Allowed-Origin"},
		{"to others", "other.example", "*", 0, "neither * nor pay.example"},
		{"to one below us", "a.pay.example", "*", 0, "neither * nor pay.example"},
		{"to a list", "pay.example, other.example", "*", 0, "neither * nor pay.example"},
		{"at no rate", "*", "0", 0, "neither * nor a positive number"},
		{"at less than none", "*", "-1", 0, "neither * nor a positive number"},
		{"at a fraction", "*", "1.5", 0, "neither * nor a positive number"},
		{"at a word", "*", "fast", 0, "neither * nor a positive number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Consents(origin, tt.origin, tt.rate)
			if got != tt.want || (err != nil) != (tt.wrong != "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%d, %v; want %d, %q", got, err, tt.want, tt.wrong)
			}
		})
	}
}

// Consent of any response is to the server or to all, with or without a rate.
func FuzzConsents(f *testing.F) {
	for _, s := range [][2]string{{"pay.example", "120"}, {"*", "*"}, {"", ""}, {"PAY.EXAMPLE", "+1"}, {"*", "00"}, {"* ", "1_0"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, origin, rate string) {
		perMinute, err := Consents("pay.example", origin, rate)
		switch {
		case err != nil:
			if perMinute != 0 || len(err.Error()) > 200 {
				t.Errorf("%q, %q: %d, %v", origin, rate, perMinute, err)
			}
		case origin != "*" && !strings.EqualFold(origin, "pay.example"), perMinute < 0, strings.Trim(rate, "*0123456789") != "":
			t.Errorf("%q, %q is taken for consent to %d", origin, rate, perMinute)
		}
	})
}

// TestSeekConsent follows the requests of an endpoint through its life.
func TestSeekConsent(t *testing.T) {
	at := time.Unix(1699564800, 0)
	e := &Endpoint{Config: Config{URL: "https://a.example/", Settings: Settings{Rate: 3}}, State: State{Status: Enabled}}
	step := func(what string, change func(), ask, sends bool) {
		t.Helper()
		at = at.Add(time.Hour)
		change()
		if got := e.SeekConsent("pay.example", at); got != ask {
			t.Errorf("%s: asks %v", what, got)
		}
		if got := (&Registered{Endpoint: e}).Sends(); got != sends || e.AwaitsConsent() == sends && e.Status == Enabled {
			t.Errorf("%s: sends %v, waits %v", what, got, e.AwaitsConsent())
		}
	}
	step("not validated", func() {}, false, true)
	step("validated", func() { e.Settings.Validation = Handshake }, true, false)
	if c := e.Consent; c.URL != e.URL || c.Origin != "pay.example" || !c.Since.Equal(at) || e.Origin() != "" || e.Rate() != 3 {
		t.Errorf("waits as %+v, by %q at %v", c, e.Origin(), e.Rate())
	}
	step("something else is changed", func() { e.Description = "d" }, false, false)
	step("consented", func() { e.Consent.Granted, e.Consent.Rate = at, 60 }, false, true)
	if e.Origin() != "pay.example" || e.Rate() != 1 {
		t.Errorf("sends by %q at %v", e.Origin(), e.Rate())
	}
	step("disabled", func() { e.Status = Disabled }, false, false)
	step("enabled again", func() { e.Status = Enabled }, false, true)
	step("elsewhere", func() { e.URL = "https://b.example/" }, true, false)
	step("disabled while it waits", func() { e.Status = Disabled }, false, false)
	step("elsewhere while it is disabled", func() { e.URL = "https://c.example/" }, false, false)
	step("enabled", func() { e.Status = Enabled }, true, false)
	step("not validated any more", func() { e.Settings.Validation = NotValidated }, false, true)
	if e.Consent != nil || e.Rate() != 3 {
		t.Errorf("left %+v", e.Consent)
	}
}

// A receiver is asked about thirty times within a day, not every minute.
func TestAskAgain(t *testing.T) {
	began := time.Unix(1699564800, 0)
	c := Consent{Since: began}
	var after []time.Duration
	for at := time.Duration(0); at < ConsentWithin; at += 10 * time.Second {
		if c.AskAgain(began.Add(at)) {
			c.Asked, c.Asks, after = began.Add(at), c.Asks+1, append(after, at)
		}
	}
	want := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, 64 * time.Minute, 124 * time.Minute}
	for i, w := range want {
		if after[i] != w {
			t.Errorf("asked after %s, want %s", after[i], w)
		}
	}
	if n := len(after); n < 25 || n > 35 {
		t.Errorf("asked %d times", n)
	}
	if !c.AskAgain(began.Add(-time.Hour)) {
		t.Error("a clock that was stepped back puts it off")
	}
}
