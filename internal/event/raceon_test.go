//go:build race

package event

// underRace says that the race detector slows everything down about tenfold.
const underRace = true
