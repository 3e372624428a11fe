package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/adminui"
	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/delivery"
)

// shown returns the settings that the Admin UI shows: without keys and passwords, and URLs
// without their user.
func (s *server) shown() []adminui.SettingGroup {
	one := func(name, flag string, value any) adminui.Setting {
		text := fmt.Sprint(value)
		switch v := value.(type) {
		case time.Duration:
			if text = durationText(v); v == 0 {
				text = "off"
			}
		case bool:
			text = map[bool]string{true: "yes", false: "no"}[v]
		case []string:
			text = strings.Join(v, ", ")
		case delivery.Schedule:
			delays := make([]string, len(v))
			for i, d := range v {
				delays[i] = durationText(d)
			}
			text = fmt.Sprintf("%d attempts: at once, then after %s", len(v)+1, strings.Join(delays, ", "))
		}
		return adminui.Setting{Name: name, Value: text, Flag: "--" + flag}
	}
	never := func(d time.Duration) any {
		if d == 0 {
			return "never"
		}
		return d
	}
	none := func(n int) any {
		if n == 0 {
			return "none"
		}
		return n
	}
	kept := func(d time.Duration) any {
		if d == 0 {
			return "for ever"
		}
		return d
	}
	proxy := ""
	if s.EgressProxy != nil {
		proxy = s.EgressProxy.Scheme + "://" + s.EgressProxy.Host
	}
	database := "none: the embedded store"
	if s.Database != "" {
		database = storeName(s.Config)
	}
	brokers := slices.Sorted(maps.Keys(s.brokers))
	sources := make([]string, len(s.sources))
	for i, source := range s.sources {
		sources[i] = source.Broker + "/" + source.Address
	}
	return []adminui.SettingGroup{
		{Name: "Server", Settings: []adminui.Setting{one("Listens on", "addr", s.Addr), one("Reached at", "public-url", s.PublicURL), one("Data directory", "data", s.Data), one("Database", "database-url", database), one("Brand of the headers", "brand", s.Brand), one("Development mode", "dev", s.Dev)}},
		{Name: "Retention", Settings: []adminui.Setting{
			one("Events are kept", "retention", kept(s.Retention)), one("The audit log is kept", "audit-retention", kept(s.AuditKept)), one("Jobs that have ended are kept", "job-retention", kept(s.JobsKept)), one("Objects of the sandbox are kept", "sandbox-retention", kept(s.SandboxKept)), one("A deleted account is erased after", "account-grace", s.AccountGrace)}},
		{Name: "Retry schedule", Settings: []adminui.Setting{
			one("Live events", "live-schedule", s.LiveSchedule), one("Test events", "test-schedule", s.TestSchedule), one("Timeout of an attempt", "timeout", s.Timeout), one("Give up a delivery after", "max-delivery-age", never(s.MaxAge)),
			one("Report an endpoint as failing after", "failing-after", s.Health.FailingAfter), one("Disable a failing endpoint after", "disable-after", s.Health.DisableAfter), one("Disable an endpoint after consecutive failures", "disable-after-failures", none(s.Health.DisableAfterFailures))}},
		{Name: "Egress", Settings: []adminui.Setting{
			one("Deliveries come from", "egress-addresses", s.EgressAddresses), one("Proxy", "egress-proxy", proxy), one("Ports", "target-ports", portText(s.TargetPorts)),
			one("Private ranges allowed", "allow-targets", prefixes(s.AllowTargets)), one("Ranges denied", "deny-targets", prefixes(s.DenyTargets)), one("Live endpoints may use http", "allow-plain-live", s.AllowPlain)}},
		{Name: "Message brokers", Settings: []adminui.Setting{one("Names", "brokers", brokers), one("Sources of events", "sources", sources)}},
		{Name: "Limits", Settings: []adminui.Setting{
			one("API requests and events per minute and account", "rate-limit", none(s.RateLimit)), one("Limits of an account", "limits", orDefault(s.Limits.String())), one("Largest body, bytes", "max-body", s.MaxBody), one("Maximum concurrent attempts per endpoint", "concurrency", s.Concurrency),
			one("Maximum concurrent attempts", "workers", s.Workers), one("Remind to rotate secrets older than", "secret-max-age", s.SecretMaxAge)}},
	}
}

func prefixes[T fmt.Stringer](all []T) []string {
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = p.String()
	}
	return out
}

func portText(all []config.PortRange) string {
	if len(all) == 0 {
		return "all"
	}
	out := make([]string, len(all))
	for i, r := range all {
		if out[i] = fmt.Sprint(r.From); r.To != r.From {
			out[i] += fmt.Sprint("-", r.To)
		}
	}
	return strings.Join(out, ", ")
}

// orDefault formats a setting without a deviation from the default.
func orDefault(text string) string {
	if text == "" {
		return "the defaults"
	}
	return text
}

// durationText writes a duration exactly, in days, hours, minutes and seconds: "30 days", "1 h
// 30 min".
func durationText(d time.Duration) string {
	var parts []string
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if n := d / unit.size; n > 0 {
			name := unit.name
			if n == 1 && name == "days" {
				name = "day"
			}
			parts = append(parts, fmt.Sprint(int64(n), " ", name))
			d -= n * unit.size
		}
	}
	if d > 0 || len(parts) == 0 {
		parts = append(parts, fmt.Sprint(d.Seconds(), " s"))
	}
	return strings.Join(parts, " ")
}
