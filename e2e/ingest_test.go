package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// One connection of HTTP/2 without TLS carries many requests at once.
func TestIngest_http2(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	rec := receive(t, func(http.ResponseWriter, *http.Request) {})
	s.register(rec.URL)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var dialled atomic.Int64
	transport := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	const events = 200
	send := func(i int) error {
		req, err := http.NewRequest(http.MethodPost, s.base+"/v1/events", strings.NewReader(fmt.Sprintf(`{"type":"payment.succeeded","data":{"object":{"n":%d}}}`, i)))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			return fmt.Errorf("%s %s %s %v", resp.Proto, resp.Status, text, err)
		}
		return nil
	}
	if err := send(0); err != nil { // opens the connection
		t.Fatal(err)
	}
	var group errgroup.Group
	for i := range events - 1 {
		group.Go(func() error { return send(i + 1) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	s.until("all events to arrive", func() bool { return rec.count() == events })
	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An ordered endpoint receives a batch in the batch's order.
func TestIngest_batchInOrder(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	rec := receive(t, func(http.ResponseWriter, *http.Request) {})
	s.register(rec.URL, "ordering", "fifo")
	const batches, size = 3, 100
	for b := range batches {
		var events []object
		for i := range size {
			events = append(events, object{"type": "payment.succeeded", "data": object{"object": object{"n": b*size + i}}})
		}
		if o := s.must("POST", "/v1/events/batch", object{"events": events}); o["accepted"] != float64(size) {
			t.Fatalf("accepted %v, refused %v", o["accepted"], o["refused"])
		}
	}
	s.until("all events to arrive", func() bool { return rec.count() == batches*size })
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i, body := range rec.bodies {
		var e struct {
			Data struct{ Object struct{ N int } }
		}
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Data.Object.N != i {
			t.Fatalf("event %d arrived as number %d", e.Data.Object.N, i)
		}
	}
}
