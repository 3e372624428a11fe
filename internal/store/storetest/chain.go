package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
)

// The audit log verifies unchanged: concurrently, after retention has cut off its beginning,
// and after a restart.
func testAuditChain(b *bundle) {
	verified := func(when string, entries int) {
		b.Helper()
		c, err := b.VerifyAudit(b.ctx)
		b.ok(err)
		n := 0
		for _, chain := range c.Chains {
			n += chain.Entries
			if chain.Entries > 0 && (chain.Last-chain.First+1 != int64(chain.Entries) || chain.Seal == "") {
				b.Errorf("%s: chain %+v", when, chain)
			}
		}
		if n != entries || c.Unchained != 0 || len(c.Problems) > 0 {
			b.Errorf("%s: %d entries, want %d: %+v", when, n, entries, c)
		}
	}
	verified("empty", 0)
	start := time.UnixMilli(1700000000000)
	var all sync.WaitGroup
	for w := range 4 {
		for i := range 5 {
			e := b.entry(mine, fmt.Sprint("we_", w), account.SecretRevealed)
			e.Time = start.Add(time.Duration(i) * time.Second)
			if i%2 == 0 {
				e.Detail = nil
			}
			all.Go(func() {
				if err := b.Audit(b.ctx, e, nil); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait() // so that times ascend
		start = start.Add(10 * time.Second)
	}
	verified("written", 20)
	n, err := b.PurgeAudit(b.ctx, time.UnixMilli(1700000000000).Add(10*time.Second), 100)
	b.ok(err)
	b.equal("purged", n, 5)
	verified("purged", 15)
	b.ok(b.Audit(b.ctx, b.entry(mine, "we_9", account.SecretRevealed), nil))
	verified("written after the purge", 16)
}
