package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that the benchmark started.
type process struct {
	cmd  *exec.Cmd
	base string // http://127.0.0.1:port
	tls  string // address of a sink's second port
	data string // data directory of a server
}

var listening = regexp.MustCompile(`listening.*? addr=(127\.0\.0\.1:\d+)`)

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
		if addr, ok := strings.CutPrefix(lines.Text(), "sink tls="); ok {
			p.tls = addr
		}
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			p.base = "http://" + m[1]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not say where it listens", name), p.cmd.Wait())
}

// once runs a command of the server until it ends.
func (b *bench) once(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, filepath.Join(b.dir, "posthaste"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", args, err, out)
	}
	return nil
}

// stop ends the process and returns the CPU time that it used.
func (p *process) stop() (time.Duration, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	_ = p.cmd.Wait() // the helpers have no handler for the signal
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
}

// peak returns the maximum resident memory of the process, in MiB.
func (p *process) peak() float64 { return p.status("VmHWM:") }

func (p *process) status(name string) float64 {
	pid := os.Getpid() // without a process: this one
	if p.cmd != nil {
		pid = p.cmd.Process.Pid
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), name)
	kib, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kib / 1024
}

// usage is what a server has used since its start.
type usage struct {
	cpu              time.Duration
	written, commits float64 // bytes to disk; transactions
}

func (p *process) usage(ctx context.Context) (u usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from the third on (proc(5)); times are in hundredths of a second
	for _, at := range []int{11, 12} {
		ticks, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	text, err = os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return u, err
	}
	_, rest, _ = strings.Cut(string(text), "\nwrite_bytes:")
	u.written, _ = strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	u.commits, err = p.metric(ctx, "posthaste_commits_total")
	return u, err
}

// metric returns the value of one of the server's metrics.
func (p *process) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	text, err := read(req)
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(text, "\n"+name+" ")
	if !ok {
		return 0, fmt.Errorf("the server has no metric %s", name)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseFloat(line, 64)
}

// resident returns the current resident memory of the process, in MiB.
func (p *process) resident() float64 { return p.status("VmRSS:") }

// server starts a server on a fresh data directory.
func (b *bench) server(ctx context.Context, args ...string) (*process, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	return b.serverOn(ctx, data, args...)
}

func (b *bench) serverOn(ctx context.Context, data string, args ...string) (*process, error) {
	p, err := b.start(ctx, "posthaste", []string{"POSTHASTE_TEST_KEY=" + apiKey},
		append([]string{"serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--rate-limit", "0"}, args...)...)
	if err == nil {
		p.data = data
	}
	return p, err
}

// register creates an endpoint for events of one type.
func (p *process) register(ctx context.Context, target, typ string, more url.Values) error {
	form := url.Values{"url": {target}, "enabled_events[]": {typ}}
	maps.Copy(form, more)
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

// Result is the output of the load generator.
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
	route := "/v1/events"
	if i := slices.Index(args, "-batch"); i >= 0 && args[i+1] != "1" {
		route += "/batch"
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "load"), append([]string{
		"-url", target.base + route, "-key", apiKey, "-size", strconv.Itoa(b.size), "-c", strconv.Itoa(b.conns)}, args...)...)
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
