package e2e

import (
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// restore copies a backup and the master key of its server into a fresh data directory, as
// docs/how-to/back-up-and-restore.md says.
func restore(t testing.TB, file, masterKey string) (data string) {
	t.Helper()
	data = t.TempDir()
	for from, to := range map[string]string{file: "posthaste.db", masterKey: "master-key"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// A backup made under load contains everything that was acknowledged before it began. If the
// server is lost, another one can continue from the copy: pending deliveries are made with the
// same bytes and the same secret. Events that were delivered after the backup are delivered
// again with the same id; events that were accepted after it are not in the copy.
func TestBackup(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	late := map[string]string{} // bodies at an endpoint that fails until the restore, by id
	var up atomic.Bool
	var secret string
	down := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if got, want := r.Header.Get("Payment-Signature"), signature(secret, string(body)); got != want {
			t.Errorf("signature %s, with the secret from before the restore %s", got, want)
		}
		mu.Lock()
		defer mu.Unlock()
		late[r.Header.Get("Webhook-Id")] = string(body)
	})
	l := newLoad(t, nil)
	s := l.begin(serve(t, "", "--test-schedule", "1s,1s,1s,1s,1s,1h"))
	s.register(l.receiver.URL)
	e := s.register(down.URL)
	secret = e.text("secret")
	l.start(8)
	l.advance(300)
	l.mu.Lock()
	before := maps.Clone(l.acknowledged)
	l.mu.Unlock()

	file := filepath.Join(t.TempDir(), "backup.db")
	p := start(t, nil, binary, "backup", "--data", s.data, file)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.out)
	}
	if p := start(t, nil, binary, "backup", "--data", s.data, file); p.exit() != 1 {
		t.Errorf("over an existing file: %s", p.out)
	}
	if p := start(t, nil, binary, "backup", "--data", t.TempDir(), file+"2"); p.exit() != 1 {
		t.Errorf("backup of an empty directory: %s", p.out)
	}
	l.advance(100)
	s.killed.Store(true)
	l.stop()
	s.kill()
	arrived, again := l.arrivals(), l.duplicates

	data := restore(t, file, filepath.Join(s.data, "master-key"))
	checkStore(t, data)
	up.Store(true)
	r := serve(t, data, "--test-schedule", "200ms,200ms,1s,1s,1s,1s")
	if got := r.must("POST", "/v1/webhooks/"+e.text("id")+"/reveal_secret", nil); got.text("secret") != secret {
		t.Error("the secret did not survive")
	}
	id := r.must("POST", "/v1/webhooks/"+e.text("id")+"/recover", object{"since": 0}).text("id") // its breaker waits longer than the test
	r.until("the recovery to end", func() bool { return r.must("GET", "/v1/jobs/"+id, nil).text("status") == "succeeded" })
	r.until("what was pending to be delivered", func() bool {
		return len(r.must("GET", "/v1/deliveries?status=pending&limit=1", nil).list()) == 0
	})
	r.stop()
	mu.Lock()
	defer mu.Unlock()
	for id, body := range before {
		if late[id] != body {
			t.Fatalf("%s arrived as %q from the copy, but %s was acknowledged", id, late[id], body)
		}
	}
	lost := 0
	for id := range l.acknowledged {
		if _, ok := late[id]; !ok {
			lost++
		}
	}
	t.Logf("before the backup=%d in the copy=%d accepted since and not in it=%d delivered twice=%d delivered only from the copy=%d",
		len(before), len(late), lost, l.duplicates-again, l.arrivals()-arrived)
	if lost == 0 {
		t.Error("nothing was accepted after the backup: the test proves little")
	}
}

// The same with PostgreSQL's own tools, as docs/how-to/back-up-and-restore.md says.
func TestBackup_postgres(t *testing.T) {
	t.Parallel()
	tool := func(name string, args ...string) {
		t.Helper()
		path := name
		if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
			path = found[len(found)-1]
		}
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	c := database(t)
	for _, name := range []string{"source", "restored"} {
		if err := c.Exec("CREATE DATABASE " + name); err != nil {
			t.Fatal(err)
		}
	}
	l := newLoad(t, nil)
	data := t.TempDir()
	s := l.begin(serve(t, data, "--database-url", c.URL("source"), "--node-lease", nodeLease))
	e := s.register(l.receiver.URL)
	off := s.register(l.receiver.URL+"/off", "enabled_events", []string{"refund.*"})
	l.start(4)
	l.advance(100)
	l.mu.Lock()
	before := maps.Clone(l.acknowledged)
	l.mu.Unlock()
	file := filepath.Join(t.TempDir(), "posthaste.dump")
	tool("pg_dump", "--format=custom", "--file="+file, c.URL("source"))
	l.advance(20)
	s.killed.Store(true)
	l.stop()
	s.kill()

	tool("pg_restore", "--dbname="+c.URL("restored"), file)
	r := serve(t, data, "--database-url", c.URL("restored"), "--node-lease", nodeLease)
	for id, body := range before {
		if a := r.call("GET", "/v1/events/"+id, nil); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s, acknowledged was %s", id, a.status, a.body, body)
		}
	}
	for _, e := range []object{e, off} {
		if got := r.must("POST", "/v1/webhooks/"+e.text("id")+"/reveal_secret", nil); got.text("secret") != e.text("secret") {
			t.Error("the secret did not survive")
		}
	}
	r.until("what was pending to be delivered", func() bool {
		return len(r.must("GET", "/v1/deliveries?status=pending&limit=1", nil).list()) == 0
	})
	if id := r.send("payment.succeeded", object{"n": 1}).text("id"); len(r.settled(id)) != 1 {
		t.Errorf("%s was not delivered", id)
	}
}
