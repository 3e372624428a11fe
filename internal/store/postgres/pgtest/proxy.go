package pgtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Proxy is a TCP proxy in front of a PostgreSQL server. It can become silent, like a machine or
// network that fails without notice: its connections stay open and transfer nothing.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	change *sync.Cond
	silent bool
	closed bool
	delay  time.Duration  // of each direction
	on     *regexp.Regexp // becomes silent when a matching statement was sent
	conns  map[net.Conn]bool
	hit    chan struct{} // closed when that has happened
	count  int           // statements that were run
}

// Proxy starts a proxy in front of c. The caller must Close it.
func (c *Cluster) Proxy() (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: c.Host(), conns: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	go p.accept()
	return p, nil
}

// URL returns the URL of a database through the proxy.
func (p *Proxy) URL(database string) string {
	return "postgres://posthaste@" + p.listener.Addr().String() + "/" + database + "?sslmode=disable"
}

// Silence stops all transfers, and keeps connections from opening, until Resume.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = true
	p.change.Broadcast()
}

// SilenceOn does so as soon as a matching statement has been sent to the server; its response
// never arrives. The returned channel is closed then.
func (p *Proxy) SilenceOn(statement *regexp.Regexp) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on, p.hit = statement, make(chan struct{})
	return p.hit
}

// Resume continues all transfers.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.on = false, nil
	p.change.Broadcast()
}

// Delay adds to the round trip to the server.
func (p *Proxy) Delay(roundTrip time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = roundTrip / 2
}

// Statements returns the number of statements that were run through the proxy.
func (p *Proxy) Statements() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.change.Broadcast()
	p.mu.Unlock()
	return p.listener.Close()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if !p.pass() {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.mu.Unlock()
	}()
	done := make(chan struct{}, 2)
	go func() {
		p.toServer(server, client)
		done <- struct{}{}
	}()
	go func() {
		p.toClient(client, server)
		done <- struct{}{}
	}()
	<-done
	p.pass() // the end of a connection is not transferred either
}

// pass waits while the proxy is silent and reports whether to continue.
func (p *Proxy) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.silent && !p.closed {
		p.change.Wait()
	}
	return !p.closed
}

func (p *Proxy) lag() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay
}

// toClient copies data from the server, each part after the delay.
func (p *Proxy) toClient(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			time.Sleep(p.lag())
			if !p.pass() {
				return
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// toServer copies data from the client, and looks for the statement to become silent on.
func (p *Proxy) toServer(to io.Writer, from io.Reader) {
	watch := statements{named: map[string]string{}}
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			time.Sleep(p.lag())
			if !p.pass() {
				return
			}
			for _, sql := range watch.feed(buf[:n]) { // before it is sent, because its response must not pass
				p.sent(sql)
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// sent makes the proxy silent if the statement matches.
func (p *Proxy) sent(sql string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if p.on == nil || !p.on.MatchString(sql) {
		return
	}
	p.silent, p.on = true, nil
	close(p.hit)
}

// statements parses a client's messages, which have a type (except the first) and a length, and
// determines the statements that they run.
type statements struct {
	started bool
	rest    []byte
	named   map[string]string
}

// feed adds the next bytes and returns the statements of the complete messages.
func (s *statements) feed(b []byte) (run []string) {
	s.rest = append(s.rest, b...)
	for {
		at := 1
		if !s.started {
			at = 0
		}
		if len(s.rest) < at+4 {
			return run
		}
		end := at + int(binary.BigEndian.Uint32(s.rest[at:]))
		if end > len(s.rest) {
			return run
		}
		kind, body := s.rest[0], s.rest[at+4:end]
		if s.started {
			if sql, err := s.message(kind, body); err == nil && sql != "" {
				run = append(run, sql)
			}
		}
		s.started, s.rest = true, s.rest[end:]
	}
}

var errCut = errors.New("the message is too short")

// message returns the statement that a message runs, if any.
func (s *statements) message(kind byte, body []byte) (string, error) {
	first, rest, ok := bytes.Cut(body, []byte{0})
	if !ok {
		return "", errCut
	}
	switch kind {
	case 'Q':
		return string(first), nil
	case 'P':
		sql, _, _ := bytes.Cut(rest, []byte{0})
		s.named[string(first)] = strings.Clone(string(sql))
	case 'B':
		name, _, _ := bytes.Cut(rest, []byte{0})
		return s.named[string(name)], nil
	}
	return "", nil
}
