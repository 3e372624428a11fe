package expression

import "sync"

// Bounds of how many compiled expressions are kept. One takes some ten kilobytes.
const (
	maxKept  = 4096
	maxTried = 256
)

// kept has the expressions of endpoints, by source: endpoints with the same expression share
// its memory. tried has expressions that were compiled only to check them: a client that tries
// many must not evict those in use.
var (
	kept  = cache{max: maxKept}
	tried = cache{max: maxTried}
)

type cacheKey struct {
	kind   *kind
	source string
}

// cache has compiled expressions.
type cache struct {
	max int
	mu  sync.RWMutex
	all map[cacheKey]outcome
}

type outcome struct {
	x   *Expression
	err error
}

func (c *cache) get(key cacheKey) (outcome, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	o, ok := c.all[key]
	return o, ok
}

func (c *cache) put(key cacheKey, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[cacheKey]outcome, c.max)
	}
	for other := range c.all {
		if len(c.all) < c.max {
			break
		}
		delete(c.all, other) // any one: an expression in use is compiled again
	}
	c.all[key] = o
}

// Cached is [Compile] for an expression that was accepted before. Compiling costs as much as
// hundreds of evaluations, so the result is kept.
func Cached(param, source string) (*Expression, error) { return cached(filter, param, source) }

func cached(k *kind, param, source string) (*Expression, error) {
	key := cacheKey{k, source}
	o, ok := kept.get(key)
	if !ok { // an expression that was only tried, as by a preview, is not moved
		o, ok = tried.get(key)
	}
	if !ok {
		o.x, o.err = compile(k, param, source)
		kept.put(key, o)
	}
	return o.x, o.err
}

// try compiles an expression, unless that was done recently.
func try(k *kind, param, source string) (*Expression, error) {
	if len(source) > k.limit {
		return compile(k, param, source) // fails at once, and the source is not kept
	}
	key := cacheKey{k, source}
	o, ok := tried.get(key)
	if !ok {
		o.x, o.err = compile(k, param, source)
		tried.put(key, o)
	}
	return o.x, o.err
}
