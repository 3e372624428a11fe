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

// encodeJobs encodes new deliveries as texts that fit into messages. It returns the IDs of the
// deliveries that are too large for a message.
func encodeJobs(jobs []store.Job) (texts []string, large []delivery.ID) {
	for len(jobs) > 0 {
		n, size := 0, 0
		for n < len(jobs) && (n == 0 || size < encodeFrom) {
			size += len(jobs[n].Body)
			n++
		}
		some, big := encodeSome(jobs[:n])
		texts, large, jobs = append(texts, some...), append(large, big...), jobs[n:]
	}
	return texts, large
}

func encodeSome(jobs []store.Job) (texts []string, large []delivery.ID) {
	var b []byte
	for i := range jobs {
		b = appendJob(b, &jobs[i])
	}
	b = store.Pack(b)
	switch n := base64.RawStdEncoding.EncodedLen(len(b)); {
	case n <= maxMessage:
		return []string{base64.RawStdEncoding.EncodeToString(b)}, nil
	case len(jobs) == 1:
		return nil, []delivery.ID{jobs[0].Delivery.ID}
	}
	half := len(jobs) / 2
	texts, large = encodeSome(jobs[:half])
	more, big := encodeSome(jobs[half:])
	return append(texts, more...), append(large, big...)
}

// appendJob appends the encoding of a new delivery and of its event.
func appendJob(b []byte, j *store.Job) []byte {
	for _, n := range []int64{int64(j.Delivery.ID.Event), j.Delivery.ID.Endpoint, int64(j.Delivery.Space), j.Version} {
		b = binary.AppendVarint(b, n)
	}
	for _, text := range [][]byte{[]byte(j.EventID), []byte(j.Type), j.Body, j.Trace} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

var errMalformed = errors.New("the message is malformed")

// decodeJobs decodes a text of encodeJobs.
func decodeJobs(text string) (jobs []store.Job, err error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errMalformed
	}
	if b, err = store.Unpack(b); err != nil {
		return nil, err
	}
	for len(b) > 0 {
		var j store.Job
		if b, err = cutJob(b, &j); err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// cutJob decodes one delivery and returns the remaining bytes.
func cutJob(b []byte, j *store.Job) ([]byte, error) {
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
	*j = store.Job{Delivery: delivery.New(id, event.Space(numbers[2])), Version: numbers[3],
		EventID: string(texts[0]), Type: string(texts[1]), Body: bytes.Clone(texts[2])}
	if len(texts[3]) > 0 {
		j.Trace = bytes.Clone(texts[3])
	}
	return b, nil
}
