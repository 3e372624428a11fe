package e2e

import (
	"database/sql"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var faultRounds = flag.Int("fault.rounds", 1, "how often each TestFault brings its fault about")

// faultSchedule retries soon, and for longer than any fault here.
const faultSchedule = "200ms,200ms,200ms,1s,1s,1s,1s,2s,2s,2s,2s"

// pause waits for the duration of a fault.
func pause(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
}

// advance waits until events more events are acknowledged.
func (l *load) advance(events int) {
	l.t.Helper()
	goal := l.progress() + events
	until(l.t, fmt.Sprintf("%d more events to be acknowledged", events), func() bool { return l.progress() >= goal })
}

// ready waits until the server reports that it is ready, or not ready, and returns its text.
func (s *server) ready(want int) (said string) {
	s.t.Helper()
	s.until(fmt.Sprintf("/readyz to answer %d", want), func() bool {
		a, err := s.try("GET", "/readyz", nil)
		said = a.body
		return err == nil && a.status == want
	})
	return said
}

// A process that is stopped and continued, as by a hypervisor that pauses a machine, loses
// nothing: attempts that timed out meanwhile are repeated.
func TestFault_stopped(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	s := l.begin(serve(t, "", "--test-schedule", faultSchedule, "--timeout", "1s"))
	s.register(l.receiver.URL)
	l.start(8)
	for range *faultRounds {
		l.advance(100)
		if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		pause(1500 * time.Millisecond) // longer than the timeout of an attempt
		if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	l.advance(100)
	l.reconcile(fmt.Sprintf("stops=%d", *faultRounds))
}

// smallDisk mounts a file system of size MiB, or skips the test.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Skipf("mounting a small file system: %v; this test wants root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast fills a disk.
type ballast struct {
	t testing.TB
	f *os.File
}

func fill(t testing.TB, dir string) *ballast {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	b := &ballast{t, f}
	b.refill()
	return b
}

// refill fills the space that is free again.
func (b *ballast) refill() {
	b.t.Helper()
	if _, err := b.f.Seek(0, io.SeekEnd); err != nil {
		b.t.Fatal(err)
	}
	for size := 1 << 20; size >= 4096; { // the last write may be incomplete
		if _, err := b.f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// free releases that many bytes.
func (b *ballast) free(bytes int64) {
	b.t.Helper()
	info, err := b.f.Stat()
	if err == nil {
		err = b.f.Truncate(max(info.Size()-bytes, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *ballast) remove() {
	b.t.Helper()
	if err := b.f.Close(); err != nil {
		b.t.Error(err)
	}
	if err := os.Remove(b.f.Name()); err != nil {
		b.t.Fatal(err)
	}
}

// While the disk is full, events are refused, deliveries continue, and /readyz states the
// reason. With space again, the server continues; with a little space, page by page, which is
// enough for some writes and not for others, it loses nothing.
func TestFault_diskFull(t *testing.T) {
	t.Parallel()
	var gate atomic.Pointer[chan struct{}] // attempts wait for it
	l := newLoad(t, func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if g := gate.Load(); g != nil {
				select {
				case <-*g:
				case <-r.Context().Done():
				}
			}
			next(w, r)
		}
	})
	s := l.begin(serve(t, smallDisk(t, 96), "--test-schedule", faultSchedule))
	s.register(l.receiver.URL)
	l.start(8)
	for range *faultRounds {
		l.advance(300)
		closed := make(chan struct{})
		gate.Store(&closed)
		l.advance(50)
		s.failed.Store(true)
		refused := l.refusals()
		b := fill(t, s.data)
		until(t, "events to be refused", func() bool { return l.refusals() > refused })
		if said := s.ready(http.StatusServiceUnavailable); !strings.Contains(said, "free disk space") {
			t.Errorf("/readyz says %q, without the reason", said)
		}
		before := l.arrivals()
		gate.Store(nil)
		close(closed)
		until(t, "deliveries to go on", func() bool { return l.arrivals() > before })
		for range 20 {
			b.free(8 << 10)
			pause(30 * time.Millisecond)
		}
		b.refill()
		pause(500 * time.Millisecond)
		b.remove()
		s.ready(http.StatusOK)
		s.failed.Store(false)
	}
	l.advance(100)
	l.reconcile(fmt.Sprintf("full=%d", *faultRounds))
	if strings.Contains(s.out.String(), "given up") {
		t.Error("outcomes were given up")
	}
}

// inject makes system calls of a running server fail or take long, by strace's option inject,
// until lift is called. It skips the test if strace cannot be used.
func inject(t testing.TB, s *life, calls, how string) (lift func()) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("this test wants strace, which make tools installs")
	}
	p := start(t, nil, "strace", "-f", "-o", "/dev/null", "-p", fmt.Sprint(s.cmd.Process.Pid), "-e", "trace="+calls, "-e", "inject="+calls+":"+how)
	if said := p.out.await(t, `.*(attached|not permitted|ermission denied)`); said[1] != "attached" {
		t.Skipf("strace may not look into another process: %s", said[0])
	}
	return func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil { // it detaches from the server
			t.Error(err)
		}
		p.exit()
	}
}

// A slow disk slows events down. None is refused, as they share syncs.
func TestFault_slowSync(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	s := l.begin(serve(t, "", "--test-schedule", faultSchedule))
	s.register(l.receiver.URL)
	l.start(8)
	for range *faultRounds {
		l.advance(100)
		lift := inject(t, s, "fdatasync,fsync", "delay_enter=100000")
		l.advance(50)
		lift()
	}
	l.advance(100)
	l.reconcile(fmt.Sprintf("slow=%d", *faultRounds))
}

// While a disk is broken or read-only, no event is acknowledged. Once the disk works again, the
// server continues without help.
func TestFault_diskErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, calls, how string
		all              bool // no write at all succeeds
	}{
		{"no sync", "fdatasync,fsync", "error=EIO", true},
		{"no write", "pwrite64", "error=EIO", true},
		{"read-only", "pwrite64,fdatasync,fsync,ftruncate", "error=EROFS", true},
		{"some syncs", "fdatasync", "error=EIO:when=2+5", false},
		{"some writes", "pwrite64", "error=EIO:when=5+97", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoad(t, nil)
			s := l.begin(serve(t, "", "--test-schedule", faultSchedule))
			s.register(l.receiver.URL)
			l.start(8)
			for range *faultRounds {
				l.advance(50)
				s.failed.Store(true)
				refused := l.refusals()
				lift := inject(t, s, tt.calls, tt.how)
				until(t, "events to be refused", func() bool { return l.refusals() > refused })
				if tt.all {
					last := l.next.Load()
					if said := s.ready(http.StatusServiceUnavailable); !strings.Contains(said, "disk") {
						t.Errorf("/readyz says %q, without the reason", said)
					}
					if n := l.newest(); n > last { // those up to last may have been acknowledged before the fault
						t.Errorf("event %d was acknowledged and cannot be on disk", n)
					}
				} else {
					l.advance(20)
				}
				lift()
				s.ready(http.StatusOK)
				s.failed.Store(false)
			}
			l.advance(50)
			l.reconcile(fmt.Sprintf("errors=%d", *faultRounds))
			if strings.Contains(s.out.String(), "given up") {
				t.Error("outcomes were given up")
			}
		})
	}
}

// A server does not start on a read-only disk, and states the reason; when the disk is writable
// again, it continues where the last one was killed.
func TestFault_readOnlyAtStart(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	data := smallDisk(t, 96)
	begin := func() *life { return l.begin(serve(t, data, "--test-schedule", faultSchedule)) }
	begin().register(l.receiver.URL)
	l.start(8)
	l.advance(100)
	s := l.current.Load()
	s.killed.Store(true)
	s.kill()
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", data, "tmpfs", syscall.MS_REMOUNT|flags, "size=96m"); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	p := start(t, nil, binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data)
	if code := p.exit(); code != 1 || !strings.Contains(p.out.String(), "read-only file system") {
		t.Errorf("exit code %d: %s", code, p.out)
	}
	remount(0)
	begin()
	l.advance(50)
	l.reconcile("read-only=1")
}

// disk is an ext4 file system in a file, which becomes read-only after an error, like those of
// most systems.
type disk struct {
	t          testing.TB
	image, dir string
}

func newDisk(t testing.TB, size int64) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	err := os.WriteFile(d.image, nil, 0o600)
	if err == nil {
		err = os.Truncate(d.image, size<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image).CombinedOutput(); err != nil {
		t.Skipf("making a file system: %v %s; this test wants mkfs.ext4", err, out)
	}
	if out, err := d.mount(); err != nil {
		t.Skipf("mounting a file: %v %s; this test wants root, and loop devices", err, out)
	}
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) mount() ([]byte, error) {
	return exec.Command("mount", "-o", "loop,errors=remount-ro", d.image, d.dir).CombinedOutput()
}

func (d *disk) unmount() {
	d.t.Helper()
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		d.t.Errorf("umount: %v %s", err, out)
	}
}

// If a file system becomes read-only under a running server, as ext4 does when its disk reports
// an error, the server refuses events and states the reason; deliveries continue. After it is
// mounted again, it has all acknowledged events. (A plain remount is not a possible fault: the
// system refuses it while a file is open for writing.)
func TestFault_readOnlyRemount(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	d := newDisk(t, 96)
	begin := func() *life { return l.begin(serve(t, d.dir, "--test-schedule", faultSchedule)) }
	begin().register(l.receiver.URL)
	l.start(8)
	for range *faultRounds {
		l.advance(100)
		s := l.current.Load()
		s.failed.Store(true)
		refused := l.refusals()
		if err := syscall.Mount("", d.dir, "", syscall.MS_REMOUNT, "abort"); err != nil { // the effect of an error of the disk
			t.Fatal(err)
		}
		until(t, "events to be refused", func() bool { return l.refusals() > refused })
		taken := l.progress()
		if said := s.ready(http.StatusServiceUnavailable); !strings.Contains(said, "disk") {
			t.Errorf("/readyz says %q, without the reason", said)
		}
		if now := l.progress(); now > taken {
			t.Errorf("%d events were acknowledged that cannot be on disk", now-taken)
		}
		s.killed.Store(true)
		s.kill()
		d.unmount()
		check := exec.Command("e2fsck", "-p", d.image)
		if out, err := check.CombinedOutput(); err != nil && check.ProcessState.ExitCode() != 1 { // 1: errors were repaired
			t.Fatalf("e2fsck: %v %s", err, out)
		}
		if out, err := d.mount(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		begin()
	}
	l.advance(50)
	l.reconcile(fmt.Sprintf("read-only=%d", *faultRounds))
}

// While a file system is frozen for a snapshot, events wait, none of them is acknowledged, and
// none is lost.
func TestFault_frozen(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	d := newDisk(t, 96)
	s := l.begin(serve(t, d.dir, "--test-schedule", faultSchedule))
	s.register(l.receiver.URL)
	freeze := func(how string) {
		t.Helper()
		if out, err := exec.Command("fsfreeze", how, d.dir).CombinedOutput(); err != nil {
			t.Fatalf("fsfreeze %s: %v %s", how, err, out)
		}
	}
	l.start(8)
	for range *faultRounds {
		l.advance(100)
		s.failed.Store(true)
		freeze("--freeze")
		thaw := sync.OnceFunc(func() { freeze("--unfreeze") })
		t.Cleanup(thaw)               // otherwise it could not be unmounted
		pause(100 * time.Millisecond) // for acknowledgements under way
		before := l.progress()
		pause(1500 * time.Millisecond)
		if now := l.progress(); now > before {
			t.Errorf("%d events were acknowledged that cannot be on disk", now-before)
		}
		thaw()
		l.advance(50)
		s.ready(http.StatusOK)
		s.failed.Store(false)
	}
	l.advance(50)
	l.reconcile(fmt.Sprintf("freezes=%d", *faultRounds))
}

// A server with too few file descriptors for its slow receivers accepts and delivers events;
// attempts do not fail for lack of descriptors.
func TestFault_fileDescriptors(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	data := t.TempDir()
	s := l.begin(serveProgram(t, nil, data, "prlimit", "--nofile=64:64", binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--test-schedule", faultSchedule))
	s.register(l.receiver.URL, "enabled_events", []string{"payment.*"})
	var slow atomic.Int64
	for range 40 {
		r := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
			slow.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.Context().Done():
			}
		})
		s.register(r.URL, "enabled_events", []string{"refund.*"})
	}
	l.start(8)
	for range *faultRounds {
		for range 20 {
			s.send("refund.created", object{"id": "ref_1"})
		}
		l.advance(100)
	}
	l.reconcile("descriptors=64")
	if n := slow.Load(); n < int64(*faultRounds)*40*20 {
		t.Errorf("%d deliveries to slow endpoints", n)
	}
	if strings.Contains(s.out.String(), "endpoint is failing") {
		t.Error("endpoints were blamed")
	}
}

// limitMemory limits the address space of a server to more bytes than it uses now.
func limitMemory(t testing.TB, s *life, more int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	m := regexp.MustCompile(`VmSize:\s+(\d+) kB`).FindSubmatch(status)
	if err != nil || m == nil {
		t.Skipf("reading how much memory a process has: %v; this test wants Linux", err)
	}
	has, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("prlimit", "--pid", fmt.Sprint(s.cmd.Process.Pid), fmt.Sprintf("--as=%d", has<<10+more)).CombinedOutput(); err != nil {
		t.Skipf("limiting the memory of a process: %v %s; this test wants prlimit", err, out)
	}
}

// A server without more memory crashes, at any place. The next one has all acknowledged events.
func TestFault_outOfMemory(t *testing.T) {
	t.Parallel()
	l := newLoad(t, nil)
	data := t.TempDir()
	begin := func() *life { return l.begin(serve(t, data, "--test-schedule", faultSchedule)) }
	begin().register(l.receiver.URL, "enabled_events", []string{"payment.*"})
	l.start(8)
	var mu sync.Mutex
	var taken []string // ids
	var next atomic.Int64
	text := strings.Repeat("x", 200<<10)
	announce := func(s *life) {
		ids, events := make([]string, 30), make([]object, 30)
		for i := range events {
			ids[i] = fmt.Sprintf("evt_memory%016d", next.Add(1))
			events[i] = object{"id": ids[i], "type": "refund.created", "data": object{"object": object{"text": text}}}
		}
		if a, err := s.try("POST", "/v1/events/batch", object{"events": events}); err == nil && a.object["accepted"] == float64(len(ids)) {
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, ids...)
		}
	}
	for range *faultRounds {
		l.advance(100)
		s := l.current.Load()
		announce(s)
		s.killed.Store(true)
		s.failed.Store(true)
		limitMemory(t, s, 32<<20)
		var burst sync.WaitGroup
		for range 12 {
			burst.Go(func() {
				for !closed(s.done) {
					announce(s)
				}
			})
		}
		if code := s.exit(); code == 0 || !regexp.MustCompile(`out of memory|cannot allocate memory`).MatchString(s.out.String()) {
			t.Errorf("exit code %d", code)
		}
		burst.Wait()
		begin()
	}
	l.advance(50)
	l.reconcile(fmt.Sprintf("deaths=%d large=%d", *faultRounds, len(taken)))
	there := ownIDs(t, data)
	for _, id := range taken {
		if !there[id] {
			t.Errorf("%s was acknowledged, and is not there", id)
		}
	}
	if len(taken) == 0 {
		t.Error("no large event was accepted: the test proves little")
	}
}

// ownIDs returns the ids with a prefix of the senders, of the events in the store of a stopped
// server.
func ownIDs(t testing.TB, data string) map[string]bool {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "posthaste.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query("SELECT custom_id FROM events WHERE custom_id IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	ids := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// A burst of the largest requests, faster than the disk, does not use up the memory: requests
// over the limit are refused, and are sent again.
func TestFault_memory(t *testing.T) {
	t.Parallel()
	const senders, most = 120, 700 // MiB; the senders' requests under way are three times as large
	l := newLoad(t, nil)
	s := l.begin(serve(t, "", "--test-schedule", faultSchedule))
	s.register(l.receiver.URL, "enabled_events", []string{"payment.*"})
	event := `{"type":"refund.created","data":{"object":{"text":"` + strings.Repeat("x", 200<<10) + `"}}}`
	batch := `{"events":[` + strings.Repeat(event+",", 29) + event + `]}`
	l.start(4)
	for range *faultRounds {
		l.advance(50)
		s.failed.Store(true)
		var burst sync.WaitGroup
		var taken, refused atomic.Int64
		for range senders {
			burst.Go(func() {
				a, err := s.try("POST", "/v1/events/batch", batch)
				switch {
				case err == nil && a.status == http.StatusOK:
					taken.Add(1)
				case err == nil && a.retryable():
					refused.Add(1)
				case err != nil: // refused while it was being sent, and the response was lost
					refused.Add(1)
				default:
					t.Errorf("%d %.200s", a.status, a.body)
				}
			})
		}
		burst.Wait()
		s.failed.Store(false)
		t.Logf("batches of %d MiB: taken=%d refused=%d", len(batch)>>20, taken.Load(), refused.Load())
		if taken.Load() == 0 {
			t.Error("no batch was accepted")
		}
	}
	l.advance(50)
	peak := int(s.peak()) >> 20
	l.reconcile(fmt.Sprintf("peak=%dMiB", peak))
	if peak > most {
		t.Errorf("%d MiB of memory", peak)
	}
}

// More idle connections than there are file descriptors block neither new clients nor
// deliveries, and no attempt fails because of them.
func TestFault_idleConnections(t *testing.T) {
	t.Parallel()
	r := receive(t, answers())
	data := t.TempDir()
	s := serveProgram(t, nil, data, "prlimit", "--nofile=256:256", binary, "serve", "--dev", "--addr", "127.0.0.1:0", "--data", data, "--test-schedule", "1s")
	s.register(r.URL)
	address := strings.TrimPrefix(s.base, "http://")
	for range 400 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for range 20 { // each on a connection of its own
		resp, err := client.Get(s.base + "/readyz")
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("a new client: %v, %v", resp, err)
		}
		_ = resp.Body.Close()
		d := s.settled(s.send("payment.succeeded", object{"id": "pay_1"}).text("id"))[0]
		if d.text("status") != "succeeded" || d["attempts"] != 1.0 {
			t.Errorf("a delivery beside idle connections: %v", d)
		}
	}
}
