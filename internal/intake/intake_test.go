package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
)

func reasonOf(err error) string {
	var f *fault.Error
	if !errors.As(err, &f) {
		return fmt.Sprint(err)
	}
	return string(f.Reason)
}

// pipes is a listener with connections in memory, so that time can be simulated.
type pipes struct {
	conns chan net.Conn
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

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// served runs a server that reads bodies and sends the result of each to the channel.
func served(t *testing.T, then func(*http.Request, *Body, error)) (dial func() net.Conn) {
	t.Helper()
	bodies := quota.NewBodies(quota.DefaultBodies, 8<<20)
	web := &http.Server{ReadTimeout: longest, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := New(w, r, 8<<20, bodies.Open(quota.Owner{Account: 1, Key: "k"}))
		defer func() { _ = b.Close() }()
		var buf bytes.Buffer
		then(r, b, b.ReadInto(&buf, r.ContentLength))
	})}
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	stopped := make(chan struct{})
	go func() {
		_ = web.Serve(p)
		close(stopped)
	}()
	t.Cleanup(func() {
		_ = web.Close()
		<-stopped
		if held := bodies.Held(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
	return func() net.Conn {
		here, there := net.Pipe()
		p.conns <- there
		return here
	}
}

func head(length int) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", length)
}

// The reading of a body with a byte a second ends after the grace period, and a fast body is
// read however long it is.
func TestRead_slowBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		size, part int
		pause      time.Duration
		want       string
		within     time.Duration
	}{
		"a byte a second":    {1 << 20, 1, time.Second, string(TooSlow), grace + 2*time.Second},
		"a stall":            {1 << 20, 1, time.Hour, string(TooSlow), grace + 2*time.Second},
		"half the rate":      {1 << 20, rate / 2, time.Second, string(TooSlow), 30 * time.Second},
		"twice the rate":     {1 << 20, 2 * rate, time.Second, "<nil>", longest},
		"beyond the longest": {8 << 20, 4 * rate, time.Second, string(TooSlow), longest + time.Second},
		"at once":            {1 << 20, 1 << 20, 0, "<nil>", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := make(chan string, 1)
				dial := served(t, func(_ *http.Request, _ *Body, err error) { result <- reasonOf(err) })
				c := dial()
				began, over := time.Now(), make(chan struct{})
				go func() {
					_, _ = io.WriteString(c, head(tt.size))
					for sent := 0; sent < tt.size; sent += tt.part {
						if _, err := c.Write(make([]byte, tt.part)); err != nil {
							return
						}
						select {
						case <-over:
							return
						case <-time.After(tt.pause):
						}
					}
				}()
				go func() { _, _ = io.Copy(io.Discard, c) }()
				if got := <-result; got != tt.want || time.Since(began) > tt.within {
					t.Errorf("%s after %s, want %s within %s", got, time.Since(began), tt.want, tt.within)
				}
				_ = c.Close()
				close(over)
				time.Sleep(time.Second) // in which the server closes the connection
				synctest.Wait()
			})
		})
	}
}

// The deadline for the body does not limit the rest of the request.
func TestReadInto_contextOutlivesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		dial := served(t, func(r *http.Request, _ *Body, err error) {
			if err == nil {
				select {
				case <-r.Context().Done():
					err = context.Cause(r.Context())
				case <-time.After(2 * grace):
				}
			}
			ended <- err
		})
		c := dial()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_, _ = io.WriteString(c, head(2))
		_, _ = c.Write([]byte("a"))
		time.Sleep(time.Second)
		_, _ = c.Write([]byte("b"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = c.Close()
		time.Sleep(time.Second) // in which the server closes the connection
		synctest.Wait()
	})
}

func TestParseForm_limits(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"a form":           {"a=1&b=2", "<nil>"},
		"many parameters":  {strings.Repeat("a&", MaxPairs+1), "form_invalid"},
		"too large":        {strings.Repeat("a", 70_000), string(TooLarge)},
		"no form":          {"a=%zz", "form_invalid"},
		"beyond the share": {strings.Repeat("a", 65<<10), string(TooLarge)},
	} {
		bodies := quota.NewBodies(quota.DefaultBodies, 8<<20)
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		b := New(httptest.NewRecorder(), r, 64<<10, bodies.Open(quota.Owner{Address: "192.0.2.1"}))
		if got := reasonOf(b.ParseForm(r)); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if err := b.Close(); err != nil || bodies.Held() != 0 {
			t.Errorf("%s: %v, %d bytes are still held", name, err, bodies.Held())
		}
	}
}

// The sender's share is the limit, not that of one body.
func TestRead_beyondTheShare(t *testing.T) {
	bodies := quota.NewBodies(quota.DefaultBodies, 8<<20)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("a", 1<<20)))
	b := New(httptest.NewRecorder(), r, 1<<20, bodies.Open(quota.Owner{Address: "192.0.2.1"}))
	defer func() { _ = b.Close() }()
	var buf bytes.Buffer
	err := b.ReadInto(&buf, 1<<20)
	if !fault.Is(err, fault.RateLimited) || buf.Len() > 128<<10 {
		t.Errorf("%v after %d bytes", err, buf.Len())
	}
}

// The rest of a refused body is never read as another request.
func TestClose_leavesNoRequestBehind(t *testing.T) {
	const most = 256 << 10
	for name, limit := range map[string]int64{"beyond the limit": 64 << 10, "beyond the share": 8 << 20, "unread": 0} {
		t.Run(name, func(t *testing.T) {
			bodies := quota.NewBodies(quota.DefaultBodies, 8<<20)
			var served atomic.Int64
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				b := New(w, r, max(limit, most), bodies.Open(quota.Owner{Address: "192.0.2.1"}))
				defer func() { _ = b.Close() }()
				if limit == 0 {
					return
				}
				var buf bytes.Buffer
				if err := b.ReadInto(&buf, r.ContentLength); err == nil {
					t.Error("the body is accepted")
				}
				http.Error(w, "refused", http.StatusTooManyRequests)
			}))
			defer web.Close()
			c, err := net.Dial("tcp", web.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			smuggled := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
			body := strings.Repeat(smuggled, 4<<20/len(smuggled))
			go func() { _, _ = io.WriteString(c, head(len(body))+body) }()
			_, _ = io.Copy(io.Discard, c) // until the server closes
			if n := served.Load(); n != 1 {
				t.Errorf("%d requests were served, want 1", n)
			}
		})
	}
}
