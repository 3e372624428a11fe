package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posthaste-hq/posthaste/internal/config"
)

var update = flag.Bool("update", false, "rewrite docs/reference from the commands and settings")

// The reference contains the texts of the program's help.
func TestReference_isUpToDate(t *testing.T) {
	for name, want := range map[string]string{"cli.md": commandReference(), "configuration.md": settingReference()} {
		file := filepath.Join("../../docs/reference", name)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s is outdated (%v); run make docs", file, err)
		}
	}
}

func commandReference() string {
	var b bytes.Buffer
	b.WriteString("# Commands\n\n`posthaste COMMAND --help` prints the same texts. The settings of the server are in [Configuration](configuration.md). " +
		"Exit codes: 0 done, 1 failure, 2 wrong usage.\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Runnable() {
			writeCommand(&b, c)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	for _, c := range commands().Commands() {
		walk(c)
	}
	return b.String()
}

func writeCommand(b *bytes.Buffer, c *cobra.Command) {
	about := c.Short
	if c.Long != "" {
		about = c.Long
	}
	_, _ = fmt.Fprintf(b, "\n## %s\n\n%s\n\n```text\n%s\n```\n", c.CommandPath(), paragraphs(about), c.UseLine())
	if c.Example != "" {
		_, _ = fmt.Fprintf(b, "\nFor example:\n\n```text\n%s\n```\n", strings.TrimRight(dedent(c.Example), "\n"))
	}
	if c.Name() == "serve" {
		b.WriteString("\nIts flags are [the settings](configuration.md).\n")
		return
	}
	rows := ""
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		rows += fmt.Sprintf("| `--%s` | %s | %s | %s |\n", f.Name, kind, defaultOf(f), tableCell(usage))
	})
	if rows != "" {
		b.WriteString("\n| flag | value | default | |\n|---|---|---|---|\n" + rows)
	}
}

func settingReference() string {
	var b bytes.Buffer
	b.WriteString("# Configuration\n\nThe settings of `posthaste serve`. Each is a flag, an environment variable, or a line `name: value` in a YAML file " +
		"(`--config`, or `posthaste.yaml` in the working directory). A flag takes precedence over the environment, and the environment over the file.\n\n" +
		"| flag | environment | value | default | |\n|---|---|---|---|---|\n")
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.SortFlags = false
	config.Flags(f)
	f.VisitAll(func(f *pflag.Flag) {
		kind, usage := pflag.UnquoteUsage(f)
		if kind == "" {
			kind = "bool"
		}
		_, _ = fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", f.Name, config.EnvName(f.Name), kind, defaultOf(f), tableCell(usage))
	})
	b.WriteString("\n## Without a flag\n\nFlags are visible in process lists, so secrets are set by the environment only.\n\n| environment | |\n|---|---|\n")
	for _, s := range secretSettings {
		_, _ = fmt.Fprintf(&b, "| `%s%s` | %s |\n", config.EnvPrefix, s.name, s.about)
	}
	return b.String()
}

var secretSettings = []struct{ name, about string }{
	{"ADMIN_KEY", "the operator's API key, `sk_admin_…`; if not set, the first start generates one"},
	{"TEST_KEY", "a test key of the first account, `sk_test_…`; if not set, the first start with `--dev` generates one and stores it in `test-key` in the data directory"},
	{"MASTER_KEY", "master keys, `phmk_…`, separated by commas; the first encrypts, all decrypt; if not set, they are read from `--master-key-file`"},
	{"NOTIFY_SECRET", "signing secret of the notices sent to `--notify-url`, `whsec_…`"},
	{"SMTP_USERNAME", "user name at `--smtp-addr`"},
	{"SMTP_PASSWORD", "password at `--smtp-addr`"},
}

// Every setting without a flag is in the reference.
func TestReference_hasSecrets(t *testing.T) {
	src, err := os.ReadFile("../config/config.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`getenv\(EnvPrefix \+ "(\w+)"\)`).FindAllStringSubmatch(string(src), -1)
	if len(found) != len(secretSettings) {
		t.Errorf("%d settings have no flag, and the reference has %d", len(found), len(secretSettings))
	}
	for _, m := range found {
		if !strings.Contains(settingReference(), "`"+config.EnvPrefix+m[1]+"`") {
			t.Errorf("the reference lacks %s", m[1])
		}
	}
}

func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "[]", "false":
		return ""
	}
	return "`" + f.DefValue + "`"
}

// tableCell formats a text for a table.
func tableCell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(s)
}

func paragraphs(s string) string {
	parts := strings.Split(s, "\n\n")
	for i, p := range parts {
		if !strings.HasPrefix(p, "  ") { // code is not changed
			parts[i] = tableCell(p)
		}
	}
	return strings.Join(parts, "\n\n")
}

func dedent(s string) string { return regexp.MustCompile(`(?m)^  `).ReplaceAllString(s, "") }

// Only serve has flags for settings that only a server uses.
func TestHelp_showsUsedFlags(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.Name() == "serve" {
			return
		}
		for _, name := range []string{"workers", "retention", "live-schedule", "public-url", "log-level", "brokers"} {
			if f := c.Flags().Lookup(name); f != nil && !f.Hidden {
				t.Errorf("%s shows --%s", c.CommandPath(), name)
			}
		}
	}
	walk(commands())
}
