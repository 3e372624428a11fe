package httpapi

import (
	"maps"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service"
)

type accountView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Name    string `json:"name"`
	Created int64  `json:"created"`
	// RateLimit is in requests a minute; null is the server's default.
	RateLimit *int                  `json:"rate_limit"`
	Status    account.AccountStatus `json:"status"`
	Suspended *int64                `json:"suspended_at"`
	// Limits are those in force, by name: the account's own, or the server's.
	Limits quota.Set `json:"limits"`

	Revision revision `json:"-"`
}

func (a *api) viewAccount(acct *account.Account) accountView {
	v := viewAccount(acct)
	v.Limits = a.Service.LimitsOf(acct.Limits)
	return v
}

func viewAccount(a *account.Account) accountView {
	return accountView{ID: a.ID, Object: "account", Name: a.Name, Created: a.Created.Unix(), RateLimit: a.RateLimit, Status: a.Status(), Suspended: seconds(a.SuspendedAt), Revision: revision(a.Revision)}
}

func (rq *request) accountResult(v any) any {
	a := v.(account.Account)
	return rq.api.viewAccount(&a)
}

type whoAmIView struct {
	Object   string       `json:"object"`
	Key      keyView      `json:"api_key"`
	Account  *accountView `json:"account"`
	Livemode bool         `json:"livemode"`
}

func whoAmI(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	v := whoAmIView{Object: "caller", Key: viewKey(&rq.call.Key), Livemode: rq.call.Space.Live()}
	if a, ok := rq.service().AccountOf(rq.call); ok {
		av := rq.api.viewAccount(&a)
		v.Account = &av
	}
	return v, nil
}

func accountParams(p *params) (service.AccountParams, error) {
	in := service.AccountParams{Name: p.text("name"), Status: p.text("status")}
	if v, given := p.values["rate_limit"]; given {
		limit := p.integer("rate_limit")
		if v == nil || v == "" && p.form {
			limit = nil
		}
		in.RateLimit = &limit
	}
	if group, _ := p.group("limits"); group != nil {
		limits := service.LimitParams{}
		for name := range maps.Clone(group.values) {
			v := group.values[name]
			n := group.integer(name)
			if v == nil || v == "" && group.form {
				n = nil
			}
			limits[quota.Name(name)] = n
		}
		in.Limits = &limits
		p.endGroup("limits", group)
	}
	return in, p.done()
}

func createAccount(rq *request) (any, error) {
	in, err := accountParams(rq.params())
	if err != nil {
		return nil, err
	}
	if err := rq.repeatable(rq.accountResult); err != nil {
		return nil, err
	}
	a, err := rq.service().CreateAccount(rq.Context(), rq.call, in)
	if err != nil {
		return nil, err
	}
	return rq.api.viewAccount(&a), nil
}

func updateAccount(rq *request) (any, error) {
	in, err := accountParams(rq.params())
	if err != nil {
		return nil, err
	}
	if in == (service.AccountParams{}) {
		return nil, fault.Param("name", "parameter_missing", "Give the account's new name, rate limit, limits or status.")
	}
	if err := rq.repeatable(rq.accountResult); err != nil {
		return nil, err
	}
	a, err := rq.service().UpdateAccount(rq.Context(), rq.call, rq.id(), in)
	if err != nil {
		return nil, err
	}
	return rq.api.viewAccount(&a), nil
}

func getAccount(rq *request) (any, error) {
	if err := rq.query().done(); err != nil {
		return nil, err
	}
	a, err := rq.service().Account(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return rq.api.viewAccount(&a), nil
}

func listAccounts(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListAccounts(rq.Context(), rq.call, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, rq.api.viewAccount), nil
}

type keyView struct {
	ID       string       `json:"id"`
	Object   string       `json:"object"`
	Name     string       `json:"name"`
	Hint     string       `json:"hint"`
	Role     account.Role `json:"role"`
	Livemode bool         `json:"livemode"`
	Secret   string       `json:"secret,omitzero"`
	Created  int64        `json:"created"`
	Revoked  *int64       `json:"revoked"`
}

func viewKey(k *account.Key) keyView {
	return keyView{ID: k.ID, Object: "api_key", Name: k.Name, Hint: k.Hint, Role: k.Role, Livemode: k.Live,
		Created: k.Created.Unix(), Revoked: seconds(k.Revoked)}
}

// keptKey is what a repeated request is answered: without the secret, because what
// is kept for repetition is on disk, and of keys there is only their hash.
func keptKey(v any) any {
	k := v.(service.CreatedKey)
	return viewKey(&k.Key)
}

func createKey(rq *request) (any, error) {
	p := rq.params()
	name, live := deref(p.text("name")), deref(p.truth("livemode"))
	if err := p.done(); err != nil {
		return nil, err
	}
	if err := rq.repeatable(keptKey); err != nil {
		return nil, err
	}
	k, err := rq.service().CreateKey(rq.Context(), rq.call, name, live)
	if err != nil {
		return nil, err
	}
	view := viewKey(&k.Key)
	view.Secret = k.Secret // this once
	return view, nil
}

func listKeys(rq *request) (any, error) {
	p := rq.query()
	page := p.page()
	if err := p.done(); err != nil {
		return nil, err
	}
	items, more, err := rq.service().ListKeys(rq.Context(), rq.call, page)
	if err != nil {
		return nil, err
	}
	return list(rq, items, more, viewKey), nil
}

func revokeKey(rq *request) (any, error) {
	k, err := rq.service().RevokeKey(rq.Context(), rq.call, rq.id())
	if err != nil {
		return nil, err
	}
	return viewKey(&k), nil
}
