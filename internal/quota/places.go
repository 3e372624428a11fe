package quota

import "sync"

// Places counts what owners hold at the moment, such as connections, and what they are about
// to create. The zero value is empty; it is safe for concurrent use.
type Places struct {
	mu   sync.Mutex
	held map[place]int
}

type place struct {
	name Name
	of   int64
}

// Take reserves one more of a quota for an owner, an account or a space of one, unless what
// it holds, together with have, which may be nil, has reached the limit: then it reports
// false. What was taken is held until release is called, once or more often.
func (p *Places) Take(n Name, owner int64, limit int, have func() (int, error)) (release func(), ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, stored := place{n, owner}, 0
	if have != nil { // under the lock, so that two requests do not both find room for one
		if stored, err = have(); err != nil {
			return nil, false, err
		}
	}
	if stored+p.held[k] >= limit {
		return nil, false, nil
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
	}), true, nil
}
