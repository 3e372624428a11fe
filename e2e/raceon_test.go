//go:build race

package e2e

// underRace says that the race detector slows everything down about tenfold.
const underRace = true
