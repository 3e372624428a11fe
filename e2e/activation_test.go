package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// activate starts posthaste as a service manager does, with a socket that the test holds.
func activate(t *testing.T, socket *os.File, data string, env ...string) *process {
	t.Helper()
	// LISTEN_PID is known only in the process, so a shell sets it and executes the program.
	shell := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary, "serve", "--dev", "--addr", "127.0.0.1:1", "--data", data)
	shell.ExtraFiles = []*os.File{socket}
	return startCommand(t, append(env, "LISTEN_FDS=1", "POSTHASTE_TEST_KEY="+testKey), shell)
}

// A restart behind a socket that a service manager holds refuses no connection, fails no
// request and loses no event.
func TestActivation_restartUnderLoad(t *testing.T) {
	t.Parallel()
	const restarts, senders = 3, 4
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	rec := receive(t, answers())
	data := t.TempDir()
	p := activate(t, socket, data)
	s := &server{process: p, data: data, base: "http://" + listener.Addr().String()}
	if got := p.out.await(t, `msg=listening addr=(\S+)`)[1]; got != listener.Addr().String() {
		t.Fatalf("it listens on %s, not on the socket it was given", got)
	}
	s.register(rec.URL)

	// Every request has a connection of its own, because any server may close an idle one at any
	// time.
	transport := &http.Transport{DisableKeepAlives: true}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	accepted := map[string]bool{}
	var n atomic.Int64
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for ctx.Err() == nil {
				id, err := sendAlone(transport, s.base)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				accepted[id] = true
				mu.Unlock()
				n.Add(1)
			}
		})
	}
	for range restarts {
		before := n.Load()
		until(t, "events to be accepted", func() bool { return n.Load() > before+100 || t.Failed() })
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.exit(); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, p.out)
		}
		p = activate(t, socket, data)
		p.out.await(t, "msg=listening")
	}
	before := n.Load()
	until(t, "events to be accepted", func() bool { return n.Load() > before+100 || t.Failed() })
	stop()
	sending.Wait()
	until(t, "every accepted event to arrive", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		arrived := map[string]bool{}
		for _, r := range rec.requests {
			arrived[r.Header.Get("Webhook-Id")] = true
		}
		for id := range accepted {
			if !arrived[id] {
				return false
			}
		}
		return true
	})
}

func sendAlone(transport http.RoundTripper, base string) (id string, err error) {
	req, err := http.NewRequest(http.MethodPost, base+"/v1/events", bytes.NewReader([]byte(`{"type":"payment.succeeded","data":{"object":{}}}`)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	var e struct{ ID string }
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(text, &e) != nil {
		return "", fmt.Errorf("%s %s: %w", resp.Status, text, err)
	}
	return e.ID, nil
}

func TestActivation_refusesTwoSockets(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary, "serve", "--dev", "--data", t.TempDir())
	if code := startCommand(t, []string{"LISTEN_FDS=2"}, cmd).exit(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	// A socket for another process is ignored.
	p := start(t, []string{"LISTEN_FDS=2", "LISTEN_PID=1"}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", t.TempDir())
	p.out.await(t, "msg=listening")
}

// The service manager is notified once the server answers, and when it stops.
func TestNotify_readyAndStopping(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "n") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	told := make(chan string, 10)
	go func() {
		for buf := make([]byte, 100); ; {
			n, err := manager.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	p := start(t, []string{"NOTIFY_SOCKET=" + path}, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", t.TempDir())
	addr := p.out.await(t, `msg=listening addr=(\S+)`)[1]
	if got := <-told; got != "READY=1" {
		t.Errorf("notified %q", got)
	}
	check := func(want int, args ...string) {
		t.Helper()
		if code := start(t, nil, binary, append([]string{"healthcheck", "--addr", addr}, args...)...).exit(); code != want {
			t.Errorf("healthcheck %v: exit code %d, want %d", args, code, want)
		}
	}
	check(0)
	check(0, "--live")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := <-told; got != "STOPPING=1" {
		t.Errorf("notified %q", got)
	}
	check(1)
}
