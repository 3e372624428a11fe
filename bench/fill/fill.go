// Package fill owns data directories that are filled before a measurement: with endpoints,
// delivered events and pending deliveries. It writes them through the server's store, in large
// transactions.
//
// It must not know the measurements.
package fill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// slice is about how many rows one transaction writes.
const slice = 5000

// Directory is an open data directory. It is not safe for concurrent use.
type Directory struct {
	store *sqlite.Store
	ids   *event.IDs
	space event.Space
	path  string
	data  []byte // of an event, about 900 bytes
}

// Open opens the data directory of a server in development mode that has stopped. It fills the
// test mode of the first account.
func Open(ctx context.Context, dir string) (*Directory, error) {
	text, err := os.ReadFile(filepath.Join(dir, "master-key"))
	if err != nil {
		return nil, err
	}
	keys, err := seal.ParseKeys(string(text))
	if err != nil {
		return nil, err
	}
	st, err := sqlite.Open(ctx, dir, seal.NewRing(keys...))
	if err != nil {
		return nil, err
	}
	accounts, err := st.AllAccounts(ctx)
	if err == nil && len(accounts) == 0 {
		err = errors.New("the data directory has no account")
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	in, err := event.ParseInput(measure.Event("payment.succeeded", 1024))
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &Directory{
		store: st, ids: event.NewIDs(event.NewKeys(time.Now, 0)), space: event.SpaceOf(accounts[0].No, false), path: filepath.Join(dir, sqlite.FileName), data: in.Data,
	}, nil
}

// Close closes the directory.
func (d *Directory) Close() error { return d.store.Close() }

// Endpoints creates n endpoints at url for a type that no other sender uses, and returns them.
func (d *Directory) Endpoints(ctx context.Context, n int, url, typ string) ([]*endpoint.Endpoint, error) {
	all := make([]*endpoint.Endpoint, n)
	for i := range all {
		now := time.Now()
		all[i] = &endpoint.Endpoint{ID: d.ids.New(event.PrefixEndpoint), Space: d.space, Config: endpoint.Config{URL: url, Events: []string{typ}}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: now},
			Secrets: []endpoint.Secret{endpoint.NewSecret(d.ids.New(event.PrefixSecret), now)}, Created: now, Updated: now}
		if err := d.store.CreateEndpoint(ctx, all[i], store.Trail{}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Events writes n events, each with deliveries to fanout of the endpoints, in turn. With
// delivered, they arrived at the first attempt; otherwise they are pending.
func (d *Directory) Events(ctx context.Context, n int, to []*endpoint.Endpoint, fanout int, delivered bool) (err error) {
	restore, err := d.withoutIndexes(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	next, rows, batch := 0, 0, &store.Batch{}
	for i := range n {
		e := event.Event{Key: d.ids.Keys.Next(), Nonce: d.ids.Rand(), Space: d.space, Type: "payment.succeeded"}
		e.ID = event.FormatID(event.PrefixEvent, e.Key, e.Nonce)
		e.Created = e.Key.Time().Unix()
		e.Body = event.NewBody(e.ID, e.Type, e.Created, d.data)
		a := &store.Append{Event: e}
		for range fanout {
			one := delivery.New(delivery.ID{Event: e.Key, Endpoint: to[next%len(to)].No}, d.space)
			next++
			a.Deliveries = append(a.Deliveries, one)
			if delivered {
				at := &delivery.Attempt{Number: 1, Started: e.Key.Time(), Duration: time.Millisecond, Outcome: delivery.OutcomeSucceeded, StatusCode: 200}
				one.Settle(at, delivery.Policy{}, e.Key.Time())
				batch.Settlements = append(batch.Settlements, store.Settlement{Delivery: one, Attempt: at})
			}
		}
		batch.Appends = append(batch.Appends, a)
		if rows += 1 + fanout; rows >= slice || i == n-1 {
			if err := d.store.Commit(ctx, batch); err != nil {
				return err
			}
			rows, batch = 0, &store.Batch{}
		}
	}
	return nil
}

// withoutIndexes drops the indexes of deliveries until restore is called: creating them at the
// end is many times faster than adding to them in random order.
func (d *Directory) withoutIndexes(ctx context.Context) (restore func() error, err error) {
	db, err := sql.Open("sqlite", "file:"+d.path+"?_pragma=busy_timeout(10000)&_pragma=cache_size(-200000)")
	if err != nil {
		return nil, err
	}
	var names, made []string
	rows, err := db.QueryContext(ctx, `SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'deliveries' AND sql IS NOT NULL`)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	for rows.Next() {
		var name, statement string
		if err := rows.Scan(&name, &statement); err != nil {
			return nil, errors.Join(err, rows.Close(), db.Close())
		}
		names, made = append(names, name), append(made, statement)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	for _, name := range names {
		if _, err := db.ExecContext(ctx, "DROP INDEX "+name); err != nil {
			return nil, errors.Join(fmt.Errorf("drop index %s: %w", name, err), db.Close())
		}
	}
	return func() error {
		for _, statement := range made {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return errors.Join(fmt.Errorf("make index: %w", err), db.Close())
			}
		}
		return db.Close()
	}, nil
}
