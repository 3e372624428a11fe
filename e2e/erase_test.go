package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// All events about a person are erased under load, although the server is killed in the middle:
// nothing of them is in any file afterwards, and other events are as they were.
func TestEraseSubject_killed(t *testing.T) {
	t.Parallel()
	const marker, subjects = "person-4c1f9e", 1_000
	receiver := receive(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = w.Write(body[:min(len(body), 200)]) // attempts keep the response
		}
	})
	data := t.TempDir()
	s := serve(t, data)
	s.register(receiver.URL)
	about := func(id string, n int) object {
		events := make([]any, n)
		for i := range events {
			events[i] = map[string]any{"type": "payment.succeeded", "data": map[string]any{"object": map[string]any{"id": id, "name": id, "n": i}}}
		}
		return s.must("POST", "/v1/events/batch", map[string]any{"events": events})
	}
	kept := about("other", 200).list()[0].text("id")
	for range subjects / 500 {
		about(marker, 500)
	}
	until(t, "deliveries", func() bool { return receiver.count() >= subjects })

	var current atomic.Pointer[server]
	current.Store(s)
	stop, sent := make(chan struct{}), atomic.Int64{}
	var load sync.WaitGroup
	defer load.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	for range 2 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a, err := current.Load().try("POST", "/v1/events", map[string]any{"type": "payment.succeeded", "data": map[string]any{"object": map[string]any{"id": "load"}}}); err == nil && a.status == http.StatusOK {
					sent.Add(1)
				}
			}
		})
	}
	job := s.must("POST", "/v1/events/erase", map[string]any{"object_id": marker})
	id := job.text("id")
	until(t, "the middle of the erasure", func() bool {
		job = s.must("GET", "/v1/jobs/"+id, nil)
		return job["scanned"].(float64) > 0
	})
	s.kill()
	if job.text("status") != "running" || job["scanned"].(float64) >= subjects {
		t.Fatalf("the server was killed too late: %v", job)
	}
	s = serve(t, data)
	current.Store(s)
	until(t, "the end of the erasure", func() bool {
		job = s.must("GET", "/v1/jobs/"+id, nil)
		return job.text("status") != "running"
	})
	if job.text("status") != "succeeded" {
		t.Fatalf("%v", job)
	}
	end()
	load.Wait()
	if sent.Load() == 0 {
		t.Error("there was no load")
	}
	if list := s.must("GET", "/v1/events?object_id="+marker, nil); len(list.list()) != 0 {
		t.Errorf("found: %v", list)
	}
	if e := s.must("GET", "/v1/events/"+kept, nil); !strings.Contains(fmt.Sprint(e["data"]), "other") {
		t.Errorf("another event: %v", e)
	}
	if n := len(s.must("GET", "/v1/events?object_id=other&limit=100", nil).list()); n != 100 {
		t.Errorf("%d other events are found", n)
	}
	for _, path := range []string{"/v1/jobs", "/v1/audit_log?limit=100", "/v1/deliveries?limit=100"} {
		if a := s.call("GET", path, nil); strings.Contains(a.body, marker) {
			t.Errorf("the marker is in %s", path)
		}
	}
	found := func() (n int) {
		t.Helper()
		if err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			n += strings.Count(string(content), marker)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until(t, "the files to be overwritten", func() bool { return found() == 0 })
	s.stop()
	if n := found(); n > 0 {
		t.Errorf("the marker is %d times in the files after the stop", n)
	}
}
