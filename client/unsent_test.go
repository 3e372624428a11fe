package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A request that was never sent is distinguished from one without a response, on real sockets.
func TestSend_neverSent(t *testing.T) {
	closed := listen(t, nil)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	plain := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	hangs := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	reads := listen(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	for _, tt := range []struct {
		name, server string
		unknown      bool
	}{
		{"refused", "http://" + closed.Addr().String(), false},
		{"no such name", "http://posthaste.invalid", false},
		{"no TLS there", "https://" + plain.Addr().String(), false},
		{"no answer", "http://" + hangs.Addr().String(), true},
		{"cut off", "http://" + reads.Addr().String(), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(tt.server, "sk_test_1234567890abcdef", Options{Timeout: 300 * time.Millisecond, RetryFor: time.Nanosecond})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close(context.Background()) }()
			e := Event{Type: "a.b", Object: map[string]int{"n": 1}}
			_, one := c.Send(t.Context(), e)
			for call, err := range map[string]error{"Send": one, "SendAll": c.SendAll(t.Context(), []Event{e})[0].Err} {
				if err == nil || errors.Is(err, ErrUnknown) != tt.unknown || strings.Contains(err.Error(), "no connection") == tt.unknown {
					t.Errorf("%s: %v", call, err)
				}
			}
		})
	}
}

// A transport without httptrace support is treated as one that may have sent the request.
func TestSend_silentTransport(t *testing.T) {
	c, err := New("https://posthaste.example", "sk_test_1234567890abcdef", Options{RetryFor: time.Nanosecond, HTTP: &http.Client{Transport: failing{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if _, err := c.Send(t.Context(), Event{Type: "a.b", Object: map[string]int{}}); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &tls.CertificateVerificationError{Err: errors.New("whatever")}
}

// listen serves connections, each closed after serve.
func listen(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
	return l
}
