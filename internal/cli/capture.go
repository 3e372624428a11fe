package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
)

// capture is a recorded delivery.
type capture struct {
	header http.Header
	body   []byte
	whole  bool // head and body are from one text, which editors and terminals may have changed
	notes  []string
}

// readCapture parses a recorded request: an optional request line, headers, an empty line, the
// body. Each line of the head ends with CRLF or LF, independently of the others.
func readCapture(raw []byte) (*capture, error) {
	head, body, ok := cutHead(bytes.TrimLeft(trimBOM(raw), "\r\n"))
	if !ok {
		return nil, errors.New("give the headers with --header, or put them and an empty line before the body")
	}
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(head, "\r\n"...)))).ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("read the headers: %w", err)
	}
	c := &capture{header: http.Header(h), body: body, whole: true}
	c.unframe()
	return c, nil
}

// cutHead returns the header lines, without the request line, and the bytes after the empty line.
func cutHead(raw []byte) (head, body []byte, ok bool) {
	for first := true; len(raw) > 0; first = false {
		line, rest, found := bytes.Cut(raw, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		if !found {
			return nil, nil, false
		}
		raw = rest
		switch {
		case len(line) == 0:
			return head, raw, len(head) > 0
		case first && bytes.Contains(line, []byte(" HTTP/")):
		default:
			head = append(append(head, line...), "\r\n"...)
		}
	}
	return nil, nil, false
}

// unframe removes transfer coding, and white space after Content-Length, from the body.
func (c *capture) unframe() {
	if strings.EqualFold(c.header.Get("Transfer-Encoding"), "chunked") {
		if b, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(c.body))); err == nil {
			c.body = b
		}
		return
	}
	length, err := strconv.Atoi(c.header.Get("Content-Length"))
	switch {
	case err != nil || length < 0 || length == len(c.body):
	case length < len(c.body) && len(bytes.TrimSpace(c.body[length:])) == 0:
		c.notes = append(c.notes, fmt.Sprintf("The white space after the %d bytes of the body (Content-Length) was added by the capture or an editor, and is ignored.", length))
		c.body = c.body[:length]
	default:
		c.notes = append(c.notes, fmt.Sprintf("The captured body has %d bytes; Content-Length says %d.", len(c.body), length))
	}
}

// reading is a possible original of a captured body, and the difference.
type reading struct {
	body []byte
	note string
}

// readings returns the bodies from which tools could have made the captured one: editors add or
// drop a line end or a byte order mark, and convert line ends.
func readings(body []byte) (out []reading) {
	plain := trimBOM(body)
	if len(plain) < len(body) {
		out = append(out, reading{plain, "The body begins with a byte order mark that was not signed: an editor added it."})
	}
	lf := bytes.ReplaceAll(plain, []byte("\r\n"), []byte("\n"))
	for _, lines := range []reading{
		{plain, ""},
		{bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n")), "The line ends in the body were changed from CRLF to LF by the capture or an editor."},
		{lf, "The line ends in the body were changed from LF to CRLF by the capture or an editor."},
	} {
		trimmed := bytes.TrimRight(lines.body, "\r\n\t ")
		for _, end := range []reading{
			{lines.body, ""},
			{trimmed, "The body ends with white space that was not signed: the capture, or an editor, added a line end."},
			{append(bytes.Clone(trimmed), "\n"...), "The signed body ended with a line end (LF) that is missing here."},
			{append(bytes.Clone(trimmed), "\r\n"...), "The signed body ended with a line end (CRLF) that is missing here."},
		} {
			if note := strings.TrimSpace(lines.note + " " + end.note); note != "" && !bytes.Equal(end.body, body) {
				out = append(out, reading{end.body, note})
			}
		}
	}
	return out
}

func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }
