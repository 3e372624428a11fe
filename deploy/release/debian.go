package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debian builds the Debian package if dpkg-deb is installed.
func (r *release) debian(goarch string, program []byte, pages []file) error {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		fmt.Fprintln(os.Stderr, "release: dpkg-deb is not installed, so no Debian packages are built")
		return nil
	}
	all, err := r.debianFiles(program, pages)
	if err != nil {
		return err
	}
	root := filepath.Join(r.stage, "deb-"+goarch)
	size := 0
	for _, f := range all {
		size += len(f.data)
		to := filepath.Join(root, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, f.data, f.mode); err != nil {
			return err
		}
		if err := os.Chmod(to, f.mode); err != nil { // independent of the umask
			return err
		}
	}
	control := fmt.Sprintf(`Package: posthaste
Version: %s
Architecture: %s
Maintainer: %s
Installed-Size: %d
Depends: adduser
Section: net
Priority: optional
Homepage: https://github.com/posthaste-hq/posthaste
Description: webhook delivery server
Accepts events, stores them durably and delivers them to subscribed endpoints:
 signed, within milliseconds, retried until it is acknowledged.
`, debianVersion(r.version), goarch, r.maintainer, (size+1023)/1024)
	if err := os.WriteFile(filepath.Join(root, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		return err
	}
	to, err := filepath.Abs(filepath.Join(r.out, fmt.Sprintf("posthaste_%s_%s.deb", debianVersion(r.version), goarch)))
	if err != nil {
		return err
	}
	return r.run([]string{fmt.Sprint("SOURCE_DATE_EPOCH=", r.date.Unix())}, "dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, to)
}

// debianVersion returns the Debian form of a version, in which a pre-release sorts first:
// 1.2.3~rc1.
func debianVersion(v string) string { return strings.Replace(v, "-", "~", 1) }

// debianFiles are the files of the package, and its scripts.
func (r *release) debianFiles(program []byte, pages []file) ([]file, error) {
	all := []file{{"usr/bin/posthaste", 0o755, program}}
	for _, f := range []struct {
		from, to string
		mode     os.FileMode
	}{
		{"deploy/systemd/posthaste.service", "usr/lib/systemd/system/posthaste.service", 0o644},
		{"deploy/systemd/posthaste.socket", "usr/lib/systemd/system/posthaste.socket", 0o644},
		{"deploy/debian/posthaste.yaml", "etc/posthaste/posthaste.yaml", 0o644},
		{"deploy/debian/copyright", "usr/share/doc/posthaste/copyright", 0o644},
		{"deploy/debian/conffiles", "DEBIAN/conffiles", 0o644},
		{"deploy/debian/postinst", "DEBIAN/postinst", 0o755},
		{"deploy/debian/prerm", "DEBIAN/prerm", 0o755},
		{"deploy/debian/postrm", "DEBIAN/postrm", 0o755},
		{"CHANGELOG.md", "usr/share/doc/posthaste/changelog.gz", 0o644},
	} {
		read, err := r.from(f.from)
		if err != nil {
			return nil, err
		}
		all = append(all, file{f.to, f.mode, read[0].data})
	}
	for _, f := range pages {
		name := filepath.Base(f.name)
		switch {
		case strings.HasSuffix(name, ".1"):
			all = append(all, file{"usr/share/man/man1/" + name + ".gz", 0o644, f.data})
		case strings.HasSuffix(name, ".bash"):
			all = append(all, file{"usr/share/bash-completion/completions/posthaste", 0o644, f.data})
		case strings.HasSuffix(name, ".fish"):
			all = append(all, file{"usr/share/fish/vendor_completions.d/" + name, 0o644, f.data})
		case name == "_posthaste":
			all = append(all, file{"usr/share/zsh/vendor-completions/" + name, 0o644, f.data})
		}
	}
	for i, f := range all {
		if strings.HasSuffix(f.name, ".gz") {
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
			if err != nil {
				return nil, err
			}
			if _, err := z.Write(f.data); err != nil {
				return nil, err
			}
			if err := z.Close(); err != nil {
				return nil, err
			}
			all[i].data = b.Bytes()
		}
	}
	return all, nil
}
