package store

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// packFrom is the size in bytes from which bodies are packed. Below it, what is saved
// on disk is not worth the processor's time: see docs/performance.md.
const packFrom = 2048

// PackMagic is how a packed body begins (RFC 8878, section 3.1.1). A body itself is a
// JSON object.
var PackMagic = []byte{0x28, 0xB5, 0x2F, 0xFD}

// Both are safe for concurrent use. Their memory is bounded by the largest body and by
// the processors that there are.
var (
	packer   = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10)))
	unpacker = must(zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<30)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of options that are constant
	}
	return v
}

// Pack returns a body as it is kept: compressed with a checksum (Zstandard) where that
// saves an eighth or more, else the body itself. Callers make it before they queue an
// [Append], so that the transactions need not wait for it.
func Pack(body []byte) []byte {
	mistakable := bytes.HasPrefix(body, PackMagic)
	if len(body) < packFrom && !mistakable {
		return body
	}
	if packed := packer.EncodeAll(body, make([]byte, 0, len(body)/2)); len(packed) < len(body)/8*7 || mistakable {
		return packed
	}
	return body
}

// Unpack returns the body that was kept as stored. It keeps nothing of stored, unless
// that is the body.
func Unpack(stored []byte) ([]byte, error) {
	if !bytes.HasPrefix(stored, PackMagic) {
		return stored, nil
	}
	body, err := unpacker.DecodeAll(stored, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack a body: %w", err)
	}
	return body, nil
}
