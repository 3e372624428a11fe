package cli

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// crowd bounds the connections to the server, in total and per address, because each uses a
// file descriptor, which deliveries need too. At the limit, the connection that has been idle
// for longest is closed; if none is idle, the new one is closed.
type crowd struct {
	total, each int            // 0: unlimited
	trusted     []netip.Prefix // proxies, whose connections are from many clients
	log         *slog.Logger

	mu     sync.Mutex
	all    map[net.Conn]*guest
	from   map[netip.Addr]int
	idle   *list.List // of *guest, the one that has been idle for longest first
	warned time.Time
}

// guest is one connection.
type guest struct {
	net.Conn
	crowd *crowd
	from  netip.Addr
	once  sync.Once
	idle  *list.Element // nil: it is in use
}

func newCrowd(total, each int, trusted []netip.Prefix, log *slog.Logger) *crowd {
	return &crowd{total: total, each: each, trusted: trusted, log: log, all: map[net.Conn]*guest{}, from: map[netip.Addr]int{}, idle: list.New()}
}

// watch returns the listener with the bounds, and registers for the idle states of web's
// connections.
func (c *crowd) watch(web *http.Server, l net.Listener) net.Listener {
	next := web.ConnState
	web.ConnState = func(conn net.Conn, state http.ConnState) {
		c.note(conn, state)
		if next != nil {
			next(conn, state)
		}
	}
	return &crowded{l, c}
}

type crowded struct {
	net.Listener
	crowd *crowd
}

// Accept implements [net.Listener].
func (l *crowded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := l.crowd.admit(conn); g != nil {
			return g, nil
		}
		_ = conn.Close()
	}
}

// admit counts a connection, and returns nil if there is no room for it.
func (c *crowd) admit(conn net.Conn) *guest {
	g := &guest{Conn: newFrames(conn), crowd: c}
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		g.from = a.Addr().Unmap()
	}
	c.mu.Lock()
	var leaving *guest
	defer func() {
		c.mu.Unlock()
		if leaving != nil {
			_ = leaving.Close()
		}
	}()
	switch {
	case c.each > 0 && c.from[g.from] >= c.each && !slices.ContainsFunc(c.trusted, func(p netip.Prefix) bool { return p.Contains(g.from) }):
		leaving = c.longestIdle(g.from)
	case c.total > 0 && len(c.all) >= c.total:
		leaving = c.longestIdle(netip.Addr{})
	default:
		c.enter(g)
		return g
	}
	if now := time.Now(); now.Sub(c.warned) > time.Minute {
		c.warned = now
		c.log.Warn("too many connections", "connections", len(c.all), "from", g.from, "of_that", c.from[g.from])
	}
	if leaving == nil {
		return nil
	}
	c.leave(leaving)
	c.enter(g)
	return g
}

// longestIdle returns the connection that has been idle for longest, of an address unless that
// is zero. The caller holds c.mu.
func (c *crowd) longestIdle(from netip.Addr) *guest {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if g := e.Value.(*guest); from == (netip.Addr{}) || g.from == from {
			return g
		}
	}
	return nil
}

func (c *crowd) enter(g *guest) {
	c.all[g] = g
	c.from[g.from]++
	g.idle = c.idle.PushBack(g) // until its first request
}

func (c *crowd) leave(g *guest) {
	if c.all[g] == nil {
		return
	}
	delete(c.all, g)
	if c.from[g.from]--; c.from[g.from] == 0 {
		delete(c.from, g.from)
	}
	c.use(g)
}

func (c *crowd) use(g *guest) {
	if g.idle != nil {
		c.idle.Remove(g.idle)
		g.idle = nil
	}
}

// note follows the state of a connection.
func (c *crowd) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.all[conn]
	if g == nil {
		return
	}
	switch state {
	case http.StateActive, http.StateHijacked:
		c.use(g)
	case http.StateIdle:
		c.use(g)
		g.idle = c.idle.PushBack(g)
	}
}

// CloseWrite closes the sending side, so that [http.Server] can respond to a request that it
// does not read completely without a reset that would discard the response.
func (g *guest) CloseWrite() error {
	if c, ok := g.Conn.(*frames).Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close implements [net.Conn].
func (g *guest) Close() error {
	g.once.Do(func() {
		g.crowd.mu.Lock()
		defer g.crowd.mu.Unlock()
		g.crowd.leave(g)
	})
	return g.Conn.Close()
}
