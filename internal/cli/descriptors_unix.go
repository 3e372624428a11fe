//go:build unix

package cli

import "golang.org/x/sys/unix"

// descriptors returns the limit of the process's file descriptors, 0 if unknown.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}
