package adminui_test

import "hash/fnv"

// sampled reports whether a cell of a matrix is tested: all are, but with the race detector one
// in four, always the same ones. make test runs both.
func sampled(cell string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(cell))
	return !underRace || h.Sum32()%4 == 0
}
