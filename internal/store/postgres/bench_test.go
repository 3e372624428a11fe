package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// BenchmarkCommit_settings measures the cost of checking the settings for a transaction of
// events: the variants run in random order, and medians are reported.
func BenchmarkCommit_settings(b *testing.B) {
	ctx := context.Background()
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			url := database(b, template)
			s := open(b, url)
			if _, err := s.Join(ctx, time.Hour); err != nil {
				b.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close(ctx) }()
			var node int
			var instance string
			if err := conn.QueryRow(ctx, `SELECT no, instance FROM nodes`).Scan(&node, &instance); err != nil {
				b.Fatal(err)
			}
			fence := func(query string) func() error {
				return func() (err error) {
					var n int64
					return conn.QueryRow(ctx, query, node, instance).Scan(&n)
				}
			}
			acct := account.Account{ID: "acct_1"}
			if err := s.CreateAccount(ctx, &acct, store.Trail{}); err != nil {
				b.Fatal(err)
			}
			before, err := s.Version(ctx)
			if err != nil {
				b.Fatal(err)
			}
			for i := range 10 { // of other accounts
				if err := s.CreateAccount(ctx, &account.Account{ID: fmt.Sprint("acct_x", i)}, store.Trail{}); err != nil {
					b.Fatal(err)
				}
			}
			now, err := s.Version(ctx)
			if err != nil {
				b.Fatal(err)
			}
			keys := event.NewKeys(time.Now, 0)
			commit := func(version int64) func() error {
				return func() error {
					batch := &store.Batch{}
					for range size {
						a := newAppend(keys)
						a.Event.Space, a.Version = event.SpaceOf(acct.No, false), version
						a.Event.Body = make([]byte, 1000)
						batch.Appends = append(batch.Appends, a)
					}
					err := s.Commit(ctx, batch)
					if err == nil && batch.Appends[0].Stale {
						err = store.ErrStale
					}
					return err
				}
			}
			kinds := []struct {
				name string
				do   func() error
				took []time.Duration
			}{
				{name: "lease-only", do: fence(`SELECT 1 FROM nodes WHERE no = $1 AND instance = $2 FOR KEY SHARE`)},
				{name: "lease+version", do: fence(`SELECT (SELECT version FROM versions WHERE no = 1) FROM nodes WHERE no = $1 AND instance = $2 FOR KEY SHARE`)},
				{name: "commit-unchecked", do: commit(0)},
				{name: "commit-checked", do: commit(now)},
				{name: "commit-others-changed", do: commit(before)},
			}
			for b.Loop() {
				for _, i := range rand.Perm(len(kinds)) { // the first one finds the processor's caches cold
					k := &kinds[i]
					began := time.Now()
					if err := k.do(); err != nil {
						b.Fatal(err)
					}
					k.took = append(k.took, time.Since(began))
				}
			}
			for _, k := range kinds {
				slices.Sort(k.took)
				b.ReportMetric(float64(k.took[len(k.took)/2].Nanoseconds())/1000, "µs-"+k.name)
			}
		})
	}
}
