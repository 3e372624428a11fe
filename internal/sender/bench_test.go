package sender_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// sink answers POSTs over reused connections with little work, so that a benchmark measures the
// sender. It returns its URL.
func sink(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	return "http://" + l.Addr().String() + "/webhooks/payment"
}

var (
	contentLength = []byte("Content-Length: ")
	noContent     = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\nok")
)

func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReaderSize(c, 8<<10)
	for {
		length := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if rest, ok := bytes.CutPrefix(line, contentLength); ok {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(rest)))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(length); err != nil {
			return
		}
		if _, err := c.Write(noContent); err != nil {
			return
		}
	}
}

// BenchmarkSend makes attempts to a cheap receiver on loopback, and to net/http's server, whose
// work is then included.
func BenchmarkSend(b *testing.B) {
	b.Run("sink", func(b *testing.B) { benchmarkSend(b, sink(b)) })
	b.Run("net/http", func(b *testing.B) {
		benchmarkSend(b, serve(b, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }).URL)
	})
}

func benchmarkSend(b *testing.B, url string) {
	s := newSender(b, nil)
	r := request(url)
	r.Body = bytes.Repeat([]byte("x"), 1024)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a := s.Send(context.Background(), r); !a.Succeeded() {
				b.Errorf("attempt %+v", a)
				return
			}
		}
	})
}
