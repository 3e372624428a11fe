package event

import (
	"sync"
	"sync/atomic"
)

// Definitions contains the definitions of all accounts in memory. It is safe for concurrent
// use; its results are shared and must not be changed.
type Definitions struct {
	n      atomic.Int64 // so that a server without any takes no lock
	mu     sync.RWMutex
	byNo   map[int64]*Definition
	byName map[typeName]*Definition
	gone   map[int64]struct{} // numbers of removed definitions, which are never reused
}

// maxGone bounds how many removed definitions are remembered. A Put that arrives too late is
// only milliseconds late.
const maxGone = 10_000

type typeName struct {
	space Space
	name  string
}

// NewDefinitions returns an empty set.
func NewDefinitions() *Definitions {
	return &Definitions{byNo: map[int64]*Definition{}, byName: map[typeName]*Definition{}, gone: map[int64]struct{}{}}
}

// Put adds or replaces d, unless the set has a greater revision of it or it was removed:
// concurrent writes may arrive in any order. d must not be changed afterwards.
func (s *Definitions) Put(d *Definition) {
	if d.checker == nil && len(d.Schema) > 0 {
		d.checker = newChecker(d.Schema)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, removed := s.gone[d.No]
	if old := s.byNo[d.No]; removed || old != nil && old.Revision > d.Revision {
		return
	}
	s.remove(d.No)
	s.byNo[d.No], s.byName[typeName{d.Space, d.Name}] = d, d
	s.n.Store(int64(len(s.byNo)))
}

// Remove removes the definition with the given number permanently.
func (s *Definitions) Remove(no int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gone) >= maxGone {
		clear(s.gone)
	}
	s.gone[no] = struct{}{}
	s.remove(no)
	s.n.Store(int64(len(s.byNo)))
}

func (s *Definitions) remove(no int64) {
	old := s.byNo[no]
	if old == nil {
		return
	}
	delete(s.byNo, no)
	if key := (typeName{old.Space, old.Name}); s.byName[key] == old {
		delete(s.byName, key)
	}
}

// Get returns a space's definition of a type, nil if there is none.
func (s *Definitions) Get(space Space, name string) *Definition {
	if s.n.Load() == 0 {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[typeName{space, name}]
}
