package delivery

import (
	"testing"
	"time"
)

func TestSchedule_Delay(t *testing.T) {
	s := Schedule{10 * time.Second, time.Minute}
	almostOne := func() float64 { return 0.999999 }
	for _, tt := range []struct {
		name     string
		attempts int
		random   func() float64
		min, max time.Duration
		ok       bool
	}{
		{"no attempt yet", 0, never, 0, 0, false},
		{"negative", -1, never, 0, 0, false},
		{"first, least jitter", 1, never, 10 * time.Second, 10 * time.Second, true},
		{"first, most jitter", 1, almostOne, 11999 * time.Millisecond, 12 * time.Second, true},
		{"last", 2, never, time.Minute, time.Minute, true},
		{"past the last", 3, never, 0, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, ok := s.Delay(tt.attempts, tt.random)
			if ok != tt.ok || d < tt.min || d > tt.max {
				t.Errorf("got %s, %t, want %s to %s, %t", d, ok, tt.min, tt.max, tt.ok)
			}
		})
	}
	if _, ok := (Schedule{}).Delay(1, never); ok {
		t.Error("an empty schedule has a retry")
	}
}

func TestSchedule_defaults(t *testing.T) {
	live, test := LiveSchedule(), TestSchedule()
	var longest time.Duration // with the most jitter
	for i := range live {
		d, _ := live.Delay(i+1, func() float64 { return 1 })
		longest += d
	}
	if len(live)+1 != 10 || longest < 3*24*time.Hour || longest > 4*24*time.Hour {
		t.Errorf("live: %d attempts within %s, want ten in about three days", len(live)+1, longest)
	}
	if len(test) != 4 {
		t.Errorf("test: %d retries, want 4", len(test))
	}
	live[0] = 0
	if LiveSchedule()[0] == 0 {
		t.Error("callers share one schedule")
	}
}
