package delivery

import "time"

// LatencyBounds are the upper bounds of the latency classes of [Counts]; a further class
// contains latencies above the last.
var LatencyBounds = [...]time.Duration{
	1 * time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 20 * time.Second, 60 * time.Second,
}

// Counts are numbers of events, deliveries and attempts.
type Counts struct {
	Events     int64 // accepted; only for a whole space
	Deliveries int64 // created for these
	Succeeded  int64 // attempts
	Failed     int64 // attempts
	Exhausted  int64 // deliveries that failed for good
	Latency    [len(LatencyBounds) + 1]int64
}

// Add adds o to c.
func (c *Counts) Add(o *Counts) {
	c.Events += o.Events
	c.Deliveries += o.Deliveries
	c.Succeeded += o.Succeeded
	c.Failed += o.Failed
	c.Exhausted += o.Exhausted
	for i, n := range o.Latency {
		c.Latency[i] += n
	}
}

// Took counts an attempt that took d.
func (c *Counts) Took(d time.Duration) {
	for i, bound := range LatencyBounds {
		if d <= bound {
			c.Latency[i]++
			return
		}
	}
	c.Latency[len(LatencyBounds)]++
}

// Quantile returns the latency that the share q (0 to 1) of the attempts did not exceed,
// interpolated within its bounds. It is 0 without attempts, and at most the last bound.
func (c Counts) Quantile(q float64) time.Duration {
	var total int64
	for _, n := range c.Latency {
		total += n
	}
	rank, below := q*float64(total), 0.0
	var low time.Duration
	for i, bound := range LatencyBounds {
		n := float64(c.Latency[i])
		if n > 0 && below+n >= rank {
			return low + time.Duration(float64(bound-low)*(rank-below)/n)
		}
		below += n
		low = bound
	}
	if total == 0 {
		return 0
	}
	return low
}
