package e2e

import (
	"flag"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var firstRun = flag.String("first.run", "", "time TestFirstRun with the machine's caches (warm) or with empty ones (cold)")

// firstRunPatience is enough for a build without caches on a slow machine.
const firstRunPatience = 20 * time.Minute

// TestFirstRun follows the README and the tutorial on a fresh clone, like a new user, and
// prints how long each step takes. The ports differ; everything else is verbatim.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	var caches []string
	switch *firstRun {
	case "":
		t.Skip("make first-run runs it")
	case "warm":
	case "cold":
		for _, name := range []string{"GOCACHE", "GOMODCACHE", "npm_config_cache"} {
			caches = append(caches, name+"="+t.TempDir())
		}
		caches = append(caches, "GOFLAGS=-modcacherw") // so that they can be removed
	default:
		t.Fatalf("-first.run is warm or cold, not %q", *firstRun)
	}
	root := filepath.Join(t.TempDir(), "posthaste")
	server, receiver := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	where := strings.NewReplacer("127.0.0.1:8080", server, "127.0.0.1:3000", receiver, "app.listen(3000,", "app.listen("+strings.TrimPrefix(receiver, "127.0.0.1:")+",")
	readme, tutorial := pageOf(t, "README.md"), pageOf(t, "docs/tutorial.md")

	var total time.Duration
	step := func(what string, do func()) {
		t.Helper()
		began := time.Now()
		do()
		took := time.Since(began)
		total += took
		t.Logf("%7.1f s  %s", took.Seconds(), what)
	}
	say := func(dir, script string) string {
		t.Helper()
		cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", script)
		cmd.Dir, cmd.Env = dir, append(environment(), caches...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v: %s", script, err, out)
		}
		return string(out)
	}

	step("git clone", func() { say(filepath.Dir(root), "git clone --quiet '"+must(filepath.Abs(".."))+"' '"+root+"'") })
	var run *process
	var password string
	step("make run, until the server listens", func() {
		cmd := exec.Command("bash", "-c", commandOf(t, readme, "make run"))
		cmd.Dir = root
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // make and its child processes
		run = startCommand(t, append(caches, "POSTHASTE_ADDR="+server), cmd)
		t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		password = run.out.awaitFor(t, `Password +(\S+)`, firstRunPatience)[1]
		run.out.await(t, "msg=listening")
	})
	step("the README's request, an endpoint registered", func() {
		if out := say(root, where.Replace(commandOf(t, readme, "curl http://127.0.0.1:8080/v1/webhooks"))); !strings.Contains(out, `"secret":"whsec_`) {
			t.Errorf("the answer has no secret: %s", out)
		}
	})
	step("the Admin UI, signed in", func() {
		jar := must(cookiejar.New(nil))
		client := &http.Client{Jar: jar, Timeout: patience}
		resp := must(client.PostForm("http://"+server+"/admin/sign-in", url.Values{"name": {"admin"}, "password": {password}}))
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || strings.Contains(resp.Request.URL.Path, "sign-in") {
			t.Errorf("signing in: %d at %s", resp.StatusCode, resp.Request.URL)
		}
	})
	dir := filepath.Join(root, "receiver")
	step("the tutorial's receiver, with Express from the registry", func() {
		say(root, commandOf(t, tutorial, "mkdir -p receiver"))
		for _, b := range tutorial {
			if b.file != "" {
				if err := os.WriteFile(filepath.Join(dir, b.file), []byte(where.Replace(b.text)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	var received *process
	step("its endpoint registered, the receiver started", func() {
		secret := strings.SplitN(strings.SplitN(say(dir, where.Replace(commandOf(t, tutorial, "curl http://127.0.0.1:8080/v1/webhooks"))), `"secret":"`, 2)[1], `"`, 2)[0]
		cmd := exec.Command("node", "receiver.js")
		cmd.Dir = dir
		received = startCommand(t, []string{"WEBHOOK_SECRET=" + secret}, cmd)
		received.out.await(t, "listening")
	})
	step("a payment, and its event received and verified", func() {
		say(dir, where.Replace(commandOf(t, tutorial, "curl http://127.0.0.1:8080/v1/payments")))
		received.out.await(t, "Received event: payment.succeeded")
	})
	t.Logf("%7.1f s  in all", total.Seconds())
	if err := syscall.Kill(-run.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	run.exit()
	// Unlike elapsed time, this does not depend on other load of the machine.
	t.Logf("%7.1f s  of processor time for make run and its server", (run.cmd.ProcessState.UserTime() + run.cmd.ProcessState.SystemTime()).Seconds())
}

// pageOf returns the code blocks of a page.
func pageOf(t *testing.T, page string) []snippet {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	all, err := snippets(page, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// commandOf returns the command of a page with a prefix: the block, or one line of it.
func commandOf(t *testing.T, page []snippet, begin string) string {
	t.Helper()
	for _, b := range page {
		if strings.HasPrefix(b.text, begin+" ") || strings.HasPrefix(b.text, begin+"\n") {
			if first, rest, _ := strings.Cut(b.text, "\n"); strings.HasPrefix(rest, "make ") { // the lines of such a block are independent
				return first
			}
			return b.text
		}
	}
	t.Fatalf("no page says %q", begin)
	return ""
}
