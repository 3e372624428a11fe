package delivery

import (
	"testing"
	"time"
)

func TestRedate(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	policy := Policy{Schedule: Schedule{time.Minute, time.Hour}, Random: func() float64 { return 0.5 }}
	for _, tt := range []struct {
		name    string
		budget  int
		outcome Outcome
		waits   time.Duration
		want    time.Duration // after now; 0: as it was
	}{
		{"as its schedule says", 1, OutcomeRejected, 72 * time.Second, 0},
		{"longer than its schedule says", 1, OutcomeRejected, 73 * time.Second, 66 * time.Second},
		{"by the delay that is running", 2, OutcomeRejected, 72 * time.Minute, 0},
		{"days longer", 2, OutcomeRejected, 72 * time.Hour, 66 * time.Minute},
		{"as a receiver can ask for", 1, OutcomeThrottled, MaxRetryAfter, 0},
		{"longer than a receiver can ask for", 1, OutcomeThrottled, MaxRetryAfter + time.Second, MaxRetryAfter},
		{"by a schedule that was shorter since", 3, OutcomeRejected, 72 * time.Hour, 0},
		{"not tried yet", 0, OutcomeNone, 72 * time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, fifo := range []bool{false, true} {
				accepted := now.Add(-time.Hour)
				d := Delivery{Budget: tt.budget, LastOutcome: tt.outcome, Due: now.Add(tt.waits), Rank: now.Add(tt.waits)}
				if fifo {
					d.Rank = accepted
				}
				want := d
				if tt.want > 0 {
					want.Due = now.Add(tt.want)
					if !fifo {
						want.Rank = want.Due
					}
				}
				p := policy
				p.FIFO = fifo
				if again := d.Redate(p, now); again != (tt.want > 0) || d != want {
					t.Errorf("fifo %t: redated %t to %s, want %s", fifo, again, d.Due.Sub(now), want.Due.Sub(now))
				}
			}
		})
	}
}
