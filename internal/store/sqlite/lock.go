package sqlite

import (
	"fmt"
	"os"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// dirLock keeps a second server from using a data directory. The kernel releases it when the
// process ends, in any way.
type dirLock struct{ f *os.File }

func (l *dirLock) release() error { return l.f.Close() }

func inUse(dir string) error {
	return &fault.Error{Code: fault.Unavailable, Reason: "data_directory_in_use",
		Message: fmt.Sprintf("another server is running on the data directory %s", dir),
		Hint:    "stop it, or use another directory with --data"}
}
