package e2e

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var powerCuts = flag.Int("power.cuts", 6, "at how many moments TestPowerLoss cuts the power")

// TestPowerLoss records under load what the server writes to its files and when it syncs them,
// and derives possible contents of the disk after a power failure: synced data is there, and of
// the rest any part. All events that were acknowledged before are on each of those disks. To
// kill the process is not a test of this, as the system keeps what a killed process wrote.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("this test wants strace, which make tools installs")
	}
	l := newLoad(t, nil)
	s := l.begin(serve(t, "", "--test-schedule", faultSchedule))
	s.register(l.receiver.URL)
	var last string // nothing is being written while this does not change
	until(t, "the server to be idle", func() bool {
		now := fmt.Sprint(len(readDisk(t, s.data)["posthaste.db-wal"]))
		idle := now == last
		last = now
		return idle
	})
	before := readDisk(t, s.data)
	trace := filepath.Join(t.TempDir(), "trace")
	p := start(t, nil, "strace", "-f", "-y", "-xx", "-s", "70000", "-o", trace, "-p", fmt.Sprint(s.cmd.Process.Pid),
		"-e", "trace=pwrite64,write,ftruncate,fdatasync,fsync,unlink,unlinkat,rename,renameat,renameat2,fallocate,pwritev,writev,sendto", "-e", "signal=none")
	if said := p.out.await(t, `.*(attached|not permitted|ermission denied)`); said[1] != "attached" {
		t.Skipf("strace may not look into another process: %s", said[0])
	}
	l.start(8)
	l.advance(400)
	s.killed.Store(true)
	l.stop()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.exit()
	s.kill()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	d := &tracedDisk{t: t, synced: before, dirty: map[string][]write{}, unfinished: map[string]string{}}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	lines := wholeTrace(string(text))
	acks := 0
	for _, line := range lines {
		acks += len(acknowledgement(line))
	}
	if acks < 100 {
		t.Fatalf("%d acknowledgements in %d lines: the test proves little", acks, len(lines))
	}
	cuts := map[int]bool{acks: true} // by the number of acknowledgements before
	for len(cuts) < min(*powerCuts, acks) {
		cuts[1+random.IntN(acks)] = true
	}
	var told []string
	for _, line := range lines {
		for _, id := range acknowledgement(line) { // when the server begins to write the response
			told = append(told, id)
			if cuts[len(told)] {
				for _, kept := range []float64{0, 0.5} {
					d.check(random, kept, told)
				}
			}
		}
		d.follow(line)
	}
	t.Logf("acknowledgements=%d cuts=%d writes=%d syncs=%d", acks, len(cuts), d.writes, d.syncs)
}

// wholeTrace returns the lines of a trace up to where strace detached from the first thread:
// strace writes the current call of that thread without a result, and does not record its later
// calls.
func wholeTrace(text string) []string {
	lines := strings.Split(text, "\n")
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasSuffix(line, " <detached ...>") }); i >= 0 {
		return lines[:i]
	}
	return lines
}

func readDisk(t testing.TB, data string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"posthaste.db", "posthaste.db-wal"} {
		text, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	return files
}

// tracedDisk is the certain contents of a disk, and the possible ones.
type tracedDisk struct {
	t             testing.TB
	synced        map[string][]byte  // by file
	dirty         map[string][]write // not synced, in order
	unfinished    map[string]string  // the current call, by thread
	syncing       map[string]map[string]int
	writes, syncs int
}

// write is bytes at an offset; or, without bytes, the new length of a file.
type write struct {
	at    int64
	bytes []byte
}

var (
	tracedCall    = regexp.MustCompile(`^(\w+)\(\d+<([^>]*)>(.*)$`)
	tracedResumed = regexp.MustCompile(`^<\.\.\. \w+ resumed>(.*)$`)
	tracedWrite   = regexp.MustCompile(`^, "((?:\\x[0-9a-f]{2})*)"(\.\.\.)?, (\d+)(?:, (\d+))?\)\s+= (-?\d+)`)
	tracedLength  = regexp.MustCompile(`^, (\d+)\)\s+= (-?\d+)`)
	tracedResult  = regexp.MustCompile(`^\)\s+= (-?\d+)`)
	unhexed       = strings.NewReplacer(`\x`, "")
	acknowledged  = regexp.MustCompile(`"id":"(evt_\w+)","object":"event"`)
)

func unhex(text string) []byte {
	b, err := hex.DecodeString(unhexed.Replace(text))
	if err != nil {
		return nil
	}
	return b
}

// acknowledgement returns the ids of events whose acknowledgement begins with a line of the
// trace.
func acknowledgement(line string) (ids []string) {
	_, call, _ := strings.Cut(line, " ")
	call = strings.TrimLeft(call, " ")
	if !strings.HasPrefix(call, "write(") {
		return nil
	}
	_, rest, _ := strings.Cut(call, `"`)
	quoted, _, _ := strings.Cut(rest, `"`)
	sent := unhex(quoted)
	if !bytes.HasPrefix(sent, []byte("HTTP/1.1 200")) {
		return nil
	}
	for _, m := range acknowledged.FindAllSubmatch(sent, -1) {
		ids = append(ids, string(m[1]))
	}
	return ids
}

// follow processes one line of the trace. A write counts from its begin, as parts of it may
// reach the disk at once; a sync covers the writes before its begin, and counts from its
// successful end.
func (d *tracedDisk) follow(line string) {
	thread, call, _ := strings.Cut(line, " ")
	call = strings.TrimLeft(call, " ")
	if m := tracedResumed.FindStringSubmatch(call); m != nil {
		call = d.unfinished[thread] + m[1]
		delete(d.unfinished, thread)
	} else if begun, cut := strings.CutSuffix(call, " <unfinished ...>"); cut {
		d.unfinished[thread] = begun
		if m := tracedCall.FindStringSubmatch(begun); m != nil && strings.HasSuffix(m[1], "sync") {
			d.begin(thread, string(unhex(m[2])))
		}
		return
	} else if m := tracedCall.FindStringSubmatch(call); m != nil && strings.HasSuffix(m[1], "sync") {
		d.begin(thread, string(unhex(m[2])))
	}
	m := tracedCall.FindStringSubmatch(call)
	if m == nil {
		return
	}
	file := filepath.Base(string(unhex(m[2])))
	if _, ours := d.synced[file]; !ours {
		return
	}
	switch m[1] {
	case "pwrite64":
		w := tracedWrite.FindStringSubmatch(m[3])
		if w == nil || w[2] != "" || w[3] != w[5] {
			d.cannotFollow(line)
		}
		at, err := strconv.ParseInt(w[4], 10, 64)
		if err != nil {
			d.t.Fatal(err)
		}
		d.dirty[file] = append(d.dirty[file], write{at, unhex(w[1])})
		d.writes++
	case "ftruncate":
		w := tracedLength.FindStringSubmatch(m[3])
		if w == nil || w[2] != "0" {
			d.cannotFollow(line)
		}
		length, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil {
			d.t.Fatal(err)
		}
		d.dirty[file] = append(d.dirty[file], write{at: length})
	case "fdatasync", "fsync":
		r := tracedResult.FindStringSubmatch(m[3])
		if r == nil || r[1] != "0" {
			d.cannotFollow(line)
		}
		n := d.syncing[thread][file]
		for _, w := range d.dirty[file][:n] {
			d.synced[file] = w.apply(d.synced[file])
		}
		d.dirty[file] = d.dirty[file][n:]
		d.syncs++
	default:
		d.cannotFollow(line)
	}
}

// cannotFollow fails the test with both ends of a line; its middle is the written data.
func (d *tracedDisk) cannotFollow(line string) {
	d.t.Helper()
	d.t.Fatalf("cannot follow %.60s … %s", line, line[max(0, len(line)-140):])
}

// begin records what a sync covers.
func (d *tracedDisk) begin(thread, path string) {
	if d.syncing == nil {
		d.syncing = map[string]map[string]int{}
	}
	file := filepath.Base(path)
	d.syncing[thread] = map[string]int{file: len(d.dirty[file])}
}

func (w write) apply(file []byte) []byte {
	if w.bytes == nil {
		if int64(len(file)) > w.at {
			return file[:w.at]
		}
		return append(file, make([]byte, w.at-int64(len(file)))...)
	}
	if end := w.at + int64(len(w.bytes)); int64(len(file)) < end {
		file = append(file, make([]byte, end-int64(len(file)))...)
	}
	copy(file[w.at:], w.bytes)
	return file
}

// sector is the unit that a disk writes atomically.
const sector = 512

// check simulates a power failure: of the writes that are not synced, any part is on the disk,
// and of some only the beginning. The store opens, is intact, and contains the events.
func (d *tracedDisk) check(random *rand.Rand, part float64, ids []string) {
	d.t.Helper()
	dir := d.t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(d.synced)) {
		file := slices.Clone(d.synced[name])
		for _, w := range d.dirty[name] {
			if random.Float64() >= part {
				continue
			}
			if len(w.bytes) > sector && random.IntN(4) == 0 { // torn
				w.bytes = w.bytes[:sector*(1+random.IntN(len(w.bytes)/sector))]
			}
			file = w.apply(file)
		}
		if err := os.WriteFile(filepath.Join(dir, name), file, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	checkStore(d.t, dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "posthaste.db"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query("SELECT CAST(body AS TEXT) FROM events")
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	there := map[string]bool{}
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			d.t.Fatal(err)
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(body, `{"id":"`), `"`)
		there[id] = true
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	for _, id := range ids {
		if !there[id] {
			d.t.Fatalf("%s was acknowledged, and is not on the disk after the power failed at acknowledgement %d", id, len(ids))
		}
	}
}

func TestWholeTrace(t *testing.T) {
	t.Parallel()
	const (
		begun    = `7 fdatasync(9<\x61> <unfinished ...>`
		ended    = `7 <... fdatasync resumed>) = 0`
		detached = `8 pwrite64(9<\x61>, "\x2f", 1, 0 <detached ...>`
	)
	for _, c := range []struct {
		name  string
		trace []string
		want  int
	}{
		{"every call ended", []string{begun, ended}, 2},
		{"let go of within a call", []string{begun, detached}, 1},
		{"calls seen after letting go of a thread", []string{begun, detached, ended}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := wholeTrace(strings.Join(c.trace, "\n")); !slices.Equal(got, c.trace[:c.want]) {
				t.Errorf("got %q, want the first %d of %q", got, c.want, c.trace)
			}
		})
	}
}
