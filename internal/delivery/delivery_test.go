package delivery

import (
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
)

var (
	accepted = time.UnixMilli(1_700_000_000_000)
	id       = ID{Event: event.KeyAt(accepted) + 5, Endpoint: 42}
)

func never() float64 { return 0 }

func TestNew(t *testing.T) {
	d := New(id, 3)
	if d.State != Pending || !d.Due.Equal(accepted) || !d.Rank.Equal(accepted) || !d.Since.Equal(accepted) || d.Attempts+d.Budget != 0 {
		t.Errorf("got %+v, want it pending and due since it was accepted", d)
	}
}

func TestDelivery_Settle(t *testing.T) {
	now := accepted.Add(time.Hour)
	schedule := Schedule{10 * time.Second, time.Minute}
	for _, tt := range []struct {
		name    string
		budget  int
		attempt Attempt
		fifo    bool
		state   State
		due     time.Duration // after now
	}{
		{"success", 0, Attempt{Outcome: OutcomeSucceeded, StatusCode: 204}, false, Succeeded, 0},
		{"success at the last attempt", 2, Attempt{Outcome: OutcomeSucceeded, StatusCode: 200}, false, Succeeded, 0},
		{"first failure", 0, Attempt{Outcome: OutcomeServerError, StatusCode: 500}, false, Pending, 10 * time.Second},
		{"second failure", 1, Attempt{Outcome: OutcomeTimeout}, false, Pending, time.Minute},
		{"out of retries", 2, Attempt{Outcome: OutcomeDNS}, false, Failed, 0},
		{"gone spends no retries", 0, Attempt{Outcome: OutcomeGone, StatusCode: 410}, false, Failed, 0},
		{"Retry-After is longer", 0, Attempt{Outcome: OutcomeThrottled, StatusCode: 429, RetryAfter: time.Hour}, false, Pending, time.Hour},
		{"Retry-After is shorter", 1, Attempt{Outcome: OutcomeThrottled, StatusCode: 503, RetryAfter: time.Second}, false, Pending, time.Minute},
		{"Retry-After makes no retry", 2, Attempt{Outcome: OutcomeThrottled, StatusCode: 429, RetryAfter: time.Hour}, false, Failed, 0},
		{"FIFO keeps the rank", 0, Attempt{Outcome: OutcomeRejected, StatusCode: 400}, true, Pending, 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := New(id, 3)
			d.Attempts, d.Budget = tt.budget+7, tt.budget
			d.Settle(&tt.attempt, Policy{Schedule: schedule, FIFO: tt.fifo, Random: never}, now)
			if d.State != tt.state || d.Attempts != tt.budget+8 || d.Budget != tt.budget+1 {
				t.Errorf("got %s after %d attempts, budget %d", d.State, d.Attempts, d.Budget)
			}
			if d.LastOutcome != tt.attempt.Outcome || d.LastStatus != tt.attempt.StatusCode {
				t.Errorf("last outcome %s, status %d", d.LastOutcome, d.LastStatus)
			}
			if d.Settled.IsZero() == (d.State != Pending) {
				t.Errorf("%s, settled at %s", d.State, d.Settled)
			}
			if d.State != Pending {
				return
			}
			wantRank := now.Add(tt.due)
			if tt.fifo {
				wantRank = accepted
			}
			if !d.Due.Equal(now.Add(tt.due)) || !d.Rank.Equal(wantRank) {
				t.Errorf("due %s, rank %s; want %s, %s", d.Due, d.Rank, now.Add(tt.due), wantRank)
			}
		})
	}
}

func TestDelivery_Requeue(t *testing.T) {
	now := accepted.Add(time.Hour)
	for _, from := range []State{Pending, Succeeded, Failed, Canceled} {
		d := New(id, 3)
		d.State, d.Attempts, d.Budget, d.Settled = from, 9, 4, accepted
		d.Requeue(now)
		if d.State != Pending || d.Budget != 0 || d.Attempts != 9 || !d.Settled.IsZero() {
			t.Errorf("from %s: %+v", from, d)
		}
		if !d.Due.Equal(now) || !d.Rank.Equal(now) || !d.Since.Equal(now) {
			t.Errorf("from %s: due %s, rank %s, since %s", from, d.Due, d.Rank, d.Since)
		}
	}
}

func TestDelivery_ExpireAndCancel(t *testing.T) {
	now := accepted.Add(time.Hour)
	d := New(id, 3)
	if d.GivenUp() != "" {
		t.Errorf("pending and %q", d.GivenUp())
	}
	d.Expire(now, time.Time{})
	if d.State != Failed || d.LastOutcome != OutcomeExpired || !d.Settled.Equal(now) || d.Attempts != 0 {
		t.Errorf("expired: %+v", d)
	}
	if got := d.GivenUp(); got != "Given up after 60 minutes; it waited for its turn." {
		t.Errorf("expired: %q", got)
	}
	d = New(id, 3)
	d.Expire(accepted.Add(7*24*time.Hour+time.Minute), time.Date(2026, 11, 20, 1, 2, 3, 0, time.UTC))
	if got := d.GivenUp(); got != "Given up after 7 days; the endpoint has been unreachable since 2026-11-20T01:02:03Z." {
		t.Errorf("expired: %q", got)
	}
	d = New(id, 3)
	d.Cancel(now)
	if d.State != Canceled || !d.Settled.Equal(now) || d.LastOutcome != OutcomeNone {
		t.Errorf("cancelled: %+v", d)
	}
}

func TestID_roundTrip(t *testing.T) {
	for _, id := range []ID{{}, id, {Event: 1<<63 - 1, Endpoint: 1<<32 - 1}, {Event: 1, Endpoint: 0}} {
		got, ok := ParseID(id.String())
		if !ok || got != id {
			t.Errorf("%s: got %+v, %t, want %+v", id, got, ok, id)
		}
		if a := id.AttemptID(12); !strings.HasPrefix(a, "att_") || !strings.HasSuffix(a, "0012") || a[4:24] != id.String()[4:] {
			t.Errorf("attempt id %s of %s", a, id)
		}
	}
	for _, s := range []string{"", "dlv_", id.String() + "0", "evt_" + id.String()[4:], strings.ToUpper(id.String()), "dlv_" + strings.Repeat("z", 20)} {
		if got, ok := ParseID(s); ok {
			t.Errorf("%q was taken for %+v", s, got)
		}
	}
	if a, b := id.AttemptID(9999), id.AttemptID(123456); a != b {
		t.Errorf("%s and %s: numbers past four digits keep the length", a, b)
	}
}

func TestState_names(t *testing.T) {
	for _, s := range []State{Pending, Succeeded, Failed, Canceled} {
		if got, ok := ParseState(s.String()); !ok || got != s {
			t.Errorf("%s: got %v, %t", s, got, ok)
		}
	}
	if _, ok := ParseState("unknown"); ok || State(9).String() != "unknown" || Outcome(99).String() != "unknown" {
		t.Error("unknown values have no name of their own")
	}
	for o := OutcomeNone; o <= OutcomeMisconfigured; o++ {
		if o.String() == "" {
			t.Errorf("outcome %d has no name", o)
		}
	}
}
