// Package quota owns the limits of an account: the number of each kind of object, memory,
// processor time and concurrent connections. Every cost of a request is charged to its account,
// and if the share of an account is used up, only that account is refused.
//
// The package does no I/O and must not know endpoints, events, HTTP or SQL.
package quota

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Name identifies a quota in settings, in the API and in errors.
type Name string

// The quotas that an operator can set, for the server and for an account.
const (
	Endpoints       Name = "endpoints"
	EventTypes      Name = "event_types"
	APIKeys         Name = "api_keys"
	PortalSessions  Name = "portal_sessions"
	Jobs            Name = "jobs"
	Listeners       Name = "listeners"
	Tails           Name = "tails"
	BatchDeliveries Name = "batch_deliveries"
	ProcessorTime   Name = "processor_time"
)

// The quotas that are shares of the server's resources and cannot be set.
const (
	BodyBytes Name = "body_bytes"
)

// Limit is a quota and its default.
type Limit struct {
	Name    Name
	Default int
	Max     int    // the largest value that can be set
	What    string // what is counted, in the plural
}

// Limits returns all quotas that can be set, in the order of the documentation.
func Limits() []Limit {
	return []Limit{
		{Endpoints, 1_000, 1_000_000, "webhook endpoints of a mode"},
		{EventTypes, 1_000, 10_000, "event types of a mode"},
		{APIKeys, 100, 100_000, "API keys that are not revoked"},
		{PortalSessions, 10_000, 1_000_000, "portal sessions of a mode that have not expired"},
		{Jobs, 100, 10_000, "jobs that run at the same time"},
		{Listeners, 50, 100_000, "listeners of a mode, of posthaste listen and the Stripe CLI, for a day after they were connected"},
		{Tails, 20, 10_000, "connections that follow requests or events"},
		{BatchDeliveries, 20_000, 10_000_000, "deliveries that one request may create, past its first event"},
		{ProcessorTime, 500, 1_000_000, "milliseconds per second of filters, schemas and transformations on one node"},
	}
}

// Set has values of quotas, by name. The value of a missing quota is that of the next wider
// set: the account's, then the server's, then the default.
type Set map[Name]int

var limits = func() map[Name]Limit {
	all := map[Name]Limit{}
	for _, l := range Limits() {
		all[l.Name] = l
	}
	return all
}()

// Of returns the value of a quota for an account: its own, the server's or the default.
func Of(n Name, account, server Set) int {
	if v, ok := account[n]; ok {
		return v
	}
	if v, ok := server[n]; ok {
		return v
	}
	return limits[n].Default
}

// Check returns a fault.Invalid for the first value, by name, that is not allowed. param is the
// parameter with the set.
func (s Set) Check(param string) error {
	for _, n := range slices.Sorted(maps.Keys(s)) {
		l, ok := limits[n]
		switch {
		case !ok:
			return fault.Param(param+"["+string(n)+"]", "parameter_unknown", "Unknown limit '%s'. The limits are %s.", clip(string(n)), names())
		case s[n] < 0 || s[n] > l.Max:
			return fault.Param(param+"["+string(n)+"]", "parameter_invalid", "The limit %s must be 0 to %d %s.", n, l.Max, l.What)
		}
	}
	return nil
}

// What returns what a quota counts, in the plural.
func What(n Name) string { return limits[n].What }

func names() string {
	var all []string
	for _, l := range Limits() {
		all = append(all, string(l.Name))
	}
	return strings.Join(all, ", ")
}

func clip(s string) string {
	const most = 40
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Parse reads a set in the form of settings: endpoints=2000,jobs=5.
func Parse(text string) (Set, error) {
	s := Set{}
	for _, pair := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
		name, value, ok := strings.Cut(pair, "=")
		n, err := strconv.Atoi(value)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q is not a limit such as endpoints=2000", clip(pair))
		}
		s[Name(name)] = n
	}
	return s, s.Check("limits")
}

// String returns the set in the form that [Parse] reads, sorted by name.
func (s Set) String() string {
	var all []string
	for _, n := range slices.Sorted(maps.Keys(s)) {
		all = append(all, string(n)+"="+strconv.Itoa(s[n]))
	}
	return strings.Join(all, ",")
}

// Full returns the error of a request that would exceed the account's number of objects.
// Retrying does not help; deleting objects or a higher limit does.
func Full(n Name, limit int) error {
	return &fault.Error{Code: fault.Invalid, Reason: "limit_reached", Param: string(n),
		Message: fmt.Sprintf("The account has reached its limit %s: %d %s. Delete some, or ask the operator for a higher limit.", n, limit, limits[n].What)}
}

// Busy returns the error of a request that can be repeated later: other requests of the account
// use up its share.
func Busy(n Name, retryAfter time.Duration, format string, args ...any) error {
	return &fault.Error{Code: fault.RateLimited, Reason: "quota_exceeded", Param: string(n), RetryAfter: retryAfter, Message: fmt.Sprintf(format, args...)}
}
