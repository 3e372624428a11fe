package relational

import (
	"context"
	"errors"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// edit is the common part of all Edit methods of [store.Store]: once reads an object, edits and
// writes it, and returns [store.ErrRaced] if the object was written in between. Of several
// concurrent edits of an object, one succeeds in each round.
//
// No transaction is open and nothing is locked while an object is edited: an edit may check
// expressions and encode responses, and may wait for a lock whose holder waits for the store.
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

// rewrite writes an edited object by an UPDATE of the row with the revision that was read, and
// returns the new revision. more writes what belongs to the edit, in the same transaction.
func (s *Store) rewrite(ctx context.Context, op string, trail store.Trail, more func(*Tx) error, update string, args ...any) (revision int64, err error) {
	err = s.write(ctx, op, func(t *Tx) error {
		var found bool
		if revision, found, err = t.revise(update, args...); err != nil {
			return err
		}
		if !found {
			return store.ErrRaced
		}
		if err := more(t); err != nil {
			return err
		}
		return t.leave(trail)
	})
	return revision, err
}
