package service

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// VerifyAudit reads the whole audit log and tells whether it is as it was written.
// Operators only.
func (s *Service) VerifyAudit(ctx context.Context, c *Call) (store.AuditCheck, error) {
	if err := c.mustOperator(); err != nil {
		return store.AuditCheck{}, err
	}
	return s.Store.VerifyAudit(ctx)
}

// ListAudit lists what was done in the data that the call works in, newest first;
// for an operator who names no account, what was done to accounts and the server
// itself. The filter's Space is the call's.
func (s *Service) ListAudit(ctx context.Context, c *Call, f store.AuditFilter, p Page) ([]account.Entry, bool, error) {
	if !c.Operator() {
		if err := c.mustAccount(); err != nil {
			return nil, false, err
		}
	}
	f.Space = c.Space
	page, err := ResolvePage(p, func(param, id string) (string, error) {
		if _, _, ok := event.ParseID(event.PrefixAudit, id); !ok {
			return "", CursorFault(fault.Missing("audit entry", id), param, id)
		}
		return id, nil
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListAudit(ctx, f, page)
}
