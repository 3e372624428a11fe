package sqlite

import (
	"errors"

	"golang.org/x/sys/unix"
)

// intact returns an error when the file system has given up its journal.
//
// ext4 does so on an error of its disk, and a sync that is under way just then can return
// as if it had succeeded, though what it was to make durable is in a transaction that the
// journal dropped. Writes into the page cache succeed for some milliseconds more. To
// allocate what is allocated changes nothing, but has to join a transaction, and is refused
// from the first moment on. It costs a few microseconds, beside a sync.
func (l *dirLock) intact() error {
	err := unix.Fallocate(int(l.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO) {
		return err
	}
	return nil // or the file system knows no such thing, or has no space even for that
}
