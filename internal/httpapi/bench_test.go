package httpapi_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"testing"
)

const benchEvent = `{"type":"payment.succeeded","data":{"object":{"id":"pay_1234567890abcdef","amount":2999,"currency":"usd","status":"succeeded","customer":{"email":"customer@example.com","name":"Jane Doe"}}}}`

// BenchmarkSendEvent measures POST /v1/events with one matching endpoint, over the real service
// and a store on disk: the handler only, many concurrently.
func BenchmarkSendEvent(b *testing.B) {
	for _, parallel := range []int{1, 32, 128} {
		b.Run("parallel="+strconv.Itoa(parallel), func(b *testing.B) {
			w := newWorldLogging(b, slog.LevelInfo)
			w.register("payment.*")
			b.ReportAllocs()
			b.SetParallelism(max(1, parallel/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				body := bytes.NewReader(nil)
				req, err := http.NewRequest(http.MethodPost, "/v1/events", io.NopCloser(body))
				if err != nil {
					b.Error(err)
					return
				}
				req.ContentLength = int64(len(benchEvent))
				req.Header = http.Header{"Authorization": {"Bearer " + testKey}, "Content-Type": {"application/json"}}
				out := &sink{header: http.Header{}}
				for pb.Next() {
					body.Reset([]byte(benchEvent))
					clear(out.header)
					w.handler.ServeHTTP(out, req)
					if out.status != http.StatusOK {
						b.Errorf("status %d", out.status)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// sink discards a response.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
