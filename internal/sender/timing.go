package sender

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// stopwatch takes the times of one attempt's steps. The transport may go on opening
// a connection for others after the attempt has ended, so all of it is atomic.
type stopwatch struct {
	began                   time.Time
	dns, dnsEnd             atomic.Int64 // since began, in ns; 0 is "not yet"
	connect, connectEnd     atomic.Int64
	handshake, handshakeEnd atomic.Int64
	sent, firstByte         atomic.Int64
}

func (w *stopwatch) mark(at *atomic.Int64) { at.Store(int64(time.Since(w.began)) + 1) }

// follow has the trace tell the stopwatch, of all but the first byte of the answer.
func (w *stopwatch) follow(t *httptrace.ClientTrace) {
	w.began = time.Now()
	t.DNSStart = func(httptrace.DNSStartInfo) { w.mark(&w.dns) }
	t.DNSDone = func(httptrace.DNSDoneInfo) { w.mark(&w.dnsEnd) }
	t.ConnectStart = func(string, string) { w.connect.CompareAndSwap(0, int64(time.Since(w.began))+1) } // addresses are tried side by side
	t.ConnectDone = func(_, _ string, err error) {
		if err == nil {
			w.mark(&w.connectEnd)
		}
	}
	t.TLSHandshakeStart = func() { w.mark(&w.handshake) }
	t.TLSHandshakeDone = func(tls.ConnectionState, error) { w.mark(&w.handshakeEnd) }
	t.WroteRequest = func(httptrace.WroteRequestInfo) { w.mark(&w.sent) }
}

// timing returns what was taken.
func (w *stopwatch) timing() delivery.Timing {
	between := func(from, to *atomic.Int64) time.Duration {
		a, b := from.Load(), to.Load()
		if a == 0 || b <= a {
			return 0
		}
		return time.Duration(b - a)
	}
	out := delivery.Timing{DNS: between(&w.dns, &w.dnsEnd), Connect: between(&w.connect, &w.connectEnd), TLS: between(&w.handshake, &w.handshakeEnd)}
	if out.Answer = between(&w.sent, &w.firstByte); out.Answer == 0 && w.firstByte.Load() > 0 {
		out.Answer = time.Microsecond // it came while the end of the request was being written
	}
	return out
}
