package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/posthaste-hq/posthaste/internal/config"
)

var full = flag.Bool("release.build", false, "build a release twice, in two places, and look into it")

func TestArchives_areTheSameEachTime(t *testing.T) {
	all := []file{{"a/program", 0o755, []byte("program")}, {"a/LICENSE", 0o644, []byte("licence")}}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := writeTar(b, all, time.Unix(1700000000, 0)); err != nil {
			t.Fatal(err)
		}
		if err := writeZip(b, all, time.Unix(1700000000, 0).UTC()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files make different archives")
	}
}

func TestDebianVersion_ordersBeforeTheRelease(t *testing.T) {
	for in, want := range map[string]string{"1.2.3": "1.2.3", "1.2.3-rc1": "1.2.3~rc1"} {
		if got := debianVersion(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// The server accepts the settings that the package installs.
func TestDebian_settings(t *testing.T) {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	settings := config.Flags(f)
	if err := f.Set("config", "../debian/posthaste.yaml"); err != nil {
		t.Fatal(err)
	}
	c, err := settings.Load(func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/var/lib/posthaste" || c.MasterKeyFile != "/etc/posthaste/keys/master-key" {
		t.Errorf("data in %s, master key in %s", c.Data, c.MasterKeyFile)
	}
}

// systemd finds no mistake in the units, and few permissions that the server does not need.
func TestUnits_hardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd is not installed")
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "../systemd/posthaste.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	for _, name := range []string{"posthaste.service", "posthaste.socket"} {
		text, err := os.ReadFile("../systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/bin/posthaste"), []byte("/bin/true")) // the program need not be installed
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("systemd-analyze", "verify", "--man=false", filepath.Join(dir, "posthaste.service"), filepath.Join(dir, "posthaste.socket"))
	out, err = cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "posthaste") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	if err != nil && !t.Failed() {
		t.Logf("other units of this machine: %v\n%s", err, out)
	}
}

// Builds of the same commit are identical wherever they are made, and the result works.
func TestRelease_isReproducible(t *testing.T) {
	if !*full {
		t.Skip("make package-check builds releases")
	}
	var sums []string
	var last string
	for range 2 {
		source := filepath.Join(t.TempDir(), "copy")
		if out, err := exec.Command("git", "clone", "-q", "../..", source).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		last = filepath.Join(source, "dist")
		r := release{source: source, out: last, version: "1.2.3", maintainer: maintainer, platforms: []string{"linux/amd64", "windows/amd64"}, bom: true}
		if err := r.make(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(last, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(text))
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ:\n%s\n%s", sums[0], sums[1])
	}
	check := exec.Command("sha256sum", "-c", "SHA256SUMS")
	check.Dir = last
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", filepath.Join(last, "posthaste_1.2.3_amd64.deb"), root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(root, "usr/bin/posthaste"), "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "posthaste version 1.2.3+") {
		t.Errorf("%v %s", err, out)
	}
	for _, name := range []string{"usr/lib/systemd/system/posthaste.service", "etc/posthaste/posthaste.yaml", "usr/share/man/man1/posthaste-serve.1.gz", "usr/share/bash-completion/completions/posthaste"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}
