package cli

import (
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// newWeb returns the HTTP server, with its limits for clients.
func newWeb(h http.Handler, log *slog.Logger) *http.Server {
	// HTTP/2 without TLS too: senders on the same network send many requests over one connection.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           closeIfAmbiguous(h),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// maxStreams is the maximum number of concurrent requests on an HTTP/2 connection.
const maxStreams = 250

// closeIfAmbiguous closes a connection after a request whose length a proxy in front may
// determine differently, which could then treat a part of it as another request: one with both
// a Content-Length and chunks, or an HTTP/1.0 request with chunks. net/http chooses one of them
// and does not report it (RFC 9112, section 6.1).
func closeIfAmbiguous(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// clientAddresses sets the address of each request that came through trusted proxies to the
// client's: the last one in X-Forwarded-For that is not a trusted proxy. Any client can send
// that header, so the rest of it, and the header of other clients, is ignored.
func clientAddresses(trusted []netip.Prefix, log *slog.Logger, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return warnAboutProxy(log, next)
	}
	trusts := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !trusts(peer.Addr().Unmap()) {
			next.ServeHTTP(w, r)
			return
		}
		client := peer.Addr().Unmap()
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for _, hop := range slices.Backward(hops) {
			a, ok := hopAddress(hop)
			if !ok {
				break
			}
			if client = a; !trusts(client) {
				break
			}
		}
		named := *r
		named.RemoteAddr = client.String()
		next.ServeHTTP(w, &named)
	})
}

// warnAboutProxy warns once of a proxy that is not configured: all users behind it share one
// limit.
func warnAboutProxy(log *slog.Logger, next http.Handler) http.Handler {
	var told atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !told.Load() && r.Header.Get("X-Forwarded-For") != "" && !told.Swap(true) {
			log.Warn("X-Forwarded-For is ignored: if your proxy sets it, name the proxy with --trusted-proxies", "from", r.RemoteAddr)
		}
		next.ServeHTTP(w, r)
	})
}

// hopAddress parses one entry of X-Forwarded-For, to which some proxies add a port.
func hopAddress(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddrPort(hop)
	return a.Addr().Unmap().WithZone(""), err == nil
}

// strictTransport tells browsers to use https only, if the external URL is https.
func strictTransport(https bool, next http.Handler) http.Handler {
	if !https {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		next.ServeHTTP(w, r)
	})
}

// cleanPaths lets the API respond to paths with dots or empty segments, which it refuses: the
// mux would redirect to the clean path, and a POST would lose its body.
func cleanPaths(mux *http.ServeMux, calls http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.EscapedPath()
		clean := path.Clean(p)
		if strings.HasSuffix(p, "/") && clean != "/" {
			clean += "/"
		}
		if p != clean {
			calls.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
