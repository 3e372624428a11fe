package auth

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// AccountParams are the account parameters of a request; nil means absent.
type AccountParams struct {
	Name      *string
	RateLimit **int // API requests a minute; a nil inside is the server's default
	Status    *string
	Limits    *LimitParams
	// Searchable are the paths by which events can be found; a nil inside is the default.
	Searchable **[]string
	ExternalID *string
	Metadata   *map[string]*string // changes; a nil or empty value removes the key
}

func (p *AccountParams) apply(a *account.Account, now time.Time) error {
	if !a.Erased.IsZero() {
		return fault.Param("id", "account_erased", "The account was erased.")
	}
	if p.Status != nil {
		a.EraseAt = time.Time{} // restore it
	}
	switch status := account.AccountStatus(call.Value(p.Status)); {
	case p.Status == nil:
	case status != account.Active && status != account.Suspended:
		return fault.Param("status", "parameter_invalid", "The status must be active or suspended.")
	case status == account.Active:
		a.SuspendedAt = time.Time{}
	case !a.Suspended():
		a.SuspendedAt = now
	}
	if p.Name != nil {
		name, err := checkName(*p.Name)
		if err != nil {
			return err
		}
		a.Name = name
	}
	if p.Limits != nil {
		var err error
		if a.Limits, err = p.Limits.apply(a.Limits); err != nil {
			return err
		}
	}
	if p.Searchable != nil {
		a.Searchable = nil
		if paths := *p.Searchable; paths != nil {
			if err := event.CheckSearchPaths("searchable_keys", *paths); err != nil {
				return err
			}
			a.Searchable = append([]string{}, *paths...)
		}
	}
	if p.Metadata != nil {
		a.Metadata = endpoint.Merged(a.Metadata, *p.Metadata, nil)
		if err := endpoint.CheckMetadata(a.Metadata); err != nil {
			return err
		}
	}
	if p.ExternalID != nil && *p.ExternalID != a.ExternalID {
		if a.ExternalID != "" {
			return fault.Param("external_id", "parameter_invalid", "The external id of an account cannot be changed.")
		}
		if err := event.CheckExternalID(*p.ExternalID, event.PrefixAccount); err != nil {
			return err
		}
		a.ExternalID = *p.ExternalID
	}
	call.Set(&a.RateLimit, p.RateLimit)
	if n := a.RateLimit; n != nil && (*n < 0 || *n > account.MaxRateLimit) {
		return fault.Param("rate_limit", "parameter_invalid", "The rate limit must be 1 to %d requests a minute, 0 for no limit, or null for the server's default.", account.MaxRateLimit)
	}
	return nil
}

// CreateAccount creates an account. Operators only.
func (s *Auth) CreateAccount(ctx context.Context, c *call.Call, p AccountParams) (account.Account, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a := account.Account{ID: s.IDs.New(event.PrefixAccount), Created: s.Now()}
	if err := p.apply(&a, a.Created); err != nil {
		return account.Account{}, err
	}
	if err := s.Store.CreateAccount(ctx, &a, s.Trail(c, a, a.Created, account.AccountCreated, a.ID)); err != nil {
		return account.Account{}, err
	}
	s.keys.putAccount(a)
	return a, nil
}

// UpdateAccount changes the given parameters. Operators only. A suspended account's keys and
// portals are refused, its connections and jobs end, and its deliveries wait without using up
// attempts until it is active again.
func (s *Auth) UpdateAccount(ctx context.Context, c *call.Call, id string, p AccountParams) (account.Account, error) {
	return s.updateAccount(ctx, c, id, p, true)
}

// PutAccount creates an account with an external id, or changes the given parameters of the one
// that has it. Any number of calls at the same time, on any node, result in one account; a call
// that changes nothing writes nothing. Operators only.
func (s *Auth) PutAccount(ctx context.Context, c *call.Call, externalID string, p AccountParams) (account.Account, error) {
	if err := call.CheckPut(externalID, p.ExternalID, event.PrefixAccount); err != nil {
		return account.Account{}, err
	}
	p.ExternalID = &externalID
	return call.Put(func() (account.Account, error) { return s.updateAccount(ctx, c, externalID, p, false) },
		func() (account.Account, error) { return s.CreateAccount(ctx, c, p) })
}

// updateAccount is UpdateAccount. With always, an edit that changes nothing is written too.
func (s *Auth) updateAccount(ctx context.Context, c *call.Call, id string, p AccountParams, always bool) (account.Account, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return account.Account{}, err
	}
	defer end()
	a, err := s.Store.EditAccount(ctx, id, func(a *account.Account) (store.Trail, error) {
		if err := c.MustMatch(a.Revision); err != nil {
			return store.Trail{}, err
		}
		was, now := *a, s.Now()
		if err := p.apply(a, now); err != nil {
			return store.Trail{}, err
		}
		if !always && reflect.DeepEqual(was, *a) {
			return store.Trail{}, store.ErrUnchanged
		}
		action := account.AccountUpdated
		if was.Suspended() != a.Suspended() {
			action = map[bool]account.Action{true: account.AccountSuspended, false: account.AccountResumed}[a.Suspended()]
		}
		return s.Trail(c, *a, now, action, a.ID, changes(&was, a)...), nil
	})
	switch {
	case errors.Is(err, store.ErrUnchanged):
		return a, nil
	case err != nil:
		return a, err
	}
	s.LearnAccount(a)
	return a, nil
}

// changes describes an edit of an account for the audit log.
func changes(was, is *account.Account) []string {
	limit := func(n *int) string {
		if n == nil {
			return "default"
		}
		return strconv.Itoa(*n)
	}
	var d call.Difference
	d.Of("name", was.Name, is.Name)
	d.Of("rate_limit", limit(was.RateLimit), limit(is.RateLimit))
	d.Of("limits", was.Limits.String(), is.Limits.String())
	d.Of("searchable_keys", strings.Join(was.SearchPaths(), " "), strings.Join(is.SearchPaths(), " "))
	d.Of("external_id", was.ExternalID, is.ExternalID)
	if !maps.Equal(was.Metadata, is.Metadata) {
		d.Of("metadata", "", "changed") // whose values may be personal data
	}
	d.Of("status", was.Status(), is.Status())
	return d
}

func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if utf8.RuneCountInString(name) > maxName {
		return "", fault.Param("name", "parameter_invalid", "The name is longer than %d characters.", maxName)
	}
	return name, nil
}

// Account returns an account. Operators only.
func (s *Auth) Account(ctx context.Context, c *call.Call, id string) (account.Account, error) {
	if err := c.MustOperator(); err != nil {
		return account.Account{}, err
	}
	return s.Store.Account(ctx, id)
}

// ListAccounts lists accounts, newest first. Operators only.
func (s *Auth) ListAccounts(ctx context.Context, c *call.Call, p call.Page) ([]account.Account, bool, error) {
	if err := c.MustOperator(); err != nil {
		return nil, false, err
	}
	page, err := call.ResolvePage(p, func(param, id string) (int64, error) {
		a, err := s.Store.Account(ctx, id)
		return a.No, call.CursorFault(err, param, id)
	})
	if err != nil {
		return nil, false, err
	}
	return s.Store.ListAccounts(ctx, page)
}

func (s *Auth) firstAccount(ctx context.Context, name string) (int64, error) {
	all, err := s.Store.AllAccounts(ctx)
	if err != nil {
		return 0, err
	}
	if i := slices.IndexFunc(all, func(a account.Account) bool { return a.Erased.IsZero() }); i >= 0 {
		return all[i].No, nil
	}
	a := account.Account{ID: s.IDs.New(event.PrefixAccount), Name: name, Created: s.Now()}
	if err := s.Store.CreateAccount(ctx, &a, store.Trail{Audit: s.Entry(call.ByItself(0), a.Created, account.AccountCreated, a.ID)}); err != nil {
		return 0, err
	}
	s.keys.putAccount(a)
	return a.No, nil
}

// HasAccount reports whether an account with this identifier exists.
func (s *Auth) HasAccount(id string) bool {
	a, ok := s.keys.account(id)
	return ok && a.Erased.IsZero()
}

// Accounts returns all accounts, oldest first, for users, who have access to all.
func (s *Auth) Accounts() []account.Account {
	return slices.DeleteFunc(s.keys.all(), func(a account.Account) bool { return !a.Erased.IsZero() })
}

// AccountOf returns the account of a space, false for that of an operator's call that names none.
func (s *Auth) AccountOf(space event.Space) (account.Account, bool) {
	return s.keys.account(s.AccountID(space.Account()))
}

// SearchPaths returns the paths by which the events of a space can be found.
func (s *Auth) SearchPaths(space event.Space) []string {
	a, _ := s.AccountOf(space)
	return a.SearchPaths()
}

// AccountID returns the identifier of an account, "" if there is none.
func (s *Auth) AccountID(no int64) string { return s.keys.accountID(no) }

// Suspended reports whether an account of that number is suspended.
func (s *Auth) Suspended(no int64) bool { return s.keys.suspended(no) }

// LearnAccount applies a written account to memory.
func (s *Auth) LearnAccount(a account.Account) {
	was := s.Suspended(a.No)
	s.keys.putAccount(a)
	if was != s.Suspended(a.No) {
		s.Suspension(a.No)
		s.endLeases()
	}
}
