package service

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// VerifyAudit reads the whole audit log and checks that no entry was changed or removed.
// Operators only.
func (s *Service) VerifyAudit(ctx context.Context, c *call.Call) (store.AuditCheck, error) {
	if err := c.MustOperator(); err != nil {
		return store.AuditCheck{}, err
	}
	return s.Store.VerifyAudit(ctx)
}

// ListAudit lists the changes in the call's account and mode, newest first; for an operator
// without an account, the changes to accounts and to the server. The filter's Space is that of
// the call.
func (s *Service) ListAudit(ctx context.Context, c *call.Call, f store.AuditFilter, p call.Page) ([]account.Entry, bool, error) {
	if !c.Operator() {
		if err := c.MustAccount(); err != nil {
			return nil, false, err
		}
	}
	f.Space = c.Space
	page, err := call.ResolvePage(p, func(param, id string) (string, error) {
		if _, _, ok := event.ParseID(event.PrefixAudit, id); !ok {
			return "", call.CursorFault(fault.Missing("audit entry", id), param, id)
		}
		return id, nil
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListAudit(ctx, f, page)
}

// AuditReport is the result of verifying the audit log, as the API and the command line return
// it.
type AuditReport struct {
	Object    string         `json:"object"`
	OK        bool           `json:"ok"`
	Unchained int            `json:"unchained"`
	Chains    []AuditChain   `json:"chains"`
	Problems  []AuditProblem `json:"problems"`
}

// AuditChain is the part of the audit log that one node wrote.
type AuditChain struct {
	Node    int64  `json:"node"`
	Entries int    `json:"entries"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Seal    string `json:"seal"`
}

// AuditProblem is a place where the audit log was changed.
type AuditProblem struct {
	Node     int64   `json:"node"`
	Sequence int64   `json:"sequence"`
	Entry    *string `json:"entry"` // nil: it is missing
	Message  string  `json:"message"`
}

// ReportAudit converts the result of a check of the audit log.
func ReportAudit(found store.AuditCheck) AuditReport {
	out := AuditReport{Object: "audit_check", OK: len(found.Problems) == 0, Unchained: found.Unchained, Chains: []AuditChain{}, Problems: []AuditProblem{}}
	for _, c := range found.Chains {
		out.Chains = append(out.Chains, AuditChain(c))
	}
	for _, p := range found.Problems {
		problem := AuditProblem{Node: p.Chain, Sequence: p.Sequence, Message: p.Text}
		if p.Entry != "" {
			problem.Entry = &p.Entry
		}
		out.Problems = append(out.Problems, problem)
	}
	return out
}
