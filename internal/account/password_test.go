package account_test

import (
	"slices"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/posthaste-hq/posthaste/internal/account"
)

// The duration of a comparison does not reveal whether a user exists, and is long enough: tests
// use a lower cost, the program must not.
func TestPasswords_costTheSameForUnknownUsers(t *testing.T) {
	var costs []int
	note := func(hash string) {
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			t.Errorf("%q is not a valid hash: %v", hash, err)
		}
		costs = append(costs, cost)
	}
	const password = "correct horse battery"
	p := account.Passwords{Cost: bcrypt.MinCost, Compared: note}
	hash, err := p.Hash(password)
	if err != nil {
		t.Fatal(err)
	}
	u := &account.User{Password: hash}
	if !p.Match(u, password) || p.Match(u, password+"x") || p.Match(nil, password) || p.Match(u, password+string(make([]byte, 100))) {
		t.Error("a password matches that is not the user's, or the user's does not")
	}
	if (&account.Passwords{Compared: note}).Match(nil, password) {
		t.Error("the password of an unknown user matches")
	}
	want := []int{bcrypt.MinCost, bcrypt.MinCost, bcrypt.MinCost, bcrypt.MinCost, 12}
	if !slices.Equal(costs, want) {
		t.Errorf("the comparisons cost %v, want %v", costs, want)
	}
}
