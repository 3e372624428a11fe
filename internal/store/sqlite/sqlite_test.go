package sqlite_test

import (
	"context"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func TestOpen_again(t *testing.T) {
	dir := t.TempDir()
	s, err := sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(context.Background(), dir); err == nil {
		t.Fatal("second server on one directory was let in")
	} else {
		t.Log(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = sqlite.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
