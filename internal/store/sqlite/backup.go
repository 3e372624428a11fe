package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup copies the store in dir to a new file, consistently, whether a process has it open or
// not. It returns the file's size in bytes. It returns an error if the file exists, and
// fs.ErrNotExist if there is no store.
func Backup(ctx context.Context, dir, file string) (size int64, err error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); err != nil {
		return 0, fmt.Errorf("back up %s: %w", dir, err)
	}
	// SQLite would write into any empty file; it must be the one created here.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("back up to %s: %w", file, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	if err := f.Close(); err != nil {
		return 0, fmt.Errorf("back up to %s: %w", file, err)
	}
	db, err := sql.Open("sqlite", dsn(path, readerCacheKB))
	if err != nil {
		return 0, fmt.Errorf("back up %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, file); err != nil {
		return 0, fmt.Errorf("back up %s: %w", dir, err)
	}
	if f, err = os.Open(file); err != nil {
		return 0, fmt.Errorf("back up to %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("back up to %s: %w", file, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("back up to %s: %w", file, err)
	}
	return info.Size(), nil
}
