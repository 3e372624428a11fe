package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
)

var chartVersion = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)

// chart packs the Helm chart, as helm package would, for the image of this version.
func (r *release) chart() error {
	dir := os.DirFS(filepath.Join(r.source, "deploy", "helm", "posthaste"))
	var all []file
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == "ci": // examples for tests, which .helmignore names
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := fs.ReadFile(dir, name)
		if name == "Chart.yaml" {
			data = chartVersion.ReplaceAll(data, []byte("$1: "+r.version))
		}
		all = append(all, file{path.Join("posthaste", name), 0o644, data})
		return err
	})
	if err != nil {
		return fmt.Errorf("read the chart: %w", err)
	}
	var b bytes.Buffer
	if err := writeTar(&b, all, r.date); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "posthaste-"+r.version+".tgz"), b.Bytes(), 0o644)
}
