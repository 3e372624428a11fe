package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The chart of a release has its version and installs the image of that version.
func TestChart_isOfTheVersion(t *testing.T) {
	r := release{source: "../..", out: t.TempDir(), version: "1.2.3", date: time.Unix(1700000000, 0)}
	if err := r.chart(); err != nil {
		t.Fatal(err)
	}
	tar := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("tar", append([]string{"--file", filepath.Join(r.out, "posthaste-1.2.3.tgz"), "--gzip"}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	chart := tar("--extract", "--to-stdout", "posthaste/Chart.yaml")
	for _, want := range []string{"\nversion: 1.2.3\n", "\nappVersion: 1.2.3\n", "apiVersion: v2\n"} {
		if strings.Count("\n"+chart, want) != 1 {
			t.Errorf("the chart lacks %q:\n%s", want, chart)
		}
	}
	names := tar("--list")
	for _, want := range []string{"posthaste/values.yaml\n", "posthaste/values.schema.json\n", "posthaste/templates/deployment.yaml\n", "posthaste/files/alerts.yaml\n"} {
		if !strings.Contains(names, want) {
			t.Errorf("the chart lacks %s", want)
		}
	}
	if alerts := tar("--extract", "--to-stdout", "posthaste/files/alerts.yaml"); !strings.Contains(alerts, "alert: PosthasteDown") {
		t.Error("the chart has a link instead of the alerts")
	}
	if strings.Contains(names, "/ci/") {
		t.Error("the chart contains the tests' values")
	}
}
