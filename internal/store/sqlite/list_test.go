package sqlite_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
	"github.com/posthaste-hq/posthaste/internal/store/storetest"
)

// bounded matches the allowed steps of a query plan: between two places of an index, by a key,
// from rows already read, or from values. Only a slice may be sorted.
var bounded = regexp.MustCompile(`^(SEARCH \w+ USING (COVERING )?INDEX \w+ \((\w+=\? AND )+(\w+>\? AND \w+<\?|\(\w+,\w+\)>\(\?,\?\) AND \(\w+,\w+\)<\(\?,\?\))\)` +
	`|SEARCH f USING COVERING INDEX fan_outs_by_event \(event=\?\)|SEARCH \w+ USING PRIMARY KEY \((\w+=\? AND )+\w+>\? AND \w+<\?\)` +
	`|SEARCH x USING PRIMARY KEY \(\(event,endpoint\)>\(\?,\?\) AND \(event,endpoint\)<\(\?,\?\)\)` +
	`|SEARCH \w+ USING (INTEGER )?PRIMARY KEY \(\w+=\?( AND \w+=\?)*\)( LEFT-JOIN)?` +
	`|SEARCH endpoints USING COVERING INDEX endpoints_of_space \(space=\?\)` + // as many as were counted
	`|SEARCH [sq]|SEARCH events|SCAN [a-z]|SCAN \d+ CONSTANT ROWS?|SCAN CONSTANT ROW|COMPOUND QUERY|LEFT-MOST SUBQUERY|UNION ALL` +
	`|(CO-ROUTINE|MATERIALIZE) \w+|(CORRELATED )?SCALAR SUBQUERY \d+|USE TEMP B-TREE FOR (ORDER BY|DISTINCT))$`)

func checkPlans(t *testing.T, s *sqlite.Store, seen map[string]bool, what string, list func()) {
	t.Helper()
	for query, plan := range sqlite.Plans(t, s, list) {
		if seen[query] {
			continue
		}
		seen[query] = true
		for step := range strings.Lines(plan) {
			if step = strings.TrimSpace(step); !bounded.MatchString(step) {
				t.Errorf("%s: %s\nin %s", what, step, query)
			}
		}
	}
}

// A list reads along an index, between two places in it, for any number of stored rows.
func TestLists_plans(t *testing.T) {
	s, seen := open(t, t.TempDir()), map[string]bool{}
	storetest.Lists(t, s, 100, 20, func(what string, list func()) { checkPlans(t, s, seen, what, list) })
	ctx, key := context.Background(), "key_1"
	for _, p := range []store.Page[string]{{Limit: 10}, {Limit: 10, After: &key}, {Limit: 10, Before: &key}} {
		for _, f := range []account.AuditFilter{{Space: 2}, {Space: 2, Object: "we_1"}, {Space: 2, Action: account.EndpointCreated}, {Space: 2, Object: "we_1", Action: account.EndpointCreated}} {
			checkPlans(t, s, seen, "audit log", func() { _, _, _ = s.ListAudit(ctx, f, p) })
		}
		for _, f := range []store.KeyFilter{{Account: 1}, {Account: 1, TestOnly: true}} {
			checkPlans(t, s, seen, "keys", func() { _, _, _ = s.ListKeys(ctx, f, p) })
		}
		for _, endpoint := range []int64{0, 7} {
			checkPlans(t, s, seen, "jobs", func() { _, _, _ = s.ListJobs(ctx, event.Space(2), endpoint, p) })
		}
	}
	no := int64(7)
	for _, p := range []store.Page[int64]{{Limit: 10}, {Limit: 10, After: &no}, {Limit: 10, Before: &no}} {
		checkPlans(t, s, seen, "endpoints", func() { _, _, _ = s.ListEndpoints(ctx, event.Space(2), p) })
	}
	if len(seen) < 50 {
		t.Errorf("%d queries were seen", len(seen))
	}
}
