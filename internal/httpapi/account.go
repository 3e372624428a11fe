package httpapi

import (
	"maps"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

type accountView struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Name    string `json:"name"`
	Created int64  `json:"created"`
	// RateLimit is in requests per minute; null means the server's default.
	RateLimit *int                  `json:"rate_limit"`
	Status    account.AccountStatus `json:"status"`
	Suspended *int64                `json:"suspended_at"`
	EraseAt   *int64                `json:"erase_at"` // of a deleted account
	Erased    *int64                `json:"erased,omitzero"`
	// Limits are the current limits, by name: the account's own, or the server's.
	Limits quota.Set `json:"limits"`
	// Searchable is the paths by which events can be found.
	Searchable []string `json:"searchable_keys"`

	ExternalID *string           `json:"external_id"`
	Metadata   map[string]string `json:"metadata"`

	Revision revision `json:"-"`
}

func (a *api) viewAccount(acct *account.Account) accountView {
	v := viewAccount(acct)
	v.Limits = a.Service.Auth.LimitsOf(acct.Limits)
	return v
}

func viewAccount(a *account.Account) accountView {
	return accountView{ID: a.ID, Object: "account", Name: a.Name, Created: a.Created.Unix(), RateLimit: a.RateLimit, Status: a.Status(), Suspended: seconds(a.SuspendedAt), EraseAt: seconds(a.EraseAt), Erased: seconds(a.Erased), Searchable: a.SearchPaths(), ExternalID: orNull(a.ExternalID), Metadata: a.Metadata, Revision: revision(a.Revision)}
}

func (rq *request) accountAnswer() render[account.Account] {
	return tagged(byValue(rq.api.viewAccount))
}

type whoAmIView struct {
	Object   string       `json:"object"`
	Key      keyView      `json:"api_key"`
	Account  *accountView `json:"account"`
	Livemode bool         `json:"livemode"`
}

func whoAmI(rq *request) (answer, error) {
	if err := rq.query().done(); err != nil {
		return answer{}, err
	}
	v := whoAmIView{Object: "caller", Key: viewKey(&rq.call.Key), Livemode: rq.call.Space.Live()}
	if a, ok := rq.service().Auth.AccountOf(rq.call.Space); ok {
		av := rq.api.viewAccount(&a)
		v.Account = &av
	}
	return inJSON(v)
}

func accountParams(p *params) auth.AccountParams {
	in := auth.AccountParams{Name: p.text("name"), Status: p.text("status"), ExternalID: p.text("external_id")}
	if metadata := p.textMap("metadata"); metadata != nil {
		in.Metadata = &metadata
	}
	if v, given := p.values["rate_limit"]; given {
		limit := p.integer("rate_limit")
		if v == nil || v == "" && p.form {
			limit = nil
		}
		in.RateLimit = &limit
	}
	if v, given := p.values["searchable_keys"]; given {
		var paths *[]string
		if v == nil {
			_, _ = p.take("searchable_keys")
		} else {
			paths = p.texts("searchable_keys")
		}
		in.Searchable = &paths
	}
	if group, _ := p.group("limits"); group != nil {
		limits := auth.LimitParams{}
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
	return in
}

func createAccount(rq *request) (answer, error) {
	p := rq.params()
	in := accountParams(p)
	return act(rq, p, rq.accountAnswer(), func() (account.Account, error) { return rq.service().Auth.CreateAccount(rq.Context(), rq.call, in) })
}

func updateAccount(rq *request) (answer, error) {
	p := rq.params()
	in := accountParams(p)
	if err := p.done(); err == nil && in == (auth.AccountParams{}) {
		return answer{}, fault.Param("name", "parameter_missing", "Set the account's new name, rate limit, limits, searchable keys, external id, metadata or status.")
	}
	return act(rq, p, rq.accountAnswer(), func() (account.Account, error) {
		return rq.service().Auth.UpdateAccount(rq.Context(), rq.call, rq.id(), in)
	})
}

// putAccount takes the account's external id from the path.
func putAccount(rq *request) (answer, error) {
	p := rq.params()
	in := accountParams(p)
	return act(rq, p, rq.accountAnswer(), func() (account.Account, error) {
		return rq.service().Auth.PutAccount(rq.Context(), rq.call, rq.id(), in)
	})
}

func deleteAccount(rq *request) (answer, error) {
	return actOnIt(rq, rq.accountAnswer(), rq.service().DeleteAccount)
}

func getAccount(rq *request) (answer, error) {
	return one(rq, rq.service().Auth.Account, rq.accountAnswer())
}

// usageView is the account_usage object.
type usageView struct {
	Object  string    `json:"object"`
	Account string    `json:"account"`
	Data    []useView `json:"data"`
}

// useView is the usage of one quota.
type useView struct {
	Name     string `json:"name"`
	What     string `json:"description"`
	Livemode *bool  `json:"livemode"` // null: of both modes
	Used     *int   `json:"used"`
	Limit    *int   `json:"limit"`
	Scope    string `json:"scope"` // server, or node: counted on the responding node only
}

func viewUsage(u *service.Usage) usageView {
	out := usageView{Object: "account_usage", Account: u.Account.ID}
	for _, use := range u.Uses {
		scope := "server"
		if use.Node {
			scope = "node"
		}
		out.Data = append(out.Data, useView{string(use.Name), use.What, use.Live, use.Used, use.Limit, scope})
	}
	return out
}

func getUsage(rq *request) (answer, error) {
	return one(rq, rq.service().Usage, shown(byValue(viewUsage)))
}

func listAccounts(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), rq.api.viewAccount, rq.service().Auth.ListAccounts)
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

func createKey(rq *request) (answer, error) {
	p := rq.params()
	name, live := deref(p.text("name")), deref(p.boolean("livemode"))
	return answerKey(rq, p, func() (auth.CreatedKey, error) {
		return rq.service().Auth.CreateKey(rq.Context(), rq.call, name, live)
	})
}

func createOperatorKey(rq *request) (answer, error) {
	p := rq.params()
	name := deref(p.text("name"))
	return answerKey(rq, p, func() (auth.CreatedKey, error) {
		return rq.service().Auth.CreateOperatorKey(rq.Context(), rq.call, name)
	})
}

func listOperatorKeys(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), viewKey, rq.service().Auth.ListOperatorKeys)
}

func revokeOperatorKey(rq *request) (answer, error) {
	k, err := rq.service().Auth.RevokeOperatorKey(rq.Context(), rq.call, rq.id())
	if err != nil {
		return answer{}, err
	}
	return inJSON(viewKey(&k))
}

// answerKey creates a key and responds with its secret, which is shown only once.
func answerKey(rq *request, p *params, create func() (auth.CreatedKey, error)) (answer, error) {
	withSecret := func(k auth.CreatedKey) keyView {
		view := viewKey(&k.Key)
		view.Secret = k.Secret // only once
		return view
	}
	// The receipt is stored on disk, where only the hashes of keys are.
	without := func(k auth.CreatedKey) keyView { return viewKey(&k.Key) }
	return perform(rq, p, shown(withSecret), shown(without), false, create)
}

func listKeys(rq *request) (answer, error) {
	return pageOf(rq, rq.query(), viewKey, rq.service().Auth.ListKeys)
}

func revokeKey(rq *request) (answer, error) {
	k, err := rq.service().Auth.RevokeKey(rq.Context(), rq.call, rq.id())
	if err != nil {
		return answer{}, err
	}
	return inJSON(viewKey(&k))
}
