package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// system is a copy of this machine's files with a systemd of its own, to install packages in.
// Changes in it are discarded.
type system struct {
	t   *testing.T
	pid string // of its systemd
}

// newSystem boots a system. The packages are under /mnt in it.
func newSystem(t *testing.T, packages string) *system {
	t.Helper()
	if _, err := exec.LookPath("deb-systemd-helper"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root on Debian")
	}
	const script = `
mount -t tmpfs -o size=1g posthaste "$0"
mkdir "$0/upper" "$0/work" "$0/root"
mount -t overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" posthaste "$0/root"
cd "$0/root"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs run run
mount --bind "$1" mnt
rm -f usr/sbin/policy-rc.d etc/systemd/system/*.service etc/systemd/system/*.wants/*
ip link set lo up
mkdir outside
pivot_root . outside
umount -l outside
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --log-target=console`
	cmd := exec.Command("unshare", "--pid", "--mount", "--uts", "--ipc", "--net", "--fork", "--kill-child", "--propagation", "private", "sh", "-ec", script, t.TempDir(), packages)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and all processes in it
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := &system{t: t}
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		s.pid = strings.TrimSpace(string(children))
		name, _ := os.ReadFile("/proc/" + s.pid + "/comm")
		if s.pid != "" && string(name) == "systemd\n" && s.command("systemctl is-system-running --wait").Run() == nil {
			return s
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("systemd does not boot")
		}
	}
}

// do runs a script in the system, which must succeed, and returns the output.
func (s *system) do(script string) string {
	s.t.Helper()
	out, err := s.command(script).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func (s *system) command(script string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--target", s.pid, "--pid", "--mount", "--uts", "--ipc", "--net", "--root", "--wd", "sh", "-ec", script)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	return cmd
}

// expect compares the output of a script.
func (s *system) expect(script, want string) {
	s.t.Helper()
	if got := strings.TrimSpace(s.do(script)); got != want {
		s.t.Errorf("%s: %q, want %q", script, got, want)
	}
}

// The package can be installed, upgraded, removed and installed again, and never deletes data
// of the operator.
func TestDebian_lifecycle(t *testing.T) {
	if !*full {
		t.Skip("make package-check installs packages, in a copy of this machine")
	}
	packages := t.TempDir()
	s := newSystem(t, packages)
	r := release{source: "../..", out: packages, stage: t.TempDir(), commit: "0123456789ab", date: time.Unix(1700000000, 0), maintainer: maintainer}
	for _, r.version = range []string{"1.2.3", "1.2.4"} {
		to := filepath.Join(r.stage, "posthaste-"+r.version)
		if err := r.compile("linux", runtime.GOARCH, to); err != nil {
			t.Fatal(err)
		}
		program, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.debian(runtime.GOARCH, program, nil); err != nil {
			t.Fatal(err)
		}
	}
	command := func(version string) string {
		return fmt.Sprintf("dpkg --install /mnt/posthaste_%s_%s.deb", version, runtime.GOARCH)
	}
	install := func(version string) string {
		t.Helper()
		return s.do(command(version))
	}
	const list = "stat -c '%U:%G %a %n' "
	owned := list + "/var/lib/posthaste /etc/posthaste/keys /etc/posthaste/keys/master-key /etc/posthaste/posthaste.yaml /usr/bin/posthaste"
	const rights = "posthaste:posthaste 700 /var/lib/posthaste\nposthaste:posthaste 700 /etc/posthaste/keys\nposthaste:posthaste 600 /etc/posthaste/keys/master-key\n" +
		"root:root 644 /etc/posthaste/posthaste.yaml\nroot:root 755 /usr/bin/posthaste"
	const state = "systemctl show --property=ActiveState,UnitFileState --value posthaste.socket posthaste.service | xargs"
	const up = "active enabled active enabled"

	// First installation.
	if out := install("1.2.3"); !strings.Contains(out, "keep a copy of /etc/posthaste/keys/master-key") {
		t.Errorf("the output does not mention the master key:\n%s", out)
	}
	s.expect("dpkg-query -W -f '${Status} ${Version} ${Maintainer}' posthaste", "install ok installed 1.2.3 "+maintainer)
	s.expect("getent passwd posthaste | cut -d: -f6,7", "/var/lib/posthaste:/usr/sbin/nologin")
	s.expect("id -nG posthaste", "posthaste")
	s.expect(owned, rights)
	s.expect(state, up)
	s.expect("dpkg --verify posthaste", "") // all files are as shipped
	s.expect("dpkg-query -W -f '${Conffiles}' posthaste | cut -d' ' -f2", "/etc/posthaste/posthaste.yaml")
	s.serves("1.2.3")

	// An upgrade keeps the operator's changes without asking, and refuses no connection.
	s.do("echo 'public-url: https://webhooks.example.com' >> /etc/posthaste/posthaste.yaml")
	key := s.do("cat /etc/posthaste/keys/master-key")
	s.do(`
ask() { bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET /healthz HTTP/1.0\r\n\r\n" >&3; head -1 <&3' 2>&1 || echo refused; }
count() { wc -l </root/answers; }
(while [ ! -e /root/done ]; do ask; done) >/root/answers &
until [ "$(count)" -gt 10 ]; do sleep 0.1; done
` + command("1.2.4") + `
after=$(count)
until [ "$(count)" -gt $((after + 10)) ]; do sleep 0.1; done
touch /root/done
wait`)
	s.expect(`tr -d '\r' </root/answers | sort -u`, "HTTP/1.0 200 OK")
	s.expect("tail -1 /etc/posthaste/posthaste.yaml", "public-url: https://webhooks.example.com")
	s.expect(owned, rights)
	s.expect(state, up)
	s.serves("1.2.4")

	// A downgrade works, as the schema is the same. A unit that the operator disabled stays
	// disabled.
	s.do("systemctl disable --now posthaste.service posthaste.socket")
	install("1.2.3")
	s.expect(state, "inactive disabled inactive disabled")
	s.do("systemctl enable --now posthaste.socket posthaste.service")
	s.serves("1.2.3")

	// Removed and installed again.
	s.do("dpkg --remove posthaste")
	s.expect(state, "inactive inactive")
	s.expect("ls /usr/bin/posthaste /usr/lib/systemd/system/posthaste.service 2>/dev/null || true", "")
	s.expect("tail -1 /etc/posthaste/posthaste.yaml", "public-url: https://webhooks.example.com")
	install("1.2.4")
	s.expect(owned, rights)
	s.expect(state, up)
	s.serves("1.2.4")

	// Purged: the settings are deleted, but not data that cannot be recreated.
	s.do("dpkg --purge posthaste")
	s.expect("dpkg-query -W posthaste 2>/dev/null || true", "")
	s.expect("ls /etc/posthaste/posthaste.yaml 2>/dev/null || true", "")
	s.expect(state, "inactive inactive")
	s.expect("find /etc/systemd /var/lib/systemd -name '*posthaste*'", "")
	s.expect("stat -c '%U %a' /var/lib/posthaste /var/lib/posthaste/posthaste.db", "posthaste 700\nposthaste 600")
	if got := s.do("cat /etc/posthaste/keys/master-key"); got != key {
		t.Error("the master key was changed or deleted")
	}

	// A new installation uses the remaining data.
	install("1.2.4")
	s.expect(state, up)
	s.serves("1.2.4")
	if got := s.do("cat /etc/posthaste/keys/master-key"); got != key {
		t.Error("the master key was replaced")
	}
}

// serves checks that the unit runs the program of a version and that it is ready.
func (s *system) serves(version string) {
	s.t.Helper()
	s.do("posthaste healthcheck")
	s.expect("/proc/$(systemctl show --property=MainPID --value posthaste.service)/exe --version", "posthaste version "+version+"+0123456789ab")
}
