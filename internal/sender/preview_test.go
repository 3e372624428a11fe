package sender_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/sender"
)

// coded returns a text in a content coding.
func coded(t testing.TB, coding, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		f, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		w = f
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPreview(t *testing.T) {
	const said = `{"error":"signature missing"}`
	zipped := coded(t, "gzip", said)
	for _, tt := range []struct {
		name, encoding string
		body           []byte
		want           string
	}{
		{"plain", "", []byte(said), said},
		{"identity", "Identity", []byte(said), said},
		{"gzip", "gzip", zipped, said},
		{"gzip by its old name", "X-GZip", zipped, said},
		{"gzip that nothing announces", "", zipped, said},
		{"gzip that breaks off", "gzip", coded(t, "gzip", strings.Repeat("0123456789", 1000)+said)[:50], "0123456789"},
		{"deflate", "deflate", coded(t, "zlib", said), said},
		{"deflate without zlib's frame", "deflate", coded(t, "flate", said), said},
		{"twice", "gzip, gzip", coded(t, "gzip", string(zipped)), said},
		{"two codings", "deflate, gzip", coded(t, "gzip", string(coded(t, "zlib", said))), said},
		{"text that is said to be gzip", "gzip", []byte(said), said},
		{"nothing in gzip", "gzip", coded(t, "gzip", ""), ""},
		{"nothing", "gzip", nil, ""},
		{"cut within a character", "", []byte("aé")[:2], "a\xc3"},
		{"Latin-1", "", []byte("caf\xe9 est ferm\xe9"), "caf\xe9 est ferm\xe9"},
		{"brotli", "br", []byte{0x0b, 0x05, 0x80, 'x', 0x03}, "(a body with Content-Encoding br, which cannot be shown: 5 bytes were read)"},
		{"broken gzip", "gzip", []byte{0x1f, 0x8b, 8, 0, 0xff}, "(a body with Content-Encoding gzip, which cannot be shown: 5 bytes were read)"},
		{"too many codings", "gzip, gzip, gzip, gzip", zipped, "(a body with Content-Encoding gzip, gzip, gzip, gzip, which cannot be shown: " + fmt.Sprint(len(zipped)) + " bytes were read)"},
		{"an image", "", []byte("\x89PNG\x00"), "\x89PNG\x00"},
		{"an image in gzip", "gzip", coded(t, "gzip", "\x89PNG\x00"), "(a body with Content-Encoding gzip, which cannot be shown: 29 bytes were read)"},
		{"bytes in deflate", "deflate", coded(t, "zlib", "\xff\xfe\xfd\xfca"), "(a body with Content-Encoding deflate, which cannot be shown: 18 bytes were read)"},
	} {
		header := http.Header{}
		if tt.encoding != "" {
			header.Set("Content-Encoding", tt.encoding)
		}
		got := string(sender.Preview(header, tt.body, 1<<10))
		if tt.name == "gzip that breaks off" {
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %q", tt.name, got)
			}
			continue
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A decompression bomb yields no more than is shown, and uses no more memory than that.
func TestPreview_bomb(t *testing.T) {
	bomb := coded(t, "gzip", strings.Repeat("0", 64<<20))
	twice := coded(t, "gzip", string(bomb))
	for encoding, body := range map[string][]byte{"gzip": bomb[:min(len(bomb), 64<<10)], "gzip, gzip": twice} {
		header := http.Header{"Content-Encoding": {encoding}}
		if got := sender.Preview(header, body, 1<<10); string(got) != strings.Repeat("0", 1<<10) {
			t.Errorf("%s: %d bytes", encoding, len(got))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sender.Preview(header, body, 1<<10)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes are allocated to show %d", encoding, n, 1<<10)
		}
	}
}

func TestSend_asksForNoCompression(t *testing.T) {
	var asked []string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Values("Accept-Encoding")
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(coded(t, "gzip", "no such customer"))
	})
	a := newSender(t, nil).Send(context.Background(), request(srv.URL))
	if len(asked) != 1 || asked[0] != "identity" || string(a.ResponseBody) != "no such customer" {
		t.Errorf("asked for %q, shown is %q", asked, a.ResponseBody)
	}
}

// For every response, the preview is short and not compressed.
func FuzzPreview(f *testing.F) {
	f.Add("gzip", coded(f, "gzip", "hello"))
	f.Add("deflate", coded(f, "zlib", "hello"))
	f.Add("deflate,gzip", coded(f, "flate", "hello"))
	f.Add("br", []byte("hello"))
	f.Fuzz(func(t *testing.T, encoding string, body []byte) {
		got := sender.Preview(http.Header{"Content-Encoding": {encoding}}, body, 512)
		coded := strings.Trim(strings.ToLower(encoding), " ,") != "" && !strings.Contains(strings.ToLower(encoding), "identity")
		if len(got) > 512 || coded && bytes.IndexByte(got, 0) >= 0 {
			t.Errorf("%q %q is shown as %q", encoding, body, got)
		}
	})
}
