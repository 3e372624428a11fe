package sender

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxCodings bounds the number of decoded content codings of a response.
const maxCodings = 3

// Preview returns the beginning of a response's body for display, at most limit bytes. A body
// that is compressed, although no compression was requested, is decompressed, or described if
// that is not possible. body is the beginning of the body as received; the result does not
// share its memory.
//
// The cost is bounded by limit, not by the decompressed size.
func Preview(header http.Header, body []byte, limit int) []byte {
	codings := contentCodings(header)
	if len(codings) == 0 && bytes.HasPrefix(body, []byte{0x1f, 0x8b, 8}) { // gzip (RFC 1952, section 2.3.1) without a header that says so
		codings = []string{"gzip"}
	}
	start := body[:min(len(body), limit)]
	if len(codings) == 0 || len(body) == 0 {
		return bytes.Clone(start)
	}
	if text, ok := decode(codings, body, limit); ok && isText(text) {
		return text
	}
	if isText(start) { // a listener passes on decompressed bodies
		return bytes.Clone(start)
	}
	return fmt.Appendf(nil, "(a body with Content-Encoding %s, which cannot be shown: %d bytes were read)", short(strings.Join(codings, ", ")), len(body))
}

// contentCodings returns a body's content codings, in the order of application.
func contentCodings(header http.Header) (all []string) {
	for _, line := range header["Content-Encoding"] {
		for coding := range strings.SplitSeq(line, ",") {
			if coding = strings.ToLower(strings.TrimSpace(coding)); coding != "" && coding != "identity" {
				all = append(all, printable(coding))
			}
		}
	}
	return all
}

// printable replaces characters that a header cannot contain; a listener's may contain
// anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// decode decodes the codings and returns at most limit bytes, and whether it could. The
// decodable part of an interrupted body is returned.
func decode(codings []string, body []byte, limit int) ([]byte, bool) {
	if len(codings) > maxCodings {
		return nil, false
	}
	var r io.Reader = bytes.NewReader(body)
	for i := len(codings) - 1; i >= 0; i-- {
		var err error
		switch codings[i] {
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(r)
		case "deflate": // zlib, or raw deflate from receivers that misread RFC 9110
			raw, readErr := io.ReadAll(io.LimitReader(r, keepOnFailure))
			if readErr != nil && len(raw) == 0 {
				return nil, false
			}
			if r, err = zlib.NewReader(bytes.NewReader(raw)); err != nil {
				r, err = flate.NewReader(bytes.NewReader(raw)), nil
			}
		default:
			return nil, false
		}
		if err != nil {
			return nil, false
		}
	}
	out := make([]byte, limit)
	n, err := io.ReadFull(r, out)
	return out[:n], n > 0 || err == io.EOF
}

// isText reports whether decompressed data can be shown: it is UTF-8, possibly cut within a
// character, or has so few other bytes that it is text in another encoding; and it has no
// control characters except those of text.
func isText(b []byte) bool {
	odd, runes := 0, 0
	for len(b) > 0 {
		if c := b[0]; ' ' <= c && c < utf8.RuneSelf { // nearly all of most responses
			runes++
			b = b[1:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1:
			if !utf8.FullRune(b) {
				return odd*oddShare <= runes
			}
			odd++
		case r < ' ' && !strings.ContainsRune("\t\n\v\f\r\b\x1b", r):
			return false
		}
		runes++
		b = b[size:]
	}
	return odd*oddShare <= runes
}

// oddShare is the minimum number of characters per byte that is not UTF-8: a text in Latin-1
// has some such bytes, a binary file has many.
const oddShare = 4
