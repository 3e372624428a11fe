package sqlite

import (
	"errors"

	"golang.org/x/sys/unix"
)

// intact returns an error if the file system has aborted its journal.
//
// ext4 does so on an error of its disk, and a concurrent sync can then return success, although
// its data is in a transaction that the journal dropped. Writes into the page cache succeed for
// some more milliseconds. Allocating an allocated range changes nothing, but has to join a
// transaction, and fails from the first moment on. It takes a few microseconds, beside a sync.
func (l *dirLock) intact() error {
	err := unix.Fallocate(int(l.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO) {
		return err
	}
	return nil // or the file system does not support it, or has no space even for that
}
