package quota

import (
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

const testCapacity = 64 << 20

// fill makes an account hold its full share, in requests of several keys.
func fill(b *Bodies, account int64) (held int64, give func()) {
	const step = 256 << 10
	keys := []string{"a", "b", "c", "d"}
	charges := make([]Charge, len(keys))
	for i, k := range keys {
		charges[i] = b.Open(Owner{Account: account, Key: k})
		for charges[i].Add(step) == nil {
			held += step
		}
	}
	return held, func() {
		for i := range charges {
			charges[i].Close()
		}
	}
}

func TestBodies_refusesOnlyTheAccountBeyondItsShare(t *testing.T) {
	b := NewBodies(testCapacity, 8<<20)
	var all []func()
	for hostile := int64(1); hostile <= 20; hostile++ {
		_, give := fill(b, hostile)
		all = append(all, give)
	}
	if held := b.Held(); held > 2*testCapacity+20*freeBytes {
		t.Errorf("20 accounts hold %d bytes", held)
	}
	over := b.Open(Owner{Account: 1, Key: "e"})
	if err := over.Add(1); !fault.Is(err, fault.RateLimited) {
		t.Errorf("one byte more of an account that holds its share: %v", err)
	}
	for victim := int64(100); victim < 120; victim++ {
		c := b.Open(Owner{Account: victim, Key: "k"})
		if err := c.Add(freeBytes); err != nil {
			t.Errorf("an event of account %d beside them: %v", victim, err)
		}
		all = append(all, c.Close)
	}
	c := b.Open(Owner{Address: "192.0.2.1"})
	if err := c.Add(freeAddressBytes); err != nil {
		t.Errorf("a small form without a credential beside them: %v", err)
	}
	for _, give := range append(all, c.Close, over.Close) {
		give()
		give() // more than once
	}
	if held := b.Held(); held != 0 || len(b.accounts)+len(b.keys)+len(b.addresses) != 0 {
		t.Errorf("%d bytes are still held, by %v", held, b.accounts)
	}
}

func TestBodies_sharesOfAccountKeyAndAddress(t *testing.T) {
	b := NewBodies(testCapacity, 8<<20)
	key := b.Open(Owner{Account: 1, Key: "a"})
	for range 3 {
		if err := key.Add(8 << 20); err != nil {
			t.Fatalf("batches of one key: %v", err)
		}
	}
	if err := key.Add(1); !fault.Is(err, fault.RateLimited) {
		t.Errorf("a key beyond its share: %v", err)
	}
	other := b.Open(Owner{Account: 1, Key: "b"})
	if err := other.Add(8 << 20); err != nil {
		t.Errorf("another key of the account: %v", err)
	}
	if err := other.Add(1); !fault.Is(err, fault.RateLimited) {
		t.Errorf("the account beyond its share: %v", err)
	}
	address := b.Open(Owner{Address: "192.0.2.1"})
	if err := address.Add(addressBytes + 1); !fault.Is(err, fault.RateLimited) {
		t.Errorf("an address beyond its share: %v", err)
	}
}

// While one account holds its full share, a second one can still send a batch.
func TestBodies_largeBodiesAreShared(t *testing.T) {
	b := NewBodies(testCapacity, 8<<20)
	fill(b, 1)
	fill(b, 2)
	c := b.Open(Owner{Account: 3, Key: "k"})
	if err := c.Add(8 << 20); err != nil {
		t.Errorf("a batch beside two accounts that hold all they may: %v", err)
	}
}

// The cost of counting per request.
func BenchmarkBodies(b *testing.B) {
	bodies := NewBodies(testCapacity, 8<<20)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := bodies.Open(Owner{Account: 1, Key: "key_1234567890abcdef"})
			if err := c.Add(1_000); err != nil {
				b.Error(err)
			}
			c.Close()
		}
	})
}
