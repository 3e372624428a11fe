package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestCluster_upgraded replaces the three nodes one after the other, like an upgrade behind a
// load balancer: no request fails and no event is lost. Once the schema is newer than the nodes
// support, running nodes continue, and a node that starts is refused.
func TestCluster_upgraded(t *testing.T) {
	t.Parallel()
	url := database(t).URL("postgres")
	f := newFleet(t, url, 3, "--test-schedule", "200ms,200ms,1s,1s")
	l := newLedger()
	receiver := httptest.NewServer(http.HandlerFunc(l.receive))
	t.Cleanup(receiver.Close)
	for range 4 { // so that each node has some
		f.node(0).register(receiver.URL)
	}
	f.know(4)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	busy := make([]atomic.Int64, len(f.nodes)) // requests under way
	var next atomic.Int64
	send := func(i int) {
		defer busy[i].Add(-1)
		busy[i].Add(1)
		if f.node(i).killed.Load() { // it receives no more requests
			return
		}
		n := next.Add(1)
		id := fmt.Sprintf("evt_upgr%016d", n)
		a, err := f.node(i).try("POST", "/v1/events", fmt.Sprintf(`{"id":%q,"type":"payment.succeeded","data":{"object":{"n":%d}}}`, id, n))
		l.note(n, id, a, err, excuse{})
	}
	var senders sync.WaitGroup
	for first := range 2 {
		senders.Go(func() {
			for i := first; ctx.Err() == nil; i++ {
				send(i % len(f.nodes))
			}
		})
	}
	more := func() {
		t.Helper()
		before := next.Load()
		until(t, "events to be accepted", func() bool { return next.Load() > before+50 || t.Failed() })
	}
	for i := range f.nodes {
		more()
		n := f.node(i)
		n.killed.Store(true)
		until(t, "the last requests", func() bool { return busy[i].Load() == 0 })
		n.stop()
		f.begin(i)
	}
	more()

	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`)
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	more()
	old := start(t, nil, binary, append([]string{"serve", "--addr", "127.0.0.1:0", "--data", f.data}, f.args...)...)
	if code := old.exit(); code != 1 || !strings.Contains(old.out.String(), "newer version") {
		t.Errorf("exit code %d: %s", code, old.out)
	}
	more()
	stop()
	senders.Wait()
	until(t, "every event to arrive at all", func() bool {
		missing := l.missing()
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(missing) == 0 && l.duplicates >= 3*len(l.acknowledged)
	})
	f.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("acknowledged=%d deliveries again=%d", len(l.acknowledged), l.duplicates-3*len(l.acknowledged))
	if len(l.changed) > 0 || len(l.unexpected) > 0 {
		t.Errorf("changed %v, unexpected %v", l.changed, l.unexpected)
	}
}
