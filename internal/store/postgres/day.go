package postgres

import (
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store/relational"
)

// days contains the days that have partitions, as far as this process knows.
type days struct {
	mu    sync.Mutex
	known map[string]bool // names of the partitions of deliveries
	read  time.Time       // time of the last query
}

// daysAgain is the minimum interval between queries for an unknown partition.
const daysAgain = time.Minute

// table returns the table with the rows of an event's day: its partition or, if that is
// unknown, the parent table.
func (d *days) table(c relational.Conn, of string, key event.Key) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := of + "_p" + key.Time().UTC().Format(dayFormat)
	if d.known[name] {
		return name, nil
	}
	if now := time.Now(); d.known == nil || now.Sub(d.read) > daysAgain {
		rows, err := c.Rows(1, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'deliveries'::regclass`)
		if err != nil {
			return "", err
		}
		d.known, d.read = make(map[string]bool, len(rows)), now
		for _, row := range rows {
			d.known[row[0].(string)] = true
		}
	}
	if d.known[name] {
		return name, nil
	}
	return of, nil
}

// forget causes the partitions to be read again.
func (d *days) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = nil
}
