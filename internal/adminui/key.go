package adminui

import (
	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

type keysView struct {
	Keys    []account.Key
	More    string // query of the next page
	Secret  string // of a newly created key, shown only once
	Name    string
	Problem *problem
}

func listKeys(rq *request) error {
	return showKeys(rq, keysView{Secret: rq.shownOnce(1)[0]}, nil)
}

func showKeys(rq *request, v keysView, problem error) error {
	keys, more, err := rq.ui.Service.Auth.ListKeys(rq.Context(), rq.call, rq.page())
	if err != nil {
		return err
	}
	v.Keys, v.Problem = keys, errorView(problem)
	if more {
		v.More = withQuery(rq.URL.Query(), "after", keys[len(keys)-1].ID)
	}
	return rq.renderForm("keys", v, problem)
}

func createKey(rq *request) error {
	name := rq.PostFormValue("name")
	created, err := rq.ui.Service.Auth.CreateKey(rq.Context(), rq.call, name, rq.live())
	if err != nil {
		return showKeys(rq, keysView{Name: name}, err)
	}
	return rq.once(rq.to("keys"), created.Secret)
}

func revokeKey(rq *request) error {
	if _, err := rq.ui.Service.Auth.RevokeKey(rq.Context(), rq.call, rq.PathValue("id")); err != nil {
		return err
	}
	return rq.done("key_revoked", "keys")
}

// pageSize is the number of rows in a list.
const pageSize = 25

// page returns the page that the query selects.
func (rq *request) page() call.Page {
	q := rq.URL.Query()
	return call.Page{Limit: pageSize, StartingAfter: q.Get("after")}
}
