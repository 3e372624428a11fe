package event

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"
)

// Key is the number under which an event is stored: 42 bits of Unix milliseconds, 8 bits of
// node and 13 bits of counter. Keys of one node strictly increase, so key order is its order of
// acceptance, a time range is a key range, and rows are always appended at the end of a table.
type Key int64

const (
	keyCounterBits = 13
	keyNodeBits    = 8
	keyTimeShift   = keyCounterBits + keyNodeBits
)

// Time returns when the key was generated, to the millisecond.
func (k Key) Time() time.Time { return time.UnixMilli(int64(k) >> keyTimeShift) }

// KeyAt returns the smallest key that can be generated at t: the lower bound of a time range.
func KeyAt(t time.Time) Key { return Key(max(t.UnixMilli(), 0) << keyTimeShift) }

// Keys generates keys. It is safe for concurrent use.
type Keys struct {
	now  func() time.Time
	node int64

	mu   sync.Mutex
	last int64 // time and counter of the last key, without the node
}

// NewKeys returns a generator for one node (0 to 255). Two live generators of
// one store must not share a node.
func NewKeys(now func() time.Time, node uint8) *Keys {
	return &Keys{now: now, node: int64(node) << keyCounterBits}
}

// Next returns a key greater than all earlier keys of g, even if the clock steps back: it then
// continues to count from the last one.
func (g *Keys) Next() Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = max(g.last+1, g.now().UnixMilli()<<keyCounterBits)
	ms, counter := g.last>>keyCounterBits, g.last&(1<<keyCounterBits-1)
	return Key(ms<<keyTimeShift | g.node | counter)
}

// After makes every later key greater than k. A store calls it at startup with its newest key,
// so that a clock stepped back between two runs repeats none.
func (g *Keys) After(k Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ms := int64(k) >> keyTimeShift
	g.last = max(g.last, (ms+1)<<keyCounterBits-1) // k may be of another node: begin with the next millisecond
}

// Identifier prefixes of the API's objects.
const (
	PrefixEvent    = "evt_"
	PrefixDelivery = "dlv_"
	PrefixAttempt  = "att_"
	PrefixEndpoint = "we_"
	PrefixAccount  = "acct_"
	PrefixKey      = "key_"
	PrefixSecret   = "sec_"
	PrefixAudit    = "aud_"
	PrefixJob      = "job_"
	PrefixUser     = "usr_"
	PrefixPortal   = "prt_"
	PrefixSession  = "ses_"
)

// idAlphabet is in ASCII order, so that ids sort like the numbers in them. It lacks i, l, o and
// u, which are easily misread.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const idLength = 20 // characters for 96 bits

var idValue = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(idAlphabet) {
		t[idAlphabet[i]] = int8(i)
	}
	return t
}()

// FormatID returns prefix and 20 characters that encode k and n. Ids with one prefix sort by k,
// and therefore by time.
func FormatID(prefix string, k Key, n uint32) string {
	return string(AppendID(make([]byte, 0, len(prefix)+idLength), prefix, k, n))
}

// AppendID appends the result of [FormatID] to dst.
func AppendID(dst []byte, prefix string, k Key, n uint32) []byte {
	dst = append(dst, prefix...)
	// The 96 bits of k and n, split into the upper 60 and the lower 36.
	hi, lo := uint64(k)>>4, uint64(k)&15<<32|uint64(n)
	var out [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi&31<<31
		hi >>= 5
	}
	return append(dst, out[:]...)
}

// DerivedID returns an id that sorts by t among the ids of [FormatID]. The same time and seed
// return the same id, so that a redelivered message has the id of its first delivery.
func DerivedID(prefix string, t time.Time, seed [32]byte) string {
	bits := binary.BigEndian.Uint64(seed[:])
	id := AppendID(make([]byte, 0, len(prefix)+idLength+derivedTail), prefix, KeyAt(t)|Key(bits>>32&(1<<keyTimeShift-1)), uint32(bits))
	for _, b := range seed[8 : 8+derivedTail] {
		id = append(id, idAlphabet[b&31])
	}
	return string(id)
}

// derivedTail makes derived ids longer than those of FormatID, so that [ParseID] refuses them.
const derivedTail = 12

// ParseID returns the numbers that [FormatID] encoded in id, and false for any other string.
func ParseID(prefix, id string) (k Key, n uint32, ok bool) {
	if len(id) != len(prefix)+idLength || id[:len(prefix)] != prefix {
		return 0, 0, false
	}
	var hi, lo uint64 // 128 bits, of which the id contains 100 and may use 96
	for _, c := range []byte(id[len(prefix):]) {
		v := idValue[c]
		if v < 0 {
			return 0, 0, false
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(v)
	}
	if hi>>32 != 0 {
		return 0, 0, false
	}
	if k = Key(hi<<32 | lo>>32); k < 0 {
		return 0, 0, false
	}
	return k, uint32(lo), true
}

// IDs generates identifiers from a new key and a random number, so that they cannot be guessed.
// It is safe for concurrent use.
type IDs struct {
	Keys *Keys
	Rand func() uint32
}

// NewIDs returns identifiers from keys and the runtime's random source.
func NewIDs(keys *Keys) *IDs { return &IDs{Keys: keys, Rand: rand.Uint32} }

// New returns an identifier with the given prefix.
func (g *IDs) New(prefix string) string { return FormatID(prefix, g.Keys.Next(), g.Rand()) }
