// Package posthaste_test checks the structure of the repository.
package posthaste_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/posthaste-hq/posthaste"

// layers lists the packages from the top down. A package may import only packages of lower
// lines.
var layers = [][]string{
	{"cmd/posthaste"},
	{"internal/cli"},
	{"internal/httpapi", "internal/adminui", "internal/relay", "internal/docsite", "internal/telemetry", "internal/cluster", "internal/broker/natsjs", "internal/broker/rabbitmq", "internal/broker/kafka"},
	{"internal/broker", "internal/intake"},
	{"internal/sandbox"},
	{"internal/service"},
	{"internal/service/auth", "internal/service/jobs", "internal/service/tally"},
	{"internal/service/call"},
	{"internal/dispatch", "internal/commit", "internal/store/sqlite", "internal/config"},
	{"internal/sender", "internal/store"},
	{"internal/job"},
	{"internal/account", "internal/delivery", "internal/peer"},
	{"internal/endpoint"},
	{"internal/expression"},
	{"internal/event"},
	{"internal/quota"},
	{"internal/fault", "internal/seal", "internal/mail", "internal/mount", "internal/signature", "internal/weburl", "webhook", "api", "docs"},
	{"client/outbox/pgxoutbox"},
	{"client/outbox"},
	{"client"},
}

type pkg struct {
	ImportPath  string
	Imports     []string
	TestImports []string
	Dir         string
}

func packages(t *testing.T, args ...string) []pkg {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports,Dir"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestImports_pointDown(t *testing.T) {
	level := map[string]int{}
	for i, l := range layers {
		for _, p := range l {
			level[module+"/"+p] = i
		}
	}
	seen := 0
	for _, p := range packages(t, "./...") {
		from, listed := level[p.ImportPath]
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		if !listed {
			if strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "internal/store/") && name != "internal/broker/brokertest" && name != "internal/httpapi/apitest" {
				t.Errorf("%s has no place in the layers; give it one", name)
			}
			continue
		}
		seen++
		for _, imp := range p.Imports {
			if to, ours := level[imp]; ours && to <= from {
				t.Errorf("%s imports %s, which is not below it", name, strings.TrimPrefix(imp, module+"/"))
			}
		}
	}
	if seen != len(level) {
		t.Errorf("found %d of the %d packages in the layers", seen, len(level))
	}
}

// Packages do not import what they must not depend on.
func TestImports_keepOut(t *testing.T) {
	for _, rule := range []struct {
		imports string
		only    []string
	}{
		// Surfaces show values of the domain.
		{module + "/internal/store", []string{"internal/store/relational", "internal/store/sqlite", "internal/store/postgres", "internal/store/memstore", "internal/store/storetest", "internal/commit", "internal/dispatch",
			"internal/service", "internal/service/call", "internal/service/auth", "internal/service/jobs", "internal/service/tally", "internal/sandbox", "internal/cluster", "internal/telemetry", "internal/cli", "internal/httpapi/apitest"}},
		{module + "/internal/store/sqlite", []string{"internal/cli", "internal/httpapi/apitest"}},
		{module + "/internal/store/postgres", []string{"internal/cli"}},
		{module + "/internal/store/relational", []string{"internal/store/sqlite", "internal/store/postgres"}},
		{"database/sql", []string{"internal/store/relational", "internal/store/sqlite", "internal/store/postgres", "webhook", "client/outbox"}},
		{"github.com/jackc/pgx/v5", []string{"internal/store/postgres", "internal/store/postgres/pgtest", "client/outbox/pgxoutbox"}},
		{"github.com/nats-io/nats.go", []string{"internal/broker/natsjs"}},
		{"github.com/rabbitmq/amqp091-go", []string{"internal/broker/rabbitmq"}},
		{"github.com/twmb/franz-go/pkg/kgo", []string{"internal/broker/kafka"}},
		{"modernc.org/sqlite", []string{"internal/store/sqlite"}},
		{"net/http", []string{"internal/broker", "internal/intake", "internal/httpapi", "internal/adminui", "internal/docsite", "internal/relay", "internal/sender", "internal/telemetry", "internal/cli", "internal/mount", "webhook", "client", "client/outbox", "internal/httpapi/apitest"}},
		{"github.com/spf13/cobra", []string{"internal/cli"}},
		{"cel.dev/cel-go/cel", []string{"internal/expression"}},
		{"github.com/yuin/goldmark", []string{"internal/docsite"}},
	} {
		for _, p := range packages(t, "./internal/...", "./webhook", "./client/...", "./cmd/...") {
			name := strings.TrimPrefix(p.ImportPath, module+"/")
			if slices.Contains(p.Imports, rule.imports) && !slices.Contains(rule.only, name) {
				t.Errorf("%s imports %s; only %v may", name, rule.imports, rule.only)
			}
		}
	}
}

// The public packages are for other programs: they have few dependencies and do not import the
// server.
func TestPublicPackages_standAlone(t *testing.T) {
	for _, p := range packages(t, "./internal/...", "./webhook", "./cmd/...") {
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, "go.opentelemetry.io/") && p.ImportPath != module+"/internal/telemetry" {
				t.Errorf("%s imports %s; only internal/telemetry may", p.ImportPath, imp)
			}
		}
	}
	for _, p := range packages(t, "./webhook", "./client/...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, imp := range p.Imports {
			ours := strings.HasPrefix(imp, module+"/client")
			switch {
			case !strings.Contains(strings.Split(imp, "/")[0], "."), ours && name != "webhook":
			case name == "client/outbox/pgxoutbox" && strings.HasPrefix(imp, "github.com/jackc/pgx/v5"):
			default:
				t.Errorf("the public package %s imports %s; it keeps to the standard library", name, imp)
			}
		}
	}
}

// The program does not contain packages for tests.
func TestBinary_holdsNoTestTools(t *testing.T) {
	for _, p := range packages(t, "-deps", "./cmd/posthaste") {
		for _, tool := range []string{"go.uber.org/goleak", "github.com/stretchr/", "standard-webhooks", "svix", "pgtest", "apitest", "nats-server", "kfake", "tetratelabs/wazero", "cloudevents/sdk-go", "emersion/go-smtp"} {
			if strings.Contains(p.ImportPath, tool) {
				t.Errorf("the program links %s", p.ImportPath)
			}
		}
		if p.ImportPath == "testing" {
			t.Error("the program links package testing")
		}
	}
}

// A test that sleeps is slow on a fast machine and unreliable on a slow one. Within
// testing/synctest, sleeping is instant.
func TestTests_doNotSleep(t *testing.T) {
	sleep := regexp.MustCompile(`\btime\.Sleep\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") || path == "architecture_test.go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if sleep.Match(text) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
			t.Errorf("%s sleeps; wait for a condition instead", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The program may be distributed with all that it links: every module has a licence that
// requires no more than its notice.
func TestBinary_licences(t *testing.T) {
	permissive := regexp.MustCompile(`Apache License|MIT License|Permission is hereby granted, free of charge|Permission to use, copy, modify, and(/or)? distribute|Redistribution\s+and\s+use\s+in\s+source\s+and\s+binary\s+forms`)
	copyleft := regexp.MustCompile(`(?i)GNU (Affero |Lesser )?General Public License|Mozilla Public License|Server Side Public License|Business Source License|Commons Clause`)
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}{{end}}", "./cmd/posthaste").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Fields(strings.ReplaceAll(string(out), "\t", "|"))
	slices.Sort(lines)
	lines = slices.Compact(lines)
	for _, line := range lines {
		path, dir, _ := strings.Cut(line, "|")
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Errorf("%s is not in the module cache: %v", path, err)
			continue
		}
		found := false
		for _, e := range entries {
			if name := strings.ToUpper(e.Name()); e.IsDir() || !strings.HasPrefix(name, "LICENSE") && !strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
				continue
			}
			if strings.Contains(strings.ToUpper(e.Name()), "3RD-PARTY") {
				continue // a list of others' licences: the linked ones are in this loop too
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Error(err)
				continue
			}
			found = found || permissive.Match(text)
			if copyleft.Match(text) {
				t.Errorf("%s: %s has a licence with further requirements", path, e.Name())
			}
		}
		if !found {
			t.Errorf("%s has no licence that is known to be permissive", path)
		}
	}
	if len(lines) < 20 {
		t.Errorf("only %d modules were looked at", len(lines))
	}
}
