package zoo

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const ok = "HTTP/1.1 200 OK\r\n"

// slow returns the animals that hang or take for ever.
func slow() []Animal {
	// after sends a text as the response to a request, and hangs.
	after := func(text string) func(*visit) {
		return func(v *visit) {
			if v.request() != nil && v.say(text) == nil {
				v.hang()
			}
		}
	}
	trickling := func(start, text string) func(*visit) {
		return func(v *visit) {
			if v.request() != nil && v.say(start) == nil {
				v.trickle(text)
			}
		}
	}
	return []Animal{
		{Name: "accepts and never reads", Outcomes: outcome(timeout), live: (*visit).hang},
		{Name: "accepts and never reads a large body", Outcomes: outcome(timeout), Large: true, live: func(v *visit) {
			_ = v.tcp.SetReadBuffer(1 << 10)
			v.hang()
		}},
		{Name: "reads a byte at a time", Outcomes: outcome(timeout), Large: true, live: func(v *visit) {
			_ = v.tcp.SetReadBuffer(1 << 10)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for b := make([]byte, 1); ; {
				select {
				case <-tick.C:
				case <-v.quit:
					return
				}
				if _, err := v.Read(b); err != nil {
					return
				}
			}
		}},
		{Name: "never begins TLS", Outcomes: outcome(timeout), raw: true, live: (*visit).hang},
		{Name: "stops in the TLS handshake", Outcomes: outcome(timeout), raw: true, live: func(v *visit) {
			_ = v.say("\x16\x03\x03\x00\x7a\x02\x00")
			v.hang()
		}},
		{Name: "trickles the TLS handshake", Outcomes: outcome(timeout), raw: true, live: func(v *visit) {
			_ = v.say("\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
			v.trickle("\x03")
		}},
		{Name: "reads and never answers", Outcomes: outcome(timeout), live: after("")},
		{Name: "stops in the status line", Outcomes: outcome(timeout), live: after("HTTP/1.1 20")},
		{Name: "says a status line only", Outcomes: outcome(timeout), live: after(ok)},
		{Name: "never ends its header", Outcomes: outcome(timeout), live: after(ok + "X-A: b\r\n")},
		{Name: "never ends its body", Outcomes: outcome(timeout), Status: 200, live: after(ok + "Content-Length: 10\r\n\r\nhalf")},
		{Name: "promises exabytes", Outcomes: outcome(timeout), Status: 200, live: after(ok + "Content-Length: 9223372036854775807\r\n\r\nhalf")},
		{Name: "never ends a chunk", Outcomes: outcome(timeout), Status: 200, live: after(ok + "Transfer-Encoding: chunked\r\n\r\nff\r\nhalf")},
		{Name: "never ends its trailer", Outcomes: outcome(timeout), Status: 200, live: after(ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\nx\r\n0\r\nX-A: b\r\n")},
		{Name: "says continue and no more", Outcomes: outcome(timeout), live: after("HTTP/1.1 100 Continue\r\n\r\n")},
		{Name: "gives early hints and no more", Outcomes: outcome(timeout), live: after("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")},
		{Name: "switches protocols and hangs", Outcomes: outcome(failed), Status: 101, live: after("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")},
		{Name: "trickles its status line", Outcomes: outcome(timeout), live: trickling("", ok)},
		{Name: "trickles its header", Outcomes: outcome(timeout), live: trickling(ok, "X-A: b\r\n")},
		{Name: "trickles its body", Outcomes: outcome(timeout), Status: 200, live: trickling(ok+"Content-Length: 100000\r\n\r\n", "x")},
		{Name: "trickles its chunks", Outcomes: outcome(timeout), Status: 200, live: trickling(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")},
	}
}

// broken returns the animals that end the connection.
func broken() []Animal {
	resetting := func(text string) func(*visit) {
		return func(v *visit) {
			if v.request() != nil && v.say(text) == nil {
				v.reset()
			}
		}
	}
	return []Animal{
		{Name: "closes at once", Outcomes: outcome(connection), live: func(*visit) {}},
		{Name: "resets at once", Outcomes: outcome(connection), live: (*visit).reset},
		{Name: "closes after the request", Outcomes: outcome(connection), live: closing("")},
		{Name: "resets after the request", Outcomes: outcome(connection), live: resetting("")},
		{Name: "closes in the status line", Outcomes: outcome(connection), live: closing("HTTP/1.1 2")},
		{Name: "resets in the header", Outcomes: outcome(connection), live: resetting(ok + "X-A")},
		// The status was received completely: what follows does not matter.
		{Name: "resets in the body", Outcomes: outcome(succeeded, connection), Status: AnyStatus, live: resetting(ok + "Content-Length: 10\r\n\r\nhalf")},
		{Name: "closes in the body", Outcomes: outcome(succeeded), Status: 200, live: closing(ok + "Content-Length: 10\r\n\r\nhalf")},
		{Name: "closes in the body of a failure", Outcomes: outcome(failed), Status: 500, live: closing("HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nhalf")},
		{Name: "closes in a chunk", Outcomes: outcome(succeeded), Status: 200, live: closing(ok + "Transfer-Encoding: chunked\r\n\r\nff\r\nhalf")},
		{Name: "closes in the TLS handshake", Outcomes: outcome(connection), raw: true, live: func(v *visit) { _, _ = v.in.ReadByte() }},
		{Name: "resets in the TLS handshake", Outcomes: outcome(connection), raw: true, live: func(v *visit) {
			_, _ = v.in.ReadByte()
			v.reset()
		}},
		{Name: "closes after the TLS handshake", Outcomes: outcome(connection), tls: trusted, live: func(*visit) {}},
		{Name: "closes without a word each time it is asked again", Outcomes: outcome(succeeded), Status: 204, live: func(v *visit) {
			if v.request() != nil && v.say("HTTP/1.1 204 No Content\r\n\r\n") == nil {
				_, _ = v.in.ReadByte()
			}
		}},
		{Name: "closes a connection that it said it keeps", Outcomes: outcome(succeeded), Status: 200, live: closing(ok + "Connection: keep-alive\r\nKeep-Alive: timeout=600\r\nContent-Length: 2\r\n\r\nok")},
		{Name: "half-closes and goes on reading", Outcomes: outcome(connection), live: func(v *visit) {
			_ = v.tcp.CloseWrite()
			_, _ = io.Copy(io.Discard, v)
		}},
	}
}

// large returns the animals that send too much.
func large() []Animal {
	flooding := func(start, text string) func(*visit) {
		return func(v *visit) {
			if v.request() != nil && v.say(start) == nil {
				v.flood(text)
			}
		}
	}
	bomb := func(layers int) string {
		packed := make([]byte, 32<<20)
		for range layers {
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
			if err == nil {
				_, err = z.Write(packed)
			}
			if err != nil || z.Close() != nil {
				panic("gzip to memory failed")
			}
			packed = b.Bytes()
		}
		return ok + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(packed), packed)
	}
	return []Animal{
		{Name: "has a header of a megabyte", Outcomes: outcome(connection), live: closing(ok + "X-A: " + strings.Repeat("y", 1<<20) + "\r\nContent-Length: 0\r\n\r\n")},
		{Name: "has a header name without an end", Outcomes: outcome(connection), live: flooding(ok, "x")},
		{Name: "has headers without an end", Outcomes: outcome(connection), live: flooding(ok, "X-A: b\r\n")},
		{Name: "has a status line without an end", Outcomes: outcome(connection), live: flooding("HTTP/1.1 200 ", "y")},
		{Name: "floods with 102s", Outcomes: outcome(connection), live: flooding("", "HTTP/1.1 102 Processing\r\n\r\n")},
		{Name: "floods with 100s", Outcomes: outcome(connection), live: flooding("", "HTTP/1.1 100 Continue\r\n\r\n")},
		{Name: "answers 100 MB", Outcomes: outcome(succeeded), Status: 200, live: func(v *visit) {
			if v.request() == nil || v.say(ok+"Content-Length: 104857600\r\n\r\n") != nil {
				return
			}
			for piece, n := strings.Repeat("x", 64<<10), 0; n < 100<<20 && v.say(piece) == nil; n += len(piece) {
			}
		}},
		{Name: "answers without an end", Outcomes: outcome(succeeded), Status: 200, live: flooding(ok+"\r\n", "x")},
		{Name: "fails without an end", Outcomes: outcome(failed), Status: 500, live: flooding("HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")},
		{Name: "has a chunk extension without an end", Outcomes: outcome(succeeded), Status: 200, live: flooding(ok+"Transfer-Encoding: chunked\r\n\r\n1;", "y")},
		{Name: "has trailers without an end", Outcomes: outcome(succeeded), Status: 200, live: flooding(ok+"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n1\r\nx\r\n0\r\n", "X-A: b\r\n")},
		{Name: "is a compressed bomb", Outcomes: outcome(succeeded), Status: 200, live: answering(bomb(1))},
		{Name: "is a bomb compressed twice", Outcomes: outcome(succeeded), Status: 200, live: answering(bomb(2))},
		{Name: "says gzip and is not", Outcomes: outcome(succeeded), Status: 200, live: answering(ok + "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")},
		{Name: "switches protocols and floods", Outcomes: outcome(failed), Status: 101, live: flooding("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "x")},
	}
}

// malformed returns the animals that do not use HTTP, or use it incorrectly.
func malformed() []Animal {
	says := func(name, text string, status int, outcomes ...string) Animal {
		return Animal{Name: name, Outcomes: outcomes, Status: status, live: closing(text)}
	}
	const end = "Content-Length: 2\r\n\r\nok"
	return []Animal{
		says("speaks SSH", "SSH-2.0-OpenSSH_9.9\r\n", 0, connection),
		says("speaks binary", "\x00\x01\xff\xfe\x80\x81\n\n\n", 0, connection),
		says("speaks HTTP/0.9", "<html>hello</html>", 0, connection),
		says("speaks HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", 200, succeeded),
		says("speaks HTTP/3.7", "HTTP/3.7 200 OK\r\n"+end, 200, succeeded),
		says("speaks HTTP/2 without being asked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, connection),
		says("speaks http in lower case", "http/1.1 200 OK\r\n"+end, 0, connection),
		says("has no version", "200 OK\r\n"+end, 0, connection),
		says("has a version without an end", "HTTP/1.1111111111111111 200 OK\r\n"+end, 0, connection),
		says("has two status lines", ok+ok+end, 0, connection),
		says("has no reason", "HTTP/1.1 200\r\n"+end, 200, succeeded),
		says("has a reason of 60 KB", "HTTP/1.1 200 "+strings.Repeat("y", 60<<10)+"\r\n"+end, 200, succeeded),
		says("answers 000", "HTTP/1.1 000 Nothing\r\n"+end, AnyStatus, connection, failed),
		says("answers 042", "HTTP/1.1 042 Low\r\n"+end, 42, failed),
		says("answers 600", "HTTP/1.1 600 High\r\n"+end, 600, failed),
		says("answers 999", "HTTP/1.1 999 Higher\r\n"+end, 999, failed),
		says("answers 2000", "HTTP/1.1 2000 Highest\r\n"+end, 0, connection),
		says("answers -20", "HTTP/1.1 -20 Below\r\n"+end, 0, connection),
		says("answers +20", "HTTP/1.1 +20 Above\r\n"+end, AnyStatus, connection, failed),
		says("answers 2xx", "HTTP/1.1 2xx Whatever\r\n"+end, 0, connection),
		says("answers in full-width digits", "HTTP/1.1 ２００ OK\r\n"+end, 0, connection),
		says("has two lengths", ok+"Content-Length: 2\r\nContent-Length: 200\r\n\r\nok", 0, connection),
		says("has the same length twice", ok+"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, succeeded),
		says("has a list of lengths", ok+"Content-Length: 2, 3\r\n\r\nok", 0, connection),
		says("has a negative length", ok+"Content-Length: -1\r\n\r\nok", 0, connection),
		says("has a length that no integer holds", ok+"Content-Length: 18446744073709551617\r\n\r\nok", 0, connection),
		says("has a hexadecimal length", ok+"Content-Length: 0x2\r\n\r\nok", 0, connection),
		says("has a length and chunks", ok+"Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, succeeded),
		says("has an unknown transfer coding", ok+"Transfer-Encoding: rot13\r\n\r\nbx", 0, connection),
		says("has two transfer codings", ok+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, connection),
		says("has a chunk of no number", ok+"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", 200, succeeded),
		says("has a chunk larger than integers", ok+"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n", 200, succeeded),
		says("has chunks without ends", ok+"Transfer-Encoding: chunked\r\n\r\n2\r\nok2\r\nok0", 200, succeeded),
		says("has a NUL in a value", ok+"X-A: a\x00b\r\n"+end, AnyStatus, connection, succeeded),
		says("has a NUL in a name", ok+"X\x00A: b\r\n"+end, 0, connection),
		says("has control characters in a value", ok+"X-A: \x1b[2J\x07\r\n"+end, AnyStatus, connection, succeeded),
		says("has a bare CR in a value", ok+"X-A: b\rSet-Cookie: c=d\r\n"+end, AnyStatus, connection, succeeded),
		says("has a line without a colon", ok+"hello\r\n"+end, 0, connection),
		says("has a name with a space", ok+"X A: b\r\n"+end, AnyStatus, connection, succeeded),
		says("has a space before the colon", ok+"Content-Length : 2\r\n\r\nok", AnyStatus, connection, succeeded),
		says("has an empty name", ok+": b\r\n"+end, 0, connection),
		says("folds a header", ok+"X-A: b\r\n c\r\n\td\r\n"+end, 200, succeeded),
		says("begins with a folded header", ok+" c: d\r\n"+end, 0, connection),
		says("ends lines with LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, succeeded),
		says("begins with empty lines", "\r\n\r\n\r\n"+ok+end, 0, connection),
		says("has markup everywhere", ok+"X-<b>: <script>alert(1)</script>\r\nContent-Type: text/html\r\nContent-Length: 25\r\n\r\n<script>alert(1)</script>", AnyStatus, connection, succeeded),
		says("has bytes that are no text", ok+"X-A: \xff\xfe\xc0\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\xc0", 200, succeeded),
		says("turns text around", ok+"X-A: \u202egpj.exe\r\nContent-Length: 6\r\n\r\n\u202e\u2066", 200, succeeded),
		says("has a 204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nhidden", 204, succeeded),
		says("has a 205 with a body", "HTTP/1.1 205 Reset\r\n"+end, 205, succeeded),
		says("says continue, then answers", "HTTP/1.1 100 Continue\r\n\r\n"+ok+end, 200, succeeded),
		says("continues with a length", "HTTP/1.1 100 Continue\r\nContent-Length: 500\r\n\r\n"+ok+end, 200, succeeded),
		says("answers 199, then 200", "HTTP/1.1 199 Odd\r\n\r\n"+ok+end, 200, succeeded),
		says("switches to HTTP/2", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 101, failed),
		says("sets cookies", ok+strings.Repeat("Set-Cookie: session=stolen; Domain=.127.0.0.1\r\n", 100)+end, 200, succeeded),
		says("changes its mind in a trailer", ok+"Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 99\r\nStatus: 500\r\n\r\n", 0, connection),
	}
}

// redirecting returns the animals that send redirects, and those that send a Retry-After.
func redirecting() []Animal {
	var all []Animal
	for _, code := range []int{300, 301, 302, 303, 307, 308} {
		all = append(all, Animal{Name: fmt.Sprint("redirects inward with ", code), Outcomes: outcome(redirected), Status: code, live: func(v *visit) {
			for v.request() != nil {
				if v.say(fmt.Sprintf("HTTP/1.1 %d %s\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", code, http.StatusText(code), v.enter)) != nil {
					return
				}
			}
		}})
	}
	for name, to := range map[string]string{
		"to a metadata service": "http://169.254.169.254/latest/meta-data/", "to a private address": "https://10.0.0.1/", "to a file": "file:///etc/passwd",
		"to a script": "javascript:alert(1)", "to itself": "", "to nonsense": "http://[::bad", "with credentials": "http://user:password@127.0.0.1:1/", "to another header": "/%0d%0aX-A:%20b",
	} {
		all = append(all, Animal{Name: "redirects " + name, Outcomes: outcome(redirected), Status: 307, live: answering("HTTP/1.1 307 Temporary Redirect\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n")})
	}
	all = append(all,
		Animal{Name: "redirects without saying where", Outcomes: outcome(redirected), Status: 302, live: answering("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")},
		Animal{Name: "says that nothing was modified", Outcomes: outcome(redirected), Status: 304, live: answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")},
		Animal{Name: "refreshes inward", Outcomes: outcome(succeeded), Status: 200, live: func(v *visit) {
			for v.request() != nil {
				if v.say(ok+"Refresh: 0; url="+v.enter+"\r\nContent-Location: "+v.enter+"\r\nContent-Length: 0\r\n\r\n") != nil {
					return
				}
			}
		}},
		Animal{Name: "is gone", Outcomes: outcome(gone), Status: 410, live: answering("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")})
	for name, value := range map[string]string{
		"in 300 years": "9999999999", "in no integer": strings.Repeat("9", 60), "before now": "-5", "in a part of a second": "0.5", "when it likes": "soon", "in no time": "",
		"in the year 9999": "Fri, 31 Dec 9999 23:59:59 GMT", "in the year 1": "Mon, 01 Jan 0001 00:00:00 GMT", "at two times": "1\r\nRetry-After: 2", "in hexadecimal": "0x10",
	} {
		code := 429
		if strings.Contains(name, "year") {
			code = 503
		}
		all = append(all, Animal{Name: "wants to be asked again " + name, Outcomes: outcome(throttled), Status: code, live: answering(fmt.Sprintf("HTTP/1.1 %d Wait\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", code, value))})
	}
	return all
}

// Confuser begins the names of animals that send more responses than requests. Each response
// has the id of its event in the header Answers, so that a response to another event is
// noticed.
const Confuser = "confuses answers"

// Answers is the header with the id of the event that a response belongs to.
const Answers = "X-Answers"

// confusing returns the animals whose responses do not belong to the requests.
func confusing() []Animal {
	answer := func(id string, status int) string {
		return fmt.Sprintf("HTTP/1.1 %d Whatever\r\n%s: %s\r\nContent-Length: 2\r\n\r\nok", status, Answers, id)
	}
	splitting := func(more ...string) func(*visit) {
		return func(v *visit) {
			for r := v.request(); r != nil; r = v.request() {
				if v.say(answer(r.Header.Get("Webhook-Id"), 200)+strings.Join(more, "")) != nil {
					return
				}
			}
		}
	}
	early := func(after int) func(*visit) {
		return func(v *visit) {
			if after > 0 {
				_, _ = io.ReadFull(v.in, make([]byte, after))
			}
			if v.say("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno") == nil {
				_ = v.tcp.CloseWrite()
				_, _ = io.Copy(io.Discard, v.in)
			}
		}
	}
	return []Animal{
		{Name: Confuser + " with one more", Outcomes: outcome(succeeded, connection), Status: AnyStatus, live: splitting(answer("unknown", 200))},
		{Name: Confuser + " with a failure more", Outcomes: outcome(succeeded, connection), Status: AnyStatus, live: splitting(answer("unknown", 500))},
		{Name: Confuser + " with a hundred more", Outcomes: outcome(succeeded, connection), Status: AnyStatus, live: splitting(strings.Repeat(answer("unknown", 204), 100))},
		{Name: Confuser + " with half a one more", Outcomes: outcome(succeeded, connection), Status: AnyStatus, live: splitting("HTTP/1.1 200 OK\r\n" + Answers + ": unknown\r\nX-Rest: ")},
		{Name: Confuser + " over TLS", Outcomes: outcome(succeeded, connection), Status: AnyStatus, tls: trustedHTTP1, live: splitting(answer("unknown", 200))},
		{Name: "answers before it is asked", Outcomes: outcome("rejected", connection), Status: AnyStatus, live: early(0)},
		{Name: "answers after a byte", Outcomes: outcome("rejected", connection), Status: AnyStatus, Large: true, live: early(1)},
		{Name: "answers a large body early", Outcomes: outcome("rejected"), Status: 413, Large: true, live: early(1000)},
	}
}
