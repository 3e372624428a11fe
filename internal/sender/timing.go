package sender

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// stopwatch measures the steps of one attempt. The transport may continue to open a connection
// after the attempt has ended, so all fields are atomic.
type stopwatch struct {
	began                   time.Time
	dns, dnsEnd             atomic.Int64 // since began, in ns; 0 is "not yet"
	connect, connectEnd     atomic.Int64
	handshake, handshakeEnd atomic.Int64
	sent, firstByte         atomic.Int64

	dialled atomic.Pointer[string] // the address that was dialled last
}

func (w *stopwatch) mark(at *atomic.Int64) { at.Store(int64(time.Since(w.began)) + 1) }

// follow registers the stopwatch in the trace, except for the first byte of the response.
func (w *stopwatch) follow(t *httptrace.ClientTrace) {
	w.began = time.Now()
	t.DNSStart = func(httptrace.DNSStartInfo) { w.mark(&w.dns) }
	t.DNSDone = func(httptrace.DNSDoneInfo) { w.mark(&w.dnsEnd) }
	t.ConnectStart = func(_, address string) {
		w.connect.CompareAndSwap(0, int64(time.Since(w.began))+1) // addresses are dialled concurrently
		w.dialled.Store(&address)
	}
	t.ConnectDone = func(_, _ string, err error) {
		if err == nil {
			w.mark(&w.connectEnd)
		}
	}
	t.TLSHandshakeStart = func() { w.mark(&w.handshake) }
	t.TLSHandshakeDone = func(tls.ConnectionState, error) { w.mark(&w.handshakeEnd) }
	t.WroteRequest = func(httptrace.WroteRequestInfo) { w.mark(&w.sent) }
}

// address returns the last dialled address, empty if none was.
func (w *stopwatch) address() string {
	if a := w.dialled.Load(); a != nil {
		return *a
	}
	return ""
}

// timing returns the durations. An unfinished step took until now; if the request had a
// connection, one that was still being opened does not belong to it.
func (w *stopwatch) timing(connected bool) delivery.Timing {
	now := int64(time.Since(w.began)) + 1
	between := func(from, to *atomic.Int64, open bool) time.Duration {
		a, b := from.Load(), to.Load()
		if b == 0 && open {
			b = now
		}
		if a == 0 || b <= a {
			return 0
		}
		return time.Duration(b - a)
	}
	out := delivery.Timing{
		DNS:     between(&w.dns, &w.dnsEnd, !connected),
		Connect: between(&w.connect, &w.connectEnd, !connected),
		TLS:     between(&w.handshake, &w.handshakeEnd, !connected),
	}
	if out.Answer = between(&w.sent, &w.firstByte, true); out.Answer == 0 && w.firstByte.Load() > 0 {
		out.Answer = time.Microsecond // it arrived while the end of the request was being written
	}
	return out
}
