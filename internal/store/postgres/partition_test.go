package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// A reader of old events, such as a backup, keeps their day from being dropped and nobody from
// storing events meanwhile: whatever waits for a table is out of the way at once. When the
// reader is gone, the day is.
func TestPurgeEvents_besideAReader(t *testing.T) {
	ctx := context.Background()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	url := database(t, template)
	s := open(t, url)
	reader := connect(t, url)
	old := time.Now().AddDate(0, 0, -10).UTC().Truncate(24 * time.Hour)
	day := "_p" + old.Format("20060102")
	for _, table := range []string{"events", "deliveries", "attempts"} {
		_, err := reader.Exec(ctx, "CREATE TABLE "+table+day+" (LIKE "+table+" INCLUDING ALL)")
		ok(err)
		_, err = reader.Exec(ctx, "ALTER TABLE "+table+" ATTACH PARTITION "+table+day+" FOR VALUES FROM ("+key(old)+") TO ("+key(old.AddDate(0, 0, 1))+")")
		ok(err)
	}
	keys := event.NewKeys(func() time.Time { return old.Add(time.Hour) }, 0)
	a := newAppend(keys)
	a.Event.ID, a.Event.Custom = "evt_of_an_old_day_1234", true
	ok(s.Commit(ctx, &store.Batch{Appends: []*store.Append{a}}))
	for _, q := range []string{"BEGIN", "SELECT count(*) FROM events", "SELECT count(*) FROM deliveries"} {
		_, err := reader.Exec(ctx, q)
		ok(err)
	}

	// Commits beside the purge wait for no lock longer than the purge does.
	conn := connect(t, url)
	_, err := conn.Exec(ctx, "SET lock_timeout = '2s'")
	ok(err)
	now := event.NewKeys(time.Now, 9)
	done := make(chan error, 1)
	go func() {
		_, _, err := s.PurgeEvents(ctx, 0, event.KeyAt(old.AddDate(0, 0, 1)), 0)
		done <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-done:
			ok(err)
			waiting = false
		default:
			_, err := conn.Exec(ctx, "INSERT INTO events (key, space, nonce, type, created, body) VALUES ($1, 2, 1, 'a.b', 1, '')", int64(now.Next()))
			ok(err)
		}
	}
	exists := func() (n int) {
		ok(conn.QueryRow(ctx, "SELECT count(*) FROM pg_class WHERE relname = $1", "events"+day).Scan(&n))
		return n
	}
	if exists() != 1 {
		t.Error("the day was dropped under its reader")
	}
	_, err = reader.Exec(ctx, "COMMIT")
	ok(err)
	_, _, err = s.PurgeEvents(ctx, 0, event.KeyAt(old.AddDate(0, 0, 1)), 0)
	ok(err)
	if exists() != 0 {
		t.Error("the day was not dropped")
	}
	var gone string
	if err := conn.QueryRow(ctx, "SELECT custom_id FROM event_ids").Scan(&gone); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("ids that are left: %q, %v", gone, err)
	}
}

func key(at time.Time) string {
	return strconv.FormatInt(int64(event.KeyAt(at)), 10)
}
