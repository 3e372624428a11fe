package check

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const dockerfile = "deploy/docker/Dockerfile"

// stages reads the Dockerfile as BuildKit does, with all its warnings.
func stages(t *testing.T) (build, image instructions.Stage) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(read(t, dockerfile)))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("%s: %s", dockerfile, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, message string, at []parser.Range) {
		t.Errorf("%s:%v: %s: %s (%s)", dockerfile, at, rule, message, description)
	}})
	all, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%d stages", len(all))
	}
	return all[0], all[1]
}

// find returns the instructions of one kind.
func find[T instructions.Command](s instructions.Stage) (out []T) {
	for _, c := range s.Commands {
		if x, is := c.(T); is {
			out = append(out, x)
		}
	}
	return out
}

func environment(s instructions.Stage) (out []string) {
	for _, e := range find[*instructions.EnvCommand](s) {
		for _, kv := range e.Env {
			out = append(out, kv.Key+"="+kv.Value)
		}
	}
	return out
}

func TestDockerfile_isPinnedAndUnprivileged(t *testing.T) {
	build, image := stages(t)
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "go.mod"))[1]
	if want := "golang:" + version; build.BaseName != want {
		t.Errorf("built in %s; go.mod wants %s", build.BaseName, want)
	}
	if name, tag, _ := strings.Cut(image.BaseName, ":"); name != "gcr.io/distroless/static-debian13" || tag != "nonroot" {
		t.Errorf("based on %s", image.BaseName)
	}
	if users := find[*instructions.UserCommand](image); len(users) != 1 || users[0].User != "65532:65532" {
		t.Error("it does not run as a user that is known, by number, not to be root")
	}
	if ports := find[*instructions.ExposeCommand](image); len(ports) != 1 || !slices.Equal(ports[0].Ports, []string{"8080"}) {
		t.Error("the exposed port is not the one that it listens on")
	}
	if volumes := find[*instructions.VolumeCommand](image); len(volumes) != 1 || !slices.Equal(volumes[0].Volumes, []string{"/data"}) {
		t.Error("the data is in no volume")
	}
	if len(find[*instructions.RunCommand](image)) > 0 {
		t.Error("the image has no shell to run a command with")
	}
	for _, e := range environment(image) {
		if name, _, _ := strings.Cut(e, "="); !isSetting(t, name) {
			t.Errorf("the server does not read %s", name)
		}
	}
}

// source copies the files that docker sends to a build: those of the repository that
// Dockerfile.dockerignore does not exclude.
func source(t *testing.T) string {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(read(t, dockerfile+".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for name := range strings.SplitSeq(run(t, root, nil, "git", "ls-files", "--cached", "--others", "--exclude-standard"), "\n") {
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil {
			t.Fatal(err)
		}
		from := filepath.Join(root, name)
		if info, err := os.Lstat(from); skip || err != nil || !info.Mode().IsRegular() { // or deleted
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// built is the program as the Dockerfile's own commands build it, of version 1.2.3.
var built = struct {
	sync.Once
	program []byte
}{}

const commit = "0123456789ab"

func program(t *testing.T) []byte {
	t.Helper()
	built.Do(func() {
		build, _ := stages(t)
		dir, out := source(t), t.TempDir()
		env := append(environment(build), "VERSION=1.2.3", "COMMIT="+commit)
		for _, arg := range find[*instructions.ArgCommand](build) {
			for _, a := range arg.Args {
				if a.Value != nil && a.Key != "VERSION" && *a.Value != "" {
					env = append(env, a.Key+"="+*a.Value)
				}
			}
		}
		commands := find[*instructions.RunCommand](build)
		if len(commands) != 3 {
			t.Fatalf("%d commands", len(commands))
		}
		for _, c := range commands {
			line := strings.ReplaceAll(strings.Join(c.CmdLine, " "), "/out/", out+"/")
			run(t, dir, env, "sh", "-c", line)
		}
		if info, err := os.Stat(filepath.Join(out, "data")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the volume: %v", err)
		}
		var err error
		if built.program, err = os.ReadFile(filepath.Join(out, "posthaste")); err != nil {
			t.Fatal(err)
		}
	})
	if built.program == nil {
		t.Fatal("the program was not built")
	}
	return built.program
}

// The image holds the same program as the archives and packages of a release.
func TestDockerfile_buildsTheProgramOfTheRelease(t *testing.T) {
	// The flags in the source of release, because both must be the same.
	text := read(t, "deploy/release/main.go")
	flags := regexp.MustCompile(`Sprintf\("(-s -w [^"]+)", cli, r.version, cli, r.commit\)`).FindStringSubmatch(text)
	env := regexp.MustCompile(`\[\]string\{"CGO_ENABLED=0", [^}]*("GOAMD64=[^}]*)\}`).FindStringSubmatch(text)
	if flags == nil || env == nil {
		t.Fatal("release compiles otherwise than this test knows")
	}
	const cli = "github.com/posthaste-hq/posthaste/internal/cli"
	ldflags := strings.NewReplacer("%s.version=%s", cli+".version=1.2.3", "%s.builtFrom=%s", cli+".builtFrom="+commit).Replace(flags[1])
	set := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}
	for e := range strings.SplitSeq(env[1], ",") {
		set = append(set, strings.Trim(e, ` "`))
	}
	to := filepath.Join(t.TempDir(), "posthaste")
	run(t, root, set, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", to, "./cmd/posthaste")
	released, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(released, program(t)) {
		t.Error("the programs differ")
	}
	if out, err := exec.Command(to, "--version").CombinedOutput(); err != nil || string(out) != "posthaste version 1.2.3+"+commit+"\n" {
		t.Errorf("%v %s", err, out)
	}
}
