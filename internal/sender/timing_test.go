package sender

import (
	"errors"
	"net/http/httptrace"
	"testing"
)

// An unfinished connect is measured until the end of the attempt. One that the transport
// continues for others, while the request got a reused connection, is not counted.
func TestStopwatch_unfinishedConnect(t *testing.T) {
	for _, end := range []func(*httptrace.ClientTrace){
		func(*httptrace.ClientTrace) {},
		func(trace *httptrace.ClientTrace) { trace.ConnectDone("tcp", "192.0.2.1:443", errors.New("refused")) },
	} {
		var w stopwatch
		var trace httptrace.ClientTrace
		w.follow(&trace)
		trace.ConnectStart("tcp", "192.0.2.1:443")
		end(&trace)
		if spent := w.timing(false).Connect; spent <= 0 {
			t.Errorf("without a connection, connecting took %s", spent)
		}
		if spent := w.timing(true).Connect; spent != 0 {
			t.Errorf("with another connection, connecting took %s", spent)
		}
		if w.address() != "192.0.2.1:443" {
			t.Errorf("dialled %q", w.address())
		}
	}
}
