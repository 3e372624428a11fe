package cli

import (
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"
)

// newWeb returns the server's HTTP side, with the bounds that it holds everybody to.
func newWeb(h http.Handler, log *slog.Logger) *http.Server {
	// HTTP/2 without TLS too: senders on the same network put many requests on one connection.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           closeAfterDoubt(h),
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

// maxStreams is how many requests may be under way on one connection of HTTP/2.
const maxStreams = 250

// closeAfterDoubt ends a connection after a request of which a proxy in front may think
// that it is longer or shorter than we do, and take what follows for something else. It
// may be one with both a Content-Length and chunks, or in HTTP/1.0 with chunks: net/http
// settles for one of them and does not say so (RFC 9112, section 6.1).
func closeAfterDoubt(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// cleanPaths lets the API answer for paths with dots or empty segments, which it refuses:
// the mux would redirect to the clean path, and a POST would lose its body.
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
