package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
)

func healthcheckCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Check whether a running server is ready",
		Long:    "Check whether the server at --addr is ready; exit code 1 if it is not. For containers without a shell.",
		Example: "  posthaste healthcheck --addr 127.0.0.1:8080",
		Args:    cobra.NoArgs,
	}
	settings := config.Flags(cmd.Flags(), config.Server)
	live := cmd.Flags().Bool("live", false, "check liveness only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		path := "/readyz"
		if *live {
			path = "/healthz"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
		defer cancel()
		if err := askHealth(ctx, c.Addr, path); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "ok")
		return err
	}
	return cmd
}

func askHealth(ctx context.Context, addr, path string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &config.Usage{Err: fmt.Errorf("--addr: %w", err)}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost" // a server that listens on all addresses also listens on this one
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, http.NoBody)
	if err != nil {
		return err
	}
	transport := &http.Transport{} // without a proxy
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no server responds at %s: %w", addr, err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server at %s responds with %d", addr, resp.StatusCode)
	}
	return nil
}
