package adminui

import (
	"github.com/posthaste-hq/posthaste/internal/account"
)

type auditView struct {
	Entries []account.Entry
	Actors  map[string]string // names, by identifier
	Target  string
	Action  string
	More    string
	Server  bool // of the server, not of an account
}

func audit(rq *request) error { return showAudit(rq, false) }

// serverAudit shows the changes of users, accounts and the server.
func serverAudit(rq *request) error { return showAudit(rq, true) }

func showAudit(rq *request, server bool) error {
	q := rq.URL.Query()
	v := auditView{Target: q.Get("target"), Action: q.Get("action"), Actors: map[string]string{}, Server: server}
	entries, more, err := rq.ui.Service.Auth.ListAudit(rq.Context(), rq.call, account.AuditFilter{Object: v.Target, Action: account.Action(v.Action)}, rq.page())
	if err != nil {
		return err
	}
	v.Entries = entries
	if more {
		v.More = withQuery(q, "after", entries[len(entries)-1].ID)
	}
	if v.Actors, err = rq.ui.Service.Auth.ActorNames(rq.Context(), rq.call); err != nil {
		return err
	}
	return rq.render("audit", v)
}
