package relational

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/store"
)

// countColumns are the columns of [store.Counts], in the order of [counts].
var countColumns = func() []string {
	all := []string{"events", "deliveries", "succeeded", "failed", "exhausted"}
	for i := range (&store.Counts{}).Latency {
		all = append(all, fmt.Sprint("l", i))
	}
	return all
}()

func counts(c *store.Counts) []*int64 {
	all := []*int64{&c.Events, &c.Deliveries, &c.Succeeded, &c.Failed, &c.Exhausted}
	for i := range c.Latency {
		all = append(all, &c.Latency[i])
	}
	return all
}

var addStatistics = func() string {
	sums := make([]string, len(countColumns))
	for i, c := range countColumns {
		sums[i] = c + " = statistics." + c + " + excluded." + c
	}
	return `INSERT INTO statistics (space, endpoint, grain, start, ` + strings.Join(countColumns, ", ") + `)
		VALUES (?, ?, ?, ?` + strings.Repeat(", ?", len(countColumns)) + `)
		ON CONFLICT (space, endpoint, grain, start) DO UPDATE SET ` + strings.Join(sums, ", ")
}()

// AddStatistics implements [store.Statistics].
func (s *Store) AddStatistics(ctx context.Context, all []store.Statistic) error {
	return s.write(ctx, "add statistics", func(t *Tx) error {
		for i := range all {
			n := &all[i]
			args := []any{int64(n.Space), n.Endpoint, grainSeconds(n.Grain), n.Start.Unix()}
			for _, c := range counts(&n.Counts) {
				args = append(args, *c)
			}
			if err := t.exec(addStatistics, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

func grainSeconds(g store.Grain) int64 { return int64(time.Duration(g) / time.Second) }

// Statistics implements [store.Statistics].
func (s *Store) Statistics(ctx context.Context, f store.StatisticFilter) ([]store.Statistic, error) {
	if len(f.Endpoints) == 0 {
		return nil, nil
	}
	args := []any{int64(f.Space)}
	for _, e := range f.Endpoints {
		args = append(args, e)
	}
	return list(ctx, s, "read statistics", func(row scanner) (n store.Statistic, err error) {
		n.Space, n.Grain = f.Space, f.Grain
		var start int64
		dest := []any{&n.Endpoint, &start}
		for _, c := range counts(&n.Counts) {
			dest = append(dest, c)
		}
		err = row.Scan(dest...)
		n.Start = time.Unix(start, 0).UTC()
		return n, err
	}, `SELECT endpoint, start, `+strings.Join(countColumns, ", ")+` FROM statistics
		WHERE space = ? AND endpoint IN (?`+strings.Repeat(", ?", len(f.Endpoints)-1)+`) AND grain = ? AND start >= ? ORDER BY endpoint, start`,
		append(args, grainSeconds(f.Grain), f.From.Unix())...)
}

// PurgeStatistics implements [store.Upkeep].
func (s *Store) PurgeStatistics(ctx context.Context, g store.Grain, before time.Time, limit int) (int, error) {
	return s.purge(ctx, "purge statistics", `DELETE FROM statistics WHERE (space, endpoint, grain, start) IN (
		SELECT space, endpoint, grain, start FROM statistics INDEXED BY statistics_by_age WHERE grain = ? AND start < ? LIMIT ?)`,
		grainSeconds(g), before.Unix(), limit)
}
