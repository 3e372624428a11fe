package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// A reader of old events, such as a backup, prevents the drop of their day, but does not block
// the storing of events: a statement that waits for a table gives up at once. After the reader
// ends, the day is dropped.
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

	// Commits during the purge wait for no lock longer than the purge does.
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

// A settlement of a delivery whose day another node has dropped fails nothing, and settlements of
// several days in one transaction are written to their days.
func TestSettle_days(t *testing.T) {
	ctx := context.Background()
	url := database(t, template)
	s := open(t, url)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	const space = event.Space(2)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	// Yesterday, today, and a day far ahead, without its own partition.
	times := []time.Time{today.Add(-time.Hour), today.Add(time.Hour), today.AddDate(1, 0, 0)}
	commit := func(b *store.Batch) {
		t.Helper()
		if err := s.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	round := func(number int) (settled int) {
		t.Helper()
		appends, outcomes := &store.Batch{}, &store.Batch{}
		for i, at := range times {
			k := event.KeyAt(at) + event.Key(number)
			d := delivery.New(delivery.ID{Event: k, Endpoint: int64(i + 1)}, space)
			appends.Appends = append(appends.Appends, &store.Append{Event: event.Event{Key: k, Nonce: 1, ID: event.FormatID(event.PrefixEvent, k, 1), Space: space, Type: "a.b", Created: 1, Body: []byte(`{}`)},
				Deliveries: []delivery.Delivery{d}})
			d.State, d.Attempts, d.Settled = delivery.Succeeded, 1, at
			outcomes.Settlements = append(outcomes.Settlements, store.Settlement{Delivery: d, Attempt: &delivery.Attempt{Number: 1, Started: at}})
		}
		commit(appends)
		if number == 2 {
			for _, table := range []string{"deliveries", "events"} {
				if _, err := conn.Exec(ctx, "DROP TABLE "+table+"_p"+times[0].Format("20060102")); err != nil {
					t.Fatal(err)
				}
			}
		}
		commit(outcomes)
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM deliveries WHERE state = 1 AND attempts = 1`).Scan(&settled); err != nil {
			t.Fatal(err)
		}
		return settled
	}
	if n := round(1); n != 3 {
		t.Errorf("%d of 3 deliveries are settled", n)
	}
	if n := round(2); n != 4 { // of today and of the far day, in both rounds
		t.Errorf("after a day was dropped, %d deliveries are settled, not 4", n)
	}
}
