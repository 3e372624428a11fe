package delivery

import (
	"encoding/json"
	"testing"
	"time"
)

// opened returns a breaker that ten failures opened at the given time.
func opened(at time.Time) *Breaker {
	b := new(Breaker)
	for range BreakerThreshold {
		b.Failed(EndpointDown, false, at, at)
	}
	return b
}

func TestBreaker_opensAtTheThreshold(t *testing.T) {
	b := new(Breaker)
	for i := 1; i <= BreakerThreshold; i++ {
		if b.Open() {
			t.Fatalf("open after %d failures", i-1)
		}
		b.Failed(EndpointDown, false, accepted.Add(time.Duration(i)*time.Second), accepted.Add(time.Duration(i+5)*time.Second))
	}
	if !b.Open() || b.Interval != 2*time.Second {
		t.Errorf("after %d failures: %+v", BreakerThreshold, b)
	}
	if want := accepted.Add(time.Second); !b.FailingSince.Equal(want) {
		t.Errorf("failing since %s, want the start of the first failure, %s", b.FailingSince, want)
	}
	if got := b.FailingFor(accepted.Add(time.Hour)); got != time.Hour-time.Second {
		t.Errorf("failing for %s", got)
	}
}

func TestBreaker_lateFailuresOfTheSameVolleyDoNotGrow(t *testing.T) {
	b := opened(accepted)
	for i := range 60 { // they hung, long past the time of the first probe
		b.Failed(EndpointDown, false, accepted, accepted.Add(15*time.Second+time.Duration(i)*100*time.Millisecond))
	}
	if b.Interval != 2*time.Second || !b.ProbeAt.Equal(accepted.Add(2*time.Second)) {
		t.Errorf("interval %s, probe at %s; want 2s after it opened", b.Interval, b.ProbeAt)
	}
}

func TestBreaker_probesDoubleUpToTheCap(t *testing.T) {
	b := opened(accepted)
	for _, want := range []time.Duration{4, 8, 16, 32, 64, 128, 256, 300, 300} {
		ended := b.ProbeAt.Add(15 * time.Second)
		b.Failed(EndpointDown, true, b.ProbeAt, ended)
		if b.Interval != want*time.Second || !b.ProbeAt.Equal(ended.Add(b.Interval)) {
			t.Fatalf("interval %s, next probe %s after the last one ended; want %s", b.Interval, b.ProbeAt.Sub(ended), want*time.Second)
		}
	}
}

func TestBreaker_successResets(t *testing.T) {
	b := opened(accepted)
	b.Warned = true
	now := accepted.Add(time.Minute)
	if !b.Succeeded(now) {
		t.Error("no recovery noticed")
	}
	if *b != (Breaker{LastSuccess: now}) || b.Open() || b.FailingFor(now) != 0 {
		t.Errorf("after success: %+v", b)
	}
	if b.Succeeded(now) {
		t.Error("a healthy endpoint recovered")
	}
	b.Failed(EndpointDown, false, now, now)
	if !b.Succeeded(now) {
		t.Error("a single failure must be taken back in the store too")
	}
}

// Only outcomes that show the endpoint to be down open the breaker; a response closes it, and
// only an acknowledgement resets the interval.
func TestBreaker_effects(t *testing.T) {
	b := new(Breaker)
	for range 10 * BreakerThreshold {
		b.Failed(EventRefused, false, accepted, accepted)
		b.Failed(EventUnsendable, false, accepted, accepted)
		b.Failed(NoEffect, false, accepted, accepted)
		if b.Open() || b.Down != 0 {
			t.Fatalf("open after failures that do not count: %+v", b)
		}
	}
	b = opened(accepted)
	b.Failed(NoEffect, false, accepted, accepted)
	if !b.Open() || b.Interval != breakerFirstInterval {
		t.Errorf("moved by an attempt without effect: %+v", b)
	}
	b.Failed(EndpointDown, true, accepted, accepted)
	b.Failed(EventRefused, true, accepted, accepted)
	if b.Open() || b.Failures == 0 || b.FailingSince.IsZero() {
		t.Errorf("after an answer: %+v", b)
	}
	for range BreakerThreshold {
		if b.Open() {
			t.Fatalf("opened early: %+v", b)
		}
		b.Failed(EndpointDown, false, accepted, accepted)
	}
	if !b.Open() || b.Interval != 4*breakerFirstInterval {
		t.Errorf("opened again: %+v, want twice the last interval", b)
	}
}

func TestStreak(t *testing.T) {
	var s Streak
	for i := 1; i <= 20*int(streakMaxPause/streakPause); i++ {
		if s.Holds() != (i > StreakThreshold) {
			t.Fatalf("holds %t after %d failures", s.Holds(), i-1)
		}
		s.Failed(accepted)
		if want := min(time.Duration(i)*10*time.Millisecond, time.Minute); s.NextAt.Sub(accepted) != want {
			t.Fatalf("a pause of %s after %d failures, want %s", s.NextAt.Sub(accepted), i, want)
		}
	}
	if s.Alone() {
		t.Error("alone although no other type was acknowledged")
	}
	if s.OthersWork = true; !s.Alone() {
		t.Error("not alone although others work")
	}
}

func TestBreaker_survivesJSON(t *testing.T) {
	for _, b := range []*Breaker{{}, opened(accepted)} {
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		var got Breaker
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.Failures != b.Failures || !got.FailingSince.Equal(b.FailingSince) || !got.ProbeAt.Equal(b.ProbeAt) || got.Interval != b.Interval {
			t.Errorf("got %+v, want %+v", got, b)
		}
	}
	if text, _ := json.Marshal(Breaker{}); string(text) != "{}" {
		t.Errorf("a healthy breaker is written as %s", text)
	}
}

func TestHealth_Judge(t *testing.T) {
	const day = 24 * time.Hour
	standard := Health{FailingAfter: day, DisableAfter: 5 * day}
	strict := Health{DisableAfter: 5 * day, DisableAfterFailures: 20}
	for _, tt := range []struct {
		name          string
		health        Health
		failures      int
		every         time.Duration
		warn, disable bool
	}{
		{"one failure", standard, 1, 0, false, false},
		{"nine in a row", standard, 9, time.Second, false, false},
		{"ten in a row", standard, 10, time.Second, true, false},
		{"few within a day", standard, 3, 11 * time.Hour, false, false},
		{"few over a day", standard, 3, 12 * time.Hour, true, false},
		{"two long apart prove nothing", standard, 2, 10 * day, false, false},
		{"few over many days do not disable", standard, 4, 2 * day, true, false},
		{"many over five days", standard, 11, 12 * time.Hour, true, true},
		{"many in an hour", standard, 600, 6 * time.Second, true, false},
		{"as many as the operator allows", strict, 19, time.Second, true, false},
		{"more than that", strict, 20, time.Second, true, true},
		{"few over a day, not asked for", strict, 3, day, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, at := new(Breaker), accepted
			for range tt.failures {
				b.Failed(EventRefused, false, at, at) // with any effect
				at = at.Add(tt.every)
			}
			warn, disable := tt.health.Judge(b, at.Add(-tt.every))
			if warn != tt.warn || disable != tt.disable {
				t.Errorf("warn %t, disable %t; want %t, %t", warn, disable, tt.warn, tt.disable)
			}
			b.Warned = true
			if again, _ := tt.health.Judge(b, at); again {
				t.Error("warned twice")
			}
		})
	}
}
