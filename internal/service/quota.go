package service

import (
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// occupyAgain is the time after which a client should retry a refused connection.
const occupyAgain = 5 * time.Second

// Occupy counts a connection of the call's account until release is called. The operator's
// connections are counted separately. Errors: fault.RateLimited if the account has reached its
// limit.
func (s *Service) Occupy(c *call.Call, n quota.Name) (release func(), err error) {
	limit := s.Auth.LimitOn(c, n)
	release, ok := s.places.Take(n, c.Owner().Account, limit)
	if !ok {
		return nil, quota.Busy(n, occupyAgain, "The account has reached its limit %s: %d %s. Close one, or ask the operator for a higher limit.", n, limit, quota.What(n))
	}
	return release, nil
}

// dearBody is the size of a body, in bytes, from which on the number of concurrently parsed
// bodies of one account is limited.
const dearBody = 32 << 10

// Turn waits, for a large body, until fewer large bodies of the call's account are being parsed
// than half of the number of processors, because the requests of other accounts need a
// processor at each step. leave ends the turn.
func (s *Service) Turn(c *call.Call, size int) (leave func()) {
	if size < dearBody {
		return func() {}
	}
	return s.parser.Enter(c.Owner().Account)
}

// compilePerByte is the approximate time to compile a byte of an expression or a schema.
const compilePerByte = 5 * time.Microsecond

// compiling admits a call whose expressions and schemas have this size in bytes, and charges
// for their compilation. The caller calls leave afterwards. Errors: fault.RateLimited.
func (s *Service) compiling(c *call.Call, size int) (leave func(), err error) {
	if size == 0 {
		return func() {}, nil
	}
	owner, limit := c.Owner().Account, s.Auth.LimitOn(c, quota.ProcessorTime)
	leave = s.compiler.Enter(owner)
	if err := s.compiler.Admit(owner, limit); err != nil {
		leave()
		return nil, err
	}
	s.compiler.Charge(owner, limit, time.Duration(size)*compilePerByte)
	return leave, nil
}

// MayProcess reports whether the account of a space has processor time left.
func (s *Service) MayProcess(space event.Space) bool {
	return s.processor.Admit(space.Account(), s.processorTime(space)) == nil
}

// processorTime returns how many milliseconds of processor time per second the account of a
// space may use.
func (s *Service) processorTime(space event.Space) int {
	a, _ := s.Auth.AccountOf(space)
	return quota.Of(quota.ProcessorTime, a.Limits, s.Limits)
}

// dear reports whether an endpoint has a filter or a transformation, which cost processor time
// for each event.
func dear(w *endpoint.Endpoint) bool { return filtered(w) || w.Transform() != "" }

// process returns an error while the account of the call has exceeded its processor time, if a
// filter, transformation or schema applies to the event or to the endpoints subscribed to its
// type. The caller calls leave afterwards.
func (s *Service) process(c *call.Call, e *event.Event, to []*endpoint.Endpoint) (leave func(), err error) {
	d := s.types.Get(e.Space, e.Type)
	if (d == nil || d.Validation == event.ValidateOff) && !slices.ContainsFunc(to, dear) {
		return func() {}, nil
	}
	leave = func() {}
	account := e.Space.Account()
	if len(e.Body) >= dearBody {
		leave = s.processor.Enter(account)
	}
	if err := s.processor.Admit(account, s.Auth.LimitOn(c, quota.ProcessorTime)); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// Charge adds the processor time of filters and schemas of a space.
func (s *Service) Charge(space event.Space, cost time.Duration) {
	s.processor.Charge(space.Account(), s.processorTime(space), cost)
}
