package main

import "testing"

// Each mutation still finds the text that it changes.
func TestMutations_apply(t *testing.T) {
	t.Chdir("../..")
	for _, m := range mutations {
		if _, err := m.write(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.what, err)
		}
	}
}
