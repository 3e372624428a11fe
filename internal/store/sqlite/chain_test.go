package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

// An attacker who writes to the database, but has no master key, changes nothing in the audit
// log that a verification does not detect.
func TestVerifyAudit_findsWhatWasChanged(t *testing.T) {
	ctx := context.Background()
	made := t.TempDir()
	begin := time.Now()
	s, err := sqlite.Open(ctx, made, testRing)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		e := &account.Entry{ID: fmt.Sprintf("aud_%02d", i), Space: 2, Time: begin.Add(time.Duration(i) * time.Second), Actor: "key_1", Action: account.SecretRevealed, Object: "we_1", Request: "req_1",
			Remote: "192.0.2.1", Detail: map[string]string{"a": "b"}}
		if err := s.Audit(ctx, e, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.PurgeAudit(ctx, begin.Add(3*time.Second), 100); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(made, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	// after returns the findings after the statements have run.
	after := func(ring *seal.Ring, statements ...string) []string {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, sqlite.FileName), text, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range statements {
			if r, err := db.ExecContext(ctx, q); err != nil {
				t.Fatalf("%s: %v", q, err)
			} else if n, _ := r.RowsAffected(); n == 0 {
				t.Fatalf("%s: changed nothing", q)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := sqlite.Open(ctx, dir, ring)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		found, err := s.VerifyAudit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range found.Problems {
			all = append(all, p.Message)
		}
		return all
	}
	if found := after(testRing); len(found) > 0 {
		t.Fatalf("nothing was changed, and found was %q", found)
	}
	const insert = `INSERT INTO audit (id, space, time, actor, action, object, request, remote, detail, chain, seq, hash) `
	for name, c := range map[string]struct{ do, want string }{
		"actor":             {`UPDATE audit SET actor = 'key_2' WHERE seq = 6`, "was changed"},
		"time":              {`UPDATE audit SET time = time + 1 WHERE seq = 6`, "was changed"},
		"detail":            {`UPDATE audit SET detail = '{}' WHERE seq = 10`, "was changed"},
		"space":             {`UPDATE audit SET space = 4 WHERE seq = 4`, "was changed"},
		"seal":              {`UPDATE audit SET hash = x'00' WHERE seq = 6`, "was changed"},
		"one removed":       {`DELETE FROM audit WHERE seq = 6`, "Entries 6 to 6 are missing"},
		"the end removed":   {`DELETE FROM audit WHERE seq > 8`, "end of the chain is missing"},
		"the start removed": {`DELETE FROM audit WHERE seq < 6`, "Entries 4 to 5 are missing"},
		"all removed":       {`DELETE FROM audit`, "end of the chain is missing"},
		"the end moved":     {`DELETE FROM audit WHERE seq > 8; UPDATE audit_chains SET seq = 8, hash = (SELECT hash FROM audit WHERE seq = 8)`, "chain's beginning and end was changed"},
		"the start moved":   {`UPDATE audit_chains SET first = 5, first_hash = (SELECT hash FROM audit WHERE seq = 5); DELETE FROM audit WHERE seq < 6`, "chain's beginning and end was changed"},
		"swapped":           {`UPDATE audit SET id = 'aud_x' WHERE seq = 5; UPDATE audit SET id = 'aud_04' WHERE seq = 6`, "was changed"},
		"one more":          {insert + `SELECT 'aud_99', space, time, actor, action, object, request, remote, detail, chain, 11, hash FROM audit WHERE seq = 10`, "was changed"},
		"one outside":       {insert + `SELECT 'aud_99', space, time + 100000000, actor, action, object, request, remote, detail, 0, 0, x'' FROM audit WHERE seq = 10`, "in no chain"},
	} {
		found := strings.Join(after(testRing, c.do), "\n")
		if !strings.Contains(found, c.want) {
			t.Errorf("%s: found %q, want %q", name, found, c.want)
		}
	}
}

// A new master key keeps the chain: its key is encrypted again.
func TestVerifyAudit_afterAnotherMasterKey(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	old, fresh := seal.NewKey(), seal.NewKey()
	for i, ring := range []*seal.Ring{seal.NewRing(old), seal.NewRing(fresh, old), seal.NewRing(fresh)} {
		s, err := sqlite.Open(ctx, dir, ring)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reseal(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Audit(ctx, &account.Entry{ID: fmt.Sprint("aud_", i), Time: time.Now(), Action: account.SecretRevealed}, nil); err != nil {
			t.Fatal(err)
		}
		found, err := s.VerifyAudit(ctx)
		if err != nil || len(found.Problems) > 0 || found.Chains[0].Entries != i+1 {
			t.Errorf("after start %d: %+v, %v", i, found, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Resetting the tables of the log to an older state is detected, even after further entries,
// and after the whole log was emptied.
func TestVerifyAudit_findsWhatWasPutBack(t *testing.T) {
	ctx := context.Background()
	for name, tt := range map[string]struct {
		statements []string
		goOn       int
		want       string // empty: no finding
	}{
		"untouched":                   {nil, 0, ""},
		"untouched, goes on":          {nil, 3, ""},
		"the newest":                  {[]string{"DELETE FROM audit WHERE seq > 5", "DELETE FROM audit_chains", "INSERT INTO audit_chains SELECT * FROM old"}, 0, "reset to"},
		"the newest, goes on":         {[]string{"DELETE FROM audit WHERE seq > 5", "DELETE FROM audit_chains", "INSERT INTO audit_chains SELECT * FROM old"}, 1, "reset to"},
		"the newest, goes on further": {[]string{"DELETE FROM audit WHERE seq > 5", "DELETE FROM audit_chains", "INSERT INTO audit_chains SELECT * FROM old"}, 5, "reset to"},
		"everything":                  {[]string{"DELETE FROM audit", "DELETE FROM audit_chains"}, 0, "reset to"},
		"everything, goes on":         {[]string{"DELETE FROM audit", "DELETE FROM audit_chains"}, 2, "reset to"},
		"the witness is changed":      {[]string{"UPDATE server_keys SET sealed = (SELECT sealed FROM server_keys WHERE name = 'audit') WHERE name = 'audit end 0'"}, 0, "second record"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			n := 0
			write := func(entries int) {
				t.Helper()
				for range entries {
					n++
					if err := s.Audit(ctx, &account.Entry{ID: fmt.Sprintf("aud_%02d", n), Space: 2, Time: time.UnixMilli(1700000000000 + int64(n)), Actor: "key_1", Action: account.SecretRevealed}, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			write(5)
			sqlite.Exec(t, s, "CREATE TABLE old AS SELECT * FROM audit_chains")
			write(3)
			for _, q := range tt.statements {
				sqlite.Exec(t, s, q)
			}
			write(tt.goOn)
			c, err := s.VerifyAudit(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" && len(c.Problems) > 0 || tt.want != "" && (len(c.Problems) == 0 || !strings.Contains(fmt.Sprint(c.Problems), tt.want)) {
				t.Errorf("problems %v, want %q", c.Problems, tt.want)
			}
		})
	}
}
