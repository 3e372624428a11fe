package relational

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// countColumns are the columns of [delivery.Counts], in the order of [counts].
var countColumns = func() []string {
	all := []string{"events", "deliveries", "succeeded", "failed", "exhausted"}
	for i := range (&delivery.Counts{}).Latency {
		all = append(all, fmt.Sprint("l", i))
	}
	return all
}()

func counts(c *delivery.Counts) []*int64 {
	all := []*int64{&c.Events, &c.Deliveries, &c.Succeeded, &c.Failed, &c.Exhausted}
	for i := range c.Latency {
		all = append(all, &c.Latency[i])
	}
	return all
}

// AddStatistics implements [store.Statistics]. Rows are written in the order of their keys, so
// that nodes that write the same ones wait for each other without a deadlock.
func (s *Store) AddStatistics(ctx context.Context, all []store.Statistic) error {
	sums := make(map[store.Statistic]*delivery.Counts, len(all))
	for i := range all {
		key := all[i]
		key.Counts, key.Start = delivery.Counts{}, time.Unix(key.Start.Unix(), 0).UTC()
		if sums[key] == nil {
			sums[key] = new(delivery.Counts)
		}
		sums[key].Add(&all[i].Counts)
	}
	keys := slices.SortedFunc(maps.Keys(sums), func(a, b store.Statistic) int {
		return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Grain, b.Grain), a.Start.Compare(b.Start))
	})
	return s.write(ctx, "add statistics", func(t *Tx) error {
		rows := t.Bulk(Statistics)
		for _, n := range keys {
			row := []any{int64(n.Space), n.Endpoint, grainSeconds(n.Grain), n.Start.Unix()}
			for _, c := range counts(sums[n]) {
				row = append(row, *c)
			}
			if err := rows.Add(row...); err != nil {
				return err
			}
		}
		return rows.Flush()
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
