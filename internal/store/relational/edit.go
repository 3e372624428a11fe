package relational

import (
	"context"
	"errors"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// edit is what all Edit methods of [store.Store] have in common: once reads an object, has
// it edited and writes it, and returns [store.ErrRaced] when the object was written in
// between. Of those who edit an object at once, one is through each time.
//
// No transaction is open and nothing is locked while an object is edited: an edit may check
// expressions and encode answers, and need what is held by someone who waits for the store.
func (s *Store) edit(ctx context.Context, once func() error) error {
	for {
		err := once()
		if !errors.Is(err, store.ErrRaced) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// rewrite writes what became of an object, by an UPDATE of the row that has the revision it
// was read with, and returns the new one.
func (s *Store) rewrite(ctx context.Context, op string, trail store.Trail, update string, args ...any) (revision int64, err error) {
	err = s.write(ctx, op, func(t *Tx) error {
		var found bool
		if revision, found, err = t.revise(update, args...); err != nil {
			return err
		}
		if !found {
			return store.ErrRaced
		}
		return t.leave(trail)
	})
	return revision, err
}
