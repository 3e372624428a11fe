package postgres_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/postgres/pgtest"
	"github.com/posthaste-hq/posthaste/internal/store/storetest"
)

var testRing = seal.NewRing(seal.NewKey())

// template is a database with the schema, to be copied.
const template = "db1"

// cluster starts the PostgreSQL server of these tests and creates its template.
var cluster = sync.OnceValues(func() (*pgtest.Cluster, error) {
	c, err := pgtest.Start("fsync=off", "synchronous_commit=off", "full_page_writes=off")
	if err != nil {
		return nil, err
	}
	started = c
	url, err := c.NewDatabase("")
	if err == nil {
		err = postgres.Migrate(context.Background(), url)
	}
	return c, err
})

// started is the server, nil before it was started.
var started *pgtest.Cluster

func TestMain(m *testing.M) {
	code := m.Run()
	if started != nil {
		_ = started.Stop()
	}
	os.Exit(code)
}

// database creates a copy of a database and returns its URL.
func database(t testing.TB, template string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL, which make test-fast does without")
	}
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	url, err := c.NewDatabase(template)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), url, testRing, postgres.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, database(t, template)) })
}

// As poolers in transaction mode require: no state is kept on a connection.
func TestContract_pooled(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, database(t, template)+"&pooling=transaction") })
}

func TestContract_shared(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (one, other store.Store) {
		url := database(t, template)
		return open(t, url), open(t, url)
	})
}

func TestOpen_wrongMasterKey(t *testing.T) {
	url := database(t, template)
	open(t, url)
	_, err := postgres.Open(context.Background(), url, seal.NewRing(seal.NewKey()), postgres.Limits{})
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unavailable || f.Hint == "" {
		t.Errorf("got %v", err)
	}
}

// A node of an older version, left over from an upgrade or started again after one, does not
// change a newer schema.
func TestOpen_newerSchemaIsRefused(t *testing.T) {
	url := database(t, template)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, TRUE)`)
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the refused one holds no lock
		_, err := postgres.Open(t.Context(), url, testRing, postgres.Limits{})
		for _, err := range []error{err, postgres.Migrate(t.Context(), url)} {
			var f *fault.Error
			if !errors.As(err, &f) || f.Code != fault.Unavailable || f.Hint == "" || !strings.Contains(err.Error(), "newer version") {
				t.Errorf("got %v", err)
			}
		}
	}
}
