package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// wrapped is the first argument with which go test -exec runs this program around a test
// binary: it measures the processor time of the tests and their child processes.
const wrapped = "-measure"

// event is a line of go test -json (cmd/test2json), with the fields that are used here.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// measure runs a test binary, appends its times to a file, and returns its exit code.
func measure(file string, command []string) int {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	dir, _ := os.Getwd()
	u := usage{Dir: dir, Wall: time.Since(began).Seconds()}
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &own) == nil {
		u.CPU = seconds(own.Utime) + seconds(own.Stime)
	}
	if text, err := json.Marshal(u); err == nil {
		if f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.Write(append(text, '\n'))
			_ = f.Close()
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1) // -1 after a signal
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// usage is the times of a test binary.
type usage struct {
	Dir  string  `json:"dir"`  // the package's folder
	Wall float64 `json:"wall"` // seconds
	CPU  float64 `json:"cpu"`  // seconds, including its child processes
}

// run runs a stage and stores its results.
func (r *report) run(ctx context.Context, s *stage) {
	fmt.Printf("=== %s: %s\n", s.name, s.does)
	began := time.Now()
	err := r.start(ctx, s)
	took := time.Since(began)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Stages = append(r.Stages, stageTime{Name: s.name, Wall: took.Seconds()})
	if err != nil {
		r.failures = append(r.failures, s.name)
		fmt.Printf("--- %s failed after %.0f s: %v\n", s.name, took.Seconds(), err)
	}
}

func (r *report) start(ctx context.Context, s *stage) error {
	if s.shell != "" {
		cmd := exec.CommandContext(ctx, "sh", "-ec", s.shell)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	}
	packages, err := s.packages()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "posthaste-suite-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	graph, used := filepath.Join(scratch, "actions"), filepath.Join(scratch, "used")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := slices.Concat([]string{"test", "-json", "-debug-actiongraph", graph, "-exec", self + " " + wrapped + " " + used}, s.args, packages)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := r.follow(s.name, out); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	err = cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.readActions(s.name, graph), r.readUsage(s.name, used))
}

// follow reads the events of a go test, prints progress and failures, and stores the results.
func (r *report) follow(stage string, events io.Reader) error {
	output := map[string]*strings.Builder{}
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil { // output of the go command itself
				fmt.Print(string(line))
				continue
			}
			r.take(stage, &e, output)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// take processes one event.
func (r *report) take(stage string, e *event, output map[string]*strings.Builder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "output":
		if output[key] == nil {
			output[key] = &strings.Builder{}
		}
		output[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		text := output[key]
		delete(output, key)
		said := ""
		if text != nil {
			said = text.String()
		}
		if e.Test == "" {
			r.ended(stage, e, said)
		} else {
			r.tested(stage, e, said)
		}
	}
}

// ended stores and prints the result of a package.
func (r *report) ended(stage string, e *event, said string) {
	name := short(e.Package)
	switch e.Action {
	case "fail":
		fmt.Printf("FAIL\t%s\t%.1fs\n%s", name, e.Elapsed, said)
		r.failures = append(r.failures, name)
	case "pass":
		note := ""
		if strings.Contains(said, "(cached)") {
			note = "\t(cached)"
		}
		fmt.Printf("ok  \t%s\t%.1fs%s\n", name, e.Elapsed, note)
	}
}

// tested stores the result of a test and prints the output of a failed one.
func (r *report) tested(stage string, e *event, said string) {
	t := testTime{Stage: stage, Package: short(e.Package), Test: e.Test, Seconds: e.Elapsed, Result: e.Action}
	switch e.Action {
	case "fail":
		fmt.Print(said)
	case "skip":
		t.Reason = reason(said)
	}
	r.Tests = append(r.Tests, t)
}

// reason extracts the reason from the output of a skipped test.
func reason(said string) string {
	for _, line := range strings.Split(said, "\n") {
		line = strings.TrimSpace(line)
		if file, text, ok := strings.Cut(line, ": "); ok && strings.Contains(file, "_test.go:") {
			return text
		}
	}
	return "no reason given"
}

func short(importPath string) string {
	if name, ok := strings.CutPrefix(importPath, module+"/"); ok {
		return name
	}
	if importPath == module {
		return "."
	}
	return importPath
}

// keepBusy starts loops that each use one processor, and returns a function that ends them.
func keepBusy(n int) (end func()) {
	var loops []*exec.Cmd
	for range min(n, 4*runtime.NumCPU()) {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if cmd.Start() == nil {
			loops = append(loops, cmd)
		}
	}
	return func() {
		for _, cmd := range loops {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}
