//go:build !wasip1

package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

var exactSeeds = flag.Int("exact.seeds", 2, "how many worlds TestSimulation_exact plays, each twice")

// TestSimulation_exact runs worlds of TestSimulation in an environment where the seed
// determines everything, each of them twice: the traces must be identical.
//
// The test program is built for WebAssembly and run by an interpreter, each world in its own
// machine. There is one thread without preemption, and the Go runtime's clock and random
// numbers come from the interpreter and are the same each time. Only another version of Go, or
// of the code, changes the trace of a seed. It takes about 25 times as long.
func TestSimulation_exact(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("builds a program and compiles it once more")
	}
	ctx := context.Background()
	machine, program := compileWorld(t, ctx)
	for i := range *exactSeeds {
		seed := *simSeed + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			first, failed := runWorld(t, ctx, machine, program, seed, *simTrace)
			if failed {
				t.Error("the world failed")
			}
			again, _ := runWorld(t, ctx, machine, program, seed, false)
			if first != again {
				t.Errorf("seed %d went %s, and the second time %s", seed, first, again)
			}
			t.Logf("seed %d went %s", seed, first)
		})
	}
}

// compileWorld builds this package's tests for WebAssembly, without those that need SQLite,
// which have "//go:build !wasip1".
func compileWorld(t *testing.T, ctx context.Context) (wazero.Runtime, wazero.CompiledModule) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "world.wasm")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", file, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build for wasip1: %v\n%s", err, out)
	}
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	machine := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = machine.Close(ctx) })
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, machine); err != nil {
		t.Fatal(err)
	}
	program, err := machine.CompileModule(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	return machine, program
}

var went = regexp.MustCompile(`(?m)^seed \d+ went (.*)$`)

// runWorld runs one world in a new machine. Its clocks and random numbers are the defaults,
// which are deterministic.
func runWorld(t *testing.T, ctx context.Context, machine wazero.Runtime, program wazero.CompiledModule, seed uint64, show bool) (trace string, failed bool) {
	t.Helper()
	args := []string{"world", "-test.run=^TestSimulation$", "-test.timeout=0", "-sim.seeds=1", fmt.Sprint("-sim.seed=", seed), "-sim.sums"}
	var out bytes.Buffer
	var stdout io.Writer = &out
	if show {
		args, stdout = append(args, "-sim.trace"), io.MultiWriter(&out, os.Stdout)
	}
	_, err := machine.InstantiateModule(ctx, program, wazero.NewModuleConfig().WithName("").WithArgs(args...).WithStdout(stdout).WithStderr(&out))
	var exit *sys.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	found := went.FindSubmatch(out.Bytes())
	if found == nil {
		t.Fatalf("no trace: %s", out.Bytes())
	}
	if failed = exit != nil && exit.ExitCode() != 0; failed {
		t.Log(out.String())
	}
	return string(found[1]), failed
}
