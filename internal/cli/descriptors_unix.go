//go:build unix

package cli

import "golang.org/x/sys/unix"

// descriptors returns how many file descriptors the process may have, 0 if that is unknown.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}
