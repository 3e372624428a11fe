package expression

import "sync"

// maxKept bounds how many compiled expressions are kept. One takes some ten kilobytes.
const maxKept = 4096

// kept is the expressions in use by what was written, so that endpoints which share one
// share its memory, and a changed one is another.
var kept = cache{all: map[string]outcome{}}

type cache struct {
	mu  sync.RWMutex
	all map[string]outcome
}

type outcome struct {
	x   *Expression
	err error
}

// Cached is [Compile] for an expression that was accepted before. Compiling costs as much
// as hundreds of evaluations, so what it makes is kept.
func Cached(param, source string) (*Expression, error) {
	kept.mu.RLock()
	o, ok := kept.all[source]
	kept.mu.RUnlock()
	if ok {
		return o.x, o.err
	}
	o.x, o.err = Compile(param, source)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	for k := range kept.all {
		if len(kept.all) < maxKept {
			break
		}
		delete(kept.all, k) // any: what is in use comes back
	}
	kept.all[source] = o
	return o.x, o.err
}
