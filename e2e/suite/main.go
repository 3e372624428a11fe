// Command suite runs the project's tests and reports their times and the skipped ones. It
// declares the stages of `make test` and `make test-fast`: which packages run with the race
// detector, which without, and with which flags.
//
// It prints one line per package while it runs, the output of failing tests, and at the end
// each skipped test with its reason. The exit code is 1 if anything failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// resultsFile holds the results of the last run, which -times prints.
const resultsFile = "bin/test-times.json"

func main() {
	if len(os.Args) > 3 && os.Args[1] == wrapped {
		os.Exit(measure(os.Args[2], os.Args[3:]))
	}
	only := flag.String("only", "", "run only these stages, separated by commas: "+strings.Join(stageNames(), ", "))
	fast := flag.Bool("fast", false, "run the tests that need no other program, without the race detector")
	times := flag.Bool("times", false, "print the times of the last run and run nothing")
	busy := flag.Int("busy", 0, "number of processes that each keep a processor busy beside the tests")
	flag.Parse()
	if err := run(*only, *fast, *times, *busy); err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
}

func run(only string, fast, times bool, busy int) error {
	if err := toRoot(); err != nil {
		return err
	}
	if times {
		return printTimes(os.Stdout, resultsFile)
	}
	chosen, err := choose(only, fast)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	defer keepBusy(busy)()
	r := &report{Started: time.Now()}
	for _, group := range chosen {
		var beside sync.WaitGroup
		for _, s := range group {
			beside.Go(func() { r.run(ctx, &s) })
		}
		beside.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	r.close(os.Stdout)
	if err := r.save(resultsFile); err != nil {
		return err
	}
	if len(r.failures) > 0 {
		slices.Sort(r.failures)
		return fmt.Errorf("failed: %s", strings.Join(slices.Compact(r.failures), ", "))
	}
	return nil
}

// toRoot changes to the directory of the module, above the working directory.
func toRoot() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return os.Chdir(dir)
		}
		if dir == filepath.Dir(dir) {
			return fmt.Errorf("no go.mod above the working directory")
		}
	}
}
