package cli

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// visitors counts the connections of a server without a request. [http.Server.Shutdown] drops a
// request that it has not read yet, and its sender cannot know whether it was executed; so the
// server stops only once each accepted connection has sent its first.
type visitors struct {
	waiting atomic.Int64 // connections without a request so far
	all     sync.Map     // net.Conn to *visitor
}

type visitor struct{ seen atomic.Bool }

type visitorKey struct{}

// watch makes a server count them.
func (v *visitors) watch(web *http.Server) {
	next := web.Handler
	web.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		one := &visitor{}
		v.waiting.Add(1)
		v.all.Store(c, one)
		return context.WithValue(ctx, visitorKey{}, one)
	}
	web.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			if one, ok := v.all.LoadAndDelete(c); ok {
				v.note(one.(*visitor))
			}
		}
	}
	web.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if one, ok := r.Context().Value(visitorKey{}).(*visitor); ok {
			v.note(one)
		}
		next.ServeHTTP(w, r)
	})
}

func (v *visitors) note(one *visitor) {
	if !one.seen.Load() && !one.seen.Swap(true) {
		v.waiting.Add(-1)
	}
}

// silence is the maximum wait for a connection's first request, because load balancers keep
// idle ones open.
const silence = time.Second

// await waits until every connection has sent a request.
func (v *visitors) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for v.waiting.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
