package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Limits of the heap's growth between collections. Usually the live heap is small (tens of
// MiB), and memory is cheaper than processor time; with very many endpoints it is large, and
// the same percentage would waste memory.
const (
	gcHeadroom = 48 << 20 // bytes
	gcMost     = 300      // percent
	gcLeast    = 25
)

// collected is garbage in every collection, which runs its cleanup. It is large enough not to
// be allocated together with others.
type collected struct{ _ [64]byte }

// tuneGC adapts the garbage collector's percentage to the live heap after each collection.
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

// gcPercent returns the percentage for a live heap of this size, in bytes.
func gcPercent(live uint64) int {
	return min(max(int(gcHeadroom*100/max(live, 1)), gcLeast), gcMost)
}
