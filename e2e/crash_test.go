package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	crashKills = flag.Int("crash.kills", 20, "how often TestCrash kills the server")
	crashSeed  = flag.Uint64("crash.seed", 0, "seed of TestCrash; 0 takes the clock")
)

// TestCrash kills the server at random moments under load and restarts it. Every acknowledged
// event arrives unchanged, and no delivery remains pending.
func TestCrash(t *testing.T) {
	t.Parallel()
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crash.seed=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	l := newLoad(t, nil)
	data := t.TempDir()
	begin := func() *life { return l.begin(serve(t, data, "--test-schedule", faultSchedule)) }
	begin().register(l.receiver.URL)
	l.start(8)
	for kill := range *crashKills {
		// Wait for progress, so that each life does something, then for a random moment.
		goal := l.progress() + 20
		until(t, fmt.Sprintf("progress before kill %d", kill+1), func() bool { return l.progress() >= goal })
		moment := time.NewTimer(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
		<-moment.C
		s := l.current.Load()
		s.killed.Store(true)
		s.kill()
		begin()
	}
	l.reconcile(fmt.Sprintf("kills=%d", *crashKills))
	if *crashKills > 0 && (l.interrupted.Load() == 0 || len(l.refused) == 0) {
		t.Errorf("%d requests were cut off and %d events refused: the test proves little", l.interrupted.Load(), len(l.refused))
	}
}
