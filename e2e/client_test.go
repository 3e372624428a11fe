package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync/atomic"
	"testing"

	"github.com/posthaste-hq/posthaste/client"
)

// The Go client delivers every event to a server that is killed and restarted, and none of them
// twice.
func TestClient_serverKilled(t *testing.T) {
	t.Parallel()
	const kills, events = 3, 6000
	s := serve(t, "")
	s.register("http://127.0.0.1:1/unavailable")
	var address atomic.Value
	address.Store(s.base)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		u, err := url.Parse(address.Load().(string))
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, u.Host)
	}}
	defer transport.CloseIdleConnections()
	var accepted atomic.Int64
	c, err := client.New("http://posthaste.test", testKey, client.Options{HTTP: &http.Client{Transport: transport}, Batch: 20, Parallel: 2, Queue: 500,
		OnResult: func(r client.Result) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			accepted.Add(1)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	enqueued := make(chan error, 1)
	go func() {
		for n := range events {
			if _, err := c.Enqueue(ctx, client.Event{Type: "payment.succeeded", Object: map[string]int{"n": n}}); err != nil {
				enqueued <- err
				return
			}
		}
		enqueued <- nil
	}()
	for k := range kills {
		until(t, "events to be accepted", func() bool { return accepted.Load() >= int64((k+1)*events/(kills+2)) })
		s.kill()
		s = serve(t, s.data)
		address.Store(s.base)
	}
	if err := <-enqueued; err != nil {
		t.Fatal(err)
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := accepted.Load(); n != events {
		t.Errorf("%d results for %d events", n, events)
	}
	seen := map[string]bool{}
	for after := ""; ; {
		page := s.must("GET", "/v1/events?limit=100"+after, nil)
		for _, e := range page.list() {
			data, _ := e["data"].(map[string]any)
			n := fmt.Sprint(data["object"])
			if seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
			after = "&starting_after=" + e.text("id")
		}
		if page["has_more"] != true {
			break
		}
	}
	if len(seen) != events {
		t.Errorf("%d different events stored, sent %d", len(seen), events)
	}
}

// The programs of docs/how-to/send-events-from-go.md work as the page says.
func TestClient_guide(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/how-to/send-events-from-go.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go run\n(.*?)```").FindAllSubmatch(page, -1)
	if len(programs) != 2 {
		t.Fatalf("%d programs on the page, want 2", len(programs))
	}
	s := serve(t, "")
	env := []string{"POSTHASTE_SERVER=" + s.base, "POSTHASTE_API_KEY=" + testKey}
	run := func(n int) *process {
		dir := t.TempDir()
		source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
		if err := os.WriteFile(source, programs[n][1], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
			t.Fatalf("program %d: %v\n%s", n, err, out)
		}
		cmd := exec.Command(program)
		cmd.Dir = dir // the directory of its outbox
		return startCommand(t, env, cmd)
	}
	stored := func() int { return len(s.must("GET", "/v1/events?type=payment.succeeded", nil).list()) }
	send := run(0)
	send.out.await(t, `on the server's disk as evt_\w+`)
	if code := send.exit(); code != 0 || stored() != 1 {
		t.Errorf("exit code %d, %d events stored", code, stored())
	}
	relay := run(1)
	s.until("the outbox's event to be stored", func() bool { return stored() == 2 })
	if err := relay.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := relay.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
