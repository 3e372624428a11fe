// Package zoo is receivers that do to a sender what receivers should not: they hang,
// trickle, break off, flood, lie and speak something else. They listen on loopback.
//
// It must not know the server: an animal is a name, what it does with a connection,
// and what a sender should make of that.
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
	// Outcomes is what an attempt may be called, in the API's words. There is more
	// than one only where the receiver and the network race.
	Outcomes []string
	Status   int  // of the answer; 0 when none came, anyStatus where that is a race
	Large    bool // it is something only to large bodies

	tls  func(*nursery) *tls.Config // nil: without TLS, or TLS of its own making
	live func(*visit)               // for each connection
	raw  bool                       // its URL is https although live gets the bare connection
}

// AnyStatus is the Status of an animal whose answer may or may not come through.
const AnyStatus = -1

// visit is one connection to an animal.
type visit struct {
	net.Conn
	in    *bufio.Reader
	tcp   *net.TCPConn
	quit  <-chan struct{} // closed when the zoo is
	enter string          // URL of a door that nobody should come through
}

// Zoo is all animals, listening.
type Zoo struct {
	Animals []Animal
	RootCA  []byte // PEM of the CA that good certificates are of

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

// URL returns where an animal is.
func (z *Zoo) URL(a *Animal) string { return z.urls[a.Name] }

// Entered returns how many requests followed a redirect.
func (z *Zoo) Entered() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.entered
}

// Close ends all animals and waits until they are gone.
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

// request reads a request to its end and returns it; nil when there is none.
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

// flood says text again and again, as long as somebody listens.
func (v *visit) flood(text string) {
	piece := strings.Repeat(text, max(1, (16<<10)/len(text)))
	for v.say(piece) == nil {
	}
}

// trickle says text a byte at a time, over and over.
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

// reset makes the end of the connection a reset.
func (v *visit) reset() { _ = v.tcp.SetLinger(0) }

// answering lives by reading a request and saying text, for each request.
func answering(text string) func(*visit) {
	return func(v *visit) {
		for v.request() != nil {
			if v.say(text) != nil {
				return
			}
		}
	}
}

// closing lives by reading one request and saying text.
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
