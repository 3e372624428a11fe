package sender_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// names returns a resolver that uses a test's DNS server on loopback.
func names(t testing.TB, known map[string][]string) *net.Resolver {
	t.Helper()
	return namesBy(t, func(name string) ([]string, bool) {
		addrs, ok := known[name]
		return addrs, ok
	})
}

// namesBy is names with answers that may change. lookup is called by one
// goroutine at a time.
func namesBy(t testing.TB, lookup func(name string) ([]string, bool)) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := answerDNS(buf[:n], lookup); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func answerDNS(query []byte, lookup func(string) ([]string, bool)) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	addrs, ok := lookup(strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")))
	header.Response, header.Authoritative = true, true
	if !ok {
		header.RCode = dnsmessage.RCodeNameError
	}
	m := dnsmessage.Message{Header: header, Questions: []dnsmessage.Question{q}}
	for _, a := range addrs {
		if ip := netip.MustParseAddr(a); q.Type == dnsmessage.TypeA && ip.Is4() {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: ip.As4()}})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
