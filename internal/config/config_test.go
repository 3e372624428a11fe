package config

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

func load(t *testing.T, args []string, env map[string]string) (*Config, error) {
	t.Helper()
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings := Flags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return settings.Load(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestLoad_defaults(t *testing.T) {
	c, err := load(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.LiveSchedule, delivery.LiveSchedule()) {
		t.Errorf("the live schedule is %v, want %v", c.LiveSchedule, delivery.LiveSchedule())
	}
	if got, want := len(c.TestSchedule), 4; got != want {
		t.Errorf("test retries = %d, want %d", got, want)
	}
	if c.Timeout != 15*time.Second || c.Health.DisableAfter != 5*24*time.Hour {
		t.Errorf("timeout %s, disable after %s", c.Timeout, c.Health.DisableAfter)
	}
}

// The defaults are safe.
func TestLoad_safeDefaults(t *testing.T) {
	c, err := load(t, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host, _, err := net.SplitHostPort(c.Addr); err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("it listens on %s", c.Addr)
	}
	if c.DebugAddr != "" || c.Dev || c.AllowPlain || len(c.AllowTargets) > 0 || c.EgressProxy != nil || c.ProxyResolves || c.TestKey != "" || c.AdminKey != "" || c.LogLevel != "info" {
		t.Errorf("the defaults open more than they should: %+v", c)
	}
	for _, r := range c.TargetPorts {
		if r.From < 1024 && r != (PortRange{80, 80}) && r != (PortRange{443, 443}) {
			t.Errorf("targets may have the ports %d to %d", r.From, r.To)
		}
	}
}

func TestLoad_precedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("concurrency: 7\ntimeout: 3s\nworkers: 9\nallow-targets: [10.0.0.0/8, 192.168.1.1]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, []string{"--config", file, "--concurrency", "5"}, map[string]string{"POSTHASTE_TIMEOUT": "4s", "POSTHASTE_CONCURRENCY": "6"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Concurrency != 5 || c.Timeout != 4*time.Second || c.Workers != 9 {
		t.Errorf("flag, environment, file: got %d, %s, %d, want 5, 4s, 9", c.Concurrency, c.Timeout, c.Workers)
	}
	if len(c.AllowTargets) != 2 || c.AllowTargets[1].String() != "192.168.1.1/32" {
		t.Errorf("allow-targets = %v", c.AllowTargets)
	}
}

func TestLoad_refuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("retries: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		env  map[string]string
		says string
	}{
		{"unknown setting in file", []string{"--config", file}, nil, `no setting "retries"`},
		{"missing file", []string{"--config", file + "x"}, nil, "no such file"},
		{"environment of the wrong type", nil, map[string]string{"POSTHASTE_WORKERS": "many"}, "POSTHASTE_WORKERS"},
		{"timeout too long", []string{"--timeout", "2m"}, nil, "--timeout"},
		{"schedule", []string{"--live-schedule", "5s,soon"}, nil, `"soon"`},
		{"delay of centuries", []string{"--live-schedule", "2562047h,2562047h"}, nil, `--live-schedule: a delay of "2562047h" is too long; use up to 168h`},
		{"too many delays", []string{"--test-schedule", strings.Repeat("1s,", 31)}, nil, "--test-schedule: 31 delays are too many; use up to 30"},
		{"negative delay", []string{"--live-schedule", "-5s"}, nil, "--live-schedule"},
		{"target range", []string{"--allow-targets", "10.0.0.0/99"}, nil, "--allow-targets"},
		{"brand", []string{"--brand", "Pay ment"}, nil, "--brand"},
		{"log format", []string{"--log-format", "xml"}, nil, "--log-format"},
		{"short test key", nil, map[string]string{"POSTHASTE_TEST_KEY": "sk_test_short"}, "POSTHASTE_TEST_KEY"},
		{"live key as test key", nil, map[string]string{"POSTHASTE_TEST_KEY": "sk_live_1234567890abcdef"}, "starts with sk_test_"},
		{"ports", []string{"--target-ports", "80,99999"}, nil, `"99999"`},
		{"backward port range", []string{"--target-ports", "90-80"}, nil, `"90-80"`},
		{"egress proxy with a password", []string{"--egress-proxy", "socks://u:1234567890abcdef@proxy:1"}, nil, "--egress-proxy"},
		{"egress address", []string{"--egress-addresses", "here"}, nil, `"here"`},
		{"rate limit", []string{"--rate-limit", "-1"}, nil, "--rate-limit"},
		{"notify without a secret", []string{"--notify-url", "https://ops.example"}, nil, "POSTHASTE_NOTIFY_SECRET"},
		{"notify with a bad secret", []string{"--notify-url", "https://ops.example"}, map[string]string{"POSTHASTE_NOTIFY_SECRET": "1234567890abcdef"}, "POSTHASTE_NOTIFY_SECRET"},
		{"mail without recipients", []string{"--smtp-addr", "smtp.example:25"}, nil, "--smtp-to"},
		{"mail over what", []string{"--smtp-tls", "ssl3"}, nil, "--smtp-tls"},
		{"audit log kept for seconds", []string{"--audit-retention", "1s"}, nil, "--audit-retention"},
		{"jobs kept for less than nothing", []string{"--job-retention", "-1h"}, nil, "--job-retention"},
		{"sandbox kept for seconds", []string{"--sandbox-retention", "59s"}, nil, "--sandbox-retention"},
		{"health", []string{"--disable-after-failures", "-1"}, nil, "--disable-after-failures"},
		{"test key as operator key", nil, map[string]string{"POSTHASTE_ADMIN_KEY": "sk_test_1234567890abcdef"}, "starts with sk_admin_"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.args, tt.env)
			var usage *Usage
			if !errors.As(err, &usage) {
				t.Fatalf("err = %v, want a *Usage", err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("err = %q, want it to say %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "1234567890abcdef") {
				t.Errorf("err shows a key: %q", err)
			}
		})
	}
}

func TestLoad_network(t *testing.T) {
	c, err := load(t, []string{"--target-ports", "443, 8000-8999", "--egress-proxy", "http://u:p@proxy.internal:3128", "--egress-addresses", "203.0.113.7,2001:db8::/32"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.TargetPorts) != 2 || c.TargetPorts[1] != (PortRange{8000, 8999}) || c.EgressProxy.Hostname() != "proxy.internal" || len(c.EgressAddresses) != 2 {
		t.Errorf("got %v, %v, %v", c.TargetPorts, c.EgressProxy, c.EgressAddresses)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second: "5s", 10 * time.Second: "10s", 30 * time.Minute: "30m", 10 * time.Minute: "10m", 2 * time.Hour: "2h",
		10 * time.Hour: "10h", 20 * time.Hour: "20h", 90 * time.Minute: "1h30m", 61 * time.Minute: "1h1m", 70 * time.Second: "1m10s",
		1500 * time.Millisecond: "1.5s", time.Hour + 10*time.Second: "1h0m10s",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("shortDuration(%v) = %q, want %q", d, got, want)
		} else if back, err := time.ParseDuration(got); err != nil || back != d {
			t.Errorf("%q parses to %v, %v", got, back, err)
		}
	}
}

func TestLoad_tracing(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"POSTHASTE_OTLP_ENDPOINT": "http://collector:4318"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, true},
		{map[string]string{"OTEL_SERVICE_NAME": "hooks"}, false},
		{map[string]string{"POSTHASTE_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, false},
	} {
		c, err := load(t, nil, tt.env)
		if err != nil || c.Tracing != tt.want {
			t.Errorf("%v: traced %t, %v", tt.env, err == nil && c.Tracing, err)
		}
	}
}

func TestLoad_retention(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want [4]time.Duration // events, audit log, jobs, sandbox
	}{
		{nil, [4]time.Duration{720 * time.Hour, 8760 * time.Hour, 720 * time.Hour, 2160 * time.Hour}},
		{[]string{"--retention", "1m", "--audit-retention", "2m", "--job-retention", "3m", "--sandbox-retention", "4m"},
			[4]time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute}},
		{[]string{"--retention", "0", "--audit-retention", "0", "--job-retention", "0", "--sandbox-retention", "0"}, [4]time.Duration{}},
	} {
		c, err := load(t, tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := [4]time.Duration{c.Retention, c.AuditKept, c.JobsKept, c.SandboxKept}; got != tt.want {
			t.Errorf("%v: %v, want %v", tt.args, got, tt.want)
		}
	}
}

// The path in the public URL is used unchanged, and refused if it could be mistaken for one of
// the server's own or needs escaping.
func TestLoad_publicPath(t *testing.T) {
	for public, want := range map[string]string{
		"https://a.example": "", "https://a.example/": "", "https://a.example/hooks": "/hooks", "https://a.example/hooks/": "/hooks",
		"http://a.example:8080/a/b.c~d": "/a/b.c~d", "https://a.example/administration": "/administration",
	} {
		c, err := load(t, []string{"--public-url", public}, nil)
		if err != nil || c.PublicPath != want || strings.HasSuffix(c.PublicURL, "/") {
			t.Errorf("%s: %+v, %v", public, c, err)
		}
	}
	for _, public := range []string{
		"https://a.example/admin", "https://a.example/v1/hooks", "https://a.example/portal/", "https://a.example/docs", "https://a.example/metrics",
		"https://a.example/a//b", "https://a.example/a/../b", "https://a.example/./a", "https://a.example/h%C3%B6r", "https://a.example/a b", "https://a.example/a?b=c",
		"https://a.example/a#b", "https://u:p@a.example/a", "https:///a", "ftp://a.example", "a.example/hooks", "https://a.example//",
	} {
		if c, err := load(t, []string{"--public-url", public}, nil); err == nil {
			t.Errorf("%s is accepted, with the path %q", public, c.PublicPath)
		}
	}
}

// A command registers the flags of its groups; other settings still come from the environment
// and the file.
func TestFlags_groups(t *testing.T) {
	f := pflag.NewFlagSet("backup", pflag.ContinueOnError)
	settings := Flags(f, Store, Server).Show(Embedded)
	var shown, taken []string
	f.VisitAll(func(flag *pflag.Flag) {
		taken = append(taken, flag.Name)
		if !flag.Hidden {
			shown = append(shown, flag.Name)
		}
	})
	if !slices.Equal(taken, []string{"addr", "config", "data", "database-url"}) || !slices.Equal(shown, []string{"config", "data"}) {
		t.Errorf("takes %v and shows %v", taken, shown)
	}
	if err := f.Parse([]string{"--data", "/a", "--addr", "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"POSTHASTE_DATA": "/b", "POSTHASTE_WORKERS": "7", "POSTHASTE_DATABASE_URL": "postgres://a/b"}
	c, err := settings.Load(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil || c.Data != "/a" || c.Addr != "127.0.0.1:1" || c.Workers != 7 || c.Database != "postgres://a/b" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := f.Parse([]string{"--workers", "7"}); err == nil {
		t.Error("a flag of another group is accepted")
	}
}
