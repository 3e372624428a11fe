package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// encodeOutgoing and decodeOutgoing keep deliveries of any size unchanged, in messages within PostgreSQL's
// limit. Deliveries that exceed a message are returned by ID.
func TestEncodeJobs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	out := func(i int, body []byte) delivery.Outgoing {
		id := delivery.ID{Event: event.KeyAt(time.UnixMilli(1_700_000_000_000)) + event.Key(i), Endpoint: int64(i % 7)}
		o := delivery.Outgoing{Delivery: delivery.New(id, event.Space(3)), EventID: fmt.Sprint("evt_", i), Type: "payment.succeeded", Body: body, Version: int64(100 + i)}
		if i%2 == 0 {
			o.Trace = event.Trace("00-x")
		}
		return o
	}
	for _, c := range []struct {
		name  string
		n     int
		body  func() []byte
		large int
		most  int // messages
	}{
		{"none", 0, nil, 0, 0},
		{"small and alike", 200, func() []byte {
			return []byte(`{"id":"evt_1","type":"payment.succeeded","data":{"object":{"amount":1}}}`)
		}, 0, 4},
		{"of a kilobyte", 100, func() []byte { return noise(1000) }, 0, 34},
		{"of 4 KB", 10, func() []byte { return noise(4000) }, 0, 10},
		{"of 50 KB that shrink", 3, func() []byte { return bytes.Repeat([]byte("0123456789"), 5000) }, 0, 3},
		{"too large", 3, func() []byte { return noise(20_000) }, 3, 0},
	} {
		var outgoing []delivery.Outgoing
		for i := range c.n {
			outgoing = append(outgoing, out(i, c.body()))
		}
		texts, large := encodeOutgoing(outgoing)
		if len(large) != c.large || len(texts) > c.most {
			t.Errorf("%s: %d messages, %d too large; want at most %d, and %d", c.name, len(texts), len(large), c.most, c.large)
		}
		var took []delivery.Outgoing
		for _, text := range texts {
			if n := len(wordForward) + 1 + len(text); n >= 8000 {
				t.Errorf("%s: a message of %d bytes", c.name, n)
			}
			some, err := decodeOutgoing(text)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, some...)
		}
		if c.large == 0 && !reflect.DeepEqual(took, outgoing) {
			t.Errorf("%s: %d of %d deliveries, or others, were taken", c.name, len(took), len(outgoing))
		}
	}
}

// decodeOutgoing rejects any text from the channel or returns deliveries that can be encoded again.
func FuzzDecodeJobs(f *testing.F) {
	texts, _ := encodeOutgoing([]delivery.Outgoing{{Delivery: delivery.New(delivery.ID{Event: 1 << 40, Endpoint: 2}, 3), EventID: "evt_1", Type: "a.b", Body: []byte(`{}`)}})
	for _, s := range append(texts, "", "!", "AAAA", "AgQGCARldnQ") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		outgoing, err := decodeOutgoing(text)
		if err != nil {
			return
		}
		var again []delivery.Outgoing
		texts, large := encodeOutgoing(outgoing)
		for _, text := range texts {
			some, err := decodeOutgoing(text)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, some...)
		}
		if len(large) == 0 && !reflect.DeepEqual(outgoing, again) {
			t.Errorf("%q is read as %v and handed over as %v", text, outgoing, again)
		}
	})
}
