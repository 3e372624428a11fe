package service

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// forServer returns a call that works in no account.
func (c *Call) forServer() *Call {
	server := *c
	server.Space = (&account.Key{Role: account.Operator}).Space()
	return &server
}

// CreateOperatorKey makes an operator key. Operators only.
func (s *Service) CreateOperatorKey(ctx context.Context, c *Call, name string) (CreatedKey, error) {
	if err := c.mustOperator(); err != nil {
		return CreatedKey{}, err
	}
	return s.createKey(ctx, c, c.forServer(), name, account.PrefixAdmin)
}

// ListOperatorKeys lists operator keys, newest first, without secrets. Operators only.
func (s *Service) ListOperatorKeys(ctx context.Context, c *Call, p Page) ([]account.Key, bool, error) {
	if err := c.mustOperator(); err != nil {
		return nil, false, err
	}
	return s.listKeys(ctx, store.KeyFilter{}, p)
}

// RevokeOperatorKey revokes an operator key and ends the connections, portal sessions and jobs
// that were started with it. Operators only. The last key cannot be revoked: the server would
// be left without an operator.
func (s *Service) RevokeOperatorKey(ctx context.Context, c *Call, id string) (account.Key, error) {
	if err := c.mustOperator(); err != nil {
		return account.Key{}, err
	}
	if err := s.CatchUp(ctx); err != nil { // another node may have revoked the others
		return account.Key{}, err
	}
	var found account.Key
	others := 0
	for _, k := range s.keys.with(0, account.Operator) {
		switch {
		case k.ID == id:
			found = k
		case k.Revoked.IsZero():
			others++
		}
	}
	if found.ID == "" {
		return found, fault.Missing("operator key", id)
	}
	if others == 0 && found.Revoked.IsZero() {
		return found, fault.Param("id", "operator_key_last", "This is the only operator key. Create another one first.")
	}
	return s.revokeKey(ctx, c.forServer(), found)
}
