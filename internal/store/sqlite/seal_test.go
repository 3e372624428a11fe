package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

var testRing = seal.NewRing(seal.NewKey())

// sensitive stores values in an endpoint and a receipt that must not be on disk unencrypted,
// and returns them.
func sensitive(t *testing.T, s *sqlite.Store, n int) (e *endpoint.Endpoint, secrets []string) {
	t.Helper()
	at := time.UnixMilli(1_700_000_000_000).UTC()
	word := func(kind string) string {
		w := fmt.Sprintf("%s-%d-in-clear", kind, n)
		secrets = append(secrets, w)
		return w
	}
	first, second := endpoint.NewSecret("sec_1", at), endpoint.NewSecret("sec_2", at)
	second.AddSigningKey()
	secrets = append(secrets, first.Value, second.Value, second.Signing, second.Signing[10:30])
	e = &endpoint.Endpoint{
		ID: fmt.Sprintf("we_%d", n), Space: 2, Config: endpoint.Config{URL: "https://example.com/", Events: []string{"*"},
			Auth:    endpoint.Authentication{Type: endpoint.AuthOAuth, Username: word("user"), Password: word("password"), ClientID: "id", ClientSecret: word("client")},
			Headers: map[string]string{"X-Api-Key": word("header")},
			TLS:     endpoint.TLS{Certificate: "c", PrivateKey: word("private-key"), RootCAs: "r"}}, State: endpoint.State{Status: endpoint.Enabled, EnabledSince: at},
		Secrets: []endpoint.Secret{first, second}, Created: at, Updated: at,
	}
	r := &store.Receipt{Space: 2, Key: fmt.Sprint("k", n), Body: []byte(`{"secret":"` + word("receipt") + `"}`), Private: true, Created: time.Now()}
	if err := s.CreateEndpoint(context.Background(), e, store.Trail{Receipt: r}); err != nil {
		t.Fatal(err)
	}
	return e, secrets
}

func filesOf(t *testing.T, dir string) (all []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	return all
}

func TestSeal_nothingInClear(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	e, secrets := sensitive(t, s, 1)
	changed, err := s.EditEndpoint(context.Background(), e.Space, e.ID, func(e *endpoint.Endpoint) (store.Trail, error) {
		e.Description, e.Headers = "changed", maps.Clone(e.Headers) // encrypted values are written again
		e.Headers["X-Other"] = "other"
		return store.Trail{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e = &changed
	check := func(when string) {
		on := filesOf(t, dir)
		if !bytes.Contains(on, []byte("https://example.com/")) {
			t.Fatal("the endpoint is not there to look for")
		}
		for _, secret := range secrets {
			if bytes.Contains(on, []byte(secret)) {
				t.Errorf("%s, %s is on disk in clear", when, secret)
			}
		}
	}
	check("while open")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("after closing")

	got, err := open(t, dir).Endpoint(context.Background(), 2, e.ID)
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", *e) {
		t.Errorf("read back: %v\n got %+v\nwant %+v", err, got, *e)
	}
}

func TestSeal_wrongKeyIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	sensitive(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := seal.NewKey()
	_, err := sqlite.Open(context.Background(), dir, seal.NewRing(other))
	var f *fault.Error
	if !errors.As(err, &f) || f.Hint == "" || !strings.Contains(f.Message, testRing.Current().ID().String()) || !strings.Contains(f.Message, other.ID().String()) {
		t.Fatalf("got %v, want an error that names both keys", err)
	}
	open(t, dir) // the right key still works
}

// A record that was moved to another endpoint in the file cannot be decrypted there.
func TestSeal_boundToItsEndpoint(t *testing.T) {
	s := open(t, t.TempDir())
	sensitive(t, s, 1)
	sensitive(t, s, 2)
	sqlite.Exec(t, s, `UPDATE endpoints SET sealed = (SELECT sealed FROM endpoints WHERE id = 'we_1') WHERE id = 'we_2'`)
	if _, err := s.Endpoint(context.Background(), 2, "we_2"); fault.CodeOf(err) != fault.Unavailable || !errors.Is(err, seal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Endpoint(context.Background(), 2, "we_1"); err != nil {
		t.Error(err)
	}
}

// Many endpoints, with concurrent reads and writes of others.
func TestReseal_underLoad(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	old, young := seal.NewKey(), seal.NewKey()
	ring := seal.NewRing(old)
	s, err := sqlite.Open(ctx, dir, ring)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const count = 1200 // more than two slices
	var all []*endpoint.Endpoint
	for i := range count {
		e, _ := sensitive(t, s, i)
		all = append(all, e)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i = (i + 7) % count {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := s.Endpoint(ctx, 2, all[i].ID); err != nil {
				done <- fmt.Errorf("read while re-sealing: %w", err)
				return
			}
			if _, err := s.EditEndpoint(ctx, 2, all[i].ID, func(e *endpoint.Endpoint) (store.Trail, error) {
				e.Headers = map[string]string{"X-Count": fmt.Sprint(i)}
				return store.Trail{}, nil
			}); err != nil {
				done <- fmt.Errorf("write while re-sealing: %w", err)
				return
			}
		}
	}()
	ring.Replace(young, old)
	n, err := s.Reseal(ctx)
	close(stop)
	if werr := <-done; err != nil || werr != nil {
		t.Fatal(err, werr)
	}
	if n < count || n > 2*count+1 { // the endpoints that were not written meanwhile, their receipts, the check
		t.Errorf("re-sealed %d records", n)
	}
	if n, err := s.Reseal(ctx); n != 0 || err != nil {
		t.Errorf("a second time: %d, %v", n, err)
	}
	ring.Replace(young)
	for _, e := range all {
		got, err := s.Endpoint(ctx, 2, e.ID)
		if err != nil || got.Secrets[0].Value != e.Secrets[0].Value {
			t.Fatalf("%s under the new key alone: %v", e.ID, err)
		}
	}
	for i := range count {
		if r, err := s.Receipt(ctx, 2, fmt.Sprint("k", i)); err != nil || !bytes.Contains(r.Body, []byte("in-clear")) {
			t.Fatalf("receipt %d under the new key alone: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(ctx, dir, seal.NewRing(old)); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("the old key still opens the data: %v", err)
	}
}
