package auth

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// VerifyAudit reads the whole audit log and checks that no entry was changed or removed.
// Operators only.
func (s *Auth) VerifyAudit(ctx context.Context, c *call.Call) (account.AuditCheck, error) {
	if err := c.MustOperator(); err != nil {
		return account.AuditCheck{}, err
	}
	return s.Store.VerifyAudit(ctx)
}

// ListAudit lists the changes in the call's account and mode, newest first; for an operator
// without an account, the changes to accounts and to the server. The filter's Space is that of
// the call.
func (s *Auth) ListAudit(ctx context.Context, c *call.Call, f account.AuditFilter, p call.Page) ([]account.Entry, bool, error) {
	if !c.Operator() {
		if err := c.MustAccount(); err != nil {
			return nil, false, err
		}
	}
	f.Space = c.Space
	page, err := call.ResolvePage(p, call.ByID(event.PrefixAudit))
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListAudit(ctx, f, page)
}
