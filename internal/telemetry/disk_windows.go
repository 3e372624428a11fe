package telemetry

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// Disk returns how much of the disk that holds path is available to the server, and the size of
// the disk.
func Disk(path string) (free, size uint64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err == nil {
		err = windows.GetDiskFreeSpaceEx(name, &free, &size, nil)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("measure the disk of %s: %w", path, err)
	}
	return free, size, nil
}
