package quota

import "sync"

// Places counts what owners hold at the moment, such as connections. The zero value is empty; it is safe for concurrent
// use.
type Places struct {
	mu   sync.Mutex
	held map[place]int
}

type place struct {
	name Name
	of   int64
}

// Take reserves one place of a quota for an owner, or reports false if the owner has reached the
// limit. The place is held until release is called, which may be called more than once.
func (p *Places) Take(n Name, owner int64, limit int) (release func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := place{n, owner}
	if p.held[k] >= limit {
		return nil, false
	}
	if p.held == nil {
		p.held = map[place]int{}
	}
	p.held[k]++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held[k]--; p.held[k] == 0 {
			delete(p.held, k)
		}
	}), true
}

// Held returns how many of a quota an owner holds.
func (p *Places) Held(n Name, owner int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[place{n, owner}]
}
