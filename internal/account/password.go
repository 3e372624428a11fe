package account

import (
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Lengths of a password, in bytes; bcrypt accepts no more.
const (
	MinPassword = 12
	MaxPassword = 72
)

// Passwords hashes and compares passwords. The zero value is ready for use; tests use less
// processor time, and count comparisons.
type Passwords struct {
	Cost     int               // of bcrypt; default passwordCost
	Compared func(hash string) // called for each comparison, unless nil
}

// passwordCost takes about 0.2 s of processor time, on purpose.
const passwordCost = 12

// Hash returns the hash of a password for storage. Errors: fault.Invalid.
func (p *Passwords) Hash(password string) (string, error) {
	if len(password) < MinPassword || len(password) > MaxPassword {
		return "", fault.Param("password", "parameter_invalid", "A password must have %d to %d bytes.", MinPassword, MaxPassword)
	}
	h, err := bcrypt.GenerateFromPassword([]byte(password), p.cost())
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(h), nil
}

func (p *Passwords) cost() int {
	if p.Cost == 0 {
		return passwordCost
	}
	return p.Cost
}

// unknownUserHash returns the hash that is compared for an unknown user, so that the duration
// does not reveal that the user is unknown.
func (p *Passwords) unknownUserHash() string {
	return fmt.Sprintf("$2a$%02d$hQsTYTYGFze9FZ34FAUQRuQM1ZVVyV.9zscW4HGIz0WxirHyMzhO2", p.cost())
}

// Match reports whether password is the user's. A nil user takes the same time.
func (p *Passwords) Match(u *User, password string) bool {
	hash := p.unknownUserHash()
	if u != nil {
		hash = u.Password
	}
	if len(password) > MaxPassword {
		password = password[:MaxPassword] // it takes the same time, and cannot match: hashes are of shorter ones
		hash = p.unknownUserHash()
	}
	if p.Compared != nil {
		p.Compared(hash)
	}
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil && u != nil
}

// NewPassword returns a random password: 18 characters, 108 bits.
func NewPassword() string { return token("")[:18] }
