package service

import (
	"maps"
	"time"

	"github.com/posthaste-hq/posthaste/internal/quota"
)

// limitOn returns the value of a quota for the call's account.
func (s *Service) limitOn(c *Call, n quota.Name) int {
	a, _ := s.AccountOf(c)
	return quota.Of(n, a.Limits, s.Limits)
}

// reserve returns an error when the call's account and mode have as many of a quota as they
// may. have counts those that are stored; until release is called, one more counts.
func (s *Service) reserve(c *Call, n quota.Name, have func() (int, error)) (release func(), err error) {
	limit := s.limitOn(c, n)
	release, ok, err := s.places.Take(n, int64(c.Space), limit, have)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, quota.Full(n, limit)
	}
	return release, nil
}

// occupyAgain is after which time a client should ask again for a connection.
const occupyAgain = 5 * time.Second

// Occupy counts a connection of the call's account until release is called. Those of the
// operator count apart. Errors: fault.RateLimited, when the account has as many as it may.
func (s *Service) Occupy(c *Call, n quota.Name) (release func(), err error) {
	limit := s.limitOn(c, n)
	release, ok, err := s.places.Take(n, c.Owner().Account, limit, nil)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, quota.Busy(n, occupyAgain, "The account has reached its limit %s: %d %s. Close one, or ask the operator for a higher limit.", n, limit, quota.What(n))
	}
	return release, nil
}

// LimitParams is what a request says of an account's limits, by name; nil is the server's
// limit again.
type LimitParams map[quota.Name]*int

// apply returns a set with the changes.
func (p LimitParams) apply(to quota.Set) (quota.Set, error) {
	changed := quota.Set{}
	maps.Copy(changed, to)
	for n, v := range p {
		if v != nil {
			changed[n] = *v
			continue
		}
		if err := (quota.Set{n: 0}).Check("limits"); err != nil { // there is no such limit
			return nil, err
		}
		delete(changed, n)
	}
	return changed, changed.Check("limits")
}

// LimitsOf returns all limits of an account as they are in force.
func (s *Service) LimitsOf(own quota.Set) quota.Set {
	all := quota.Set{}
	for _, l := range quota.Limits() {
		all[l.Name] = quota.Of(l.Name, own, s.Limits)
	}
	return all
}
