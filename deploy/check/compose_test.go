package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// given are the variables that an operator sets.
var given = map[string]string{"POSTHASTE_MASTER_KEY": "phmk_given", "POSTHASTE_ADMIN_KEY": "sk_admin_given", "POSTGRES_PASSWORD": "p@ss/word"}

// compose reads a project as docker compose does.
func compose(t *testing.T, name string, env map[string]string) (*types.Project, error) {
	t.Helper()
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	path, err := filepath.Abs(filepath.Join(root, "deploy/docker", name))
	if err != nil {
		t.Fatal(err)
	}
	o, err := cli.NewProjectOptions([]string{path}, cli.WithEnv(list))
	if err != nil {
		t.Fatal(err)
	}
	return o.LoadProject(t.Context())
}

// There are no default keys and passwords: without those of the operator, the project is
// refused.
func TestCompose_requiresSecrets(t *testing.T) {
	for name, required := range map[string][]string{
		"compose.yaml":         {"POSTHASTE_MASTER_KEY", "POSTHASTE_ADMIN_KEY"},
		"compose.cluster.yaml": {"POSTHASTE_MASTER_KEY", "POSTHASTE_ADMIN_KEY", "POSTGRES_PASSWORD"},
	} {
		for _, missing := range required {
			env := map[string]string{}
			for _, k := range required {
				if k != missing {
					env[k] = given[k]
				}
			}
			if _, err := compose(t, name, env); err == nil || !strings.Contains(err.Error(), missing) {
				t.Errorf("%s without %s: %v", name, missing, err)
			}
		}
	}
}

func TestCompose_services(t *testing.T) {
	for name, nodes := range map[string][]string{"compose.yaml": {"posthaste"}, "compose.cluster.yaml": {"posthaste", "posthaste-2"}} {
		p, err := compose(t, name, given)
		if err != nil {
			t.Fatal(err)
		}
		cluster := len(nodes) > 1
		var ports []string
		for _, node := range nodes {
			s, err := p.GetService(node)
			if err != nil {
				t.Fatal(err)
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged || s.User != "" {
				t.Errorf("%s: %s has more privileges than the image needs", name, node)
			}
			if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= 30*time.Second {
				t.Errorf("%s: %s is killed before it has stopped", name, node)
			}
			for k, v := range s.Environment {
				if !isSetting(t, k) {
					t.Errorf("%s: the server does not read %s", name, k)
				}
				if v == nil {
					t.Errorf("%s: %s has no value", name, k)
				}
			}
			for k, v := range map[string]string{"POSTHASTE_MASTER_KEY": "phmk_given", "POSTHASTE_ADMIN_KEY": "sk_admin_given"} {
				if got := s.Environment[k]; got == nil || *got != v {
					t.Errorf("%s: %s of %s is not the operator's", name, k, node)
				}
			}
			if _, has := s.Environment["POSTHASTE_DATABASE_URL"]; has != cluster {
				t.Errorf("%s: %s has a database: %v", name, node, has)
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" || port.Target != 8080 {
					t.Errorf("%s: %s is published at %s:%s for %d", name, node, port.HostIP, port.Published, port.Target)
				}
				ports = append(ports, port.Published)
			}
			if cluster == (len(s.Volumes) == 1 && s.Volumes[0].Target == "/data") {
				t.Errorf("%s: volumes of %s: %v", name, node, s.Volumes)
			}
			if s.Build == nil || s.Build.Context == "" {
				t.Fatalf("%s: %s is not built here", name, node)
			}
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if slices.Sort(ports); len(ports) != len(nodes) || len(slices.Compact(ports)) != len(nodes) {
			t.Errorf("%s: published at %v", name, ports)
		}
		if db, err := p.GetService("database"); cluster && (err != nil || len(db.Ports) > 0 || !strings.Contains(db.Image, ":") || db.HealthCheck == nil) {
			t.Errorf("%s: the database: %v %+v", name, err, db)
		}
	}
}
