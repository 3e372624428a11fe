// Command posthaste accepts events, stores them durably, and delivers them to subscribed
// webhook endpoints.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/posthaste-hq/posthaste/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
