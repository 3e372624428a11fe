// Package config owns the server's settings: one table of flags, each with an
// environment variable and a key in an optional file, read into one validated
// value that is passed down. There are no globals.
//
// It must not know what the settings are used for.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/quota"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// EnvPrefix starts the environment variable of every flag: --live-schedule is
// POSTHASTE_LIVE_SCHEDULE.
const EnvPrefix = "POSTHASTE_"

// DefaultRateLimit is how many requests and events an account may send in a minute unless the
// operator sets another limit: 10,000 a second on average. It is meant to stop endless loops.
const DefaultRateLimit = 600_000

// Config is the settings of posthaste serve.
type Config struct {
	Addr      string        // to listen on
	DebugAddr string        // for profiles; empty is off
	Data      string        // directory
	Database  string        // URL of a PostgreSQL database; empty: the embedded store in Data
	NodeLease time.Duration // how long a crashed node keeps its endpoints
	Commit    time.Duration // how long a transaction may take before its requests are answered 503
	Dev       bool          // for local trials: loopback and http targets, a test key
	Brand     string        // prefix of the headers: Payment-Signature
	LogLevel  string
	LogFormat string
	Tracing   bool   // spans are exported
	OTLP      string // base URL of the collector; empty: as OTEL_EXPORTER_OTLP_… say

	TestKey   string // API key of the first account, environment only
	AdminKey  string // operator key, environment only
	MasterKey string // keys that secrets are sealed with, environment only; empty: in MasterKeyFile

	MasterKeyFile string // empty: in the data directory

	AllowTargets    []netip.Prefix // non-public addresses that are allowed as targets
	DenyTargets     []netip.Prefix
	TargetPorts     []PortRange // empty: all
	AllowPlain      bool        // live endpoints may use http
	EgressProxy     *url.URL    // nil: direct
	ProxyResolves   bool
	EgressAddresses []string // source addresses of deliveries, to be published

	Brokers string // "name=url" pairs of message brokers, with credentials; see package broker
	Sources string // "broker/address=account:mode" pairs

	MaxConnections        int            // 0: half of the process's file descriptors
	MaxPerAddress         int            // 0: half of MaxConnections
	MetricsAddr           string         // where /metrics is served without a key; empty: at Addr, with one
	TrustedProxies        []netip.Prefix // trusted in X-Forwarded-For
	PublicURL             string         // where the server is reached, without a slash at its end; empty: at Addr
	PublicPath            string         // the path of PublicURL, such as "/hooks"; empty: none
	RequireIdempotencyKey bool           // for payments and refunds of the sandbox

	Limits       quota.Set     // of accounts without their own
	RateLimit    int           // API requests and events a minute and account; 0: none
	SecretMaxAge time.Duration // 0: no reminders

	NotifyURL    string // the operator's receiver of announcements; empty: none
	NotifySecret string // signs the announcements to it; environment only
	Mail         Mail

	MaxBody      int // bytes
	Timeout      time.Duration
	Concurrency  int
	Workers      int
	LiveSchedule delivery.Schedule
	TestSchedule delivery.Schedule
	Health       delivery.Health
	MaxAge       time.Duration // of a pending delivery; 0: none
	Retention    time.Duration // of events; 0 keeps them for ever
	AuditKept    time.Duration // 0: for ever
	JobsKept     time.Duration // after they ended; 0: for ever
	SandboxKept  time.Duration // after it was last written; 0: for ever
	AccountGrace time.Duration // for which a deleted account can be restored
	StopTimeout  time.Duration
}

// PortRange is a range of ports, inclusive.
type PortRange struct{ From, To uint16 }

// Mail is the configuration of e-mail to the operator; with an empty Addr, none is sent.
type Mail struct {
	Addr     string // host and port of the SMTP server
	TLS      string // starttls, tls or none
	From     string
	To       []string
	Every    time.Duration // interval between messages
	Username string        // environment only
	Password string        // environment only
}

// Usage is an error in the user's settings. The command ends with exit code 2.
type Usage struct{ Err error }

func (u *Usage) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Usage) Unwrap() error { return u.Err }

func usagef(format string, args ...any) error { return &Usage{fmt.Errorf(format, args...)} }

// Group lists settings that commands other than serve read, by flag name.
type Group []string

// The groups.
var (
	Embedded = Group{"data"}
	Store    = Group{"data", "database-url"}
	Secrets  = Group{"master-key-file"}
	Dev      = Group{"dev"}  // creates a missing master key
	Server   = Group{"addr"} // of a running server
	Network  = Group{"egress-proxy", "egress-proxy-resolves", "smtp-addr", "smtp-tls"}
)

// Settings reads the settings of one command. Use [Flags].
type Settings struct {
	all *pflag.FlagSet // every setting, also without a flag of the command
}

// Flags adds the settings of some groups to a command's flags, of all if none is given. The
// others come from the environment and the file alone.
func Flags(f *pflag.FlagSet, groups ...Group) *Settings {
	s := &Settings{all: pflag.NewFlagSet("", pflag.ContinueOnError)}
	define(s.all)
	s.all.SortFlags = false
	ShortDefaults(s.all)
	s.all.VisitAll(func(flag *pflag.Flag) {
		if len(groups) == 0 || flag.Name == "config" || in(groups, flag.Name) {
			f.AddFlag(flag)
		}
	})
	return s
}

// Show hides the flags of other groups in the command's help. The command still accepts them.
func (s *Settings) Show(groups ...Group) *Settings {
	s.all.VisitAll(func(flag *pflag.Flag) { flag.Hidden = flag.Name != "config" && !in(groups, flag.Name) })
	return s
}

func in(groups []Group, flag string) bool {
	return slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g, flag) })
}

func define(f *pflag.FlagSet) {
	f.String("addr", "127.0.0.1:8080", "address to listen on")
	f.String("debug-addr", "", "address for profiles (net/http/pprof), such as 127.0.0.1:6060; keep it private")
	f.String("data", "data", "data directory of the embedded store")
	f.String("database-url", "", "PostgreSQL database for several nodes, such as postgres://posthaste@db1,db2/posthaste; set POSTHASTE_DATABASE_URL instead if it contains a password")
	f.Duration("node-lease", 10*time.Second, "with a database: other nodes take over the endpoints of a silent node after this long")
	f.Duration("commit-timeout", 10*time.Second, "answer 503 when storing an event takes longer than this")
	f.Bool("dev", false, "development mode: allow loopback and http:// targets, create an account with a test key")
	f.String("brand", "Payment", "prefix of the product's headers: <brand>-Signature, <brand>-Account")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	f.String("otlp-endpoint", "", "send traces to an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318; the OTEL_… variables apply too")
	f.StringSlice("allow-targets", nil, "private address ranges that deliveries may be sent to, such as 10.1.0.0/16")
	f.StringSlice("deny-targets", nil, "address ranges that deliveries must not be sent to")
	f.String("target-ports", "80,443,1024-65535", "ports that deliveries may be sent to")
	f.String("egress-proxy", "", "HTTP proxy for deliveries, such as http://user:password@proxy.internal:3128; the server still checks target addresses")
	f.Bool("egress-proxy-resolves", false, "let the egress proxy resolve host names and decide which addresses are allowed")
	f.StringSlice("egress-addresses", nil, "source addresses of deliveries, published at /v1/meta")
	f.String("master-key-file", "", "file with the master key, which encrypts secrets at rest (default: master-key in the data directory)")
	f.String("brokers", "", "message brokers that endpoints and --sources can refer to, such as \"orders=nats://nats:4222 audit=kafka://k1:9092,k2:9092\"; set POSTHASTE_BROKERS instead if it contains passwords")
	f.String("sources", "", "message broker queues to accept events from, such as \"orders/payments=acct_0d1…:live\"")
	f.Int("max-connections", 0, "maximum open client connections; 0 is half of the process's file descriptor limit")
	f.Int("max-connections-per-address", 0, "maximum open connections per client address, --trusted-proxies excepted; 0 is half of --max-connections")
	f.String("metrics-addr", "", "address that serves /metrics without a key, such as 127.0.0.1:9090; default: /metrics at --addr, with an operator key")
	f.StringSlice("trusted-proxies", nil, "addresses or networks of proxies whose X-Forwarded-For header is trusted, such as 10.0.0.0/8 (default: none)")
	f.String("public-url", "", "external URL of the server, such as https://webhooks.example.com or https://example.com/hooks, for links and consent requests")
	f.Bool("require-idempotency-key", false, "reject sandbox payments and refunds without an Idempotency-Key")
	f.Int("rate-limit", DefaultRateLimit, "default limit of API requests and events per minute and account (0: no limit)")
	f.String("limits", "", "default limits of an account, such as endpoints=2000,jobs=5; see docs/reference/limits.md")
	f.Duration("secret-max-age", 90*24*time.Hour, "remind an account to rotate signing secrets older than this (0: never)")
	f.String("notify-url", "", "send notices about failing endpoints of all accounts to this URL, signed with POSTHASTE_NOTIFY_SECRET")
	f.String("smtp-addr", "", "SMTP server for e-mail to the operator, such as smtp.example.com:587; credentials in POSTHASTE_SMTP_USERNAME and POSTHASTE_SMTP_PASSWORD")
	f.String("smtp-tls", "starttls", "encryption to the SMTP server: starttls, tls or none")
	f.String("smtp-from", "", "sender of e-mail to the operator")
	f.StringSlice("smtp-to", nil, "recipients of e-mail to the operator")
	f.Duration("smtp-every", time.Minute, "minimum interval between e-mails")
	f.Bool("allow-plain-live", false, "accept http:// URLs for live endpoints")
	f.Int("max-body", 256<<10, "maximum size of an event's body, in bytes")
	f.Duration("timeout", 15*time.Second, "maximum duration of one attempt")
	f.Int("concurrency", 256, "maximum concurrent attempts per endpoint; the actual number adapts to the receiver")
	f.Int("workers", 4096, "maximum concurrent attempts of the server")
	f.String("live-schedule", formatSchedule(delivery.LiveSchedule()), "delays before each retry of live events")
	f.String("test-schedule", formatSchedule(delivery.TestSchedule()), "delays before each retry of test events")
	f.Duration("failing-after", 24*time.Hour, "report an endpoint as failing after this long without a successful delivery; ten consecutive failures report it at once")
	f.Duration("disable-after", delivery.DefaultDisableAfter, "disable an endpoint after this long without a successful delivery")
	f.Duration("max-delivery-age", 0, "give up a delivery after this long, even with attempts left (0: never)")
	f.Int("disable-after-failures", 0, "disable an endpoint after this many consecutive failures (0: never)")
	f.Duration("retention", 30*24*time.Hour, "retain events without pending deliveries for this long; 0 retains them for ever")
	f.Duration("account-grace", 7*24*time.Hour, "erase a deleted account after this long, until which it can be restored; 0 erases it at once")
	f.Duration("audit-retention", 365*24*time.Hour, "retain audit log entries for this long; 0 retains them for ever")
	f.Duration("job-retention", 30*24*time.Hour, "retain finished jobs for this long; 0 retains them for ever")
	f.Duration("sandbox-retention", 90*24*time.Hour, "retain sandbox objects for this long after their last use; 0 retains them for ever")
	f.Duration("stop-timeout", 25*time.Second, "on shutdown, let attempts in progress finish for this long")
	f.String("config", "", "YAML file with settings, one flag name per line (default: posthaste.yaml if there is one)")
}

func formatSchedule(s delivery.Schedule) string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = shortDuration(d)
	}
	return strings.Join(parts, ",")
}

// ShortDefaults makes help show default durations as people write them: 24h for 24h0m0s.
func ShortDefaults(f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) {
		if d, err := time.ParseDuration(flag.DefValue); err == nil && flag.Value.Type() == "duration" {
			flag.DefValue = shortDuration(d)
		}
	})
}

func shortDuration(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" || strings.HasSuffix(s, "m0") {
		return d.String()
	}
	if last := s[len(s)-1]; last >= '0' && last <= '9' { // 10s lost its unit
		return d.String()
	}
	return s
}

// Load returns the settings. A flag has priority over the environment, the environment over the
// file, and the file over the default. Errors are [*Usage].
func (s *Settings) Load(getenv func(string) (string, bool)) (*Config, error) {
	f := s.all
	if err := fromEnvironment(f, getenv); err != nil {
		return nil, err
	}
	if err := fromFile(f); err != nil {
		return nil, err
	}
	c := &Config{}
	c.TestKey, _ = getenv(EnvPrefix + "TEST_KEY")
	c.AdminKey, _ = getenv(EnvPrefix + "ADMIN_KEY")
	c.MasterKey, _ = getenv(EnvPrefix + "MASTER_KEY")
	c.NotifySecret, _ = getenv(EnvPrefix + "NOTIFY_SECRET")
	c.Mail.Username, _ = getenv(EnvPrefix + "SMTP_USERNAME")
	c.Mail.Password, _ = getenv(EnvPrefix + "SMTP_PASSWORD")
	r := reader{f: f}
	c.Addr, c.DebugAddr, c.MetricsAddr, c.Data, c.Brand = r.text("addr"), r.text("debug-addr"), r.text("metrics-addr"), r.text("data"), r.text("brand")
	c.Database, c.NodeLease, c.Commit = r.text("database-url"), r.duration("node-lease"), r.duration("commit-timeout")
	c.Brokers, c.Sources = r.text("brokers"), r.text("sources")
	c.LogLevel, c.LogFormat = r.text("log-level"), r.text("log-format")
	c.OTLP = weburl.Respell(r.text("otlp-endpoint"))
	c.Tracing = tracing(c.OTLP, getenv)
	c.Dev, c.AllowPlain = r.boolean("dev"), r.boolean("allow-plain-live")
	c.MaxBody, c.Concurrency, c.Workers = r.number("max-body"), r.number("concurrency"), r.number("workers")
	c.Timeout, c.SecretMaxAge, c.RateLimit = r.duration("timeout"), r.duration("secret-max-age"), r.number("rate-limit")
	c.MaxAge = r.duration("max-delivery-age")
	c.Limits = read(&r, "limits", func(name string) (quota.Set, error) {
		text, err := f.GetString(name)
		if err != nil {
			return nil, err
		}
		return quota.Parse(text)
	})
	c.Health = delivery.Health{FailingAfter: r.duration("failing-after"), DisableAfter: r.duration("disable-after"), DisableAfterFailures: r.number("disable-after-failures")}
	c.TargetPorts, c.EgressProxy, c.ProxyResolves = r.ports("target-ports"), r.proxy("egress-proxy"), r.boolean("egress-proxy-resolves")
	c.PublicURL, c.RequireIdempotencyKey = strings.TrimSuffix(r.text("public-url"), "/"), r.boolean("require-idempotency-key")
	c.EgressAddresses, c.MasterKeyFile, c.NotifyURL = r.addresses("egress-addresses"), r.text("master-key-file"), r.text("notify-url")
	c.Mail.Addr, c.Mail.TLS, c.Mail.From, c.Mail.To = r.text("smtp-addr"), r.text("smtp-tls"), r.text("smtp-from"), r.texts("smtp-to")
	c.Mail.Every = r.duration("smtp-every")
	c.Retention, c.StopTimeout = r.duration("retention"), r.duration("stop-timeout")
	c.AuditKept, c.JobsKept = r.duration("audit-retention"), r.duration("job-retention")
	c.SandboxKept, c.AccountGrace = r.duration("sandbox-retention"), r.duration("account-grace")
	c.LiveSchedule, c.TestSchedule = r.schedule("live-schedule"), r.schedule("test-schedule")
	c.TrustedProxies = r.prefixes("trusted-proxies")
	c.MaxConnections, c.MaxPerAddress = r.number("max-connections"), r.number("max-connections-per-address")
	c.AllowTargets, c.DenyTargets = r.prefixes("allow-targets"), r.prefixes("deny-targets")
	if r.err != nil {
		return nil, r.err
	}
	return c, c.check()
}

// webURL reports whether text is a URL of http or https. Errors about it do not contain the
// text: it may hold a password.
func webURL(text string) bool {
	_, err := weburl.Normalize(text)
	return err == nil
}

// publicPath matches a path that a proxy may serve the server under: it needs no escaping.
var publicPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)

// ownPaths has the first segments of the server's own paths. A public path may not begin with
// one: a proxy may remove the public path or not, so the server must be able to recognize it.
var ownPaths = []string{"admin", "debug", "docs", "healthz", "metrics", "oauth20", "openapi.yaml", "portal", "readyz", "receipts", "v1"}

// setPublicPath sets the path of PublicURL, and reports whether PublicURL is valid.
func (c *Config) setPublicPath() bool {
	u, err := url.Parse(c.PublicURL)
	if err != nil || !webURL(c.PublicURL) || u.User != nil || strings.ContainsAny(c.PublicURL, "?#") || !publicPath.MatchString(u.EscapedPath()) || path.Clean("/"+u.Path) != "/"+strings.TrimPrefix(u.Path, "/") {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	c.PublicPath = u.Path
	return !slices.Contains(ownPaths, first)
}

// tracing reports whether tracing is enabled, also by OpenTelemetry's own variables.
func tracing(endpoint string, getenv func(string) (string, bool)) bool {
	env := func(name string) string {
		v, _ := getenv(name)
		return v
	}
	switch {
	case strings.EqualFold(env("OTEL_SDK_DISABLED"), "true"), env("OTEL_TRACES_EXPORTER") == "none":
		return false
	}
	return endpoint != "" || env("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

func (c *Config) check() error {
	switch {
	case c.Data == "":
		return usagef("--data: name a directory")
	case c.NodeLease < time.Second || c.NodeLease > 5*time.Minute:
		return usagef("--node-lease %s: use 1s to 5m", c.NodeLease)
	case c.Commit < time.Second || c.Commit > 5*time.Minute:
		return usagef("--commit-timeout %s: use 1s to 5m", c.Commit)
	case !validBrand(c.Brand):
		return usagef("--brand %q: use letters and digits, beginning with a letter", c.Brand)
	case c.MaxBody < 1<<10 || c.MaxBody > 64<<20:
		return usagef("--max-body %d: use 1024 to %d bytes", c.MaxBody, 64<<20)
	case c.Timeout < time.Second || c.Timeout > time.Minute:
		return usagef("--timeout %s: use 1s to 1m", c.Timeout)
	case c.Concurrency < 1 || c.Concurrency > 1000:
		return usagef("--concurrency %d: use 1 to 1000", c.Concurrency)
	case c.Workers < 2:
		return usagef("--workers %d: use 2 or more", c.Workers)
	case c.Health.DisableAfter < time.Hour:
		return usagef("--disable-after %s: use an hour or more", c.Health.DisableAfter)
	case c.MaxAge != 0 && c.MaxAge < time.Minute:
		return usagef("--max-delivery-age %s: use a minute or more, or 0 for no limit", c.MaxAge)
	case c.Health.FailingAfter < 0:
		return usagef("--failing-after %s: use 0 or more", c.Health.FailingAfter)
	case c.Health.DisableAfterFailures < 0:
		return usagef("--disable-after-failures %d: use 0 or more", c.Health.DisableAfterFailures)
	case c.RateLimit < 0 || c.RateLimit > account.MaxRateLimit:
		return usagef("--rate-limit %d: use 0 to %d requests a minute", c.RateLimit, account.MaxRateLimit)
	case c.SecretMaxAge < 0:
		return usagef("--secret-max-age %s: use 0 or more", c.SecretMaxAge)
	case c.AccountGrace < 0:
		return usagef("--account-grace %s: use 0 or more", c.AccountGrace)
	case c.MaxConnections < 0 || c.MaxPerAddress < 0:
		return usagef("--max-connections, --max-connections-per-address: use 0 or more")
	case c.PublicURL != "" && !c.setPublicPath():
		return usagef("--public-url: use a URL such as https://webhooks.example.com or https://example.com/hooks: a host and, optionally, " +
			"a path of letters, digits and - . _ ~ that does not begin with a path of the server's own such as /admin or /v1")
	case c.NotifyURL != "" && endpoint.CheckSecret(c.NotifySecret) != nil:
		return usagef("--notify-url: set %sNOTIFY_SECRET to whsec_ and 24 to 64 bytes in base64", EnvPrefix)
	case c.Mail.TLS != "starttls" && c.Mail.TLS != "tls" && c.Mail.TLS != "none":
		return usagef("--smtp-tls %q: use starttls, tls or none", c.Mail.TLS)
	case c.Mail.Every < time.Second:
		return usagef("--smtp-every %s: use a second or more", c.Mail.Every)
	case c.Mail.Addr != "" && (c.Mail.From == "" || len(c.Mail.To) == 0):
		return usagef("--smtp-addr: set --smtp-from and --smtp-to too")
	case c.Retention != 0 && c.Retention < time.Minute:
		return usagef("--retention %s: use a minute or more, or 0 to keep everything", c.Retention)
	case c.AuditKept != 0 && c.AuditKept < time.Minute:
		return usagef("--audit-retention %s: use a minute or more, or 0 to keep everything", c.AuditKept)
	case c.JobsKept != 0 && c.JobsKept < time.Minute:
		return usagef("--job-retention %s: use a minute or more, or 0 to keep everything", c.JobsKept)
	case c.SandboxKept != 0 && c.SandboxKept < time.Minute:
		return usagef("--sandbox-retention %s: use a minute or more, or 0 to keep everything", c.SandboxKept)
	case c.StopTimeout < 0 || c.StopTimeout > 28*time.Second:
		return usagef("--stop-timeout %s: use up to 28s", c.StopTimeout)
	case c.OTLP != "" && !webURL(c.OTLP):
		return usagef("--otlp-endpoint: use a URL such as http://collector:4318")
	case c.LogFormat != "text" && c.LogFormat != "json":
		return usagef("--log-format %q: use text or json", c.LogFormat)
	}
	for name, key := range map[string]string{"TEST_KEY": c.TestKey, "ADMIN_KEY": c.AdminKey} {
		if key == "" {
			continue
		}
		k, ok := account.NewKey("", key, "", 0, time.Time{})
		switch {
		case !ok:
			return usagef("%s%s: a key has a prefix (sk_test_, sk_live_, sk_admin_) and at least %d printable characters after it",
				EnvPrefix, name, account.MinSecretLength)
		case name == "TEST_KEY" && (k.Live || k.Role != account.Member):
			return usagef("%s%s: a test key starts with %s", EnvPrefix, name, account.PrefixTest)
		case name == "ADMIN_KEY" && k.Role != account.Operator:
			return usagef("%s%s: an operator key starts with %s", EnvPrefix, name, account.PrefixAdmin)
		}
	}
	return nil
}

func validBrand(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func fromEnvironment(f *pflag.FlagSet, getenv func(string) (string, bool)) error {
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		name := EnvName(flag.Name)
		if v, ok := getenv(name); ok && !flag.Changed {
			if err := f.Set(flag.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	if len(errs) > 0 {
		return &Usage{errors.Join(errs...)}
	}
	return nil
}

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

const defaultFile = "posthaste.yaml"

func fromFile(f *pflag.FlagSet) error {
	path, err := f.GetString("config")
	if err != nil {
		return nil // the command reads no file
	}
	named := path != ""
	if !named {
		path = defaultFile
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return usagef("--config: %w", err)
	}
	var settings map[string]any
	if err := yaml.Unmarshal(text, &settings); err != nil {
		return usagef("%s: %w", path, err)
	}
	for name, v := range settings {
		flag := f.Lookup(name)
		if flag == nil || name == "config" {
			return usagef("%s: there is no setting %q", path, name)
		}
		if flag.Changed {
			continue
		}
		if err := f.Set(name, plain(v)); err != nil {
			return usagef("%s: %s: %w", path, name, err)
		}
	}
	return nil
}

// plain returns a YAML value in the form of a flag.
func plain(v any) string {
	if l, ok := v.([]any); ok {
		parts := make([]string, len(l))
		for i, x := range l {
			parts[i] = fmt.Sprint(x)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// reader reads flags and keeps the first error.
type reader struct {
	f   *pflag.FlagSet
	err error
}

func read[T any](r *reader, name string, get func(string) (T, error)) T {
	v, err := get(name)
	if err != nil && r.err == nil {
		r.err = usagef("--%s: %w", name, err)
	}
	return v
}

func (r *reader) text(name string) string            { return read(r, name, r.f.GetString) }
func (r *reader) boolean(name string) bool           { return read(r, name, r.f.GetBool) }
func (r *reader) number(name string) int             { return read(r, name, r.f.GetInt) }
func (r *reader) duration(name string) time.Duration { return read(r, name, r.f.GetDuration) }

func (r *reader) schedule(name string) delivery.Schedule {
	return read(r, name, func(name string) (delivery.Schedule, error) {
		text, err := r.f.GetString(name)
		if err != nil {
			return nil, err
		}
		schedule := delivery.Schedule{}
		for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
			d, err := time.ParseDuration(part)
			if err != nil || d <= 0 {
				return nil, fmt.Errorf("%q is not a delay such as 5s, 10m or 2h", part)
			}
			if d > endpoint.MaxRetryDelay { // the sum of several could overflow a Duration
				return nil, fmt.Errorf("a delay of %q is too long; use up to %s", part, shortDuration(endpoint.MaxRetryDelay))
			}
			schedule = append(schedule, d)
		}
		if len(schedule) > endpoint.MaxRetries {
			return nil, fmt.Errorf("%d delays are too many; use up to %d", len(schedule), endpoint.MaxRetries)
		}
		return schedule, nil
	})
}

func (r *reader) texts(name string) []string { return read(r, name, r.f.GetStringSlice) }

func (r *reader) addresses(name string) []string {
	texts := r.texts(name)
	for _, t := range texts {
		_, aerr := netip.ParseAddr(t)
		_, perr := netip.ParsePrefix(t)
		if aerr != nil && perr != nil && r.err == nil {
			r.err = usagef("--%s: %q is neither an address nor a range such as 203.0.113.0/28", name, t)
		}
	}
	return texts
}

func (r *reader) ports(name string) []PortRange {
	return read(r, name, func(name string) (out []PortRange, err error) {
		text, err := r.f.GetString(name)
		if err != nil {
			return nil, err
		}
		for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }) {
			low, high, isRange := strings.Cut(part, "-")
			if !isRange {
				high = low
			}
			from, err1 := strconv.ParseUint(low, 10, 16)
			to, err2 := strconv.ParseUint(high, 10, 16)
			if err1 != nil || err2 != nil || from == 0 || to < from {
				return nil, fmt.Errorf("%q is neither a port nor a range such as 8000-8999", part)
			}
			out = append(out, PortRange{uint16(from), uint16(to)})
		}
		return out, nil
	})
}

func (r *reader) proxy(name string) *url.URL {
	return read(r, name, func(name string) (*url.URL, error) {
		text, err := r.f.GetString(name)
		if err != nil || text == "" {
			return nil, err
		}
		u, err := weburl.Parse(text)
		if err != nil {
			return nil, errors.New("use a URL such as http://proxy.internal:3128") // the text may hold a password
		}
		return u, nil
	})
}

func (r *reader) prefixes(name string) []netip.Prefix {
	return read(r, name, func(name string) (out []netip.Prefix, err error) {
		texts, err := r.f.GetStringSlice(name)
		if err != nil {
			return nil, err
		}
		for _, t := range texts {
			p, err := netip.ParsePrefix(t)
			if err != nil {
				addr, aerr := netip.ParseAddr(t)
				if aerr != nil {
					return nil, fmt.Errorf("%q is not an address range such as 10.1.0.0/16", t)
				}
				p = netip.PrefixFrom(addr, addr.BitLen())
			}
			out = append(out, p.Masked())
		}
		return out, nil
	})
}
