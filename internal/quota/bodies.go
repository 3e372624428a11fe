package quota

import (
	"net/netip"
	"sync"
	"time"
)

// DefaultBodies is the default of [NewBodies], in bytes. While a request runs, it uses about
// three times the size of its body in addition.
const DefaultBodies = 64 << 20

const (
	// freeBytes is what an account may hold even if the server is full: the largest event by
	// default.
	freeBytes = 256 << 10
	// addressBytes is the share of an address whose requests have no credential, and
	// freeAddressBytes the part of it that the address may hold even if the server is full.
	addressBytes     = 64 << 10
	freeAddressBytes = 4 << 10
)

// Owner is the one that a request's body is charged to: an account, by number, with one of its
// keys, users or portal sessions; or, for a request without a credential, its source address.
type Owner struct {
	Account int64
	Key     string
	Address string
}

// Address returns the part of a request's remote address that identifies one client: the IPv4
// address, or the /64 network of an IPv6 address, because one client may have all addresses of
// it.
func Address(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "unknown"
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// Bodies counts the bytes of request bodies in memory by owner, as they are read. It is safe
// for concurrent use.
//
// An account may hold half of the capacity, and one key of it three eighths. While the bodies
// together fill the capacity, an account may hold no more than the capacity divided by the
// number of accounts with requests under way: only the accounts that hold more are refused.
// Bodies never hold more than twice the capacity, apart from the amount that each owner may
// always hold.
type Bodies struct {
	capacity int64

	mu        sync.Mutex
	total     int64
	accounts  map[int64]*holding
	keys      map[Owner]*holding
	addresses map[string]*holding
}

// holding is the memory of one owner's requests.
type holding struct {
	bytes    int64
	requests int
}

// NewBodies returns an empty count. The capacity is increased if one key could not hold a body
// of largest bytes.
func NewBodies(capacity, largest int64) *Bodies {
	return &Bodies{capacity: max(capacity, 4*largest), accounts: map[int64]*holding{}, keys: map[Owner]*holding{}, addresses: map[string]*holding{}}
}

// Charge is the memory of one request. The zero value charges nothing. It is not safe for
// concurrent use.
type Charge struct {
	of    *Bodies
	owner Owner
	whole *holding // of the account or the address
	key   *holding // nil for an address
	bytes int64
}

// Open begins the charge of one request. Close must be called.
func (b *Bodies) Open(o Owner) Charge {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Charge{of: b, owner: o}
	if o.Address != "" {
		c.whole = enter(b.addresses, o.Address)
		return c
	}
	c.whole, c.key = enter(b.accounts, o.Account), enter(b.keys, o)
	return c
}

func enter[K comparable](all map[K]*holding, k K) *holding {
	h := all[k]
	if h == nil {
		h = &holding{}
		all[k] = h
	}
	h.requests++
	return h
}

func leave[K comparable](all map[K]*holding, k K, bytes int64) {
	h := all[k]
	h.bytes -= bytes
	if h.requests--; h.requests == 0 {
		delete(all, k)
	}
}

// Add charges n more bytes. Errors: fault.RateLimited if the owner's share is used up; then
// nothing is charged.
func (c *Charge) Add(n int) error {
	if c.of == nil {
		return nil
	}
	b, more := c.of, int64(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.admits(c, more) {
		who := "account"
		if c.owner.Address != "" {
			who = "address"
		}
		return Busy(BodyBytes, time.Second, "The requests of this %s that are under way take too much memory. Send fewer or smaller ones at a time.", who)
	}
	b.total += more
	c.bytes += more
	c.whole.bytes += more
	if c.key != nil {
		c.key.bytes += more
	}
	return nil
}

// admits reports whether an owner may hold more additional bytes.
func (b *Bodies) admits(c *Charge, more int64) bool {
	holds, total := c.whole.bytes+more, b.total+more
	switch {
	case c.key == nil:
		return holds <= freeAddressBytes || holds <= addressBytes && total <= b.capacity
	case holds <= freeBytes:
		return true
	case holds > b.capacity/2 || c.key.bytes+more > b.capacity/8*3:
		return false
	case total <= b.capacity:
		return true
	}
	return total <= 2*b.capacity && holds <= b.capacity/int64(len(b.accounts))
}

// Close ends the charge of the request. It may be called more than once.
func (c *Charge) Close() {
	if c.of == nil {
		return
	}
	b := c.of
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total -= c.bytes
	if c.key == nil {
		leave(b.addresses, c.owner.Address, c.bytes)
	} else {
		leave(b.accounts, c.owner.Account, c.bytes)
		leave(b.keys, c.owner, c.bytes)
	}
	*c = Charge{}
}

// Of returns how many bytes an account holds, and how many it may hold at most.
func (b *Bodies) Of(account int64) (held, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.accounts[account]; h != nil {
		held = int(h.bytes)
	}
	return held, int(b.capacity / 2)
}

// Held returns how many bytes of bodies are in memory.
func (b *Bodies) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
