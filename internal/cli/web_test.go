package cli

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, so that the test controls their time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// A client that sends or reads slowly is disconnected in time, and delays no other client.
func TestWeb_slowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		large := strings.Repeat("x", 1<<20)
		unread := make(chan time.Duration, 1) // when an unread response is aborted
		began := time.Now()
		web := newWeb(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/large" {
				_, err := io.WriteString(w, large)
				if err == nil {
					t.Error("a response without a reader was sent")
				}
				unread <- time.Since(began)
				return
			}
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = io.WriteString(w, "ok")
		}), slog.New(slog.DiscardHandler))
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = web.Serve(listener)
		}()

		// Each sends its beginning and then a byte a second until it is disconnected.
		type slow struct {
			name, first, rest string
			ends              time.Duration
		}
		var waiting sync.WaitGroup
		for _, c := range []slow{
			{"says nothing", "", "", 10 * time.Second},
			{"a slow request line", "GET /", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 10 * time.Second},
			{"a slow header", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", strings.Repeat("a", 1000), 10 * time.Second},
			{"a slow body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", strings.Repeat("a", 1000), time.Minute},
			{"slow chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\na\r\n", 1000), time.Minute},
			{"a body that stops", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", "", time.Minute},
			{"nothing more", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", 2 * time.Minute},
		} {
			waiting.Go(func() {
				conn := listener.dial()
				defer func() { _ = conn.Close() }()
				go func() {
					for _, part := range append([]string{c.first}, strings.Split(c.rest, "")...) {
						if _, err := io.WriteString(conn, part); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				}()
				_, _ = io.Copy(io.Discard, conn) // until the server closes it
				if took := time.Since(began); took < c.ends || took > c.ends+time.Second {
					t.Errorf("%s: cut off after %v, want %v", c.name, took, c.ends)
				}
			})
		}
		waiting.Go(func() {
			conn := listener.dial()
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
			if took := <-unread; took != time.Minute {
				t.Errorf("a response without a reader is given up after %v, want 1m", took)
			}
		})

		var others atomic.Int64
		waiting.Go(func() {
			for time.Since(began) < 90*time.Second {
				asked := time.Now()
				conn := listener.dial()
				if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Error(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Errorf("another client: %v", err)
					return
				}
				var body bytes.Buffer
				_, _ = body.ReadFrom(resp.Body)
				_ = conn.Close()
				if body.String() != "ok" || time.Since(asked) != 0 {
					t.Errorf("another client: %q after %v", body.String(), time.Since(asked))
				}
				others.Add(1)
				time.Sleep(5 * time.Second)
			}
		})
		waiting.Wait()
		_ = web.Close()
		<-served
		if others.Load() != 18 {
			t.Errorf("%d requests of another client were served, want 18", others.Load())
		}
	})
}
