package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// InlineDeliveries is the maximum number of an event's deliveries that are written in its own
// transaction. An event with more is stored with the list of its endpoints, and its deliveries
// are written afterwards, in slices.
const InlineDeliveries = 128

// FanOut is one slice of the remaining deliveries of a space's deferred events, in the order of
// the events. [Hot.Commit] writes it.
type FanOut struct {
	Space event.Space
	Limit int // deliveries

	Written []*Append // set by Commit: the events, each with the deliveries that this slice wrote
	More    bool      // set by Commit: the space needs further slices
	Busy    bool      // set by Commit: another node is writing a slice of this space; nothing was written
}

// PackEndpoints encodes the endpoints of some deliveries as they are stored: the numbers in
// ascending order, as unsigned varints of their differences.
func PackEndpoints(deliveries []delivery.Delivery) []byte {
	sorted := slices.Clone(deliveries)
	slices.SortFunc(sorted, func(a, b delivery.Delivery) int { return cmp.Compare(a.ID.Endpoint, b.ID.Endpoint) })
	packed, last := make([]byte, 0, 2*len(sorted)), int64(0)
	for i := range sorted {
		packed = binary.AppendUvarint(packed, uint64(sorted[i].ID.Endpoint-last))
		last = sorted[i].ID.Endpoint
	}
	return packed
}

// UnpackEndpoints decodes the result of [PackEndpoints].
func UnpackEndpoints(packed []byte) (numbers []int64, err error) {
	last := int64(0)
	for len(packed) > 0 {
		difference, n := binary.Uvarint(packed)
		if n <= 0 {
			return nil, errors.New("the list of an event's endpoints is damaged")
		}
		last += int64(difference)
		numbers, packed = append(numbers, last), packed[n:]
	}
	return numbers, nil
}
