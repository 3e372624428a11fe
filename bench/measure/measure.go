// Package measure has the common parts of the benchmark programs: a clock that is the same in
// all processes of a machine, percentiles, and the event.
//
// It must not know the server's code: the programs use the server over HTTP.
package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns nanoseconds of CLOCK_MONOTONIC, which is the same for all
// processes of a machine.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // all platforms of the programs have the clock
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

// Median returns the median, the least and the greatest of v. It sorts v.
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

// Event returns the JSON of a request to send an event of the given type, about size bytes
// long: a payment with as many items as fit. The differences between items are random, so that
// it compresses like real ones; it is the same in every run.
func Event(typ string, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(size), 1))
	word := func(n int) string {
		const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	b := fmt.Appendf(nil, `{"type":%q,"data":{"object":{"id":"pay_%s","object":"payment","amount":2999,"currency":"usd","status":"succeeded",`+
		`"customer":{"id":"cus_%s","email":"%s@example.com","name":"Jane Doe"},"items":[`, typ, word(24), word(14), word(8))
	const tail = `],"metadata":{"order":"6735","note":"%s"}}}}`
	for first := true; ; first = false {
		item := fmt.Sprintf(`{"id":"item_%s","sku":"%s","quantity":%d,"unit_amount":%d,"description":"Product %s","tax_rate":"0.19"}`,
			word(16), word(8), 1+r.IntN(9), r.IntN(50000), word(10))
		if !first {
			item = "," + item
		}
		if left := size - len(b) - len(tail) + len("%s"); len(item) > left {
			return fmt.Appendf(b, tail, word(max(left, 0)))
		}
		b = append(b, item...)
	}
}
