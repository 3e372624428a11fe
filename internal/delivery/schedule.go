package delivery

import "time"

// Schedule contains the delay before each retry: the first applies after the first failed
// attempt. Its length is the number of retries.
type Schedule []time.Duration

// Jitter is the maximum share of a delay that is added at random, so that deliveries that
// failed together are not retried together.
const Jitter = 0.2

// MaxRetryAfter is the maximum accepted Retry-After.
const MaxRetryAfter = 24 * time.Hour

// LiveSchedule is the example of the Standard Webhooks specification: ten attempts in about
// three days.
func LiveSchedule() Schedule {
	return Schedule{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// TestSchedule has four retries within a quarter of an hour, for developers.
func TestSchedule() Schedule {
	return Schedule{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}
}

// Delay returns the delay after the given number of failed attempts (1 or more), and false if
// no retry is left. random returns numbers in [0, 1).
func (s Schedule) Delay(attempts int, random func() float64) (time.Duration, bool) {
	if attempts < 1 || attempts > len(s) {
		return 0, false
	}
	d := s[attempts-1]
	return d + time.Duration(float64(d)*Jitter*random()), true
}
