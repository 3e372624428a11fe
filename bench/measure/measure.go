// Package measure owns what the benchmark programs share: a clock that all
// processes of a machine agree on, percentiles, and the event that is sent.
//
// It must not know the server's code: the programs speak to it over HTTP.
package measure

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns nanoseconds of CLOCK_MONOTONIC, which is the same for all
// processes of a machine.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the clock exists on every system that the programs build for
	}
	return ts.Nano()
}

// Percentile returns the p-th percentile (0 to 100) of d by the nearest-rank
// method, 0 for an empty d. It sorts d.
func Percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[max(int(math.Ceil(p/100*float64(len(d))))-1, 0)]
}

// Median returns the middle of v, and its least and greatest. It sorts v.
func Median(v []float64) (mid, least, most float64) {
	if len(v) == 0 {
		return 0, 0, 0
	}
	slices.Sort(v)
	mid = v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (mid + v[len(v)/2-1]) / 2
	}
	return mid, v[0], v[len(v)-1]
}

// Event returns the JSON of a request to send an event of the given type that is
// about size bytes long: a payment, with a note to fill it up.
func Event(typ string, size int) []byte {
	head := fmt.Sprintf(`{"type":%q,"data":{"object":{"id":"pay_1234567890abcdef","amount":2999,"currency":"usd","status":"succeeded",`+
		`"customer":{"email":"customer@example.com","name":"Jane Doe"},"metadata":{"order":"6735","note":"`, typ)
	const tail = `"}}}}`
	return []byte(head + strings.Repeat("x", max(size-len(head)-len(tail), 0)) + tail)
}
