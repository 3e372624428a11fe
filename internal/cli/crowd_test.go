package cli

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// crowdedServer serves on a separate address, with the bounds; requests to /wait are answered
// once release is closed, and their arrival is reported.
func crowdedServer(t *testing.T, total, each int, trusted ...netip.Prefix) (addr string, arrived <-chan struct{}, release chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	waits := make(chan struct{}, 100)
	release = make(chan struct{})
	web := newWeb(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waits <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "ok")
	}), log)
	inbound := newCrowd(total, each, trusted, log).watch(web, l)
	go func() { _ = web.Serve(inbound) }()
	t.Cleanup(func() { _ = web.Close() })
	return l.Addr().String(), waits, release
}

// visit opens a connection and, unless path is empty, sends a request; the response is not
// read.
func visit(t *testing.T, addr, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if path != "" {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func answered(t *testing.T, c net.Conn) bool {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

// ended reports whether the server has closed a connection.
func ended(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	return err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
}

// New connections replace idle ones, those that have been idle for longest first, and requests
// under way continue.
func TestCrowd_idleConnectionsGiveWay(t *testing.T) {
	addr, arrived, release := crowdedServer(t, 10, 0)
	busy := visit(t, addr, "/wait")
	<-arrived
	var silent []net.Conn
	for range 9 {
		silent = append(silent, visit(t, addr, ""))
	}
	for range 20 { // each is accepted, and becomes idle
		c := visit(t, addr, "/")
		if !answered(t, c) {
			t.Fatal("a new connection is not served beside idle ones")
		}
	}
	for i, c := range silent {
		if !ended(c) {
			t.Errorf("silent connection %d is there still", i)
		}
	}
	close(release)
	if !answered(t, busy) {
		t.Error("the request under way was cut off")
	}
}

// If all are in use, a new connection is closed; when one ends, a new one is accepted again.
func TestCrowd_fullOfRequests(t *testing.T) {
	addr, arrived, release := crowdedServer(t, 4, 0)
	var busy []net.Conn
	for range 4 {
		busy = append(busy, visit(t, addr, "/wait"))
	}
	for range busy {
		<-arrived
	}
	for range 5 {
		if c := visit(t, addr, ""); !ended(c) {
			t.Error("a connection over the limit was accepted")
		}
	}
	close(release)
	for _, c := range busy {
		if !answered(t, c) {
			t.Error("a request under way was not answered")
		}
	}
	for tries := 0; !answered(t, visit(t, addr, "/")); tries++ { // a connection is idle a moment after its response
		if tries == 1000 {
			t.Fatal("no connection is accepted after requests have ended")
		}
	}
}

// One address may use only a part of the connections, unless it is a trusted proxy's.
func TestCrowd_oneAddress(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		var proxies []netip.Prefix
		if trusted {
			proxies = append(proxies, netip.MustParsePrefix("127.0.0.0/8"))
		}
		addr, _, release := crowdedServer(t, 100, 3, proxies...)
		var first []net.Conn
		for range 3 {
			first = append(first, visit(t, addr, ""))
		}
		if c := visit(t, addr, "/"); !answered(t, c) {
			t.Error("a new connection is not served")
		}
		if !trusted && !ended(first[0]) {
			t.Error("more connections than one address may have")
		}
		if trusted {
			if _, err := io.WriteString(first[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil || !answered(t, first[0]) {
				t.Errorf("a trusted proxy's connection was closed: %v", err)
			}
		}
		close(release)
	}
}

// An HTTP/2 connection that sends frames without requests is closed; one that sends any number
// of requests is not.
func TestFrames_floods(t *testing.T) {
	addr, _, _ := crowdedServer(t, 0, 0)
	header := func(stream uint32) http2.HeadersFrameParam {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}
	}
	for name, flood := range map[string]func(f *http2.Framer, i uint32) error{
		"resets": func(f *http2.Framer, i uint32) error {
			if err := f.WriteHeaders(header(2*i + 1)); err != nil {
				return err
			}
			return f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"pings":      func(f *http2.Framer, i uint32) error { return f.WritePing(false, [8]byte{1}) },
		"settings":   func(f *http2.Framer, i uint32) error { return f.WriteSettings() },
		"priorities": func(f *http2.Framer, i uint32) error { return f.WritePriority(1, http2.PriorityParam{Weight: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			c := visit(t, addr, "")
			if _, err := io.WriteString(c, preface); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, c) }()
			framer := http2.NewFramer(c, nil)
			if err := framer.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			for i := range uint32(200_000) {
				if flood(framer, i) != nil {
					t.Logf("cut off after %d", i)
					return
				}
			}
			t.Error("200,000 frames were accepted")
		})
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	for i := range 1000 {
		resp, err := client.Get("http://" + addr + "/")
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("request %d: %v, %v", i, resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// The same frames are counted for every division of the bytes.
func TestFrames_pieces(t *testing.T) {
	var all []byte
	all = append(all, preface...)
	ping := func(n int) {
		for range n {
			frame := make([]byte, frameHeader+8)
			binary.BigEndian.PutUint32(frame, 8<<8|0x6)
			all = append(all, frame...)
		}
	}
	data := make([]byte, frameHeader+1000)
	binary.BigEndian.PutUint32(data, 1000<<8) // its payload resembles frames
	ping(frameLimits[0x6])
	all = append(all, data...)
	good := len(all)
	ping(1)
	for piece := 1; piece < 60; piece++ {
		f := newFrames(nil)
		f.second = time.Now().Add(time.Hour) // one second, independent of the real time
		for at := 0; at < len(all); at += piece {
			ok := f.count(all[at:min(at+piece, len(all))])
			if reached := min(at+piece, len(all)) >= good+frameHeader; ok == reached {
				t.Fatalf("in pieces of %d: at byte %d it goes on: %v", piece, at, ok)
			} else if reached {
				break
			}
		}
	}
	f := newFrames(nil)
	if !f.count([]byte("PRI * HTTP/1.1\r\n")) || f.state != notHTTP2 {
		t.Error("HTTP/1 is taken for HTTP/2")
	}
}
