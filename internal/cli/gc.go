package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How far the heap may grow between collections. What is live is small as a rule (tens
// of MiB), and then memory is cheaper than processor time; with very many endpoints it is
// not, and then a percentage would waste what it is a percentage of.
const (
	gcHeadroom = 48 << 20 // bytes
	gcMost     = 300      // percent
	gcLeast    = 25
)

// collected is what the garbage collector takes each time, so that it is noticed. It is
// large enough not to be allocated together with others.
type collected struct{ _ [64]byte }

// tuneGC keeps the garbage collector's percentage right from now on: after each
// collection it is made to fit what that found to be live.
func tuneGC() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 0
	var tune func(*collected)
	tune = func(*collected) {
		metrics.Read(live)
		if want := gcPercent(live[0].Value.Uint64()); want*10 < set*9 || want*9 > set*10 { // setting it stops the world
			debug.SetGCPercent(want)
			set = want
		}
		runtime.SetFinalizer(new(collected), tune)
	}
	tune(nil)
}

// gcPercent is the percentage for so many live bytes.
func gcPercent(live uint64) int {
	return min(max(int(gcHeadroom*100/max(live, 1)), gcLeast), gcMost)
}
