package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
)

// stage is one command of the suite: a go test or another command.
type stage struct {
	name  string
	does  string
	args  []string          // of go test
	tests func(string) bool // selects its packages by their path in the module, "." for its root
	shell string            // the other command, for sh
}

// raceless are the packages that start no goroutine and hold no lock. The race detector would
// make their tests several times slower and find nothing. TestRaceless checks the list.
var raceless = []string{
	".", "api", "cmd/posthaste", "docs", "deploy/release", "internal/account", "internal/config", "internal/delivery", "internal/fault", "internal/peer",
}

// sampled are the packages that run with and without the race detector, because with it they
// test only a part of their matrices, seeds and documents.
var sampled = []string{"internal/adminui", "internal/dispatch", "internal/event", "internal/httpapi"}

// races are the end-to-end tests with the most concurrency. They run a second time with a
// program that is built with the race detector.
const races = `^Test(Crash|Cluster_killed|Listen_restarted|Rotation_underTraffic|Sigterm_underLoad|Recover)`

// suite has the stages of make test: the groups run one after the other, the stages of a group
// in parallel. The end-to-end tests mostly wait, so that other tests use the processors
// meanwhile; both cores are busy throughout.
var suite = [][]stage{
	{{name: "plain", does: "without the race detector: what has no concurrency, and whole matrices", args: []string{"-timeout", "20m"},
		tests: func(p string) bool { return slices.Contains(raceless, p) || slices.Contains(sampled, p) || measures(p) }}},
	{
		// The tests build the binary, so a result must not come from the cache.
		{name: "e2e", does: "end-to-end tests of the program", args: []string{"-timeout", "30m", "-count=1", "-parallel", "4"}, tests: endToEnd},
		{name: "race", does: "with the race detector: what has concurrency", args: []string{"-race", "-timeout", "20m"},
			tests: func(p string) bool { return !slices.Contains(raceless, p) && !endToEnd(p) && !measures(p) }},
	},
	{
		{name: "e2e-race", does: "end-to-end tests of a program with the race detector", args: []string{"-race", "-timeout", "20m", "-count=1", "-run", races}, tests: endToEnd},
		{name: "clients", does: "the receivers' libraries in other languages",
			shell: "(cd clients/node && npm ci --no-audit --no-fund --loglevel=error && npm test --silent) && cd clients/python && python3 -m unittest discover -q"},
	},
}

// inner has the stages of make test-fast.
var inner = [][]stage{{{name: "fast", does: "what needs no other program, without the race detector", args: []string{"-short", "-timeout", "5m"},
	tests: func(p string) bool { return !endToEnd(p) }}}}

func endToEnd(p string) bool { return p == "e2e" }

// measures reports whether a package is one of the benchmark or test tools.
func measures(p string) bool {
	return strings.HasPrefix(p, "bench/") || strings.HasPrefix(p, "e2e/")
}

// choose returns the groups to run: those of make test-fast or those of make test. With names
// in only, it returns only the named stages.
func choose(only string, fast bool) ([][]stage, error) {
	if fast {
		return inner, nil
	}
	if only == "" {
		return suite, nil
	}
	names := strings.Split(only, ",")
	var groups [][]stage
	for _, g := range suite {
		chosen := slices.DeleteFunc(slices.Clone(g), func(s stage) bool { return !slices.Contains(names, s.name) })
		if len(chosen) > 0 {
			groups = append(groups, chosen)
		}
	}
	for _, n := range names {
		if !slices.Contains(stageNames(), n) {
			return nil, fmt.Errorf("unknown stage %q; the stages are %s", n, strings.Join(stageNames(), ", "))
		}
	}
	return groups, nil
}

func stageNames() (names []string) {
	for _, g := range suite {
		for _, s := range g {
			names = append(names, s.name)
		}
	}
	return names
}

// packages returns the import paths of a stage's packages.
func (s *stage) packages() ([]string, error) {
	all, err := modulePackages()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(path string) bool { return !s.tests(short(path)) }), nil
}

// modulePackages returns the import paths of the module's packages.
var modulePackages = sync.OnceValues(func() ([]string, error) {
	out, err := exec.Command("go", "list", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return strings.Fields(string(out)), nil
})
