// Command release builds the files of a release: the program for every platform, with manual
// pages, completions and units, as archives and Debian packages, the Helm chart, a bill of
// materials, and the checksums of all. Builds of the same commit are identical.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const bomTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// platforms are those that releases are built for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64"}

// maintainer is a placeholder: mail to .example is not delivered. A publisher of packages sets
// their own address.
const maintainer = "The Posthaste authors <authors@posthaste.example>"

func main() {
	var r release
	only := flag.String("platforms", strings.Join(platforms, ","), "platforms to build for")
	flag.StringVar(&r.source, "source", ".", "the repository")
	flag.StringVar(&r.out, "out", "dist", "directory for the files; its contents are deleted")
	flag.StringVar(&r.version, "version", "", "such as 1.2.3 (default: the last tag of git)")
	flag.StringVar(&r.maintainer, "maintainer", maintainer, "maintainer of the Debian packages: name and e-mail address")
	flag.StringVar(&r.key, "sign-key", "", "PEM file with the Ed25519 private key that signs SHA256SUMS (default: unsigned)")
	flag.BoolVar(&r.bom, "bom", true, "write a bill of materials")
	flag.Parse()
	r.platforms = strings.Split(*only, ",")
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is one version of the program.
type release struct {
	source, out, version string
	maintainer           string
	platforms            []string
	bom                  bool
	key                  string // a file; empty: no signature

	commit string
	date   time.Time // of the commit: all files in the release have this date
	stage  string    // directory for intermediate files
}

func (r *release) make() (err error) {
	if who, err := mail.ParseAddress(r.maintainer); err != nil || who.Name == "" {
		return fmt.Errorf("-maintainer %q: use a name and an e-mail address, such as %q", r.maintainer, maintainer)
	}
	if err := r.identify(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(r.out), os.MkdirAll(r.out, 0o755)); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "posthaste-release-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.stage)) }()
	pages, err := r.pages()
	if err != nil {
		return err
	}
	for _, platform := range r.platforms {
		if err := r.build(platform, pages); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
	}
	if err := r.chart(); err != nil {
		return err
	}
	if r.bom {
		if err := r.materials(); err != nil {
			return err
		}
	}
	return r.sums()
}

// identify determines the version and commit of the release.
func (r *release) identify() error {
	git := func(args ...string) (string, error) {
		out, err := exec.Command("git", append([]string{"-C", r.source}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return fmt.Errorf("which commit: %w", err)
	}
	r.commit = commit[:12]
	if changed, err := git("status", "--porcelain", "--untracked-files=no"); err != nil || changed != "" {
		r.commit += "-changed"
	}
	at, err := git("log", "-1", "--format=%ct")
	if err != nil {
		return fmt.Errorf("when commit %s was made: %w", commit, err)
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return err
	}
	r.date = time.Unix(seconds, 0).UTC()
	if r.version == "" {
		tag, err := git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
		if err != nil {
			tag = "v0.1.0-dev" // before the first release
		}
		r.version = tag
	}
	r.version = strings.TrimPrefix(r.version, "v")
	return nil
}

func (r *release) run(env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = r.source, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out)
	}
	return nil
}

// compile builds the program, statically linked.
func (r *release) compile(goos, goarch, to string) error {
	const cli = "github.com/posthaste-hq/posthaste/internal/cli"
	flags := fmt.Sprintf("-s -w -buildid= -X %s.version=%s -X %s.builtFrom=%s", cli, r.version, cli, r.commit)
	return r.run([]string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="},
		"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", to, "./cmd/posthaste")
}

// file is one file of an archive.
type file struct {
	name string // with slashes
	mode fs.FileMode
	data []byte
}

// pages returns the manual pages and completions, which the program generates.
func (r *release) pages() (all []file, err error) {
	program := filepath.Join(r.stage, "posthaste-here")
	if err := r.compile(runtime.GOOS, runtime.GOARCH, program); err != nil {
		return nil, err
	}
	man := filepath.Join(r.stage, "man")
	if err := r.run(nil, program, "man", man); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(man, "*.1"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, file{"man/" + filepath.Base(name), 0o644, data})
	}
	for shell, name := range map[string]string{"bash": "posthaste.bash", "zsh": "_posthaste", "fish": "posthaste.fish", "powershell": "posthaste.ps1"} {
		data, err := exec.Command(program, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		all = append(all, file{"completions/" + name, 0o644, data})
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// from returns files of the repository.
func (r *release) from(names ...string) (all []file, err error) {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(r.source, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		all = append(all, file{name, 0o644, data})
	}
	return all, nil
}

// build builds the archive and the Debian package of one platform.
func (r *release) build(platform string, pages []file) error {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return errors.New("a platform is such as linux/amd64")
	}
	program := filepath.Join(r.stage, goos+"-"+goarch)
	if err := r.compile(goos, goarch, program); err != nil {
		return err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	docs := []string{"LICENSE", "README.md", "CHANGELOG.md"}
	if goos == "linux" {
		docs = append(docs, "deploy/systemd/posthaste.service", "deploy/systemd/posthaste.socket", "deploy/debian/posthaste.yaml")
	}
	more, err := r.from(docs...)
	if err != nil {
		return err
	}
	base := "posthaste_" + r.version + "_" + goos + "_" + goarch
	executable, suffix, write := "posthaste", ".tar.gz", writeTar
	if goos == "windows" {
		executable, suffix, write = "posthaste.exe", ".zip", writeZip
	}
	all := []file{{executable, 0o755, data}}
	for _, f := range append(more, pages...) {
		f.name = strings.TrimPrefix(strings.TrimPrefix(f.name, "deploy/debian/"), "deploy/")
		all = append(all, f)
	}
	for i := range all {
		all[i].name = base + "/" + all[i].name
	}
	var b bytes.Buffer
	if err := write(&b, all, r.date); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, base+suffix), b.Bytes(), 0o644); err != nil {
		return err
	}
	if goos != "linux" {
		return nil
	}
	return r.debian(goarch, data, pages)
}

// materials writes the bill of materials.
func (r *release) materials() error {
	to, err := filepath.Abs(filepath.Join(r.out, "posthaste_"+r.version+".cdx.json"))
	if err != nil {
		return err
	}
	return r.run([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS="}, "go", "run", bomTool,
		"app", "-json", "-std", "-noserial", "-notimestamp", "-main", "cmd/posthaste", "-output", to, ".")
}

// sums writes the checksums in the format of sha256sum.
func (r *release) sums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	if err := os.WriteFile(filepath.Join(r.out, sumsName), []byte(b.String()), 0o644); err != nil || r.key == "" {
		return err
	}
	return sign(r.key, filepath.Join(r.out, sumsName))
}
