//go:build unix

package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// BenchmarkCommit measures the store's cost of an event: its append with one delivery, and the
// settlement of that delivery with its attempt in the next transaction, with and without
// searchable keys. Time is per event; B/event is the size of the closed file, and written-B/event
// the number of bytes written to it and its log.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		for _, keys := range []int{0, 1, 3} {
			b.Run(fmt.Sprintf("batch=%d/keys=%d", size, keys), func(b *testing.B) { benchmarkCommit(b, size, keys) })
		}
	}
}

func benchmarkCommit(b *testing.B, size, searchable int) {
	dir := b.TempDir()
	s, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		b.Fatal(err)
	}
	keys := event.NewKeys(time.Now, 0)
	data := fmt.Appendf(nil, `{"object":{"id":"pay_1","note":"%s"}}`, strings.Repeat("x", 900))
	header := "Content-Length: 20\nContent-Type: application/json\nDate: Mon, 23 Nov 2026 17:12:59 GMT\nServer: " + strings.Repeat("s", 100) + "\n"
	answer := []byte(`{"received":true}   `)
	var last []store.Settlement
	var request []byte
	b.ReportAllocs()
	before, wrote := cpuTime(b), written(b)
	for n := 0; n < b.N; n += size {
		batch := &store.Batch{Settlements: last, Appends: make([]*store.Append, 0, size)}
		last = make([]store.Settlement, 0, size)
		for range size {
			key, nonce := keys.Next(), rand.Uint32()
			id := event.FormatID(event.PrefixEvent, key, nonce)
			d := delivery.New(delivery.ID{Event: key, Endpoint: 1}, 2)
			batch.Appends = append(batch.Appends, &store.Append{
				Event: event.Event{Key: key, Nonce: nonce, ID: id, Space: 2, Type: "payment.succeeded", Created: 1699564800,
					Body: event.NewBody(id, "payment.succeeded", 1699564800, data)},
				Deliveries: []delivery.Delivery{d},
			})
			for range searchable {
				a := batch.Appends[len(batch.Appends)-1]
				a.Search = append(a.Search, int64(rand.Uint64()))
			}
			at := delivery.Attempt{Number: 1, Started: key.Time(), Duration: 1500 * time.Microsecond, Outcome: delivery.OutcomeSucceeded,
				StatusCode: 200, RemoteAddr: "127.0.0.1:54321", ResponseHeader: header, ResponseBody: answer, URL: "http://127.0.0.1:54321/webhooks/payment"}
			for _, line := range [][2]string{
				{"Accept-Encoding", "identity"}, {"Content-Type", "application/json"}, {"Payment-Signature", strings.Repeat("5e", 32)}, {"User-Agent", "Payment-Webhooks/1.2.3"},
				{"Webhook-Id", id}, {"Webhook-Signature", "v1," + strings.Repeat("a", 43) + "="}, {"Webhook-Timestamp", strconv.FormatInt(at.Started.Unix(), 10)},
			} {
				request = delivery.AppendHeaderLine(request, line[0], line[1], id, at.Started)
			}
			at.RequestHeader, request = delivery.Header(request), request[:0]
			d.Settle(&at, delivery.Policy{}, key.Time())
			last = append(last, store.Settlement{Delivery: d, Attempt: &at})
		}
		if err := s.Commit(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	events := float64((b.N + size - 1) / size * size)
	b.ReportMetric(float64(written(b)-wrote)/events, "written-B/event")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/events, "cpu-µs/event")
	b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
	info, err := os.Stat(filepath.Join(dir, sqlite.FileName))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/events, "B/event")
}

// written returns how many bytes the process has written.
func written(b *testing.B) (n int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // only Linux counts it
	}
	if _, err := fmt.Sscanf(string(text[bytes.Index(text, []byte("wchar:")):]), "wchar: %d", &n); err != nil {
		b.Fatal(err)
	}
	return n
}

// cpuTime returns the processor time of the process, which unlike the clock does not include
// waiting.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const crowdLanes = 100

var crowdDir string // removed at the end

// crowd is a store with a very large backlog, for 100 endpoints, with one failed delivery in a
// hundred. It is built once for all benchmarks.
var crowd = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "posthaste-crowd-"); err != nil {
		return "", err
	}
	crowdDir = dir
	s, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		return dir, err
	}
	if err := s.Close(); err != nil {
		return dir, err
	}
	n := 1_000_000
	if testing.Short() {
		n = 100_000
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName)+"?_pragma=synchronous(OFF)&_pragma=cache_size(-65536)")
	if err != nil {
		return dir, err
	}
	db.SetMaxOpenConns(1)
	start := time.Now().Add(-time.Duration(n) * time.Millisecond).UnixMilli()
	body := `{"id":"evt_x","type":"payment.succeeded","created":1,"data":{"object":{}}}`
	for _, q := range []string{
		fmt.Sprintf(`WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < %d)
			INSERT INTO events (key, space, nonce, type, created, body)
			SELECT (%d + i) << 21, 2, i, 'payment.succeeded', 1, CAST('%s' AS BLOB) FROM c`, n-1, start, body),
		fmt.Sprintf(`INSERT INTO deliveries (event, endpoint, space, state, attempts, budget, due, rank, since, last_outcome, last_status, settled)
			SELECT key, nonce %% %[1]d + 1, 2, CASE (nonce / %[1]d) %% 100 WHEN 50 THEN 2 ELSE 0 END, 0, 0, key >> 21, key >> 21, key >> 21, 0, 0, 0
			FROM events ORDER BY key`, crowdLanes),
	} {
		if _, err := db.Exec(q); err != nil {
			return dir, err
		}
	}
	return dir, db.Close()
})

func openCrowd(b *testing.B) *sqlite.Store {
	dir, err := crowd()
	if err != nil {
		b.Fatal(err)
	}
	s, err := sqlite.Open(context.Background(), dir, testRing)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// TestMain removes the data shared by the benchmarks.
func TestMain(m *testing.M) {
	code := m.Run()
	if crowdDir != "" {
		_ = os.RemoveAll(crowdDir)
	}
	os.Exit(code)
}

// BenchmarkLoadLane reads a lane's head with a million waiting deliveries: the single one for
// an endpoint that may be down, and as many as for a busy one.
func BenchmarkLoadLane(b *testing.B) {
	s := openCrowd(b)
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				jobs, err := s.LoadLane(context.Background(), store.LaneScan{Endpoint: int64(i%crowdLanes + 1), Limit: n, MaxBytes: 16 << 20})
				if err != nil || len(jobs) != n {
					b.Fatalf("%d jobs, %v", len(jobs), err)
				}
			}
		})
	}
}

// BenchmarkLanes lists the endpoints with work, with a million waiting deliveries.
func BenchmarkLanes(b *testing.B) {
	s := openCrowd(b)
	b.ReportAllocs()
	for b.Loop() {
		lanes, err := s.Lanes(context.Background(), 0, 1000)
		if err != nil || len(lanes) != crowdLanes {
			b.Fatalf("%d lanes, %v", len(lanes), err)
		}
	}
}

// BenchmarkListDeliveries reads the newest page of a million.
func BenchmarkListDeliveries(b *testing.B) {
	s := openCrowd(b)
	pending, failed := delivery.Pending, delivery.Failed
	for _, tt := range []struct {
		name   string
		filter store.DeliveryFilter
	}{
		{"all", store.DeliveryFilter{}},
		{"pending", store.DeliveryFilter{State: &pending}},
		{"failed", store.DeliveryFilter{State: &failed}},
		{"endpoint", store.DeliveryFilter{Endpoint: 7}},
		{"endpoint+failed", store.DeliveryFilter{Endpoint: 7, State: &failed}},
		{"type", store.DeliveryFilter{Pattern: "payment.*"}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				items, next, err := s.ListDeliveries(context.Background(), 2, tt.filter, store.Page[delivery.ID]{Limit: 50})
				if err != nil || len(items) != 50 || next == nil {
					b.Fatalf("%d deliveries, next %v, %v", len(items), next, err)
				}
			}
		})
	}
}
