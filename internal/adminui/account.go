package adminui

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
)

type accountsView struct {
	Accounts []account.Account
	Name     string
	More     pager
	Problem  *problem
}

func listAccounts(rq *request) error { return showAccounts(rq, "", nil) }

func showAccounts(rq *request, name string, problem error) error {
	all, more, err := rq.ui.Service.Auth.ListAccounts(rq.Context(), rq.call, rq.page())
	if err != nil {
		return err
	}
	v := accountsView{Accounts: all, Name: name, Problem: errorView(problem)}
	if more {
		v.More = rq.more(all[len(all)-1].ID)
	}
	return rq.renderForm("accounts", v, problem)
}

func createAccount(rq *request) error {
	name := rq.PostFormValue("name")
	a, err := rq.ui.Service.Auth.CreateAccount(rq.Context(), rq.call, auth.AccountParams{Name: &name})
	if mistake(err) {
		return showAccounts(rq, name, err)
	}
	if err != nil {
		return err
	}
	return rq.redirect("/admin/" + a.ID + "/test/overview?done=account_created")
}

type accountPage struct {
	Account    *account.Account
	Uses       []service.Use
	RateLimit  string // text of the field
	Limits     []limitField
	Searchable string // text of the field
	Problem    *problem
}

// limitField is one of the account's limits in the form; an empty value is the server's limit.
type limitField struct {
	quota.Limit
	Value, Server string
}

// showAccount shows an account's usage beside its limits, and the form to change them.
func showAccount(rq *request) error { return renderAccount(rq, nil, nil) }

// renderAccount shows an account and the problem of the form that was posted, if there is one.
func renderAccount(rq *request, typed url.Values, problem error) error {
	u, err := rq.ui.Service.Usage(rq.Context(), rq.call, rq.PathValue("id"))
	if err != nil {
		return err
	}
	v := accountPage{Account: &u.Account, Uses: u.Uses, Problem: errorView(problem)}
	if n := u.Account.RateLimit; n != nil {
		v.RateLimit = strconv.Itoa(*n)
	}
	if paths := u.Account.Searchable; paths != nil {
		v.Searchable = cmp.Or(strings.Join(paths, ", "), noKeys)
	}
	if typed != nil {
		v.RateLimit, v.Searchable = typed.Get("rate_limit"), typed.Get("searchable_keys")
	}
	server := rq.ui.Service.Auth.LimitsOf(nil)
	for _, l := range quota.Limits() {
		f := limitField{Limit: l, Server: strconv.Itoa(server[l.Name])}
		if n, ok := u.Account.Limits[l.Name]; ok {
			f.Value = strconv.Itoa(n)
		}
		if typed != nil {
			f.Value = typed.Get("limits[" + string(l.Name) + "]")
		}
		v.Limits = append(v.Limits, f)
	}
	return rq.renderForm("account", v, problem)
}

// updateAccount suspends or resumes an account, or changes its limits.
func updateAccount(rq *request) error {
	id := rq.PathValue("id")
	if status := rq.PostFormValue("status"); status != "" {
		if _, err := rq.ui.Service.Auth.UpdateAccount(rq.Context(), rq.call, id, auth.AccountParams{Status: &status}); err != nil {
			return err
		}
		return rq.redirect("/admin/accounts?done=account_" + url.QueryEscape(status))
	}
	if rq.PostForm.Has("delete") {
		if _, err := rq.ui.Service.DeleteAccount(rq.Context(), rq.call, id); err != nil {
			return err
		}
		return rq.redirect("/admin/accounts?done=account_deleted")
	}
	p, err := limitParams(rq)
	if err == nil {
		_, err = rq.ui.Service.Auth.UpdateAccount(rq.Context(), rq.call, id, p)
	}
	if mistake(err) {
		return renderAccount(rq, rq.PostForm, err)
	}
	if err != nil {
		return err
	}
	return rq.redirect("/admin/accounts/" + url.PathEscape(id) + "?done=saved")
}

// noKeys is the text for an account without searchable keys.
const noKeys = "none"

// searchableKeys reads the paths of searchable keys of a form, nil for the default.
func searchableKeys(rq *request) *[]string {
	text := strings.TrimSpace(rq.PostFormValue("searchable_keys"))
	if text == "" {
		return nil
	}
	paths := []string{}
	if text != noKeys {
		paths = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	}
	return &paths
}

// limitParams reads the form of an account's limits.
func limitParams(rq *request) (p auth.AccountParams, err error) {
	rate, err := formInteger(rq, "rate_limit")
	if err != nil {
		return p, err
	}
	limits := auth.LimitParams{}
	for _, l := range quota.Limits() {
		if limits[l.Name], err = formInteger(rq, "limits["+string(l.Name)+"]"); err != nil {
			return p, err
		}
	}
	paths := searchableKeys(rq)
	return auth.AccountParams{RateLimit: &rate, Limits: &limits, Searchable: &paths}, nil
}

// formInteger returns a number from a form, nil for an empty field.
func formInteger(rq *request, name string) (*int, error) {
	text := strings.TrimSpace(rq.PostFormValue(name))
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fault.Param(name, "parameter_invalid", "Give a whole number, or leave the field empty for the server's value.")
	}
	return &n, nil
}
