package cli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// preface begins an HTTP/2 connection (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const frameHeader = 9 // bytes

// frameLimits is the maximum number of frames of a type per connection and second. They cost
// the server time without a request: a client that sends more is disconnected. Other frames are
// bounded by their requests.
var frameLimits = map[byte]int{
	0x2: 200, // PRIORITY
	0x3: 200, // RST_STREAM: a canceled request
	0x4: 20,  // SETTINGS
	0x6: 50,  // PING
}

// errFrames is the error of a connection with too many frames.
var errFrames = errors.New("too many HTTP/2 control frames")

// frames inspects a connection and ends it when it receives too many frames outside of
// requests. The server speaks HTTP/2 without TLS, so that they are visible.
type frames struct {
	net.Conn
	state  frameState
	seen   []byte    // preface, or a frame's header, received so far
	skip   uint32    // remaining bytes of the payload
	second time.Time // start of the current count
	counts map[byte]int
}

type frameState int

const (
	beforePreface frameState = iota
	inFrames
	notHTTP2
)

func newFrames(c net.Conn) *frames { return &frames{Conn: c} }

// Read implements [net.Conn].
func (f *frames) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if n > 0 && f.state != notHTTP2 && !f.count(b[:n]) {
		return 0, errFrames
	}
	return n, err
}

// count inspects the received bytes and reports whether the limits are kept.
func (f *frames) count(b []byte) bool {
	if f.state == beforePreface {
		take := min(len(preface)-len(f.seen), len(b))
		f.seen = append(f.seen, b[:take]...)
		b = b[take:]
		switch {
		case !bytes.HasPrefix([]byte(preface), f.seen):
			f.state, f.seen = notHTTP2, nil
			return true
		case len(f.seen) < len(preface):
			return true
		}
		f.state, f.seen, f.counts = inFrames, f.seen[:0], map[byte]int{}
	}
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, uint32(min(len(b), 1<<30)))
			f.skip -= n
			b = b[n:]
			continue
		}
		take := min(frameHeader-len(f.seen), len(b))
		f.seen = append(f.seen, b[:take]...)
		b = b[take:]
		if len(f.seen) < frameHeader {
			return true
		}
		kind := f.seen[3]
		f.skip = binary.BigEndian.Uint32(f.seen) >> 8
		f.seen = f.seen[:0]
		if most, limited := frameLimits[kind]; limited && !f.allow(kind, most) {
			return false
		}
	}
	return true
}

func (f *frames) allow(kind byte, most int) bool {
	if now := time.Now(); now.Sub(f.second) >= time.Second {
		f.second = now
		clear(f.counts)
	}
	f.counts[kind]++
	return f.counts[kind] <= most
}
