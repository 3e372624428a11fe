package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Without --dev and without settings, only the owner can read the data, with any umask, and no
// private address can be an endpoint.
func TestDefaults_withoutDev(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	if p := start(t, nil, binary, "serve", "--addr", "127.0.0.1:0", "--data", data); p.exit() == 0 {
		t.Error("the server started without a master key")
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "master-key")
	open := func(args ...string) *process {
		return startCommand(t, []string{"POSTHASTE_TEST_KEY=" + testKey, "POSTHASTE_ADMIN_KEY=" + adminKey},
			exec.Command("sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, binary}, args...)...))
	}
	if code := open("keys", "new-master", "--out", key).exit(); code != 0 {
		t.Fatalf("keys new-master: exit code %d", code)
	}
	p := open("serve", "--addr", "127.0.0.1:0", "--data", data, "--master-key-file", key)
	s := &server{process: p, data: data, base: "http://" + p.out.await(t, `msg=listening addr=(\S+)`)[1]}
	for _, to := range []string{
		"http://127.0.0.1/", "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://10.0.0.1/", "https://192.168.0.1/", "https://172.16.0.1/",
		"https://169.254.169.254/", "https://0.0.0.0/", "https://2130706433/", "https://0x7f.1/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "ftp://example.com/",
	} {
		if a := s.call("POST", "/v1/webhooks", object{"url": to, "enabled_events": []string{"*"}}); a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s as an endpoint: %d %s", to, a.status, a.body)
		}
	}
	if got := s.call("GET", "/v1/events", nil).header.Get("X-RateLimit-Limit"); got != "600000" {
		t.Errorf("an account's limit of requests and events a minute is %q", got)
	}
	s.register("https://receiver.invalid/hook") // an allowed one, so that only the address can cause the refusals
	files := 0
	for _, root := range []string{data, key} {
		if err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := os.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
			}
			files++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if files < 4 { // the directory, the key, the database and its lock
		t.Errorf("only %d files were looked at", files)
	}
	s.stop()
}
