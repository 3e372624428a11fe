package cli

import "testing"

func TestGCPercent(t *testing.T) {
	for _, tt := range []struct {
		live uint64 // MiB
		want int
	}{{0, gcMost}, {10, gcMost}, {24, 200}, {48, 100}, {96, 50}, {1000, gcLeast}} {
		if got := gcPercent(tt.live << 20); got != tt.want {
			t.Errorf("%d MiB live: %d %%, want %d %%", tt.live, got, tt.want)
		}
	}
}
