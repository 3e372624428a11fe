package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func keysCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Create and rotate the master key, which encrypts secrets at rest"}
	cmd.AddCommand(newMasterCommand(), rotateMasterCommand(getenv))
	return cmd
}

func newMasterCommand() *cobra.Command {
	var out string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "new-master",
		Short: "Create a master key",
		Long: "Create a master key and print it or, with --out, write it to a new file readable only by its owner.\n" +
			"The key and the data together give access to every secret; without the key, the secrets are lost:\n" +
			"keep a copy of the key apart from the backups of the data.",
		Example: "  posthaste keys new-master --out /etc/posthaste/master-key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := seal.NewKey()
			if out == "" {
				return result(cmd, *asJSON, map[string]string{"id": key.ID().String(), "key": key.Text()}, "%s", key.Text())
			}
			if err := newMasterKeyFile(out, key); err != nil {
				return err
			}
			return result(cmd, *asJSON, map[string]string{"id": key.ID().String(), "file": out}, "Master key %s is in %s.", key.ID(), out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file to create; it must not exist")
	asJSON = jsonFlag(cmd)
	return cmd
}

func rotateMasterCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-master",
		Short: "Create a new master key and re-encrypt every secret with it",
		Long: "Create a new master key, re-encrypt every secret with it, and discard the old key. While a server\n" +
			"runs on the data directory, the command calls it with the operator key, from POSTHASTE_ADMIN_KEY or\n" +
			"the data directory, and the server keeps delivering.",
		Example: "  posthaste keys rotate-master --data /var/lib/posthaste --addr 127.0.0.1:8080",
		Args:    cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets, config.Server)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		if c.Database != "" {
			_, err := (&masterKeys{shared: true}).rotate(cmd.Context(), nil)
			return err
		}
		if _, err := os.Stat(filepath.Join(c.Data, sqlite.FileName)); err != nil {
			return fmt.Errorf("no data in %s: %w", c.Data, err)
		}
		done, err := rotateMaster(cmd.Context(), c)
		if err != nil {
			return err
		}
		return result(cmd, *asJSON, done, "Master key %s replaced %s; %d records were re-encrypted.", done.To, done.From, done.Records)
	}
	return cmd
}

func rotateMaster(ctx context.Context, c *config.Config) (_ service.MasterRotation, err error) {
	keys, err := openMasterKeys(c)
	if err != nil {
		return service.MasterRotation{}, err
	}
	st, err := sqlite.Open(ctx, c.Data, keys.ring)
	if inUse(err) {
		return askToRotate(ctx, c)
	}
	if err != nil {
		return service.MasterRotation{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return keys.rotate(ctx, st)
}

// inUse reports whether a store cannot be opened because a server uses it.
func inUse(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Reason == "data_directory_in_use"
}

// rotationTimeout is long enough for a server with very many endpoints.
const rotationTimeout = 5 * time.Minute

// askToRotate makes the running server rotate the key.
func askToRotate(ctx context.Context, c *config.Config) (done service.MasterRotation, err error) {
	ctx, cancel := context.WithTimeout(ctx, rotationTimeout)
	defer cancel()
	return done, askServer(ctx, c, http.MethodPost, "/v1/master_key/rotate", nil, &done)
}

// askServer sends an operator's request to the server that uses the data directory, and decodes
// the response.
func askServer(ctx context.Context, c *config.Config, method, path string, body, answer any) error {
	admin := c.AdminKey
	if admin == "" {
		text, err := os.ReadFile(filepath.Join(c.Data, operatorKeyFile))
		if err != nil {
			return fmt.Errorf("a server runs on %s; to call it, set %sADMIN_KEY to the operator key: %w", c.Data, config.EnvPrefix, err)
		}
		admin = strings.TrimSpace(string(text))
	}
	in := []byte("{}")
	if body != nil {
		var err error
		if in, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.Addr+path, bytes.NewReader(in))
	if err != nil {
		return fmt.Errorf("ask the server at %s: %w", c.Addr, err)
	}
	req.Header.Set("Authorization", "Bearer "+admin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("a server runs on %s but does not answer at --addr %s: %w", c.Data, c.Addr, err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("ask the server at %s: %w", c.Addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var said struct{ Error struct{ Message string } }
		_ = json.Unmarshal(out, &said)
		return fmt.Errorf("the server at %s answered %d: %s", c.Addr, resp.StatusCode, said.Error.Message)
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("read the answer of the server at %s: %w", c.Addr, err)
	}
	return nil
}
