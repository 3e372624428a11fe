// Package e2e tests the released program: it builds the binary, starts it, and uses it over the
// network, with unmodified receivers and clients.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	testKey  = "sk_test_1234567890abcdef"
	adminKey = "sk_admin_1234567890abcdef"
	patience = 2 * time.Minute // for operations that take moments unless the machine is busy
)

var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "posthaste-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "posthaste")
		build := []string{"build", "-o", binary, "../cmd/posthaste"}
		if underRace { // then the program runs under the race detector, too
			build = append([]string{"build", "-race"}, build[1:]...)
		}
		if out, err := exec.Command("go", build...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		lacks, err := exec.Command("./install-tools.sh", "--check").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, "install-tools.sh --check:", err)
			return 1
		}
		_, _ = os.Stderr.Write(lacks)
		return m.Run()
	}())
}

// output stores the output of a process and lets a test wait for a part of it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed and replaced at each line
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) follow(r io.Reader) {
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		o.mu.Lock()
		o.text.WriteString(line)
		close(o.more)
		o.more = make(chan struct{})
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns the first match in the output, waiting for it.
func (o *output) await(t testing.TB, pattern string) []string {
	t.Helper()
	return o.awaitFor(t, pattern, patience)
}

func (o *output) awaitFor(t testing.TB, pattern string, patience time.Duration) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		m, more := re.FindStringSubmatch(o.text.String()), o.more
		o.mu.Unlock()
		if m != nil {
			return m
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no %q in the output:\n%s", pattern, o)
		}
	}
}

// process is a process that a test started. It is killed when the test ends.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  *output
	in   io.WriteCloser
	done chan struct{} // closed when the process has ended and its output is complete
}

func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, env, exec.Command(name, args...))
}

func startCommand(t testing.TB, env []string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, out: newOutput(), done: make(chan struct{})}
	p.cmd.Env = append(environment(), env...)
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		p.out.follow(r)
		close(read)
	}()
	go func() {
		_ = p.cmd.Wait()
		_ = w.Close()
		<-read
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(cmd.Path), p.out)
		}
	})
	return p
}

// environment returns the environment of the tests without settings of the server, so that
// settings of a developer do not change the tests. It has no proxy.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "POSTHASTE_") })
	return append(env, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "GORACE=halt_on_error=1")
}

// exit waits for the end of the process and returns its exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end:\n%s", p.cmd.Path, p.out)
	}
	return p.cmd.ProcessState.ExitCode()
}

// server is a running posthaste.
type server struct {
	*process
	data string
	base string
}

// serve starts posthaste in development mode on a data directory; if data is empty, on a new
// one.
func serve(t testing.TB, data string, args ...string) *server {
	t.Helper()
	return serveWith(t, data, append([]string{"--dev"}, args...)...)
}

func serveWith(t testing.TB, data string, args ...string) *server {
	t.Helper()
	if data == "" {
		data = t.TempDir()
	}
	if _, err := os.Stat(filepath.Join(data, "master-key")); err != nil && !slices.Contains(args, "--dev") {
		if code := start(t, nil, binary, "keys", "new-master", "--out", filepath.Join(data, "master-key")).exit(); code != 0 {
			t.Fatalf("keys new-master: exit code %d", code)
		}
	}
	return serveProgram(t, nil, data, append([]string{binary, "serve", "--addr", "127.0.0.1:0", "--data", data}, args...)...)
}

// serveProgram starts a server with the given command line. Its accounts have no rate limit,
// unless the test sets one.
func serveProgram(t testing.TB, env []string, data string, command ...string) *server {
	t.Helper()
	env = append([]string{"POSTHASTE_TEST_KEY=" + testKey, "POSTHASTE_ADMIN_KEY=" + adminKey, "POSTHASTE_RATE_LIMIT=0"}, env...)
	p := start(t, env, command[0], command[1:]...)
	m := p.out.await(t, `msg=listening addr=(\S+)`)
	return &server{process: p, data: data, base: "http://" + m[1]}
}

// stop ends the server like an operator and checks that it ends without an error.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if code := s.exit(); code != 0 {
		s.t.Fatalf("exit code %d after SIGTERM:\n%s", code, s.out)
	}
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// object is a decoded JSON object.
type object map[string]any

func (o object) text(name string) string { v, _ := o[name].(string); return v }

func (o object) list() []object {
	data, _ := o["data"].([]any)
	out := make([]object, len(data))
	for i, v := range data {
		out[i], _ = v.(map[string]any)
	}
	return out
}

type answer struct {
	status int
	header http.Header
	body   string
	object object
}

// retryable reports whether the server refused the request temporarily: it is not ready, or the
// account has too many requests under way.
func (a answer) retryable() bool {
	return a.header.Get("Retry-After") != "" && (a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests)
}

// err returns a member of the error: type, code, param or message.
func (a answer) err(name string) string {
	e, _ := a.object["error"].(map[string]any)
	s, _ := e[name].(string)
	return s
}

// signIn returns a client with the session of a user of the Admin UI, and its cookie.
func (s *server) signIn(name, password string) (*http.Client, *http.Cookie) {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{}}
	s.t.Cleanup(c.CloseIdleConnections)
	resp, err := c.PostForm(s.base+"/admin/sign-in", url.Values{"name": {name}, "password": {password}})
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	home, err := url.Parse(s.base)
	if err != nil {
		s.t.Fatal(err)
	}
	cookies := slices.DeleteFunc(jar.Cookies(home), func(c *http.Cookie) bool { return strings.HasSuffix(c.Name, "_browser") })
	if resp.StatusCode != http.StatusOK || len(cookies) != 1 {
		s.t.Fatalf("signing in: %d and %d cookies", resp.StatusCode, len(cookies))
	}
	return c, cookies[0]
}

func (s *server) try(method, path string, body any, header ...string) (answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, r)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if path == "/metrics" {
		req.Header.Set("Authorization", "Bearer "+adminKey)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	_ = json.Unmarshal(text, &a.object)
	return a, nil
}

func (s *server) call(method, path string, body any, header ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// must sends a request and fails the test unless the response is 200.
func (s *server) must(method, path string, body any, header ...string) object {
	s.t.Helper()
	a := s.call(method, path, body, header...)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a.object
}

func (s *server) register(url string, more ...any) object {
	s.t.Helper()
	in := object{"url": url, "enabled_events": []string{"*"}}
	for i := 0; i < len(more); i += 2 {
		in[more[i].(string)] = more[i+1]
	}
	return s.must("POST", "/v1/webhooks", in)
}

func (s *server) send(typ string, data any) object {
	s.t.Helper()
	return s.must("POST", "/v1/events", object{"type": typ, "data": object{"object": data}})
}

// settled waits until no delivery of the event is pending and returns them.
func (s *server) settled(event string) []object {
	s.t.Helper()
	var list []object
	s.until("deliveries of "+event+" to settle", func() bool {
		list = s.must("GET", "/v1/events/"+event+"/deliveries?limit=100", nil).list()
		for _, d := range list {
			if d.text("status") == "pending" {
				return false
			}
		}
		return len(list) > 0
	})
	return list
}

// until waits for a condition.
func (s *server) until(what string, ok func() bool) {
	s.t.Helper()
	until(s.t, what, ok)
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !holds(ok) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// holds reports whether a condition becomes true in time.
func holds(ok func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

var npm sync.Once

// node starts a Node.js program with the packages of e2e/node.
func node(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return start(t, append(env, "NODE_PATH="+nodeModules(t), "NO_COLOR=1"), "node", args...)
}

// nodeModules returns the directory of the installed packages of e2e/node.
func nodeModules(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("node")
	if err != nil {
		t.Fatal(err)
	}
	npm.Do(func() { err = install(dir) })
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "node_modules")
}

// install makes node_modules match the lock file.
func install(dir string) error {
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%x", sha256.Sum256(lock))
	mark := filepath.Join(dir, "node_modules", ".lock-hash")
	if have, err := os.ReadFile(mark); err == nil && string(have) == want {
		return nil
	}
	out, err := exec.Command("npm", "ci", "--prefix", dir, "--no-audit", "--no-fund").CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("npm ci: %s", out), err)
	}
	return os.WriteFile(mark, []byte(want), 0o600)
}
