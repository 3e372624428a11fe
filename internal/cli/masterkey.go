package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// masterKeyName is the file of the master key in a data directory, unless the operator stores
// it elsewhere.
const masterKeyName = "master-key"

// masterKeys contains the master keys and their origin.
type masterKeys struct {
	ring   *seal.Ring
	path   string // empty: the environment
	shared bool   // other nodes have their own copies of the keys
	mu     sync.Mutex
}

// resealer is a store whose records are encrypted with the master keys (store.Upkeep).
type resealer interface {
	Reseal(ctx context.Context) (changed int, err error)
}

// openMasterKeys reads the master keys. In development mode it creates the file if it is
// missing.
func openMasterKeys(c *config.Config) (*masterKeys, error) {
	if c.MasterKey != "" {
		ring, err := seal.ParseRing(c.MasterKey)
		if err != nil {
			return nil, &config.Usage{Err: fmt.Errorf("%sMASTER_KEY: %w", config.EnvPrefix, err)}
		}
		return &masterKeys{ring: ring, shared: c.Database != ""}, nil
	}
	path := c.MasterKeyFile
	if path == "" {
		path = filepath.Join(c.Data, masterKeyName)
	}
	keys, err := readMasterKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !c.Dev {
			return nil, &fault.Error{Code: fault.Invalid, Message: "no master key to encrypt secrets with: neither " + config.EnvPrefix + "MASTER_KEY nor " + path,
				Hint: "create one with: posthaste keys new-master --out " + path}
		}
		keys = []*seal.Key{seal.NewKey()}
		err = newMasterKeyFile(path, keys[0])
	}
	if err != nil {
		return nil, err
	}
	return &masterKeys{ring: seal.NewRing(keys...), path: path, shared: c.Database != ""}, nil
}

// readMasterKeys reads a file of master keys, which only its owner may read.
func readMasterKeys(path string) ([]*seal.Key, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the master key: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, &fault.Error{Code: fault.Invalid, Message: fmt.Sprintf("other users can read the master key in %s (mode %#o)", path, info.Mode().Perm()),
			Hint: "chmod 600 " + path}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the master key: %w", err)
	}
	keys, err := seal.ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the master key in %s: %w", path, err)
	}
	return keys, nil
}

// newMasterKeyFile writes a key to a file that must not exist yet: overwriting a key would make
// its records unreadable for ever.
func newMasterKeyFile(path string, key *seal.Key) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the master key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the master key: %w", err)
	}
	_, err = f.WriteString(key.Text() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write the master key: %w", errors.Join(err, os.Remove(path)))
	}
	return syncDir(filepath.Dir(path))
}

// write replaces the file's keys, with the one that encrypts first. At any instant the file
// contains the old keys or the new ones.
func (m *masterKeys) write(keys ...*seal.Key) (err error) {
	var text strings.Builder
	for _, k := range keys {
		text.WriteString(k.Text() + "\n")
	}
	f, err := os.CreateTemp(filepath.Dir(m.path), filepath.Base(m.path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the master keys: %w", err)
	}
	_, err = f.WriteString(text.String())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), m.path)
	}
	if err != nil {
		return fmt.Errorf("write the master keys: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return syncDir(filepath.Dir(m.path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil && runtime.GOOS != "windows" { // it has no such operation
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// rotate generates a new master key and re-encrypts every record with it, while the store is in
// use. The old key is removed from the file when no record needs it any more; after an
// interruption, the file contains the keys of all records.
func (m *masterKeys) rotate(ctx context.Context, st resealer) (service.MasterRotation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shared {
		return service.MasterRotation{}, &fault.Error{Code: fault.Invalid, Reason: "master_key_shared",
			Message: "Every node has its own copy of the master key. Give all nodes the old key and then the new one, restart them, then swap the keys, restart them again, " +
				"and remove the old key when they log that everything is re-encrypted."}
	}
	if m.path == "" {
		return service.MasterRotation{}, &fault.Error{Code: fault.Invalid, Reason: "master_key_in_environment",
			Message: "The master key comes from the environment. Start the server with the new key before the old one, separated by a comma: " +
				config.EnvPrefix + "MASTER_KEY=new,old. Remove the old key when it logs that everything is re-encrypted."}
	}
	old := m.ring.Keys()
	next := seal.NewKey()
	all := append([]*seal.Key{next}, old...)
	if err := m.write(all...); err != nil {
		return service.MasterRotation{}, err
	}
	m.ring.Replace(all...)
	n, err := m.settle(ctx, st)
	return service.MasterRotation{From: old[0].ID().String(), To: next.ID().String(), Records: n}, err
}

// settle re-encrypts the records of other keys, and then removes those keys.
func (m *masterKeys) settle(ctx context.Context, st resealer) (int, error) {
	n, err := st.Reseal(ctx)
	if err != nil {
		return n, fmt.Errorf("re-seal: %w", err)
	}
	if m.path != "" && !m.shared {
		current := m.ring.Current()
		if err := m.write(current); err != nil {
			return n, err
		}
		m.ring.Replace(current)
	}
	return n, nil
}

// goOn completes a rotation that was interrupted, or that the environment requests by naming
// more than one key.
func (m *masterKeys) goOn(ctx context.Context, st resealer, log *slog.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ring.Keys()) == 1 {
		return
	}
	n, err := m.settle(ctx, st)
	switch {
	case err == nil:
		log.Info("everything is re-encrypted with the first master key; the other keys can be removed", "key", m.ring.Current().ID().String(), "records", n)
	case ctx.Err() == nil:
		log.Error("re-encrypt with the first master key", "err", err)
	}
}
