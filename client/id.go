package client

import (
	"crypto/rand"
	"sync"
	"time"
)

// idAlphabet is in ASCII order, so that ids sort like the numbers in them. The server's ids
// have the same alphabet.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const (
	idLength    = 26
	idRandom    = 70 // bits
	counterBits = 13
)

// ids counts the ids of this process.
var ids sequence

// sequence returns increasing numbers: 42 bits of Unix milliseconds and a counter.
type sequence struct {
	mu   sync.Mutex
	last uint64
}

func (s *sequence) next(now time.Time) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last+1, uint64(max(now.UnixMilli(), 0))<<counterBits)
	return s.last
}

// NewID returns an id for an event. Ids of one process sort in the order of the calls; ids of
// several processes, and those of the server, sort by the millisecond. Each has 70 random bits.
func NewID() string { return newID(ids.next(time.Now())) }

// newID encodes a number of a sequence and random bits. Like the server's ids, it begins with
// five zero bits.
func newID(n uint64) string {
	var noise [idLength]byte
	rand.Read(noise[:]) // never fails (crypto/rand)
	out := make([]byte, idLength)
	for i := idLength - 1; i >= 0; i-- {
		if from := idLength - idRandom/5; i >= from {
			out[i] = idAlphabet[noise[i]&31]
			continue
		}
		out[i] = idAlphabet[n&31]
		n >>= 5
	}
	return "evt_" + string(out)
}
