package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// encodeFrom limits the bytes of the bodies that are compressed together. If the result exceeds a
// message, the deliveries are divided among several messages.
const encodeFrom = 24 << 10

// encodeOutgoing encodes new deliveries as texts that fit into messages. It returns the IDs of the
// deliveries that are too large for a message.
func encodeOutgoing(outgoing []delivery.Outgoing) (texts []string, large []delivery.ID) {
	for len(outgoing) > 0 {
		n, size := 0, 0
		for n < len(outgoing) && (n == 0 || size < encodeFrom) {
			size += len(outgoing[n].Body)
			n++
		}
		some, big := encodeSome(outgoing[:n])
		texts, large, outgoing = append(texts, some...), append(large, big...), outgoing[n:]
	}
	return texts, large
}

func encodeSome(outgoing []delivery.Outgoing) (texts []string, large []delivery.ID) {
	var b []byte
	for i := range outgoing {
		b = appendOutgoing(b, &outgoing[i])
	}
	b = store.Pack(b)
	switch n := base64.RawStdEncoding.EncodedLen(len(b)); {
	case n <= maxMessage:
		return []string{base64.RawStdEncoding.EncodeToString(b)}, nil
	case len(outgoing) == 1:
		return nil, []delivery.ID{outgoing[0].Delivery.ID}
	}
	half := len(outgoing) / 2
	texts, large = encodeSome(outgoing[:half])
	more, big := encodeSome(outgoing[half:])
	return append(texts, more...), append(large, big...)
}

// appendOutgoing appends the encoding of a new delivery and of its event.
func appendOutgoing(b []byte, o *delivery.Outgoing) []byte {
	for _, n := range []int64{int64(o.Delivery.ID.Event), o.Delivery.ID.Endpoint, int64(o.Delivery.Space), o.Version} {
		b = binary.AppendVarint(b, n)
	}
	for _, text := range [][]byte{[]byte(o.EventID), []byte(o.Type), o.Body, o.Trace} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

var errMalformed = errors.New("the message is malformed")

// decodeOutgoing decodes a text of encodeOutgoing.
func decodeOutgoing(text string) (outgoing []delivery.Outgoing, err error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errMalformed
	}
	if b, err = store.Unpack(b); err != nil {
		return nil, err
	}
	for len(b) > 0 {
		var o delivery.Outgoing
		if b, err = cutOutgoing(b, &o); err != nil {
			return nil, err
		}
		outgoing = append(outgoing, o)
	}
	return outgoing, nil
}

// cutOutgoing decodes one delivery and returns the remaining bytes.
func cutOutgoing(b []byte, o *delivery.Outgoing) ([]byte, error) {
	var numbers [4]int64
	for i := range numbers {
		v, n := binary.Varint(b)
		if n <= 0 {
			return nil, errMalformed
		}
		numbers[i], b = v, b[n:]
	}
	var texts [4][]byte
	for i := range texts {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errMalformed
		}
		texts[i], b = b[n:n+int(size)], b[n+int(size):]
	}
	id := delivery.ID{Event: event.Key(numbers[0]), Endpoint: numbers[1]}
	*o = delivery.Outgoing{Delivery: delivery.New(id, event.Space(numbers[2])), Version: numbers[3],
		EventID: string(texts[0]), Type: string(texts[1]), Body: bytes.Clone(texts[2])}
	if len(texts[3]) > 0 {
		o.Trace = bytes.Clone(texts[3])
	}
	return b, nil
}
