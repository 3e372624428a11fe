package check

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// container simulates what a container runtime makes of the image: the image's files only,
// read-only apart from the volume, and a user without privileges.
type container struct {
	t    *testing.T
	root string
	data string // the volume, as seen from outside
	env  []string
}

const uid = 65532

// newContainer writes the files of the distroless image and those of ours. trusted replaces the
// public CAs of the image.
func newContainer(t *testing.T, trusted []byte) *container {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root on Linux, to mount and to change the root directory")
	}
	c := &container{t: t, root: t.TempDir(), data: t.TempDir()}
	for p := c.root; p != "/"; p = filepath.Dir(p) { // the user must be able to enter these directories
		if err := os.Chmod(p, 0o755); err != nil && p == c.root {
			t.Fatal(err)
		} else if strings.HasPrefix(filepath.Base(p), "Test") {
			break
		}
	}
	for _, dir := range []string{"etc/ssl/certs", "usr/bin", "data", "tmp", "home/nonroot"} {
		if err := os.MkdirAll(filepath.Join(c.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string][]byte{
		"etc/ssl/certs/ca-certificates.crt": trusted,
		"etc/passwd":                        []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"),
		"etc/hosts":                         []byte("127.0.0.1 localhost\n"),
		"usr/bin/posthaste":                 program(t),
	} {
		if err := os.WriteFile(filepath.Join(c.root, name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(c.data, uid, uid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.data, 0o700); err != nil {
		t.Fatal(err)
	}
	_, image := stages(t)
	c.env = append(environment(image), "PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt") // those of the base image
	return c
}

// command returns a command of the image, in a mount namespace of its own.
func (c *container) command(args ...string) *exec.Cmd {
	const script = `
mount --bind "$0" "$0"
mount -o remount,bind,ro,nosuid,nodev "$0"
mount --bind "$1" "$0/data"
root=$0
shift
exec env -i $ENVIRONMENT "$(command -v chroot)" --userspec=65532:65532 --groups= "$root" "$@"`
	cmd := exec.Command("setpriv", append([]string{"--no-new-privs", "unshare", "--mount", "--propagation", "private", "sh", "-ec", script, c.root, c.data}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ENVIRONMENT=" + strings.Join(c.env, " ")}
	return cmd
}

// service is a running container.
type service struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan error
}

// start starts the server. It stops at the end of the test at the latest.
func (c *container) start(args ...string) *service {
	c.t.Helper()
	log, err := os.Create(filepath.Join(c.t.TempDir(), "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	s := &service{c.t, c.command(args...), make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := errors.Join(s.cmd.Start(), log.Close()); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		s.ended <- s.cmd.Wait()
		close(s.ended)
	}()
	c.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if text, _ := os.ReadFile(log.Name()); c.t.Failed() {
			c.t.Logf("%s", text)
		}
	})
	return s
}

// stop stops the server as a container runtime does.
func (s *service) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		s.t.Errorf("it does not stop as it should: %v", err)
	}
}

// answers reports whether a probe succeeds.
func answers(t *testing.T, url string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited in vain for " + what)
		}
	}
}

// The image's command starts, passes the image's own health check, delivers over TLS with the
// image's CAs, and stops: without a shell, without privileges, and with the volume as its only
// writable directory.
func TestImage_servesReadOnlyAndUnprivileged(t *testing.T) {
	const testKey, adminKey = "sk_test_0123456789abcdef", "sk_admin_0123456789abcdef"
	arrived := make(chan string, 10)
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { arrived <- r.Header.Get("Webhook-Id") }))
	defer receiver.Close()
	c := newContainer(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}))
	_, image := stages(t)
	entry := find[*instructions.EntrypointCommand](image)[0].CmdLine
	health := find[*instructions.HealthCheckCommand](image)[0].Health

	// Without a master key, the error names a command that makes one, and that command works.
	var out bytes.Buffer
	cmd := c.command(append(entry, find[*instructions.CmdCommand](image)[0].CmdLine...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "posthaste keys new-master") {
		t.Fatalf("without a master key: %v %s", err, out.String())
	}
	key, err := c.command(append(entry, "keys", "new-master")...).Output()
	if err != nil {
		t.Fatalf("make a key: %v %s", err, key)
	}

	port := freePort(t)
	c.env = append(c.env, "POSTHASTE_ADDR=:"+port, "POSTHASTE_MASTER_KEY="+strings.TrimSpace(string(key)), "POSTHASTE_ADMIN_KEY="+adminKey,
		"POSTHASTE_TEST_KEY="+testKey, "POSTHASTE_ALLOW_TARGETS=127.0.0.0/8")
	check := func() error { return c.command(health.Test[1:]...).Run() }
	if check() == nil {
		t.Fatal("it is healthy before it runs")
	}
	server := c.start(append(entry, find[*instructions.CmdCommand](image)[0].CmdLine...)...)
	until(t, "the health check", func() bool { return check() == nil })

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", server.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Groups:\t \n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process has other privileges than %q:\n%s", want, status)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", server.cmd.Process.Pid))
	if err != nil || !strings.Contains(string(mounts), " "+c.root+" ro,") && !strings.Contains(string(mounts), " / ro,") {
		t.Errorf("its root can be written: %v\n%s", err, mounts)
	}

	post := func(path, body string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+port+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s %v", path, resp.Status, text, err)
		}
		return string(text)
	}
	post("/v1/webhooks", `{"url":"`+receiver.URL+`","enabled_events":["*"]}`)
	sent := post("/v1/events", `{"type":"payment.succeeded","data":{"object":{}}}`)
	select {
	case id := <-arrived:
		if !strings.Contains(sent, id) {
			t.Errorf("%s arrived, %s was sent", id, sent)
		}
	case <-time.After(time.Minute):
		t.Fatal("the event was not delivered")
	}

	server.stop()
	if _, err := os.Stat(filepath.Join(c.data, "posthaste.db")); err != nil {
		t.Errorf("the data is not in the volume: %v", err)
	}
}
