package store_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/store"
)

func TestPack(t *testing.T) {
	text := bytes.Repeat([]byte(`{"id":"pay_1","amount":2999},`), 1000)
	packed := store.Pack(text)
	if len(packed) > len(text)/10 {
		t.Errorf("%d bytes of %d are kept", len(packed), len(text))
	}
	if small := text[:1000]; !bytes.Equal(store.Pack(small), small) {
		t.Error("a small body is packed")
	}
	if body, err := store.Unpack(packed); err != nil || !bytes.Equal(body, text) {
		t.Errorf("another body came back: %v", err)
	}
	for i := range packed { // a damaged one results in an error or the right body, never in another body
		broken := bytes.Clone(packed)
		broken[i] ^= 1
		if body, err := store.Unpack(broken); err == nil && i >= len(store.PackMagic) && !bytes.Equal(body, text) {
			t.Fatalf("with byte %d changed, another body of %d bytes came back", i, len(body))
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`{"id":"evt_1"}`))
	f.Add(store.Pack(bytes.Repeat([]byte("abc"), 1000)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = store.Unpack(b)
		if got, err := store.Unpack(store.Pack(b)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d bytes came back as %d: %v", len(b), len(got), err)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	for _, size := range []int{2, 20, 200} {
		var body []byte
		for i := 0; len(body) < size<<10; i++ {
			body = fmt.Appendf(body, `{"id":"item_%08x","sku":"%x","quantity":%d,"unit_amount":%d},`, i*2654435761, i*40503, i%9, i*7919%50000)
		}
		packed := store.Pack(body)
		b.Run(fmt.Sprintf("pack/%dKB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			b.ReportMetric(float64(len(packed))/float64(len(body)), "kept/byte")
			for b.Loop() {
				store.Pack(body)
			}
		})
		b.Run(fmt.Sprintf("unpack/%dKB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := store.Unpack(packed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
