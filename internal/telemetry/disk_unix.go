//go:build unix

package telemetry

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Disk returns how much of the disk that holds path is available to the server, and the size of
// the disk.
func Disk(path string) (free, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("measure the disk of %s: %w", path, err)
	}
	block := uint64(s.Bsize)
	return s.Bavail * block, s.Blocks * block, nil
}
