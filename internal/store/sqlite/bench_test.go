package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// BenchmarkCommit measures what an event costs the store: its append with one
// delivery, and the settlement of that delivery in the next transaction.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			dir := b.TempDir()
			s, err := sqlite.Open(context.Background(), dir)
			if err != nil {
				b.Fatal(err)
			}
			keys := event.NewKeys(time.Now, 0)
			data := make([]byte, 900)
			for i := range data {
				data[i] = 'x'
			}
			data = fmt.Appendf(nil, `{"object":{"id":"pay_1","note":"%s"}}`, data)
			var last []store.Settlement
			b.ReportAllocs()
			for n := 0; n < b.N; n += size {
				batch := &store.Batch{Settlements: last}
				last = make([]store.Settlement, 0, size)
				for range size {
					key, nonce := keys.Next(), rand.Uint32()
					id := event.FormatID(event.PrefixEvent, key, nonce)
					a := &store.Append{Event: event.Event{Key: key, Nonce: nonce, ID: id, Space: 2, Type: "payment.succeeded",
						Created: 1699564800, Body: event.NewBody(id, "payment.succeeded", 1699564800, data)}}
					d := delivery.New(delivery.ID{Event: key, Endpoint: 1}, 2)
					a.Deliveries = append(a.Deliveries, d)
					batch.Appends = append(batch.Appends, a)
					at := delivery.Attempt{Number: 1, Started: key.Time(), Duration: 1500 * time.Microsecond, Outcome: delivery.OutcomeSucceeded,
						StatusCode: 200, RemoteAddr: "127.0.0.1:54321", ResponseHeader: "Content-Length: 2\nDate: Mon, 23 Nov 2026 17:12:59 GMT\n", ResponseBody: []byte("ok")}
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
			info, err := os.Stat(filepath.Join(dir, sqlite.FileName))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/float64(max(b.N, 1)), "B/event")
		})
	}
}
