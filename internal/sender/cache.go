package sender

import "sync"

// cache caches the value computed from a key. When it is full it is cleared: it contains the
// values of active endpoints, so this is rare.
type cache[K comparable, V any] struct {
	mu sync.RWMutex
	m  map[K]V
}

const cacheSize = 16384

func (c *cache[K, V]) get(key K, make func(K) (V, error)) (V, error) {
	c.mu.RLock()
	v, ok := c.m[key]
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := make(key)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.m[key]; ok { // another goroutine was faster
		return first, nil
	}
	if c.m == nil || len(c.m) >= cacheSize {
		c.m = map[K]V{}
	}
	c.m[key] = v
	return v, nil
}

func (c *cache[K, V]) each(visit func(V)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, v := range c.m {
		visit(v)
	}
}
