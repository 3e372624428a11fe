package cli

import (
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1500 * time.Millisecond: "1.5 s", 15 * time.Second: "15 s", 90 * time.Minute: "1 h 30 min", 24 * time.Hour: "1 day",
		720 * time.Hour: "30 days", 25*time.Hour + time.Second: "1 day 1 h 1 s",
	} {
		if got := durationText(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
