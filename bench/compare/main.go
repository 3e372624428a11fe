// Command compare measures the server beside the storage-free relay, in one run,
// with every program in a process of its own on this machine.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/posthaste-hq/posthaste/bench/measure"
)

type options struct {
	rounds, events, conns, size, latencySeconds, waiting int
	scenarios                                            string
	profile                                              string
}

const apiKey = "sk_test_benchmark1234567890"

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each throughput measurement, in turn")
	flag.IntVar(&o.events, "events", 30000, "events a throughput round")
	flag.IntVar(&o.conns, "c", 64, "connections of the load generator")
	flag.IntVar(&o.size, "size", 1024, "bytes of a request")
	flag.IntVar(&o.latencySeconds, "latency-seconds", 20, "of 50 events a second, for the latency measurements")
	flag.IntVar(&o.waiting, "waiting", 100000, "deliveries that wait for dead endpoints in the isolation scenario")
	flag.StringVar(&o.scenarios, "scenarios", "throughput,latency,isolation,nodes", "what to measure")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of the server's last throughput round to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "posthaste-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{options: o, dir: dir}
	for name, pkg := range map[string]string{"posthaste": "./cmd/posthaste", "sink": "./bench/sink", "relay": "./bench/relay", "load": "./bench/load"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	fmt.Printf("%d CPUs, %s, %d-byte events, %d connections; load generator, sink and target share the machine\n",
		runtime.NumCPU(), runtime.Version(), o.size, o.conns)
	for _, s := range []struct {
		name string
		run  func(context.Context) error
	}{{"throughput", b.throughput}, {"latency", b.latency}, {"isolation", b.isolation}, {"nodes", b.nodes}} {
		if strings.Contains(o.scenarios, s.name) {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

type bench struct {
	options
	dir string
}

// process is a program that was started here.
type process struct {
	cmd  *exec.Cmd
	base string // http://127.0.0.1:port
	data string // data directory of a server
}

var listening = regexp.MustCompile(`listening.*?(127\.0\.0\.1:\d+)`)

func (b *bench) start(ctx context.Context, name string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(ctx, filepath.Join(b.dir, name), args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 35 * time.Second
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			p.base = "http://" + m[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not say where it listens", name), p.cmd.Wait())
}

// once runs a command of the server to its end.
func (b *bench) once(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, filepath.Join(b.dir, "posthaste"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return nil
}

// stop ends the process and returns the CPU time it used.
func (p *process) stop() (time.Duration, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	_ = p.cmd.Wait() // the helpers have no handler for the signal
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
}

// peak returns the most memory that the process had resident, in MiB.
func (p *process) peak() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kib / 1024
}

func (b *bench) sink(ctx context.Context) (*process, error) { return b.start(ctx, "sink", nil) }

func (b *bench) server(ctx context.Context, args ...string) (*process, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	p, err := b.start(ctx, "posthaste", []string{"POSTHASTE_TEST_KEY=" + apiKey},
		append([]string{"serve", "--dev", "--addr", "127.0.0.1:0", "--data", data}, args...)...)
	if err == nil {
		p.data = data
	}
	return p, err
}

// register makes an endpoint for events of one type.
func (p *process) register(ctx context.Context, target, typ string) error {
	form := url.Values{"url": {target}, "enabled_events[]": {typ}}
	return p.post(ctx, "/v1/webhooks", form)
}

func (p *process) post(ctx context.Context, path string, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %d %s", path, resp.StatusCode, text)
	}
	return nil
}

// Result is what the load generator prints.
type Result struct {
	Sent, Failed   int
	Ingest         float64
	EndToEnd       float64
	P50, P99, Max  float64
	BeforeResponse int
}

func (b *bench) load(ctx context.Context, target *process, sink *process, args ...string) (r Result, err error) {
	if sink != nil {
		if err := sink.post(ctx, "/-/reset", nil); err != nil {
			return r, err
		}
		args = append(args, "-sink", sink.base)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "load"), append([]string{
		"-url", target.base + "/v1/events", "-key", apiKey, "-size", strconv.Itoa(b.size), "-c", strconv.Itoa(b.conns)}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, err
	}
	if r.Failed > 0 {
		return r, fmt.Errorf("%d of %d events were not accepted", r.Failed, r.Sent)
	}
	return r, nil
}

func (b *bench) throughput(ctx context.Context) (err error) {
	sink, err := b.sink(ctx)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	var relayRate, ingest, rate, ratio, cpu, relayCPU, disk, memory []float64
	n := strconv.Itoa(b.events)
	for round := range b.rounds {
		relay, err := b.start(ctx, "relay", nil, "-target", sink.base+"/ok")
		if err != nil {
			return err
		}
		r, err := b.load(ctx, relay, sink, "-n", n)
		used, serr := relay.stop()
		if err := errors.Join(err, serr); err != nil {
			return err
		}
		relayRate = append(relayRate, r.EndToEnd)
		relayCPU = append(relayCPU, float64(used.Microseconds())/float64(b.events))

		s, err := b.serverRound(ctx, sink, n, round == b.rounds-1)
		if err != nil {
			return err
		}
		ingest, rate, ratio = append(ingest, s.Ingest), append(rate, s.EndToEnd), append(ratio, s.EndToEnd/r.EndToEnd)
		cpu, disk, memory = append(cpu, s.cpu), append(disk, s.disk), append(memory, s.memory)
	}
	fmt.Printf("\nThroughput, %d events a round, median (least to most) of %d rounds in turn\n", b.events, b.rounds)
	row("relay, nothing stored: end to end", "events/s", relayRate)
	row("server: ingest", "events/s", ingest)
	row("server: end to end", "events/s", rate)
	row("server / relay, round by round", "", ratio)
	row("relay: CPU an event", "µs", relayCPU)
	row("server: CPU an event", "µs", cpu)
	row("server: bytes on disk an event", "B", disk)
	row("server: peak memory", "MiB", memory)
	return nil
}

type serverRound struct {
	Result
	cpu, disk, memory float64
}

func (b *bench) serverRound(ctx context.Context, sink *process, n string, last bool) (s serverRound, err error) {
	var args []string
	debug := ""
	if b.profile != "" && last {
		debug = "127.0.0.1:16060"
		args = []string{"--debug-addr", debug}
	}
	server, err := b.server(ctx, args...)
	if err != nil {
		return s, err
	}
	empty := size(server.data)
	if err := server.register(ctx, sink.base+"/ok", "payment.succeeded"); err != nil {
		return s, err
	}
	profiled := make(chan error, 1)
	if debug != "" {
		go func() { profiled <- fetch(ctx, "http://"+debug+"/debug/pprof/profile?seconds=3", b.profile) }()
	} else {
		profiled <- nil
	}
	if s.Result, err = b.load(ctx, server, sink, "-n", n); err != nil {
		return s, err
	}
	err = <-profiled
	s.memory = server.peak()
	used, serr := server.stop()
	s.cpu = float64(used.Microseconds()) / float64(b.events)
	s.disk = float64(size(server.data)-empty) / float64(b.events)
	return s, errors.Join(err, serr)
}

func fetch(ctx context.Context, from, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	body, err := read(req)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(body), 0o600)
}

func read(req *http.Request) (string, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), errors.Join(err, resp.Body.Close())
}

// size returns the bytes of all files below a directory.
func size(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

func row(name, unit string, v []float64) {
	mid, least, most := measure.Median(v)
	format := "  %-44s %10.0f (%.0f to %.0f) %s\n"
	if most < 20 {
		format = "  %-44s %10.2f (%.2f to %.2f) %s\n"
	}
	fmt.Printf(format, name, mid, least, most, unit)
}

func (b *bench) latency(ctx context.Context) (err error) {
	sink, err := b.sink(ctx)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	relay, err := b.start(ctx, "relay", nil, "-target", sink.base+"/ok")
	if err != nil {
		return err
	}
	defer func() { _, serr := relay.stop(); err = errors.Join(err, serr) }()
	server, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer func() { _, serr := server.stop(); err = errors.Join(err, serr) }()
	if err := server.register(ctx, sink.base+"/ok", "payment.succeeded"); err != nil {
		return err
	}
	fmt.Printf("\nLatency from the sender's 2xx to arrival, 50 events/s for %d s\n", b.latencySeconds)
	for _, t := range []struct {
		name   string
		target *process
	}{{"relay", relay}, {"server", server}} {
		r, err := b.load(ctx, t.target, sink, "-rate", "50", "-seconds", strconv.Itoa(b.latencySeconds))
		if err != nil {
			return err
		}
		latencyRow(t.name, r)
	}
	return nil
}

func latencyRow(name string, r Result) {
	fmt.Printf("  %-44s p50 %.2f ms, p99 %.2f ms, max %.2f ms (%d of %d arrived before the 2xx was read)\n",
		name, r.P50, r.P99, r.Max, r.BeforeResponse, r.Sent)
}

// isolation measures an endpoint that answers, alone and beside dead ones that
// many deliveries wait for.
func (b *bench) isolation(ctx context.Context) (err error) {
	sink, err := b.sink(ctx)
	if err != nil {
		return err
	}
	defer func() { _, serr := sink.stop(); err = errors.Join(err, serr) }()
	server, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer func() { _, serr := server.stop(); err = errors.Join(err, serr) }()
	for target, typ := range map[string]string{
		sink.base + "/ok": "ok.event", sink.base + "/hang": "dead.event", "http://127.0.0.1:9/closed": "dead.event",
	} {
		if err := server.register(ctx, target, typ); err != nil {
			return err
		}
	}
	n := strconv.Itoa(b.events)
	measured := func() (rates []float64, lat Result, err error) {
		for range b.rounds {
			r, err := b.load(ctx, server, sink, "-type", "ok.event", "-n", n)
			if err != nil {
				return nil, lat, err
			}
			rates = append(rates, r.EndToEnd)
		}
		lat, err = b.load(ctx, server, sink, "-type", "ok.event", "-rate", "50", "-seconds", strconv.Itoa(b.latencySeconds))
		return rates, lat, err
	}
	alone, aloneLat, err := measured()
	if err != nil {
		return err
	}
	if _, err := b.load(ctx, server, nil, "-type", "dead.event", "-n", strconv.Itoa(b.waiting/2)); err != nil {
		return err
	}
	beside, besideLat, err := measured()
	if err != nil {
		return err
	}
	fmt.Printf("\nAn endpoint that answers, alone and beside two dead ones (one hangs, one refuses) with %d deliveries waiting\n", b.waiting)
	row("alone: end to end", "events/s", alone)
	row("beside: end to end", "events/s", beside)
	a, _, _ := measure.Median(alone)
	s, _, _ := measure.Median(beside)
	fmt.Printf("  %-44s %10.2f\n", "throughput, beside / alone", s/a)
	latencyRow("alone", aloneLat)
	latencyRow("beside", besideLat)
	fmt.Printf("  %-44s %10.2f\n", "p99, beside / alone", besideLat.P99/max(aloneLat.P99, 0.001))
	fmt.Printf("  %-44s %10.0f MiB\n", "server: peak memory", server.peak())
	return nil
}
