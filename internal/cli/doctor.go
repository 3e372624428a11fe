package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store/postgres"
	"github.com/posthaste-hq/posthaste/internal/store/sqlite"
)

func doctorCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Check the configuration, the data directory and the network of a server",
		Long:    "Check the environment of a server with these settings, without changing anything. Exit code 1 if a check fails.",
		Example: "  posthaste doctor --data /var/lib/posthaste --master-key-file /etc/posthaste/master-key",
		Args:    cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags()).Show(config.Store, config.Secrets, config.Dev, config.Server, config.Network)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		wrong := 0
		for _, check := range []struct {
			name string
			do   func(context.Context, *config.Config) (string, error)
		}{
			{"data directory", checkData}, {"database", checkDatabase}, {"master key", checkMasterKey}, {"server", checkServer}, {"names", checkNames}, {"egress proxy", checkProxy}, {"mail", checkMail}, {"clock", checkClock},
		} {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			said, err := check.do(ctx, c)
			cancel()
			mark := "ok   "
			if err != nil {
				wrong++
				mark, said = "WRONG", message(err)
			}
			if err := result(cmd, *asJSON, map[string]any{"check": check.name, "ok": err == nil, "detail": said}, "%s  %-15s %s", mark, check.name, said); err != nil {
				return err
			}
		}
		if wrong > 0 {
			return fmt.Errorf("%d checks failed", wrong)
		}
		return nil
	}
	return cmd
}

func checkData(_ context.Context, c *config.Config) (string, error) {
	if c.Database != "" {
		return "is not needed with a database", nil
	}
	info, err := os.Stat(c.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.Data + " will be created", nil
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s is not a directory", c.Data)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("other users can read %s (mode %#o): run chmod 700 %s", c.Data, info.Mode().Perm(), c.Data)
	}
	probe, err := os.CreateTemp(c.Data, ".doctor-*")
	if err != nil {
		return "", err
	}
	if err := errors.Join(probe.Sync(), probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", err
	}
	if info, err := os.Stat(filepath.Join(c.Data, sqlite.FileName)); err == nil {
		return fmt.Sprintf("%s holds %d bytes and can be written", c.Data, info.Size()), nil
	}
	return c.Data + " is empty and can be written", nil
}

func checkDatabase(ctx context.Context, c *config.Config) (string, error) {
	if c.Database == "" {
		return "not set; the embedded store is used", nil
	}
	version, skew, err := postgres.Probe(ctx, c.Database)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s answers; %s, clocks differ by %s", storeName(c), version, skew.Abs().Round(time.Millisecond)), nil
}

func checkMasterKey(_ context.Context, c *config.Config) (string, error) {
	if c.MasterKey != "" {
		ring, err := seal.ParseRing(c.MasterKey)
		if err != nil {
			return "", err
		}
		return "from the environment, " + ring.Current().ID().String(), nil
	}
	path := c.MasterKeyFile
	if path == "" {
		path = filepath.Join(c.Data, masterKeyName)
	}
	keys, err := readMasterKeys(path)
	if errors.Is(err, fs.ErrNotExist) && c.Dev {
		return path + " will be created", nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("missing; create one with: posthaste keys new-master --out %s", path)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s in %s", keys[0].ID(), path), nil
}

func checkServer(ctx context.Context, c *config.Config) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Addr+"/readyz", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l, lerr := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr)
		if lerr != nil {
			return "", fmt.Errorf("no server responds at %s, and the address cannot be used: %w", c.Addr, lerr)
		}
		return "no server runs at " + c.Addr + ", which is free", l.Close()
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the server at %s is not ready: %d", c.Addr, resp.StatusCode)
	}
	return "a server runs at " + c.Addr + " and is ready", nil
}

func checkNames(ctx context.Context, c *config.Config) (string, error) {
	if c.EgressProxy != nil && c.ProxyResolves {
		return "are resolved by the egress proxy", nil
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, "localhost"); err != nil {
		return "", fmt.Errorf("cannot resolve localhost: %w", err)
	}
	var missing *net.DNSError
	_, err := net.DefaultResolver.LookupHost(ctx, "example.com")
	if errors.As(err, &missing) {
		return "", fmt.Errorf("public host names cannot be resolved: %s. Endpoints are unreachable; if only a proxy resolves host names, set --egress-proxy-resolves", missing.Err)
	}
	return "public host names can be resolved", err
}

func checkProxy(ctx context.Context, c *config.Config) (string, error) {
	if c.EgressProxy == nil {
		return "none is set", nil
	}
	return reach(ctx, c.EgressProxy.Host)
}

func checkMail(ctx context.Context, c *config.Config) (string, error) {
	if c.Mail.Addr == "" {
		return "is not configured", nil
	}
	return reach(ctx, c.Mail.Addr)
}

func reach(ctx context.Context, addr string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	return addr + " can be reached", conn.Close()
}

// checkClock detects clocks that are wrong by years: signatures contain the time.
func checkClock(context.Context, *config.Config) (string, error) {
	now := time.Now()
	if now.Year() < 2026 {
		return "", fmt.Errorf("the clock shows %s; receivers refuse signatures with a wrong time", now.Format(time.RFC3339))
	}
	return now.UTC().Format(time.RFC3339), nil
}
