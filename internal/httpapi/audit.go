package httpapi

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// auditView is the audit_entry object.
type auditView struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Created  int64             `json:"created"`
	Actor    string            `json:"actor"`
	Action   account.Action    `json:"action"`
	Target   string            `json:"target"`
	Request  *string           `json:"request"`
	Remote   *string           `json:"remote_addr"`
	Detail   map[string]string `json:"detail"`
	Livemode bool              `json:"livemode"`
}

func viewAudit(e *account.Entry) auditView {
	return auditView{ID: e.ID, Object: "audit_entry", Created: e.Time.Unix(), Actor: e.Actor, Action: e.Action, Target: e.Object,
		Request: orNull(e.Request), Remote: orNull(e.Remote), Detail: e.Detail, Livemode: e.Space.Live()}
}

func listAudit(rq *request) (answer, error) {
	p := rq.query()
	f := account.AuditFilter{Object: p.given("target"), Action: account.Action(p.given("action"))}
	return pageOf(rq, p, viewAudit, func(ctx context.Context, c *call.Call, page call.Page) ([]account.Entry, bool, error) {
		return rq.service().Auth.ListAudit(ctx, c, f, page)
	})
}

func verifyAudit(rq *request) (answer, error) {
	if err := rq.query().done(); err != nil {
		return answer{}, err
	}
	found, err := rq.service().Auth.VerifyAudit(rq.Context(), rq.call)
	if err != nil {
		return answer{}, err
	}
	return inJSON(found)
}
