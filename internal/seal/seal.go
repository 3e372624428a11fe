// Package seal owns the encryption of stored secrets: envelope encryption under a master key
// that is stored separately.
//
// Each record is encrypted with a key of its own (AES-256-GCM), and that key with the master
// key. So in practice no nonce is used twice under the master key, and a change of the master
// key re-encrypts 32 bytes per record. A record is bound to a context, such as the identifier
// of its owner: it cannot be opened with another context.
//
// The package must not know the meaning of records or where they are stored.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Key is a master key: 32 bytes. Its printed form shows only its identifier.
type Key struct {
	raw [keySize]byte
	id  KeyID
}

// KeyID identifies a master key and reveals nothing about it.
type KeyID [idSize]byte

// String returns the identifier in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

const (
	keySize   = 32
	idSize    = 8
	nonceSize = 12
	tagSize   = 16

	version = 1

	// A record consists of a version, the identifier of the master key, the record's key sealed
	// under the master key, and the content sealed under the record's key.
	idAt        = 1
	wrappedAt   = idAt + idSize
	wrappedSize = nonceSize + keySize + tagSize
	contentAt   = wrappedAt + wrappedSize
	overhead    = contentAt + tagSize
)

// KeyPrefix begins the text of a master key.
const KeyPrefix = "phmk_"

// ErrBadKey is the error for a text that is not a master key. It does not contain the text.
var ErrBadKey = errors.New(`a master key is "phmk_" followed by 32 bytes in base64; "posthaste keys new-master" makes one`)

// NewKey returns a new master key.
func NewKey() *Key {
	var raw [keySize]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return newKey(raw)
}

func newKey(raw [keySize]byte) *Key {
	sum := sha256.Sum256(append([]byte("posthaste master key "), raw[:]...))
	return &Key{raw: raw, id: KeyID(sum[:idSize])}
}

// ParseKey reads a master key as text. Errors: [ErrBadKey].
func ParseKey(text string) (*Key, error) {
	encoded, ok := strings.CutPrefix(text, KeyPrefix)
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(raw) != keySize || strings.ContainsAny(text, "\r\n") {
		return nil, ErrBadKey
	}
	return newKey([keySize]byte(raw)), nil
}

// Text returns the key in the form that [ParseKey] reads.
func (k *Key) Text() string { return KeyPrefix + base64.StdEncoding.EncodeToString(k.raw[:]) }

// ID returns the key's identifier.
func (k *Key) ID() KeyID { return k.id }

// String implements [fmt.Stringer] without the key.
func (k *Key) String() string { return KeyPrefix + "… (" + k.id.String() + ")" }

// GoString implements [fmt.GoStringer] without the key.
func (k *Key) GoString() string { return k.String() }

// Ring is a set of master keys: the first one seals, all can open. It is safe for concurrent
// use.
type Ring struct {
	mu   sync.RWMutex
	keys []*Key // the first seals
}

// NewRing returns a ring of at least one key. The first one seals.
func NewRing(keys ...*Key) *Ring {
	r := &Ring{}
	r.Replace(keys...)
	return r
}

// ParseRing reads master keys separated by commas or white space; the first one seals. Errors:
// [ErrBadKey].
func ParseRing(text string) (*Ring, error) {
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, err
	}
	return NewRing(keys...), nil
}

// ParseKeys reads master keys separated by commas or white space. Errors: [ErrBadKey].
func ParseKeys(text string) (keys []*Key, err error) {
	for _, one := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t' }) {
		k, err := ParseKey(one)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, ErrBadKey
	}
	return keys, nil
}

// Replace replaces the keys of the ring; the first one seals.
func (r *Ring) Replace(keys ...*Key) {
	if len(keys) == 0 {
		panic("seal: a ring of no keys")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append([]*Key(nil), keys...)
}

// Keys returns the ring's keys; the first one seals.
func (r *Ring) Keys() []*Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append([]*Key(nil), r.keys...)
}

// Current returns the key that seals.
func (r *Ring) Current() *Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.keys[0]
}

func (r *Ring) find(id []byte) *Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, k := range r.keys {
		if subtle.ConstantTimeCompare(k.id[:], id) == 1 {
			return k
		}
	}
	return nil
}

// The reasons why a record cannot be opened.
var (
	// ErrNoKey: the record was sealed under a master key that is not in the ring.
	ErrNoKey = errors.New("the record was sealed with another master key")
	// ErrCorrupt: the data is not a record, was changed, or belongs to another context.
	ErrCorrupt = errors.New("the sealed record is damaged or not in its place")
)

// Seal encrypts plain for the given context.
func (r *Ring) Seal(plain []byte, context string) []byte {
	master := r.Current()
	var key [keySize]byte
	rand.Read(key[:])
	record := make([]byte, 0, overhead+len(plain))
	record = append(append(record, version), master.id[:]...)
	record = wrap(record, master, key[:], context)
	// The key is used once, so the nonce may be constant.
	return gcm(key[:]).Seal(record, make([]byte, nonceSize), plain, []byte(context))
}

func wrap(dst []byte, master *Key, key []byte, context string) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return gcm(master.raw[:]).Seal(append(dst, nonce[:]...), nonce[:], key, []byte(context))
}

// Open decrypts a record of the given context. Errors: [ErrNoKey], [ErrCorrupt].
func (r *Ring) Open(record []byte, context string) ([]byte, error) {
	key, err := r.unwrap(record, context)
	if err != nil {
		return nil, err
	}
	plain, err := gcm(key).Open(nil, make([]byte, nonceSize), record[contentAt:], []byte(context))
	if err != nil {
		return nil, ErrCorrupt
	}
	return plain, nil
}

func (r *Ring) unwrap(record []byte, context string) ([]byte, error) {
	id, err := SealedUnder(record)
	if err != nil {
		return nil, err
	}
	master := r.find(id[:])
	if master == nil {
		return nil, fmt.Errorf("%w (%s)", ErrNoKey, id)
	}
	wrapped := record[wrappedAt:contentAt]
	key, err := gcm(master.raw[:]).Open(nil, wrapped[:nonceSize], wrapped[nonceSize:], []byte(context))
	if err != nil {
		return nil, ErrCorrupt
	}
	return key, nil
}

// SealedUnder returns the identifier of the master key of a record. Errors: [ErrCorrupt].
func SealedUnder(record []byte) (id KeyID, err error) {
	if len(record) < overhead || record[0] != version {
		return id, ErrCorrupt
	}
	return KeyID(record[idAt:wrappedAt]), nil
}

// Reseal returns the record sealed under the ring's first key, and whether it was changed. Its
// content is not decrypted. Errors: [ErrNoKey], [ErrCorrupt].
func (r *Ring) Reseal(record []byte, context string) ([]byte, bool, error) {
	master := r.Current()
	id, err := SealedUnder(record)
	if err != nil || id == master.id {
		return record, false, err
	}
	key, err := r.unwrap(record, context)
	if err != nil {
		return nil, false, err
	}
	out := make([]byte, 0, len(record))
	out = append(append(out, version), master.id[:]...)
	out = wrap(out, master, key, context)
	return append(out, record[contentAt:]...), true, nil
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key has the right size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
