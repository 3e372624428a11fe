package zoo

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is a connection of HTTP/2, from the receiver's side.
type frames struct {
	*visit
	*http2.Framer
	block bytes.Buffer
	coder *hpack.Encoder
}

// header returns a block of headers: names and values in turn.
func (f *frames) header(pairs ...string) []byte {
	f.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = f.coder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(f.block.Bytes())
}

// answer sends complete headers on a stream.
func (f *frames) answer(stream uint32, end bool, pairs ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.header(pairs...), EndHeaders: true, EndStream: end})
}

// asked calls do for each request, once it is complete, until the connection ends.
func (f *frames) asked(do func(stream uint32)) {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := frame.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !fr.IsAck() {
				_ = f.WritePing(true, fr.Data)
			}
		case *http2.DataFrame:
			if fr.StreamEnded() {
				do(fr.StreamID)
			}
		}
	}
}

// framed returns the animals that use HTTP/2.
func framed() []Animal {
	// speaking calls do after the preface and settings.
	speaking := func(settings []http2.Setting, do func(*frames)) func(*visit) {
		return func(v *visit) {
			if _, err := io.ReadFull(v.in, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			f := &frames{visit: v, Framer: http2.NewFramer(v.Conn, v.in)}
			f.AllowIllegalWrites = true
			f.coder = hpack.NewEncoder(&f.block)
			if f.WriteSettings(settings...) == nil {
				do(f)
			}
		}
	}
	animal := func(name string, status int, settings []http2.Setting, do func(*frames), outcomes ...string) Animal {
		return Animal{Name: "HTTP/2: " + name, Outcomes: outcomes, Status: status, tls: trustedHTTP2, live: speaking(settings, do)}
	}
	each := func(do func(f *frames, stream uint32)) func(*frames) {
		return func(f *frames) { f.asked(func(stream uint32) { do(f, stream) }) }
	}
	// meanwhile reads in the background, so that the sender is not blocked, and calls do.
	meanwhile := func(do func(f *frames) error) func(*frames) {
		return func(f *frames) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(io.Discard, f.in)
			}()
			for do(f) == nil {
			}
			_ = f.Close()
			<-done
		}
	}
	fine := each(func(f *frames, s uint32) { f.answer(s, true, ":status", "200") })
	set := func(id http2.SettingID, value uint32) []http2.Setting { return []http2.Setting{{ID: id, Val: value}} }
	raw := func(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) func(*frames) {
		return each(func(f *frames, s uint32) {
			if stream != 0 {
				s = stream
			}
			_ = f.WriteRawFrame(kind, flags, s, payload)
		})
	}
	wide := func(a Animal) Animal {
		a.Large = true // larger than the initial window
		return a
	}
	return []Animal{
		{Name: "HTTP/2: says nothing", Outcomes: outcome(timeout, connection), tls: trustedHTTP2, live: (*visit).hang},
		{Name: "HTTP/2: speaks HTTP/1", Outcomes: outcome(connection, badTLS), tls: trustedHTTP2, live: func(v *visit) {
			_ = v.say(ok + "Content-Length: 2\r\n\r\nok")
			v.hang()
		}},
		animal("behaves", 200, nil, fine, succeeded),
		animal("goes away at once", 0, nil, func(f *frames) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil); f.asked(func(uint32) {}) }, connection, timeout),
		animal("goes away in anger", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WriteGoAway(s, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
			_ = f.Close()
		}), connection),
		animal("goes away having seen nothing", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }), connection, timeout),
		animal("goes away and answers nevertheless", 200, nil, each(func(f *frames, s uint32) {
			_ = f.WriteGoAway(s, http2.ErrCodeNo, nil)
			f.answer(s, true, ":status", "200")
		}), succeeded),
		animal("refuses each stream", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }), connection, timeout),
		animal("resets each stream", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeInternal) }), connection),
		animal("resets with an unknown code", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteRSTStream(s, 0xdeadbeef) }), connection),
		animal("resets after its answer", 200, nil, each(func(f *frames, s uint32) {
			f.answer(s, false, ":status", "200")
			_ = f.WriteRSTStream(s, http2.ErrCodeCancel)
		}), succeeded),
		animal("wants HTTP/1.1", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeHTTP11Required) }), connection),
		// A request may be sent before the settings are received.
		animal("takes no streams", AnyStatus, set(http2.SettingMaxConcurrentStreams, 0), fine, timeout, succeeded),
		wide(animal("has a window of 0", 0, set(http2.SettingInitialWindowSize, 0), fine, timeout)),
		wide(animal("has a window of 1", 0, set(http2.SettingInitialWindowSize, 1), fine, timeout)),
		wide(animal("never widens its window", 0, nil, fine, timeout)),
		animal("has a window larger than allowed", 0, set(http2.SettingInitialWindowSize, 1<<31), fine, connection),
		animal("has frames smaller than allowed", 0, set(http2.SettingMaxFrameSize, 1), fine, connection),
		animal("has a header table of 4 GB", 200, set(http2.SettingHeaderTableSize, 1<<32-1), fine, succeeded),
		animal("takes headers of one byte", AnyStatus, set(http2.SettingMaxHeaderListSize, 1), fine, connection, succeeded),
		animal("wants a window of minus one", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WriteWindowUpdate(0, 1<<31-1)
			_ = f.WriteWindowUpdate(0, 1<<31-1)
		}), connection),
		animal("floods settings", 0, nil, meanwhile(func(f *frames) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14})
		}), timeout, connection),
		animal("floods pings", 0, nil, meanwhile(func(f *frames) error { return f.WritePing(false, [8]byte{}) }), timeout, connection),
		animal("floods empty data", AnyStatus, nil, each(func(f *frames, s uint32) {
			f.answer(s, false, ":status", "200")
			for f.WriteData(s, false, nil) == nil {
			}
		}), timeout, connection, succeeded),
		animal("floods unknown frames", 0, nil, meanwhile(func(f *frames) error { return f.WriteRawFrame(0xbe, 0, 0, make([]byte, 1<<10)) }), timeout, connection),
		animal("floods priorities", 0, nil, meanwhile(func(f *frames) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }), timeout, connection),
		animal("floods resets of streams that are none", 0, nil, meanwhile(func(f *frames) error { return f.WriteRSTStream(9999, http2.ErrCodeCancel) }), timeout, connection),
		animal("floods early hints", 0, nil, each(func(f *frames, s uint32) {
			for i := 0; i < 1_000_000; i++ {
				if f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: f.header(":status", "103", "link", strings.Repeat("y", 100)), EndHeaders: true}) != nil {
					return
				}
			}
		}), timeout, connection),
		animal("never ends its header", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: f.header(":status", "200")})
			for f.WriteContinuation(s, false, f.header("x-a", strings.Repeat("y", 1000))) == nil {
			}
		}), connection),
		animal("stops in its header", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: f.header(":status", "200")})
			f.hang()
		}), timeout, connection),
		animal("has a header of a megabyte", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: f.header(":status", "200")})
			for i := range 100 {
				if f.WriteContinuation(s, i == 99, f.header("x-a", strings.Repeat("y", 10_000))) != nil {
					return
				}
			}
		}), connection),
		animal("has a header that names a table entry ten thousand times", 0, nil, each(func(f *frames, s uint32) {
			block := f.header(":status", "200", "x-bomb", strings.Repeat("y", 3000))
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, 10_000)...) // the newest entry
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: block, EndHeaders: true, EndStream: true})
		}), connection),
		animal("has a header that cannot be unpacked", 0, nil, raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), connection),
		animal("has no status", 0, nil, each(func(f *frames, s uint32) { f.answer(s, true, "x-a", "b") }), connection),
		animal("has two statuses", AnyStatus, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "500", ":status", "200") }), connection),
		animal("has a status of no number", 0, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "abc") }), connection),
		animal("has a status of 999", 999, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "999") }), failed),
		animal("has names in capital letters", 0, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "200", "X-A", "b") }), connection),
		animal("has line ends in a value", 0, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "200", "x-a", "b\r\nset-cookie: c=d") }), connection),
		animal("has headers of the connection", AnyStatus, nil, each(func(f *frames, s uint32) {
			f.answer(s, true, ":status", "200", "transfer-encoding", "chunked", "connection", "close")
		}), connection, succeeded),
		animal("has two lengths", AnyStatus, nil, each(func(f *frames, s uint32) {
			f.answer(s, true, ":status", "200", "content-length", "1", "content-length", "2")
		}), connection, succeeded),
		animal("says more than its length", 200, nil, each(func(f *frames, s uint32) {
			f.answer(s, false, ":status", "200", "content-length", "1")
			_ = f.WriteData(s, true, make([]byte, 1000))
		}), succeeded),
		animal("sends data before its header", 0, nil, each(func(f *frames, s uint32) { _ = f.WriteData(s, true, []byte("x")) }), connection),
		animal("sends more than the window", AnyStatus, nil, each(func(f *frames, s uint32) {
			f.answer(s, false, ":status", "200")
			for f.WriteData(s, false, make([]byte, 1<<14)) == nil {
			}
		}), succeeded, connection, timeout),
		animal("pushes a resource without a request", 0, nil, each(func(f *frames, s uint32) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: s, PromiseID: 2, BlockFragment: f.header(":method", "GET"), EndHeaders: true})
		}), connection),
		animal("answers a stream that is none", 0, nil, each(func(f *frames, s uint32) { f.answer(s+1000, true, ":status", "200") }), connection, timeout),
		animal("has a frame of 16 MB", 0, nil, func(f *frames) {
			var head [9]byte
			binary.BigEndian.PutUint32(head[:4], 0xffffff<<8)
			_, _ = f.Conn.Write(head[:])
			f.hang()
		}, connection),
		animal("answers settings with nonsense", 0, nil, raw(http2.FrameSettings, 0, 0, []byte{1, 2, 3}), connection),
		animal("switches protocols", 0, nil, each(func(f *frames, s uint32) { f.answer(s, true, ":status", "101") }), connection),
		animal("stops in its body", AnyStatus, nil, each(func(f *frames, s uint32) {
			f.answer(s, false, ":status", "200")
			_ = f.WriteData(s, false, []byte("x"))
			f.hang()
		}), timeout, connection),
	}
}
