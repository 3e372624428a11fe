package sender_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// hostile contains notations of addresses that must not be reached from a server on the
// internet.
var hostile = []string{
	"127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0x7f.0x0.0x0.0x1",
	"0.0.0.0", "0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "167772161", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.1", "3232235521",
	"169.254.169.254", "169.254.1.1", "2852039166", "0xa9fea9fe", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
	"203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1",
	"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[fe80::1]", "[fe80::1%25eth0]",
	"[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a00:1::1]",
	"[2001:db8::1]", "[2001::1]", "[100::1]", "[::ffff:0:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]",
	"１２７.0.0.1", "127。0。0。1", "①②⑦.⓪.⓪.①", "169。254。169。254", "ｌｏｃａｌｈｏｓｔ", "localhoſt", "ⓛocalhost", "localhost。", "2130706433.", "[2002:a9fe:a9fe::]",
	"localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback", "metadata.google.internal", "instance-data", "db.corp.internal", "printer.local", "router.home.arpa",
	"localhost", "LOCALHOST", "localhost.", "foo.localhost", "foo.localhost.",
}

func TestGuard_hostileTargets(t *testing.T) {
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback = false
		// Every name that is not a number resolves to this machine.
		c.Resolver = namesBy(t, func(string) ([]string, bool) { return []string{"127.0.0.1"}, true })
	})
	if len(hostile) < 60 {
		t.Fatalf("only %d", len(hostile))
	}
	var reached atomic.Int64
	srv := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, host := range hostile {
		for _, url := range []string{"http://" + host + "/", "http://" + host + ":" + port + "/"} {
			if err := s.CheckTarget("url", url); fault.CodeOf(err) != fault.Invalid {
				t.Errorf("%s can be registered: %v", url, err)
			}
			r := request(url)
			r.Timeout = 2 * time.Second
			if a := s.Send(context.Background(), r); a.Succeeded() || a.Outcome == delivery.OutcomeTimeout || a.Outcome == delivery.OutcomeConnection {
				t.Fatalf("%s was dialled: %s %q", url, a.Outcome, a.Error) // and further ones are pointless
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests came through", n)
	}
	for _, good := range []string{"https://example.com/", "https://8.8.8.8/", "https://[2606:4700::1111]/", "https://localhost.example.com/"} {
		if err := s.CheckTarget("url", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

func TestGuard_operatorRanges(t *testing.T) {
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback = false
		c.AllowNets = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")}
		c.DenyNets = []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("8.8.8.0/24")}
	})
	for url, ok := range map[string]bool{
		"http://10.1.1.1/": true, "http://10.1.2.1/": false, "http://10.2.1.1/": false, "http://8.8.8.8/": false, "http://8.8.4.4/": true, "http://[fd00::1]/": true,
	} {
		if err := s.CheckTarget("url", url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// An operator behind a NAT64 gateway allows its range; the embedded address must be allowed as
// well.
func TestGuard_embeddedAddresses(t *testing.T) {
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback = false
		c.AllowNets = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("::ffff:10.1.0.0/112")}
		c.DenyNets = []netip.Prefix{netip.MustParsePrefix("::ffff:8.8.8.0/120")}
	})
	for url, ok := range map[string]bool{
		"http://[64:ff9b::101:101]/":  true,
		"http://[64:ff9b::7f00:1]/":   false,
		"http://[64:ff9b::a9fe:a9fe]": false,
		"http://[64:ff9b::808:808]/":  false, // denied
		"http://[64:ff9b::a01:1]/":    true,  // 10.1.0.1
		"http://[2002:101:101::1]/":   true,
		"http://[2002:7f00:1::]/":     false,
		"http://10.1.2.3/":            true, // a mapped prefix allows
		"http://8.8.8.8/":             false,
		"http://[::ffff:8.8.8.8]/":    false,
	} {
		if err := s.CheckTarget("url", url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	strict := newSender(t, func(c *sender.Config) { c.AllowLoopback = false })
	inside := newSender(t, func(c *sender.Config) {
		c.AllowLoopback, c.AllowNets = true, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	for _, tt := range []struct {
		url, reason, insideReason string // "" is allowed
	}{
		{"https://example.com/hook?a=b", "", ""},
		{"https://bücher.example/", "", ""},
		{"https://例え.テスト/", "", ""},
		{"https://xn--bcher-kva.example:8443/", "", ""},
		{"https://127.0.0.1.example.com/", "", ""},
		{"https://1e100.net/", "", ""},
		{"https://internal.example.com/", "", ""},
		{"http://127.0.0.1/", "url_target_forbidden", ""},
		{"http://localhost:3000/", "url_target_forbidden", ""},
		{"http://10.1.2.3/", "url_target_forbidden", ""},
		{"http://0x0a010203/", "url_target_forbidden", ""},
		{"http://queue.internal/", "url_target_forbidden", ""},
		{"http://192.168.0.1/", "url_target_forbidden", "url_target_forbidden"},
		{"http://169.254.169.254/", "url_target_forbidden", "url_target_forbidden"},
		{"http://1.2.3.4.5/", "url_invalid", "url_invalid"},
		{"http://256.1.1.1/", "url_invalid", "url_invalid"},
		{"http://08.1.1.1/", "url_invalid", "url_invalid"},
		{"http://0x/", "url_invalid", "url_invalid"},
		{"http://a..b/", "url_invalid", "url_invalid"},
		{"http://./", "url_invalid", "url_invalid"},
		{"http://127.0.0.1../", "url_invalid", "url_invalid"},
		{"http://%31%32%37.0.0.1/", "url_invalid", "url_invalid"},
		{"https://example.com:0/", "url_invalid", "url_invalid"},
		{"https://example.com:65536/", "url_invalid", "url_invalid"},
		{"https:///path", "url_invalid", "url_invalid"},
		{"ftp://example.com/", "url_invalid", "url_invalid"},
		{"//example.com/", "url_invalid", "url_invalid"},
	} {
		for s, want := range map[*sender.Sender]string{strict: tt.reason, inside: tt.insideReason} {
			got := ""
			if err := s.CheckTarget("url", tt.url); err != nil {
				var f *fault.Error
				if !errors.As(err, &f) || f.Code != fault.Invalid || f.Param != "url" {
					t.Errorf("%s: %v", tt.url, err)
					continue
				}
				got = string(f.Reason)
			}
			if got != want {
				t.Errorf("%s, ranges allowed: %t: got %q, want %q", tt.url, s == inside, got, want)
			}
		}
	}
}

// A name that was public at registration but no longer is cannot be reached: the dialled
// address is checked.
func TestGuard_rebinding(t *testing.T) {
	var reached atomic.Int64
	srv := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback = false
		c.Resolver = names(t, map[string][]string{"rebind.example": {"127.0.0.1"}, "mixed.example": {"10.0.0.1", "127.0.0.1"}})
	})
	for _, host := range []string{"rebind.example", "mixed.example"} {
		url := "http://" + host + ":" + port + "/"
		if err := s.CheckTarget("url", url); err != nil {
			t.Errorf("a name is not resolved at registration: %v", err)
		}
		if a := s.Send(context.Background(), request(url)); a.Outcome != delivery.OutcomeForbidden {
			t.Errorf("%s: %s %q", host, a.Outcome, a.Error)
		}
	}
	if reached.Load() != 0 {
		t.Error("the loopback server was reached")
	}
}

// The name resolves differently for the second delivery, which is not made.
func TestGuard_rebindingLater(t *testing.T) {
	listen := func(host string) (string, *atomic.Int64) {
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		var reached atomic.Int64
		srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }), ErrorLog: quiet()}
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { _ = srv.Close() })
		return l.Addr().String(), &reached
	}
	// 127.0.0.2 simulates a public address, 127.0.0.1 an internal one.
	public, welcome := listen("127.0.0.2:0")
	_, port, err := net.SplitHostPort(public)
	if err != nil {
		t.Fatal(err)
	}
	_, intruded := listen("127.0.0.1:" + port)
	var answer atomic.Pointer[string]
	say := func(addr string) { answer.Store(&addr) }
	s := newSender(t, func(c *sender.Config) {
		c.AllowLoopback = false
		c.AllowNets = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
		c.Resolver = namesBy(t, func(string) ([]string, bool) { return []string{*answer.Load()}, true })
	})
	send := func() delivery.Attempt {
		return s.Send(context.Background(), request("http://rebind.example:"+port+"/"))
	}
	say("127.0.0.2")
	if a := send(); !a.Succeeded() || a.RemoteAddr != public {
		t.Fatalf("while the name is public: %+v", a)
	}
	s.Close() // otherwise the checked connection would be reused
	say("127.0.0.1")
	if a := send(); a.Outcome != delivery.OutcomeForbidden {
		t.Errorf("once the name resolves to this machine: %s %q", a.Outcome, a.Error)
	}
	say("127.0.0.2")
	if a := send(); !a.Succeeded() {
		t.Errorf("once it is public again: %s %q", a.Outcome, a.Error)
	}
	if welcome.Load() != 2 || intruded.Load() != 0 {
		t.Errorf("%d and %d requests", welcome.Load(), intruded.Load())
	}
}
