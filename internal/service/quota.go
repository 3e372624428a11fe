package service

import (
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// occupyAgain is after which time a client should ask again for a connection.
const occupyAgain = 5 * time.Second

// Occupy counts a connection of the call's account until release is called. Those of the
// operator count apart. Errors: fault.RateLimited, when the account has as many as it may.
func (s *Service) Occupy(c *call.Call, n quota.Name) (release func(), err error) {
	limit := s.Auth.LimitOn(c, n)
	release, ok := s.places.Take(n, c.Owner().Account, limit)
	if !ok {
		return nil, quota.Busy(n, occupyAgain, "The account has reached its limit %s: %d %s. Close one, or ask the operator for a higher limit.", n, limit, quota.What(n))
	}
	return release, nil
}

// dearBody is the size of a body, in bytes, from which on few are decoded for filters and
// schemas of one account at a time.
const dearBody = 32 << 10

// Turn waits until few enough large bodies of the call's account are being parsed, if this one
// of so many bytes is large: half as many as there are processors, because the requests of
// other accounts wait for one at each step. leave ends the turn.
func (s *Service) Turn(c *call.Call, size int) (leave func()) {
	if size < dearBody {
		return func() {}
	}
	return s.parser.Enter(c.Owner().Account)
}

// compilePerByte is about what it takes to compile a byte of an expression or a schema.
const compilePerByte = 5 * time.Microsecond

// compiling admits a call that brings expressions and schemas of so many bytes to compile, and
// charges for them. leave is to be called when that is done. Errors: fault.RateLimited.
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

// MayTransform reports whether the account of an endpoint has processor time left for a
// transformation.
func (s *Service) MayTransform(e *endpoint.Endpoint) bool { return s.mayProcess(e.Space) }

// mayProcess reports whether the account of a space has processor time left.
func (s *Service) mayProcess(space event.Space) bool {
	return s.processor.Admit(space.Account(), s.processorTime(space)) == nil
}

// processorTime returns how many milliseconds of processor time per second the account of a
// space may use.
func (s *Service) processorTime(space event.Space) int {
	a, _ := s.Auth.AccountOf(space)
	return quota.Of(quota.ProcessorTime, a.Limits, s.Limits)
}

// Transformed charges the account of an endpoint for a transformation.
func (s *Service) Transformed(e *endpoint.Endpoint, cost time.Duration) { s.charge(e.Space, cost) }

// dear reports whether an event takes more processor time because of an endpoint.
func dear(w *endpoint.Endpoint) bool { return filtered(w) || w.Transform() != "" }

// process returns an error while the filters, transformations and schemas of the call's account
// have taken more processor time than they may, if the event, with the endpoints that want its
// type, is to be looked at by one. leave is to be called when that is done.
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

// charge adds processor time that the filters and schemas of a space have taken.
func (s *Service) charge(space event.Space, cost time.Duration) {
	s.processor.Charge(space.Account(), s.processorTime(space), cost)
}
