package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

const module = "github.com/posthaste-hq/posthaste"

// report is the result of a run of the suite. Its exported fields are saved.
type report struct {
	Started  time.Time
	Stages   []stageTime
	Packages []*packageTime
	Tests    []testTime

	mu       sync.Mutex // held while one of several parallel stages writes
	failures []string   // stages and packages
}

type stageTime struct {
	Name string
	Wall float64 // seconds
}

// packageTime is the times of one package in one stage, in seconds. Dependencies outside this
// module are added up under one name.
type packageTime struct {
	Stage, Package string
	Compile, Link  float64 // compile includes vet
	Run, CPU       float64 // the elapsed time of the tests, and the processor time of them and their child processes
}

type testTime struct {
	Stage, Package, Test string
	Seconds              float64
	Result               string // pass, fail or skip
	Reason               string `json:",omitempty"` // why it was skipped
}

const dependencies = "(dependencies)"

func (r *report) of(stage, pkg string) *packageTime {
	for _, p := range r.Packages {
		if p.Stage == stage && p.Package == pkg {
			return p
		}
	}
	p := &packageTime{Stage: stage, Package: pkg}
	r.Packages = append(r.Packages, p)
	return p
}

// readActions reads how long the go command compiled and linked each package.
func (r *report) readActions(stage, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var actions []struct {
		Mode, Package       string
		TimeStart, TimeDone time.Time
	}
	if err := json.Unmarshal(text, &actions); err != nil {
		return fmt.Errorf("read the go command's actions: %w", err)
	}
	for _, a := range actions {
		took := a.TimeDone.Sub(a.TimeStart).Seconds()
		name, _, _ := strings.Cut(a.Package, " ") // of a package compiled for a test: "a [a.test]"
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".test"), "_test")
		if name != module && !strings.HasPrefix(name, module+"/") {
			name = dependencies
		}
		p := r.of(stage, short(name))
		switch a.Mode {
		case "build", "vet":
			p.Compile += took
		case "link":
			p.Link += took
		}
	}
	return nil
}

// readUsage reads the times of the test binaries.
func (r *report) readUsage(stage, file string) error {
	f, err := os.Open(file)
	if os.IsNotExist(err) { // all results were cached
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var u usage
		if err := json.Unmarshal(lines.Bytes(), &u); err != nil {
			return err
		}
		name, err := filepath.Rel(root, u.Dir)
		if err != nil {
			return err
		}
		p := r.of(stage, name)
		p.Run, p.CPU = p.Run+u.Wall, p.CPU+u.CPU
	}
	return nil
}

// close prints the skipped tests, and how many passed.
func (r *report) close(w io.Writer) {
	count, ran := map[string]int{}, map[string]bool{}
	for _, t := range r.Tests {
		count[t.Result]++
		ran[t.Package+t.Test] = ran[t.Package+t.Test] || t.Result != "skip"
	}
	var skipped []string
	for _, t := range r.Tests {
		if !ran[t.Package+t.Test] { // in any stage
			skipped = append(skipped, fmt.Sprintf("  %s %s: %s", t.Package, t.Test, t.Reason))
		}
	}
	slices.Sort(skipped)
	skipped = slices.Compact(skipped)
	if len(skipped) > 0 {
		_, _ = fmt.Fprintf(w, "\nSkipped:\n%s\n", strings.Join(skipped, "\n"))
	}
	_, _ = fmt.Fprintf(w, "\n%.0f s. make test-times shows where they went.\n", time.Since(r.Started).Seconds())
	_, _ = fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", count["pass"], count["fail"], count["skip"])
}

func (r *report) save(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// printTimes prints the results of the last run: stages, packages and the slowest tests.
func printTimes(w io.Writer, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("there are no results; run make test first: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return r.print(w)
}

func (r *report) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "stage\tseconds\t")
	for _, s := range r.Stages {
		_, _ = fmt.Fprintf(table, "%s\t%.1f\t\n", s.Name, s.Wall)
	}
	_, _ = fmt.Fprintln(table, "\nstage\tpackage\tcompile\tlink\trun\tprocessor\twaiting\t")
	slices.SortStableFunc(r.Packages, func(a, b *packageTime) int { return cmp.Compare(b.total(), a.total()) })
	for _, p := range r.Packages {
		if p.total() >= 1 {
			_, _ = fmt.Fprintf(table, "%s\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", p.Stage, p.Package, p.Compile, p.Link, p.Run, p.CPU, max(p.Run-p.CPU, 0))
		}
	}
	_, _ = fmt.Fprintln(table, "\nstage\tpackage\ttest\tseconds\t")
	slices.SortStableFunc(r.Tests, func(a, b testTime) int { return cmp.Compare(b.Seconds, a.Seconds) })
	for _, t := range r.Tests[:min(len(r.Tests), 60)] {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%.1f\t\n", t.Stage, t.Package, t.Test, t.Seconds)
	}
	return table.Flush()
}

func (p *packageTime) total() float64 { return p.Compile + p.Link + p.Run }
