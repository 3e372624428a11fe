//go:build !race

package dispatch_test

// underRace says that the race detector slows everything down about tenfold.
const underRace = false
