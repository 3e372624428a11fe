// Package zoo has receivers with all kinds of faults: they hang, trickle, disconnect, flood,
// lie and use other protocols. They listen on loopback.
//
// It must not know the server: an animal is a name, its behaviour on a connection, and the
// result that a sender should report.
package zoo

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Animal is one such receiver.
type Animal struct {
	Name string
	// Outcomes are the allowed outcomes of an attempt, in the API's words. There are several only
	// if the receiver and the network race.
	Outcomes []string
	Status   int  // of the response; 0: no response; AnyStatus: a race
	Large    bool // it misbehaves only for large bodies

	tls  func(*nursery) *tls.Config // nil: without TLS, or with its own TLS code
	live func(*visit)               // for each connection
	raw  bool                       // its URL is https although live gets the connection without TLS
}

// AnyStatus is the Status of an animal whose response may or may not arrive.
const AnyStatus = -1

// visit is one connection to an animal.
type visit struct {
	net.Conn
	in    *bufio.Reader
	tcp   *net.TCPConn
	quit  <-chan struct{} // closed with the zoo
	enter string          // URL that no request should reach
}

// Zoo has all animals, listening.
type Zoo struct {
	Animals []Animal
	RootCA  []byte // PEM of the CA of valid certificates

	urls    map[string]string
	ears    []net.Listener
	quit    chan struct{}
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	entered int
	done    sync.WaitGroup
}

// Open starts every animal.
func Open() (*Zoo, error) {
	n, err := newNursery()
	if err != nil {
		return nil, err
	}
	z := &Zoo{RootCA: n.root, urls: map[string]string{}, quit: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	z.Animals = slices.Concat(slow(), broken(), large(), untrusted(), malformed(), redirecting(), confusing(), framed())
	door, err := z.listen(func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			z.mu.Lock()
			z.entered++
			z.mu.Unlock()
		}
	})
	if err != nil {
		return nil, err
	}
	for i := range z.Animals {
		a := &z.Animals[i]
		if z.urls[a.Name] != "" {
			return nil, fmt.Errorf("there are two animals %q", a.Name)
		}
		var config *tls.Config
		if a.tls != nil {
			config = a.tls(n)
		}
		addr, err := z.listen(func(c *net.TCPConn) {
			v := &visit{Conn: c, tcp: c, quit: z.quit, enter: "http://" + door}
			if config != nil {
				s := tls.Server(c, config)
				if s.Handshake() != nil {
					return
				}
				v.Conn = s
			}
			v.in = bufio.NewReader(v.Conn)
			a.live(v)
		})
		if err != nil {
			return nil, err
		}
		scheme := "http"
		if config != nil || a.raw {
			scheme = "https"
		}
		z.urls[a.Name] = scheme + "://" + addr + "/" + strings.ReplaceAll(a.Name, " ", "-")
	}
	return z, nil
}

// listen calls handle for each connection.
func (z *Zoo) listen(handle func(*net.TCPConn)) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	z.ears = append(z.ears, l)
	z.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			z.mu.Lock()
			z.conns[c] = struct{}{}
			z.mu.Unlock()
			z.done.Go(func() {
				handle(c.(*net.TCPConn))
				_ = c.Close()
				z.mu.Lock()
				delete(z.conns, c)
				z.mu.Unlock()
			})
		}
	})
	return l.Addr().String(), nil
}

// URL returns the URL of an animal.
func (z *Zoo) URL(a *Animal) string { return z.urls[a.Name] }

// Entered returns how many requests followed a redirect.
func (z *Zoo) Entered() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.entered
}

// Close ends all animals and waits for their end.
func (z *Zoo) Close() {
	close(z.quit)
	for _, l := range z.ears {
		_ = l.Close()
	}
	z.mu.Lock()
	for c := range z.conns {
		_ = c.Close()
	}
	z.mu.Unlock()
	z.done.Wait()
}

// hang does nothing until the zoo is closed.
func (v *visit) hang() { <-v.quit }

// request reads a complete request and returns it, or nil if there is none.
func (v *visit) request() *http.Request {
	r, err := http.ReadRequest(v.in)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil
	}
	return r
}

func (v *visit) say(text string) error {
	_, err := io.WriteString(v, text)
	return err
}

// flood sends text repeatedly until the connection ends.
func (v *visit) flood(text string) {
	piece := strings.Repeat(text, max(1, (16<<10)/len(text)))
	for v.say(piece) == nil {
	}
}

// trickle sends text repeatedly, a byte at a time.
func (v *visit) trickle(text string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-v.quit:
			return
		}
		if _, err := v.Write([]byte{text[i%len(text)]}); err != nil {
			return
		}
	}
}

// reset makes the connection end with a reset.
func (v *visit) reset() { _ = v.tcp.SetLinger(0) }

// answering reads each request and sends text.
func answering(text string) func(*visit) {
	return func(v *visit) {
		for v.request() != nil {
			if v.say(text) != nil {
				return
			}
		}
	}
}

// closing reads one request, sends text and disconnects.
func closing(text string) func(*visit) {
	return func(v *visit) {
		if v.request() != nil {
			_ = v.say(text)
		}
	}
}

const (
	timeout    = "timeout"
	badTLS     = "tls_error"
	connection = "connection_error"
	succeeded  = "succeeded"
	failed     = "server_error"
	redirected = "redirected"
	throttled  = "throttled"
	gone       = "gone"
)

func outcome(names ...string) []string { return names }
