package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// User is a user of the Admin UI. Users belong to the operator and have access to every
// account.
type User struct {
	ID       string
	Name     string // for signing in and confirmations; never changes
	Role     UserRole
	Password string // bcrypt hash
	Disabled bool
	Created  time.Time
	Revision int64     // of the stored row; each write increases it
	Unlocked time.Time // wrong passwords before it do not count; zero: all do
}

// UserRole is the role of a user.
type UserRole string

// The roles; each includes the permissions of the preceding ones.
const (
	UserViewer UserRole = "viewer" // reads everything except secrets
	UserMember UserRole = "member" // changes endpoints, resends events, reveals secrets
	UserAdmin  UserRole = "admin"  // manages API keys, accounts and users
)

// KeyRole returns the role of the user's calls.
func (r UserRole) KeyRole() Role {
	switch r {
	case UserAdmin:
		return Operator
	case UserMember:
		return Member
	}
	return Viewer
}

// ParseUserRole returns the role with the given name. Errors: fault.Invalid.
func ParseUserRole(name string) (UserRole, error) {
	switch r := UserRole(name); r {
	case UserViewer, UserMember, UserAdmin:
		return r, nil
	}
	return "", fault.Param("role", "parameter_invalid", "The role must be viewer, member or admin.")
}

// MaxUserName is the longest user name, in bytes.
const MaxUserName = 64

var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)

// CheckUserName returns a fault.Invalid for an invalid user name.
func CheckUserName(name string) error {
	if userName.MatchString(name) {
		return nil
	}
	return fault.Param("name", "parameter_invalid", "A user name must have 1 to 64 letters, digits and . _ @ + -, and start with a letter or digit.")
}

// Session is a user's session in the Admin UI or in a customer's portal.
type Session struct {
	Hash    Hash   // of the token, which is not stored
	ID      string // of the portal; identifies a user's session in the user's list
	User    string // identifier; empty for a portal
	Portal  *Portal
	Creator string // of a portal: the identifier of the key or user whose revocation ends it
	Remote  string // the address that it was opened from
	Agent   string // the browser's User-Agent
	Created time.Time
	Expires time.Time
}

// clockSlack is the difference between clocks, or the step back of one, that does not affect
// sessions.
const clockSlack = 5 * time.Minute

// Live reports whether the session has begun and not ended. One that begins in the future was
// created before the clock was stepped back, and would last longer by the step.
func (n *Session) Live(now time.Time) bool {
	return now.Before(n.Expires) && !now.Add(clockSlack).Before(n.Created)
}

// Durations of sessions.
const (
	SessionLife       = 12 * time.Hour
	DefaultPortalLife = time.Hour
	MaxPortalLife     = 24 * time.Hour
)

// Portal is a customer's view of the server: one account's test or live data.
type Portal struct {
	ID       string      `json:"id"`
	Space    event.Space `json:"space"`
	ReadOnly bool        `json:"read_only,omitempty"`
	// Origins may show the portal in an iframe, such as "https://app.example.com".
	Origins []string `json:"origins,omitempty"`
	Name    string   `json:"name,omitempty"`   // instead of the server's
	Colour  string   `json:"colour,omitempty"` // "#rrggbb"
	Logo    string   `json:"logo,omitempty"`   // URL of an image
}

const (
	maxOrigins    = 10
	maxPortalName = 60
	maxLogo       = 1024
)

var colour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// Check normalizes the URLs of p, and returns a fault.Invalid that names an invalid field.
func (p *Portal) Check() error {
	if len(p.Origins) > maxOrigins {
		return fault.Param("allowed_origins", "parameter_invalid", "Set at most %d origins.", maxOrigins)
	}
	for i, o := range p.Origins {
		u, err := weburl.Parse(o)
		if err != nil || u.String() != u.Scheme+"://"+u.Host {
			return fault.Param(fmt.Sprintf("allowed_origins[%d]", i), "parameter_invalid", "An origin must be a scheme and a host such as https://app.example.com.")
		}
		p.Origins[i] = u.String()
	}
	switch {
	case len([]rune(p.Name)) > maxPortalName:
		return fault.Param("brand[name]", "parameter_invalid", "The name can have at most %d characters.", maxPortalName)
	case p.Colour != "" && !colour.MatchString(p.Colour):
		return fault.Param("brand[color]", "parameter_invalid", "The color must have the form #1a73e8.")
	}
	if p.Logo == "" {
		return nil
	}
	u, err := weburl.Parse(p.Logo)
	if err != nil || u.User != nil || len(u.String()) > maxLogo {
		return fault.Param("brand[logo]", "parameter_invalid", "The logo must be the https:// URL of an image, with at most %d bytes.", maxLogo)
	}
	p.Logo = u.String()
	return nil
}

// NewToken returns the secret of a session: the prefix and 24 random bytes.
func NewToken(prefix string) string { return token(prefix) }

func token(prefix string) string {
	var b [24]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// BrowserLife is the life of a browser's proof that a user has signed in with it.
const BrowserLife = 90 * 24 * time.Hour

// NewBrowser returns a browser's proof that u has signed in with it. It is derived from the
// hash of u's password, which is secret, so nothing is stored for it, and a new password
// invalidates it.
func NewBrowser(u *User, now time.Time) string {
	body := fmt.Sprintf("%d.%s", now.Add(BrowserLife).Unix(), token(""))
	return body + "." + sealBrowser(u, body)
}

// CheckBrowser returns the identity of the browser if proof is a valid proof of u. A nil user
// has none.
func CheckBrowser(u *User, proof string, now time.Time) (name string, ok bool) {
	end := strings.LastIndexByte(proof, '.')
	if u == nil || end < 0 {
		return "", false
	}
	body := proof[:end]
	expires, name, _ := strings.Cut(body, ".")
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || now.Unix() >= until || !hmac.Equal([]byte(proof[end+1:]), []byte(sealBrowser(u, body))) {
		return "", false
	}
	return name, name != ""
}

func sealBrowser(u *User, body string) string {
	m := hmac.New(sha256.New, []byte(u.Password))
	m.Write([]byte("browser\x00" + u.ID + "\x00" + body))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// FormToken returns the token in a session's forms, so that no other site can submit them. It
// is derived from the session's token and does not reveal it.
func FormToken(sessionToken string) string {
	m := hmac.New(sha256.New, []byte(sessionToken))
	m.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
