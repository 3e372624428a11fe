//go:build race

package e2e

// underRace is true under the race detector, which makes everything about ten times slower.
const underRace = true
