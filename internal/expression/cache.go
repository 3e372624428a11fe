package expression

import "sync"

// maxKept bounds how many compiled expressions are kept. One takes some ten kilobytes.
const maxKept = 4096

// kept is the expressions in use by what was written, so that endpoints which share one
// share its memory, and a changed one is another.
var kept = cache{all: map[cacheKey]outcome{}}

type cacheKey struct {
	kind   *kind
	source string
}

type cache struct {
	mu  sync.RWMutex
	all map[cacheKey]outcome
}

type outcome struct {
	x   *Expression
	err error
}

// Cached is [Compile] for an expression that was accepted before. Compiling costs as much
// as hundreds of evaluations, so what it makes is kept.
func Cached(param, source string) (*Expression, error) { return cached(filter, param, source) }

func cached(k *kind, param, source string) (*Expression, error) {
	key := cacheKey{k, source}
	kept.mu.RLock()
	o, ok := kept.all[key]
	kept.mu.RUnlock()
	if ok {
		return o.x, o.err
	}
	o.x, o.err = compile(k, param, source)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	for other := range kept.all {
		if len(kept.all) < maxKept {
			break
		}
		delete(kept.all, other) // any: what is in use comes back
	}
	kept.all[key] = o
	return o.x, o.err
}
