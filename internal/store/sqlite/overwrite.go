package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

const (
	scanPages   = 256     // pages that are read at a time
	mostPages   = 1 << 25 // maximum size of a file whose pages can be distinguished by their first byte: 256 GiB
	walTries    = 50      // tries until no reader uses the log
	walTryEvery = 100 * time.Millisecond
)

// Overwrite implements [store.History]. SQLite overwrites rows when it deletes them
// (secure_delete), but when it splits a page of a table or an index, copies of rows remain in
// the unused part between the page's pointers and its rows. These are overwritten too, page by
// page, for at most half of the time. Then the log, which contains earlier versions of pages,
// is emptied.
func (s *Store) Overwrite(ctx context.Context) error {
	var pages, vacuum int64
	if err := errors.Join(s.DB.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages), s.DB.QueryRowContext(ctx, "PRAGMA auto_vacuum").Scan(&vacuum)); err != nil {
		return unavailable("count pages", err)
	}
	if vacuum != 0 { // such a file has another kind of pages, whose first bytes look like those of tables
		return errors.New("overwrite erased rows: the file has auto_vacuum; back it up and restore it to rewrite all of its pages")
	}
	if pages > mostPages {
		return fmt.Errorf("overwrite erased rows: the file has more than %d pages; back it up and restore it to rewrite all of them", mostPages)
	}
	for first := int64(1); first <= pages; first += scanPages {
		began := time.Now()
		if err := s.overwritePages(ctx, first, min(first+scanPages-1, pages)); err != nil {
			return err
		}
		if !sleep(ctx, time.Since(began)) {
			return ctx.Err()
		}
	}
	return s.emptyLog(ctx)
}

// overwritePages overwrites the unused parts of some pages.
func (s *Store) overwritePages(ctx context.Context, first, last int64) error {
	rows, err := s.DB.QueryContext(ctx, `WITH RECURSIVE n (no) AS (SELECT ? UNION ALL SELECT no + 1 FROM n WHERE no < ?)
		SELECT p.pgno, p.data FROM n CROSS JOIN sqlite_dbpage p ON p.pgno = n.no`, first, last)
	if err != nil {
		return unavailable("read pages", err)
	}
	defer func() { _ = rows.Close() }()
	var found []int64
	for rows.Next() {
		var no int64
		var page []byte
		if err := rows.Scan(&no, &page); err != nil {
			return unavailable("read pages", err)
		}
		if overwritten(no, page) {
			found = append(found, no)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(found) == 0 {
		return unavailable("read pages", err)
	}
	return s.transact(ctx, "overwrite unused parts of pages", func(c relational.Conn) error {
		for _, no := range found {
			rows, err := c.Rows(1, `SELECT data FROM sqlite_dbpage WHERE pgno = ?`, no)
			if err != nil || len(rows) == 0 {
				return err
			}
			page, _ := rows[0][0].([]byte)
			if !overwritten(no, page) { // it was written meanwhile
				continue
			}
			if _, err := c.Exec(`UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?`, page, no); err != nil {
				return err
			}
		}
		return nil
	})
}

// overwritten overwrites the unused part of a page of a table or an index, between the pointers
// to its rows and the rows, and reports whether it contained anything. It does not change any
// other page (https://www.sqlite.org/fileformat2.html, section 1.6).
func overwritten(no int64, page []byte) bool {
	header := 0
	if no == 1 {
		header = 100 // of the file
	}
	if len(page) < header+12 {
		return false
	}
	size := 8
	switch page[header] {
	case 2, 5: // with a pointer to the last child
		size = 12
	case 10, 13:
	default:
		return false
	}
	from := header + size + 2*int(binary.BigEndian.Uint16(page[header+3:]))
	until := int(binary.BigEndian.Uint16(page[header+5:]))
	if from >= until || until > len(page) || len(bytes.TrimLeft(page[from:until], "\x00")) == 0 {
		return false
	}
	clear(page[from:until])
	return true
}

// emptyLog writes the log back into the file and truncates it. Between its tries it waits until
// no reader uses the log, and blocks no writer meanwhile.
func (s *Store) emptyLog(ctx context.Context) error {
	for range walTries {
		if done, err := s.tryEmptyLog(); done || err != nil {
			return err
		}
		if !sleep(ctx, walTryEvery) {
			return ctx.Err()
		}
	}
	return errors.New("empty the write-ahead log: readers have used it all the time")
}

func (s *Store) tryEmptyLog() (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return false, errors.New("empty the write-ahead log: the store is closed")
	}
	t := &tx{s.w}
	if err := t.exec("PRAGMA busy_timeout = 0"); err != nil {
		return false, unavailable("empty the write-ahead log", err)
	}
	rows, err := t.Rows(3, "PRAGMA wal_checkpoint(TRUNCATE)")
	err = errors.Join(err, t.exec(fmt.Sprintf("PRAGMA busy_timeout = %d", busyTimeout)))
	if err != nil {
		return false, unavailable("empty the write-ahead log", err)
	}
	busy, _ := rows[0][0].(int64)
	return busy == 0, nil
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
