package quota

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// processorBurst is how many seconds' worth of processor time an account may use at once.
const processorBurst = 2

// Processor counts the processor time that the filters, schemas and transformations of accounts use. It
// charges counted steps and not measured time, so that the cost does not depend on the load of the machine.
// Use [NewProcessor]; it is safe for concurrent use.
type Processor struct {
	now   func() time.Time
	turns int          // expensive tasks of one account that may run at a time
	any   atomic.Int64 // accounts with a debt, so that a check takes no lock if there are none

	mu       sync.Mutex
	accounts map[int64]*usage
}

// usage is the debt of one account, which decreases with time.
type usage struct {
	debt  time.Duration
	at    time.Time
	turns chan struct{} // holds an element for each expensive task that runs
	users int
}

// NewProcessor returns a count by a clock, such as time.Now. At most turns expensive tasks of
// an account run at a time; 0: half the number of processors.
func NewProcessor(now func() time.Time, turns int) *Processor {
	if turns == 0 {
		turns = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	return &Processor{now: now, turns: turns, accounts: map[int64]*usage{}}
}

// Admit returns an error if an account that may use perSecond milliseconds per second has used
// more. Errors: fault.RateLimited.
func (p *Processor) Admit(account int64, perSecond int) error {
	if p.any.Load() == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.accounts[account]
	if u == nil {
		return nil
	}
	u.pay(p.now(), perSecond)
	burst := processorBurst * time.Duration(perSecond) * time.Millisecond
	if u.debt <= burst {
		p.tidy(account, u)
		return nil
	}
	wait := time.Minute
	if perSecond > 0 {
		wait = min((u.debt-burst)*1000/time.Duration(perSecond)+time.Millisecond, wait)
	}
	return Busy(ProcessorTime, wait, "The filters, schemas and transformations of this account take more than %d milliseconds of processor time per second. Simplify them, or send smaller or fewer events.", perSecond)
}

func (u *usage) pay(now time.Time, perSecond int) {
	if elapsed := now.Sub(u.at); elapsed > 0 {
		u.debt = max(u.debt-min(elapsed, time.Hour)*time.Duration(perSecond)/1000, 0)
	}
	u.at = now
}

// Charge adds time that an account has used.
func (p *Processor) Charge(account int64, perSecond int, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.of(account)
	u.pay(p.now(), perSecond)
	u.debt += took
}

// Used returns the debt of an account that may use perSecond milliseconds per second.
func (p *Processor) Used(account int64, perSecond int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.accounts[account]
	if u == nil {
		return 0
	}
	u.pay(p.now(), perSecond)
	return u.debt
}

// Enter waits until an expensive task of the account may run. The task ends when leave is
// called.
func (p *Processor) Enter(account int64) (leave func()) {
	p.mu.Lock()
	u := p.of(account)
	u.users++
	p.mu.Unlock()
	u.turns <- struct{}{}
	return func() {
		<-u.turns
		p.mu.Lock()
		defer p.mu.Unlock()
		u.users--
		p.tidy(account, u)
	}
}

func (p *Processor) of(account int64) *usage {
	u := p.accounts[account]
	if u == nil {
		u = &usage{at: p.now(), turns: make(chan struct{}, p.turns)}
		p.accounts[account] = u
		p.any.Add(1)
	}
	return u
}

// tidy removes an account without a debt.
func (p *Processor) tidy(account int64, u *usage) {
	if u.debt == 0 && u.users == 0 && p.accounts[account] == u {
		delete(p.accounts, account)
		p.any.Add(-1)
	}
}
