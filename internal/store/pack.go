package store

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// packFrom is the size in bytes from which bodies are packed. Below it, the saved space is not
// worth the processor time: see docs/performance.md.
const packFrom = 2048

// PackMagic is the beginning of a packed body (RFC 8878, section 3.1.1). An unpacked body is a
// JSON object.
var PackMagic = []byte{0x28, 0xB5, 0x2F, 0xFD}

// Both are safe for concurrent use. Their memory is bounded by the largest body and the number
// of processors.
var (
	packer   = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10)))
	unpacker = must(zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<30)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constant
	}
	return v
}

// Pack returns a body as it is stored: compressed with a checksum (Zstandard) if that saves an
// eighth or more, else the body itself. Callers pack before they queue an [Append], so that
// transactions need not wait for it.
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

// Unpack returns the body that was stored. It retains nothing of stored, unless that is the
// body.
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
