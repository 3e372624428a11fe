package httpapi

import (
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/store"
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

func listAudit(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	f := store.AuditFilter{Object: p.given("target"), Action: account.Action(p.given("action"))}
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListAudit(rq.Context(), rq.call, f, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, viewAudit), nil
}
